#!/bin/sh
# Instructions per packet, counted by callgrind: a guard against lost speed that does not depend on the clock.
#
#   scripts/instructions.sh            print `row instructions-per-packet`
#   scripts/instructions.sh --check    and fail when a row needs over 3 % more than benches/instructions.txt says
#
# The figures depend on the compiler. After a change that is meant:
#   scripts/instructions.sh > benches/instructions.txt
set -eu

usage() {
    echo "usage: scripts/instructions.sh [--check]" >&2
    exit 2
}

check=no
case $# in
0) ;;
1) if [ "$1" = --check ]; then check=yes; else usage; fi ;;
*) usage ;;
esac

cd "$(dirname "$0")/.."
baseline=benches/instructions.txt
if [ $check = yes ] && [ ! -f $baseline ]; then
    echo "instructions.sh: there is no $baseline to compare with" >&2
    exit 1
fi
command -v valgrind >/dev/null || {
    echo "instructions.sh: valgrind is not installed (package valgrind)" >&2
    exit 1
}

cargo build --quiet --release --package byway-examples --example speed
speed=${CARGO_TARGET_DIR:-target}/release/examples/speed
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# One row: its name, then the arguments that choose it.
count() {
    name=$1
    shift
    # Only what happens under the function `timed_chunk` is counted; the program prints the number of packets.
    packets=$(valgrind --quiet --tool=callgrind --toggle-collect='*timed_chunk*' \
        --callgrind-out-file="$work/profile" "$speed" --flows 1000 "$@" 2>"$work/log") || {
        cat "$work/log" >&2
        echo "instructions.sh: $name cannot be counted" >&2
        return 1
    }
    awk -v name="$name" -v packets="$packets" '
        /^(totals|summary):/ { total = $2 }
        END { if (!total) exit 1; printf "%s %.1f\n", name, total / packets }' "$work/profile"
}

{
    echo "# Instructions per packet at 1000 connections: scripts/instructions.sh, $(rustc --version | cut -d' ' -f1,2)"
    for protocol in udp tcp; do
        for limit in L1 L3w L4w L5w; do
            count "$limit/$protocol" --row "$limit" --protocol "$protocol"
        done
        for call in single burst; do
            for direction in to_server to_client; do
                count "hit/$protocol/$call/$direction" \
                    --row hit --protocol "$protocol" --call $call --direction $direction
            done
            for row in hit_measured hit_resumable; do
                for direction in to_server to_client; do
                    count "$row/$protocol/$call/$direction" \
                        --row $row --protocol "$protocol" --call $call --direction $direction
                done
            done
            count "pass/$protocol/$call" --row pass --protocol "$protocol" --call $call
        done
        for row in new new_by_prefix new_masqueraded new_with_own new_with_limit new_with_ranges; do
            count "$row/$protocol" --row $row --protocol "$protocol" --call single
        done
        count "answer/$protocol" --row answer --protocol "$protocol" --call single
        count "expire/$protocol" --row expire --protocol "$protocol"
        for call in single burst; do
            count "redivert/$protocol/$call" --row redivert --protocol "$protocol" --call $call
        done
        count "sweep/$protocol" --row sweep --protocol "$protocol"
        for call in export import import_burst; do
            count "snapshot/$protocol/$call" --row snapshot --protocol "$protocol" --call $call
        done
        count "hashbrown/$protocol" --row hashbrown --protocol "$protocol" --call single
        for call in single burst; do
            count "name_unrelated/$protocol/$call" --row name_unrelated --protocol "$protocol" --call $call
        done
    done
    for row in name_answered name_other; do
        for call in single burst; do
            count "$row/udp/$call" --row $row --protocol udp --call $call
        done
    done
    count flood --row flood --protocol tcp
} >"$work/counted"
cat "$work/counted"

if [ $check = yes ]; then
    awk '
        /^#/ { next }
        NR == FNR { before[$1] = $2; next }
        !($1 in before) { printf "%s is not in the baseline\n", $1; failed = 1; next }
        {
            seen[$1] = 1
            change = ($2 / before[$1] - 1) * 100
            if (change > 3) {
                printf "%s: %.1f, and %.1f before: %.1f %% more\n", $1, $2, before[$1], change
                failed = 1
            } else if (change < -3) {
                printf "%s: %.1f, and %.1f before: %.1f %% less; write the new baseline\n", $1, $2, before[$1], -change
            }
        }
        END {
            for (name in before) if (!(name in seen)) { printf "%s was not counted\n", name; failed = 1 }
            exit failed
        }' $baseline "$work/counted" >"$work/verdict" && failed=0 || failed=1
    cat "$work/verdict" >&2
    exit "$failed"
fi
