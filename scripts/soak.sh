#!/usr/bin/env bash
# Looks for faults at random for as long as it is told to, and writes what it ran as rows of a table.
#
#   scripts/soak.sh [--seed N] [--minutes M] [PART]...
#
#   scripts/soak.sh                              every part, four hours of processor time in all
#   scripts/soak.sh --seed 7 --minutes 20 model  the model for 20 minutes of processor time, from seed 7 on
#
# Parts: `model` (sequences of operations beside the naive model), `stacks` (two TCP stacks around a translator), `moves`
# (hand-overs over good and bad lines), and each fuzz target by its name. --minutes is what one part gets. The seed is
# printed; the same seed gives the same sequences to `model` and the same worlds to `stacks` and `moves`, while a fuzz target also depends
# on its corpus, which grows below target/soak/. A part that finds something ends with its output; the others still run.
# docs/fuzzing.md says when this ran last, and what came out.
set -euo pipefail

cd "$(dirname "$0")/.."
root=$PWD
folder=${CARGO_TARGET_DIR:-$root/target}/soak
targets=(operations translate records handover control_session control_parsers control_answers names relay mediator mediator_parsers)
seed=$(date +%Y%m%d) minutes="" parts=()
while (($#)); do
    case $1 in
        --seed) seed=${2-}; shift ;;
        --minutes) minutes=${2-}; shift ;;
        -*) sed -n 's/^#   /  /p' "$0" >&2; exit 2 ;;
        *) parts+=("$1") ;;
    esac
    shift
done
((${#parts[@]})) || parts=(model stacks moves "${targets[@]}")
minutes=${minutes:-$((240 / ${#parts[@]}))}
[[ $seed =~ ^[1-9][0-9]*$ && $minutes =~ ^[1-9][0-9]*$ ]] || {
    echo "soak.sh: --seed and --minutes are numbers above 0" >&2
    exit 2
}
for part in "${parts[@]}"; do
    [[ " model stacks moves ${targets[*]} " == *" $part "* ]] || {
        echo "soak.sh: no such part: $part" >&2
        exit 2
    }
done
mkdir -p "$folder"
export CARGO_INCREMENTAL=0

# shellcheck disable=SC2016 # the backticks are Markdown's
row() { printf '| `%s` | %s | %d s | %s | %s |\n' "$@" | tee -a "$folder/rows"; }

# Processor time of what follows, in whole seconds, into `took`.
timed() {
    local TIMEFORMAT='%U %S' status=0
    { time "$@" >"$folder/$part.log" 2>&1; } 2>"$folder/$part.time" || status=$?
    took=$(awk '{ printf "%d", $1 + $2 + 0.5 }' "$folder/$part.time")
    return "$status"
}

fail() {
    tail -n 200 "$folder/$part.log"
    row "$part" "$1" "$2" "$3" "**a fault**"
    failed+=("$part")
}

# A test again and again, each time with other seeds: how many each time holds, its unit, and the command.
rounds() {
    local each=$1 unit=$2 used=0 count=0
    shift 2
    "$@" --no-run
    while ((used < minutes * 60)); do
        export PROPTEST_RNG_SEED=$((seed + count)) PROPTEST_CASES=$each
        export BYWAY_FIRST_SEED=$((seed * 1000 + count)) BYWAY_SEEDS=$each BYWAY_MOVES=$each
        timed "$@" || { fail "$PROPTEST_RNG_SEED" "$((used + took))" "$count $unit"; return; }
        used=$((used + took)) count=$((count + each))
    done
    row "$part" "$seed" "$used" "$count $unit" nothing
}

fuzz() {
    local runs=0 used=0 turn=0 edges features
    [[ -d $folder/work ]] || (cd fuzz && cargo run --quiet --release --bin corpus -- unpack "$folder/work" && cargo run --quiet --release --bin seeds)
    mkdir -p "$folder/work/$part" "fuzz/seeds/$part"
    export RUSTC_BOOTSTRAP=1
    cargo fuzz build --fuzz-dir fuzz "$part"
    # libFuzzer counts time by the clock: a minute at a time, until the processor has done enough.
    while ((used < minutes * 60)); do
        timed cargo fuzz run --fuzz-dir fuzz "$part" "$folder/work/$part" "fuzz/seeds/$part" -- -seed="$((seed + turn))" \
            -max_len=2048 -max_total_time=60 -print_final_stats=1 || { fail "$seed" "$((used + took))" "see fuzz/artifacts/$part"; return; }
        runs=$((runs + $(sed -n 's/^stat::number_of_executed_units: *//p' "$folder/$part.log")))
        used=$((used + took)) turn=$((turn + 1))
    done
    read -r edges features < <(sed -n 's/^#.* cov: \([0-9]*\) ft: \([0-9]*\) .*/\1 \2/p' "$folder/$part.log" | tail -n 1)
    row "$part" "$seed" "$used" "$runs executions, $edges edges, $features features" nothing
}

failed=()
for part in "${parts[@]}"; do
    case $part in
        model) rounds 100000 sequences cargo test --quiet --release --package byway --features std --test random model ;;
        stacks) rounds 1000 "runs of each kind" cargo test --quiet --release --package byway --features std,http --test tracking two_stacks::over_ ;;
        moves) rounds 500 "moves of each kind" cargo test --quiet --release --package byway --features std,http --test handover world ;;
        *) fuzz ;;
    esac
done
((${#failed[@]} == 0)) || { echo "soak.sh: found by: ${failed[*]}" >&2; exit 1; }
