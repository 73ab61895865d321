#!/usr/bin/env bash
# Links an image of tests/bare-metal/ and prints its path. What cannot be reached from ENTRY is not in it.
#
#   scripts/image.sh TARGET OPT-LEVEL ENTRY [FEATURES]
#
#   scripts/image.sh thumbv7em-none-eabihf s packet_path byway
set -euo pipefail

(($# >= 3)) || { sed -n 's/^#   /  /p' "$0" >&2; exit 2; }
target=$1 level=$2 entry=$3 features=${4-}

scripts=$(cd "$(dirname "$0")" && pwd)
export CARGO_PROFILE_RELEASE_OPT_LEVEL=$level

command -v ld.lld llvm-nm >/dev/null || "$scripts/need.sh" lld llvm
"$scripts/bare-metal.sh" "$target" -- build --release --quiet \
    --manifest-path "$scripts/../tests/bare-metal/Cargo.toml" --features "$features" >&2

folder=$("$scripts/bare-metal.sh" --folder "$target")/release
image=$folder/$entry-${features:-none}-$level.elf
# Fatal warnings: an entry that does not exist is only a warning, and would make every check of its image pass.
ld.lld --fatal-warnings --gc-sections --no-undefined --entry="$entry" \
    --whole-archive "$folder/libbare_metal.a" -o "$image"
echo "$image"
