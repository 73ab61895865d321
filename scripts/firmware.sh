#!/usr/bin/env bash
# Builds the images of examples/firmware/, with the target that rustup has or else with Debian's compiler
# (bare-metal.sh), and prints where each one is.
#
#   scripts/firmware.sh [IMAGE [TARGET]]        all images, each for all its targets
set -euo pipefail

case ${1-} in -*) sed -n 's/^#   /  /p' "$0" >&2; exit 2 ;; esac

scripts=$(cd "$(dirname "$0")" && pwd)
images=(
    "qemu-riscv32 riscv32imac-unknown-none-elf"
    "mps2-an385 thumbv7m-none-eabi"
    "measure thumbv7em-none-eabihf"
    "measure riscv32imac-unknown-none-elf"
)

cd "$scripts/../examples/firmware"
found=
for pair in "${images[@]}"; do
    read -r image target <<<"$pair"
    [[ ${1:-$image} == "$image" && ${2:-$target} == "$target" ]] || continue
    "$scripts/bare-metal.sh" "$target" -- build --release --quiet --locked --package "$image" >&2
    echo "$("$scripts/bare-metal.sh" --folder "$target")/release/$image"
    found=1
done
[[ $found ]] || { echo "There is no image ${*}; there are:" >&2; printf '  %s\n' "${images[@]}" >&2; exit 1; }
