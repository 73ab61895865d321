#!/usr/bin/env bash
# Prints what the core costs on a microcontroller, as Markdown tables: flash and RAM, memory by what it holds, stack, and
# instructions per packet, and in the end the table of the README. Stack and instructions are measured in QEMU
# (examples/firmware/measure/); the bound of the stack is read from the instructions (stack.py).
#
#   scripts/budget.sh            print the tables
#   scripts/budget.sh --check    print those that limits are about, and fail where one is missed
set -euo pipefail

case ${1-} in
    '' | --check) check=${1-} ;;
    *) sed -n 's/^#   /  /p' "$0" >&2; exit 2 ;;
esac

scripts=$(cd "$(dirname "$0")" && pwd)
levels=(s 3)
declare -A machines=([thumbv7em-none-eabihf]="arm -machine mps2-an386"
                     [riscv32imac-unknown-none-elf]="riscv32 -machine virt -bios none")
targets=(thumbv7em-none-eabihf riscv32imac-unknown-none-elf)

# What must be kept, in bytes: flash of the core on thumbv7em at `s` (docs/decisions.md says what has been tried), of the
# features `control` and `naming` on top of it, of hand-overs (the aim is 6 KiB), and of `report` on top of measuring; the stack of
# `translate`, with hand-overs too; and RAM of a translator with 170 connections, 8 rules, 8 datagrams in fragments and 8 events (what
# lwIP allots to its own tables by default, and 2.5 KiB).
flash_limit=$((21 * 1024)) control_limit=$((15 * 1024)) naming_limit=$((8 * 1024)) report_limit=$((24 * 1024))
hand_over_limit=$((11 * 1024))
stack_limit=1024 ram_limit=$((19 * 1024))

"$scripts/need.sh" lld llvm qemu-system-arm qemu-system-misc python3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Prints what the image says of itself on TARGET at LEVEL: lines of words with `|` between them. Each instruction takes a
# nanosecond of the machine's time, so its clock counts them.
measure() {
    local target=$1 level=$2 machine image
    image=$(CARGO_PROFILE_RELEASE_OPT_LEVEL=$level "$scripts/firmware.sh" measure "$target")
    read -ra machine <<<"${machines[$target]}"
    timeout --foreground 300 "qemu-system-${machine[0]}" "${machine[@]:1}" -icount shift=0 -kernel "$image" \
        -display none -monitor none -serial null -semihosting-config enable=on,target=native </dev/null
}

# Prints the lines `KIND|...|value` of all measurements as rows: the words between, and a column for each measurement.
rows() {
    awk -F '|' -v kind="$1" -v limit="${2-}" '
        FNR == 1 { column++ }
        $1 == kind {
            name = $2
            for (i = 3; i < NF; i++) if ($i != "") name = name " | " $i; else name = name " |"
            if (!(name in row)) { row[name] = ++rows; names[rows] = name }
            value[row[name], column] = $NF
        }
        END {
            for (i = 1; i <= rows; i++) {
                line = "| " names[i] " |"
                for (j = 1; j <= (limit ? limit : column); j++) line = line " " value[i, j] " |"
                print line
            }
        }' "$work"/measured-*
}

number=0
for target in "${targets[@]}"; do
    for level in "${levels[@]}"; do
        number=$((number + 1))
        measure "$target" "$level" >"$work/measured-$number"
    done
done
columns="" rule=""
for target in "${targets[@]}"; do
    for level in "${levels[@]}"; do
        columns+=" ${target%%-*}, $level |" rule+=" ---: |"
    done
done

# For the limits one target is enough; without limits the tables have all of them.
sized=(thumbv6m-none-eabi "${targets[@]}")
[[ ! $check ]] || sized=(thumbv7em-none-eabihf)
printf '### Flash and RAM\n\n'
"$scripts/size.sh" "${sized[@]}" | tee "$work/size"

printf '\n### Memory by what it holds, in bytes\n\n| | |\n| --- | ---: |\n'
rows size 1

printf '\n### Stack in bytes\n\n| call | packets |%s\n| --- | --- |%s\n' "$columns" "$rule"
rows stack
bound="| translate | **any: bound** |"
for level in "${levels[@]}"; do
    image=$("$scripts/image.sh" thumbv7em-none-eabihf "$level" packet_path byway)
    "$scripts/stack.py" "$image" packet_path >"$work/stack-$level"
    bound+=" **$(awk 'END { print $1 }' "$work/stack-$level")** |"
done
echo "$bound | |"
# The same of a packet with hand-overs, and of what begins them: at `s` alone. A call through a pointer is taken for the
# deepest possible one there.
hand_over_paths=(handover_path handover_instruction_path)
for path in "${hand_over_paths[@]}"; do
    image=$("$scripts/image.sh" thumbv7em-none-eabihf s "$path" handover-paths)
    "$scripts/stack.py" --open "$image" "$path" >"$work/stack-$path"
    echo "| $path | **any: bound** | **$(awk 'END { print $1 }' "$work/stack-$path")** | | | |"
done

printf '\n### Instructions per packet\n\n| |%s\n| --- |%s\n' "$columns" "$rule"
rows instructions

# The short table: a row of what `size.sh` says in a column, and rows of what was measured; thumbv6m has no machine here.
sizes() {
    awk -F '|' -v title="$1" -v column="$2" '
        /^\| (thumb|riscv)/ { gsub(/[ *]/, "", $column); line = line " " $column " |" }
        END { print "| " title " |" line }' "$work/size"
}
measured() {
    echo "| $1 | | |$(rows "$2" | awk -F '|' -v name="$3" '
        { own = $2; gsub(/^ +| +$/, "", own) }
        own == name {
            for (i = 0; i < 4; i++) {
                value = $(NF - 4 + i) + 0
                if (value > most[i]) most[i] = value
            }
        }
        END { for (i = 0; i < 4; i++) printf " %.0f |", most[i] }')"
}
# A row of what is the same for every machine of 32 bits.
bytes() { awk -F '|' -v name="$1" '$1 == "size" && index($2, name) == 1 { print $NF }' "$work/measured-1"; }
everywhere() {
    local value
    value=$(bytes "$2")
    printf '| %s |' "$1"
    printf ' %s |' "$value" "$value" "$value" "$value" "$value" "$value"
    echo
}
if [[ ! $check ]]; then
    printf '\n### In short\n\n'
    echo "| | thumbv6m, s | thumbv6m, 3 |$columns"
    echo "| --- | ---: | ---: |$rule"
    sizes "flash" 6
    everywhere "RAM: a connection" "connection"
    everywhere "RAM: 170 connections, 8 rules, all else" "translator of 170 connections, 8 rules"
    sizes "RAM: 1024 connections, 64 rules, all else" 9
    measured "stack of \`translate\`: deepest met" stack translate
    echo "| stack of \`translate\`: what no packet can exceed | | |$(sed 's/.*bound\*\* |//; s/\*//g' <<<"$bound") | |"
    measured "instructions: UDP to the server" instructions "UDP, to the server"
    measured "instructions: TCP data to the server" instructions "TCP, data to the server"
    measured "instructions: a new TCP connection" instructions "a new TCP connection"
    measured "instructions: the re-divert of 2000 connections" instructions "the re-divert of 2000 connections"
    exit
fi

missed=0
within() {
    local what=$1 is=$2 limit=$3
    if [[ ! $is =~ ^[0-9]+$ ]]; then
        echo "Missed: there is no figure for $what" >&2
    elif ((is > limit)); then
        echo "Missed: $what is $is bytes, and must not be above $limit" >&2
    else
        echo "$what: $is of $limit bytes"
        return
    fi
    missed=1
}
echo
flash=$(awk -F '|' '$2 ~ /thumbv7em/ && $3 ~ /s/ { gsub(/\*/, "", $6); print $6 + 0 }' "$work/size")
within "flash on thumbv7em at s" "$flash" "$flash_limit"
control=$(awk '/^Feature control/ { sub(/.*flash /, ""); print $0 + 0 }' "$work/size")
within "flash of the feature control" "$control" "$control_limit"
naming=$(awk '/^Feature naming/ { sub(/.*flash /, ""); print $0 + 0 }' "$work/size")
within "flash of the feature naming" "$naming" "$naming_limit"
report=$(awk '/^Feature report/ { sub(/.*flash /, ""); print $0 + 0 }' "$work/size")
within "flash of the feature report" "$report" "$report_limit"
within "a translator of 170 connections" "$(bytes "translator of 170 connections, 8 rules")" "$ram_limit"
hand_over=$(awk '/^Hand-over/ { sub(/.*flash /, ""); print $0 + 0 }' "$work/size")
within "flash of hand-overs" "$hand_over" "$hand_over_limit"
# What was met, on every machine; and at `s`, for which the budget is made, also what was not.
met=$(awk -F '|' '/^stack.translate/ && $NF > most { most = $NF } END { print most }' "$work"/measured-*)
within "the deepest stack of translate that was met" "$met" "$stack_limit"
stack=$(awk 'END { print $1 }' "$work/stack-s")
within "the bound of that stack on thumbv7em at s" "$stack" "$stack_limit"
# The calls that lead there.
((stack <= stack_limit)) || cat "$work/stack-s" >&2
for path in "${hand_over_paths[@]}"; do
    stack=$(awk 'END { print $1 }' "$work/stack-$path")
    within "the bound of the stack of $path on thumbv7em at s" "$stack" "$stack_limit"
    ((stack <= stack_limit)) || cat "$work/stack-$path" >&2
done
exit "$missed"
