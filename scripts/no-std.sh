#!/usr/bin/env bash
# Checks that byway in a linked image, without features, needs neither `std` nor an allocator.
#
#   scripts/no-std.sh [TARGET]...        thumbv7em-none-eabihf
set -euo pipefail

scripts=$(cd "$(dirname "$0")" && pwd)

# The crates `std` and `alloc` (not the module `core::alloc`), and whatever hands out memory.
unwanted='(^|[^:[:alnum:]_])(std|alloc)::|__rust_\w*alloc|__r[dg]l_|^(malloc|calloc|realloc|free)$'

(($#)) || set -- thumbv7em-none-eabihf

for target in "$@"; do
    image=$("$scripts/image.sh" "$target" s image byway)
    symbols=$(llvm-nm --demangle --format=just-symbols "$image")
    if grep -E "$unwanted" <<<"$symbols"; then
        echo "byway brings in std or an allocator on $target" >&2
        exit 1
    fi
    echo "$target: neither std nor an allocator"
done
