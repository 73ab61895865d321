#!/usr/bin/env bash
# Checks that no panic can be reached from `translate`, `translate_with` and `Sharding::owner`, from what takes an
# instruction and sends an event or is the monitor's side of that, nor from what answers a query for a name, relays one or enters a name,
# nor from what measures and reports: links each path alone and looks for the panic handler and for `core::panicking` in what was linked, hash included. Names
# the lines that can panic when there are any.
#
#   scripts/no-panic.sh [TARGET [OPT-LEVEL]...]        thumbv7em-none-eabihf, s and 3
set -euo pipefail

scripts=$(cd "$(dirname "$0")" && pwd)
target=${1-thumbv7em-none-eabihf}
levels=("${@:2}")
((${#levels[@]})) || levels=(s 3)

panics_in() { llvm-nm --demangle "$1" | grep -E 'core::panicking|rust_begin_unwind'; }

# The source lines, with what they were inlined into, of each jump out of our code into one of core's failures.
lines_that_panic_in() {
    llvm-objdump --disassemble --demangle --no-show-raw-insn "$1" |
        awk '/^[0-9a-f]+ </ { ours = !/<(core|__rustc)::/ }
             ours && /<(core::.*(panic|fail)|__rustc::rust_begin_unwind)[^+]*>/ {
                 print "0x" substr($1, 1, length($1) - 1)
             }' |
        llvm-symbolizer --obj="$1" --inlines --demangle --pretty-print
}

for level in "${levels[@]}"; do
    control=$("$scripts/image.sh" "$target" "$level" packet_path_that_panics panics)
    if ! panics_in "$control" >/dev/null; then
        echo "This check is blind: it finds no panic in $control, which can panic" >&2
        exit 1
    fi
    # An entry of tests/bare-metal/ and the features that it needs.
    for path in "packet_path byway" "packet_owner byway" "packet_meta_path paths" "control_path paths" "control_path_of_two paths" \
        "event_path paths" "report_path paths" "monitor_path paths" "names_path paths" "names_stream_path paths" \
        "names_instruction_path paths" "relay_path paths" "control_names_path paths" "monitor_names_path paths" \
        "handover_path handover-paths" "handover_instruction_path handover-paths" "packet_path report-paths" \
        "report_path report-paths"; do
        read -r entry features <<<"$path"
        image=$("$scripts/image.sh" "$target" "$level" "$entry" "$features")
        if panics_in "$image"; then
            lines_that_panic_in "$image"
            echo "What comes from the network can make $entry panic on $target at opt-level $level" >&2
            exit 1
        fi
        echo "$target, opt-level $level: no panic is reachable from $entry"
    done
done
