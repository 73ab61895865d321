#!/usr/bin/env bash
# Runs a cargo command on the library with each combination of its features that differs from the others.
#
#   scripts/features.sh [--single] COMMAND [ARGS...]
#
#   scripts/features.sh rustc --lib --profile check -- -D warnings
#   RUSTDOCFLAGS="-D warnings" scripts/features.sh --single doc --no-deps
#
# With --single not each two features: a link from one feature's documentation to another's breaks with the one alone.
set -euo pipefail

pairs=true
if [[ ${1-} == --single ]]; then
    pairs=false
    shift
fi
(($#)) || { sed -n 's/^#   /  /p' "$0" >&2; exit 2; }
cd "$(dirname "$0")/.."

# `std` is another name of `alloc`, for those who look for it: nothing in the code asks for it.
! grep -rn 'feature = "std"' src || { echo "features.sh: std is no longer the same as alloc" >&2; exit 1; }

# Each feature alone, each two, and all; of those that switch on the same, because one feature implies another, only one.
combinations=$(cargo metadata --no-deps --format-version 1 | jq -r --argjson pairs $pairs '
    .packages[] | select(.name == "byway").features | del(.default, .std) as $features
    | def with_implied:
          (. + [.[] | $features[.][] | select($features[.])] | unique) as $more
          | if $more == . then . else $more | with_implied end;
      ($features | keys) as $all
      | [[], $all] + [$all[] | [.]] + [$all[] as $one | $all[] as $other | select($pairs and $one < $other) | [$one, $other]]
      | map(with_implied) | unique[] | join(",")')

while read -r combination; do
    echo "$1 with features: ${combination:-none}"
    cargo "$1" --quiet --package byway --no-default-features --features "$combination" "${@:2}" </dev/null
done <<<"$combinations"
