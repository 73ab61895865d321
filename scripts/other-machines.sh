#!/usr/bin/env bash
# Runs the library's tests on a 32-bit and on a big-endian machine, with or without rustup.
#
#   scripts/other-machines.sh [TARGET]... [-- TEST-ARGS...]
#
#   scripts/other-machines.sh                                   what CI runs: i686 natively, powerpc in QEMU
#   scripts/other-machines.sh s390x-unknown-linux-gnu           64 bits and big-endian
#   scripts/other-machines.sh i686-unknown-linux-gnu -- fragments
#
# Small processors take other ways through the library than large ones, and only firmware would run them otherwise. The
# usual compiler does it if it has the target (`rustup target add TARGET`). If not, Debian's compiler builds `std` from
# source. Where QEMU runs the tests, PROPTEST_CASES says how many cases each property test tries, BYWAY_SEEDS how often two
# stacks meet (`two_stacks.rs`), and BYWAY_ONE_IN which part others try of what they have; elsewhere all as many as always.
set -euo pipefail

cd "$(dirname "$0")/.."

targets=()
while (($#)); do
    case $1 in
        --) shift; break ;;
        -*) sed -n 's/^#   /  /p' "$0" >&2; exit 2 ;;
        *) targets+=("$1"); shift ;;
    esac
done
((${#targets[@]})) || targets=(i686-unknown-linux-gnu powerpc-unknown-linux-gnu)

# As fast to build as to run.
export CARGO_PROFILE_DEV_OPT_LEVEL=1 CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0
folder=${CARGO_TARGET_DIR:-$PWD/target}
# Nothing runs proptest's parser of regular expressions, which takes as long to optimize as the library.
tests=(--config profile.dev.package.regex-syntax.opt-level=0 --package byway -F "alloc,control,report,smoltcp" --tests --no-fail-fast)

run() {
    local target=$1 machine=${1%%-*} packages linker runner="" variable sysroot
    shift
    case $machine in
        i686)
            packages=(gcc-i686-linux-gnu libc6-dev-i386-cross libc6-i386 lib32gcc-s1)
            linker=i686-linux-gnu-gcc
            ;;
        powerpc | s390x)
            packages=("gcc-$machine-linux-gnu" "libc6-dev-$machine-cross" qemu-user)
            linker=$machine-linux-gnu-gcc
            runner="qemu-${machine/powerpc/ppc} -L /usr/$machine-linux-gnu"
            # What the order of bytes breaks shows in a few cases; another run on this machine tries the rest.
            export PROPTEST_CASES=${PROPTEST_CASES-100} BYWAY_SEEDS=${BYWAY_SEEDS-9} BYWAY_ONE_IN=${BYWAY_ONE_IN-5}
            ;;
        *) echo "other-machines.sh: no such machine here: $target" >&2; exit 2 ;;
    esac
    scripts/need.sh "${packages[@]}"
    variable=CARGO_TARGET_$(tr a-z- A-Z_ <<<"$target")
    export "${variable}_LINKER=$linker"
    [[ -z $runner ]] || export "${variable}_RUNNER=$runner"

    sysroot=$(rustc --print sysroot 2>/dev/null || true)
    if [[ $sysroot && -d $sysroot/lib/rustlib/$target/lib ]]; then
        CARGO_TARGET_DIR=$folder/other cargo test --target "$target" "${tests[@]}" -- "$@"
        return
    fi
    scripts/need.sh rustc-web cargo-web rust-web-src
    # As in bare-metal.sh: past rustup's shims and wrappers; RUSTC_BOOTSTRAP lets a stable compiler take -Zbuild-std.
    env -u RUSTUP_TOOLCHAIN -u RUSTC_WRAPPER -u RUSTC_WORKSPACE_WRAPPER -u CARGO_BUILD_RUSTC_WRAPPER \
        PATH="/usr/bin:$PATH" RUSTC=/usr/bin/rustc RUSTDOC=/usr/bin/rustdoc RUSTC_BOOTSTRAP=1 \
        CARGO_TARGET_DIR="$folder/debian" \
        /usr/bin/cargo test --target "$target" -Zbuild-std=std,panic_unwind,test "${tests[@]}" -- "$@"
}

for target in "${targets[@]}"; do
    echo "The library's tests on $target" >&2
    run "$target" "$@"
done
