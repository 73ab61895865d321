#!/usr/bin/env bash
# Prints, as a Markdown table, the flash and static RAM that byway adds to a minimal image (tests/bare-metal/).
# Flash is code, constants and initial values; RAM is initialised and zeroed static memory, most of it the table.
#
#   scripts/size.sh [TARGET]...        thumbv6m-none-eabi thumbv7em-none-eabihf riscv32imac-unknown-none-elf
set -euo pipefail

scripts=$(cd "$(dirname "$0")" && pwd)
(($#)) || set -- thumbv6m-none-eabi thumbv7em-none-eabihf riscv32imac-unknown-none-elf

# Prints "FLASH RAM" in bytes, from the line "text data bss ..." (constants count as text there).
flash_and_ram() { llvm-size "$("$scripts/image.sh" "$@")" | awk 'NR == 2 { print $1 + $2, $2 + $3 }'; }

echo "| target | opt-level | flash without | with byway | **difference** | RAM without | with byway | **difference** |"
echo "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |"
for target in "$@"; do
    for level in s 3; do
        # In variables of their own, so that a failed build ends the script.
        without=$(flash_and_ram "$target" "$level" image)
        with=$(flash_and_ram "$target" "$level" image byway)
        read -r flash_without ram_without <<<"$without"
        read -r flash_with ram_with <<<"$with"
        echo "| $target | $level | $flash_without | $flash_with | **$((flash_with - flash_without))**" \
            "| $ram_without | $ram_with | **$((ram_with - ram_without))** |"
    done
done

# What an agent for instructions adds to a firmware that changes its rules itself. SHA-256 without unrolled loops, as
# firmware would choose it; in a folder of its own, since the flag is one for every crate.
export RUSTFLAGS='--cfg sha2_backend_soft="compact"'
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$scripts/../target}/compact
without=$(flash_and_ram thumbv7em-none-eabihf s image rules)
with=$(flash_and_ram thumbv7em-none-eabihf s image control)
read -r flash_without ram_without <<<"$without"
read -r flash_with ram_with <<<"$with"
echo
echo "Feature control on thumbv7em-none-eabihf at s, with 2 keys, 4 sessions and a buffer for answers:" \
    "flash $((flash_with - flash_without)), RAM $((ram_with - ram_without))."

# What a table of names adds to the same firmware.
with=$(flash_and_ram thumbv7em-none-eabihf s image naming)
read -r flash_with ram_with <<<"$with"
echo "Feature naming on thumbv7em-none-eabihf at s, with 16 names, 64 rates and a buffer for answers:" \
    "flash $((flash_with - flash_without)), RAM $((ram_with - ram_without))."

# What hand-overs add to the same firmware: without HTTP, two at once.
with=$(flash_and_ram thumbv7em-none-eabihf s image handover)
read -r flash_with ram_with <<<"$with"
echo "Hand-over on thumbv7em-none-eabihf at s, with 1024 connections that can be handed over and two at once:" \
    "flash $((flash_with - flash_without)), RAM $((ram_with - ram_without))."

# What measuring adds to the plain firmware, and what an exporter adds to that.
without=$(flash_and_ram thumbv7em-none-eabihf s image byway)
measured=$(flash_and_ram thumbv7em-none-eabihf s image measured)
with=$(flash_and_ram thumbv7em-none-eabihf s image report)
read -r flash_without ram_without <<<"$without"
read -r flash_measured ram_measured <<<"$measured"
read -r flash_with ram_with <<<"$with"
echo "Measuring on thumbv7em-none-eabihf at s, 1024 connections, 64 servers and 8 events:" \
    "flash $((flash_measured - flash_without)), RAM $((ram_measured - ram_without))."
echo "Feature report on thumbv7em-none-eabihf at s, on top of that, with messages of 1472 bytes:" \
    "flash $((flash_with - flash_measured)), RAM $((ram_with - ram_measured))."
