#!/usr/bin/env bash
# Prints what the core costs on a microcontroller, as Markdown tables: flash and RAM, memory by what it holds, stack, and
# instructions per packet. The last two are measured in QEMU (examples/firmware/measure/); the bound of the stack is read
# from the instructions (stack.py).
#
#   scripts/budget.sh            print the tables
#   scripts/budget.sh --check    and fail where a limit is missed
set -euo pipefail

case ${1-} in
    '' | --check) check=${1-} ;;
    *) sed -n 's/^#   /  /p' "$0" >&2; exit 2 ;;
esac

scripts=$(cd "$(dirname "$0")" && pwd)
firmware=$scripts/../examples/firmware
levels=(s 3)
declare -A machines=([thumbv7em-none-eabihf]="arm -machine mps2-an386"
                     [riscv32imac-unknown-none-elf]="riscv32 -machine virt -bios none")
targets=(thumbv7em-none-eabihf riscv32imac-unknown-none-elf)

# What the core must keep to, in octets: flash on thumbv7em at `s`, stack of `translate`, and RAM of a translator with
# 170 connections, 8 rules, 8 datagrams in fragments and 8 events (what lwIP allots to its own tables by default).
flash_limit=$((20 * 1024)) stack_limit=1024 ram_limit=$((16 * 1024 + 512))

"$scripts/need.sh" lld llvm qemu-system-arm qemu-system-misc python3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Prints what the image says of itself on TARGET at LEVEL: lines of words with `|` between them. Each instruction takes a
# nanosecond of the machine's time, so its clock counts them.
measure() {
    local target=$1 level=$2 machine image
    (cd "$firmware" && CARGO_PROFILE_RELEASE_OPT_LEVEL=$level "$scripts/bare-metal.sh" "$target" -- \
        build --release --quiet --locked --package measure >&2)
    image=$("$scripts/bare-metal.sh" --folder "$target")/release/measure
    read -ra machine <<<"${machines[$target]}"
    timeout 300 "qemu-system-${machine[0]}" "${machine[@]:1}" -icount shift=0 -kernel "$image" \
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

printf '### Flash and RAM\n\n'
"$scripts/size.sh" thumbv6m-none-eabi "${targets[@]}" | tee "$work/size"

printf '\n### Memory by what it holds, in octets\n\n| | |\n| --- | ---: |\n'
rows size 1

printf '\n### Stack in octets\n\n| call | packets |%s\n| --- | --- |%s\n' "$columns" "$rule"
rows stack
bound="| translate | **any: bound** |"
for level in "${levels[@]}"; do
    image=$("$scripts/image.sh" thumbv7em-none-eabihf "$level" packet_path byway)
    "$scripts/stack.py" "$image" packet_path >"$work/stack-$level"
    bound+=" **$(awk 'END { print $1 }' "$work/stack-$level")** |"
done
echo "$bound | |"

printf '\n### Instructions per packet\n\n| |%s\n| --- |%s\n' "$columns" "$rule"
rows instructions

[[ $check ]] || exit 0
missed=0
within() {
    local what=$1 is=$2 limit=$3
    ((is <= limit)) && return
    echo "Missed: $what is $is octets, and must not be above $limit" >&2
    missed=1
}
echo
flash=$(awk -F '|' '$2 ~ /thumbv7em/ && $3 ~ /s/ { gsub(/\*/, "", $6); print $6 + 0 }' "$work/size")
within "flash on thumbv7em at s" "$flash" "$flash_limit"
ram=$(awk -F '|' '/^size.translator of 170 .* 8 rules/ { print $NF }' "$work/measured-1")
within "a translator of 170 connections" "$ram" "$ram_limit"
for level in "${levels[@]}"; do
    stack=$(awk 'END { print $1 }' "$work/stack-$level")
    within "the stack of translate on thumbv7em at $level" "$stack" "$stack_limit"
    # The calls that lead there.
    ((stack <= stack_limit)) || cat "$work/stack-$level" >&2
done
exit "$missed"
