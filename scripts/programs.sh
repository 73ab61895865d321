#!/usr/bin/env bash
# Prints the folder with the programs of these packages, and builds them unless they are built already: then BYWAY_PROGRAMS
# names the folder, as it does for tests that run programs.
#
#   scripts/programs.sh PACKAGE...
set -euo pipefail
cd "$(dirname "$0")/.."

(($#)) || { sed -n 's/^#   /  /p' "$0" >&2; exit 2; }
if [[ -z ${BYWAY_PROGRAMS-} ]]; then
    cargo build --release "${@/#/--package=}" >&2
    BYWAY_PROGRAMS=${CARGO_TARGET_DIR:-target}/release
fi
echo "$BYWAY_PROGRAMS"
