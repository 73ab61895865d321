#!/usr/bin/env bash
# Runs cargo for a bare-metal target, with or without rustup.
#
#   scripts/bare-metal.sh [--alloc] TARGET -- CARGO-ARGS...
#   scripts/bare-metal.sh --folder TARGET        where cargo leaves what it builds for TARGET
#
#   scripts/bare-metal.sh thumbv7em-none-eabihf -- build --release --package byway --no-default-features
#
# The usual compiler does it if it has the target (`rustup target add TARGET`). If not, Debian's compiler builds
# `core` from source (`core` and `alloc` with --alloc). Its packages come from Debian's security archive and are
# recent: bookworm had 1.96 when this was written, while our rust-version is 1.95. The archive's own 1.85 would not do.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)

usage() {
    sed -n 's/^#   /  /p' "$0" >&2
    exit 2
}

crates=core
only_folder=
while [[ ${1-} == --* ]]; do
    case $1 in
        --alloc) crates=core,alloc ;;
        --folder) only_folder=1 ;;
        *) usage ;;
    esac
    shift
done
target=${1-}
[[ $target ]] || usage
shift

sysroot=$(rustc --print sysroot 2>/dev/null || true)
if [[ $sysroot && -d $sysroot/lib/rustlib/$target/lib ]]; then
    usual=1
    export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}
else
    # Each compiler rebuilds what the other one left, so they get folders of their own.
    usual=
    export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}/debian
fi

if [[ $only_folder ]]; then
    echo "$CARGO_TARGET_DIR/$target"
    exit
fi

[[ ${1-} == -- && $# -ge 2 ]] || usage
shift
if [[ $usual ]]; then
    exec cargo "$1" --target "$target" "${@:2}"
fi

"$root/scripts/need.sh" rustc-web cargo-web rust-web-src lld

# Past rustup's shims, wrappers and choice of toolchain, to Debian's programs by their full names. -Zbuild-std is an
# unstable option, which a stable compiler takes with RUSTC_BOOTSTRAP=1.
unset RUSTUP_TOOLCHAIN RUSTC_WRAPPER RUSTC_WORKSPACE_WRAPPER CARGO_BUILD_RUSTC_WRAPPER
export PATH=/usr/bin:$PATH RUSTC=/usr/bin/rustc RUSTDOC=/usr/bin/rustdoc RUSTC_BOOTSTRAP=1

# Debian has no `rust-lld`, the linker that these targets ask for.
linker=CARGO_TARGET_$(tr a-z- A-Z_ <<<"$target")_LINKER
export "$linker=${!linker:-ld.lld}"

exec /usr/bin/cargo "$1" --target "$target" "-Zbuild-std=$crates" "${@:2}"
