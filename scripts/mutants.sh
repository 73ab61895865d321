#!/usr/bin/env bash
# Mutation testing with cargo-mutants of what changes state: src/track, src/wire, src/translator and src/table.
#
#   scripts/mutants.sh [--shard K/N] [--quick] [FILE]...
#
#   scripts/mutants.sh src/wire/checksum.rs      one file
#   scripts/mutants.sh --shard 0/2               every second file, the most important ones first; K counts from 0
#   scripts/mutants.sh --summary                 only say what was found so far
#
# Each mutant meets a quick selection of tests first, and those that survive it the library's whole suite (not with
# --quick). It runs in copies of the tree below target/mutants/, never in the tree itself. Stopped, it goes on with the
# mutant where it was: a file that has not changed is not begun anew, and one that is finished is left out. All shards
# together leave target/mutants/summary.json. Survivors are an error unless docs/mutants.md says why they are equivalent.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
folder=${CARGO_TARGET_DIR:-$root/target}/mutants
shard=0/1 quick="" summary="" files=()
while (($#)); do
    case $1 in
        --shard) shard=${2-}; shift ;;
        --quick) quick=1 ;;
        --summary) summary=1 ;;
        -*) sed -n 's/^#   /  /p' "$0" >&2; exit 2 ;;
        *) files+=("$1") ;;
    esac
    shift
done
[[ $shard =~ ^([0-9]+)/([1-9][0-9]*)$ && ${BASH_REMATCH[1]} -lt ${BASH_REMATCH[2]} ]] || {
    echo "mutants.sh: --shard is K/N, K below N" >&2
    exit 2
}
place=${BASH_REMATCH[1]} shards=${BASH_REMATCH[2]}

summarise() { "$root/scripts/mutants.py" "$folder" "$root"; }
[[ -z $summary ]] || { summarise; exit; }

cargo mutants --version >/dev/null 2>&1 || {
    echo "mutants.sh: cargo-mutants is missing: cargo install --locked cargo-mutants" >&2
    exit 1
}

# The most important ones, then all others. Left out: what only small processors compile, tests, and what only reads.
first=(src/track/tcp/{attempt,conversation,handshake,reset,mod}.rs src/track/{claims,sequence,phase,fragments,timers}.rs
    src/translator/connection/{close,evict,expire,alternative,open,open_plain}.rs
    src/translator/path/{track,fragment,icmp,slow,plain,fast,second_look,stale}.rs
    src/translator/redivert/{follow,instruction}.rs src/translator/{transmit,sync/import,rules/find}.rs
    src/table/{index,ports,recent,redivert_log,clients,rule,server,filter,ages}.rs)
unfit='/(mod|fast_small|list|plan|consistency|tests)\.rs$'
if ((${#files[@]} == 0)); then
    mapfile -t files < <(
        {
            for file in "${first[@]}"; do [[ ! -e $file ]] || echo "$file"; done
            find src/track src/wire src/translator src/table -name '*.rs' | grep -Ev "$unfit" | sort
        } | awk '!seen[$0]++'
    )
fi

# The tests that a file's mutants meet first: few, since building them takes most of a mutant's time. Some may not exist yet.
quick_tests() {
    local names name
    case $1 in
        src/wire/*) names=(packets) ;;
        src/track/*) names=(tracking packets random) ;;
        *) names=(tracking rules random) ;;
    esac
    echo --lib
    for name in "${names[@]}"; do
        [[ ! -e tests/$name ]] || printf '%s\n' --test "$name"
    done
}
quick_cases=100

# A copy of what git knows, with its own target folder, which lives on between runs. What is copied is newer than what was
# built from the file before, which may have been a mutant.
tree=$folder/tree-$place-of-$shards
mkdir -p "$tree"
git ls-files --cached --others --exclude-standard | while IFS= read -r name; do
    if [[ -e $name ]] && ! cmp -s "$name" "$tree/$name"; then
        mkdir -p "$tree/$(dirname "$name")"
        cp "$name" "$tree/$name"
    fi
done
(cd "$tree" && find . -path ./target -prune -o -type f -print) | while IFS= read -r name; do
    [[ -e $name ]] || rm "$tree/$name"
done
export CARGO_TARGET_DIR=$tree/target CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=1
! command -v ld.lld >/dev/null || export RUSTFLAGS="${RUSTFLAGS-} -Clink-arg=-fuse-ld=lld"

# cargo-mutants does not run the tests without a mutant: they must pass, or each mutant would count as caught.
passes() { (cd "$tree" && cargo test --quiet --package byway --features alloc,control,smoltcp "$@" >&2); }

# Runs the mutants of FILE that were neither caught nor impossible to build so far.
mutants() {
    local file=$1 output=$2 seconds=$3 status=0
    shift 3
    # The next run counts them among those that were caught.
    cat "$output/mutants.out/unviable.txt" >>"$output/unviable" 2>/dev/null || true
    (cd "$tree" && cargo mutants --in-place --dir . --file "$file" --output "$output" --iterate --baseline skip \
        --timeout "$seconds" --no-shuffle --package byway --colors never -- "$@") >&2 || status=$?
    # 0 all caught, 2 some missed, 3 some timed out
    [[ $status == [023] ]] || { echo "mutants.sh: cargo mutants ended with $status" >&2; exit 1; }
}

whole="" tried=""
for ((i = place; i < ${#files[@]}; i += shards)); do
    file=${files[i]}
    output=$folder/files/${file//\//-}
    sum=$(sha256sum <"$file")
    if [[ $(cat "$output/sum" 2>/dev/null) != "$sum" ]]; then
        rm -rf "$output"
        mkdir -p "$output"
        echo "$sum" >"$output/sum"
    fi
    echo "$file" >"$output/file"
    if [[ ! -e $output/quick ]]; then
        mapfile -t tests < <(quick_tests "$file")
        if [[ $tried != "${tests[*]}" ]]; then
            PROPTEST_CASES=$quick_cases passes "${tests[@]}"
            tried=${tests[*]}
        fi
        PROPTEST_CASES=$quick_cases mutants "$file" "$output" 120 "${tests[@]}"
        # What the second stage is for, kept since its own results take the place of these when it begins.
        cat "$output"/mutants.out/{missed,timeout}.txt >"$output/survivors"
        touch "$output/quick"
    fi
    if [[ ! -e $output/whole && -z $quick ]]; then
        if [[ -s $output/survivors ]]; then
            [[ $whole ]] || passes --tests
            whole=1
            mutants "$file" "$output" 900 --tests
        fi
        touch "$output/whole"
    fi
done
summarise
