#!/usr/bin/env bash
# HTTP clients against CoAP servers of others through byway-mediator, which alone connects their network namespaces. Prints the
# table of docs/mediator.md. The namespaces end with it, and it needs no rights for them.
#
#   scripts/mediator-interop.sh            print it
#   scripts/mediator-interop.sh --check    and fail if the page has another one
#   scripts/mediator-interop.sh --write    and put it into the page
#   scripts/mediator-interop.sh --figures  instead print memory, and downloads over a link beside libcoap's own client
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/need.sh chromium curl default-jdk-headless iproute2 libcoap3-bin python3-venv wget wrk
command -v npm >/dev/null || scripts/need.sh nodejs npm
target=${CARGO_TARGET_DIR:-target}
python=$target/aiocoap/bin/python
if ! "$python" -c 'import aiocoap' 2>/dev/null; then
    /usr/bin/python3 -m venv --clear "$target/aiocoap"
    "$python" -m pip install --quiet --disable-pip-version-check aiocoap==0.4.17
fi
[[ -d $target/node-coap/node_modules/coap ]] || npm install --silent --no-fund --no-audit --prefix "$target/node-coap" coap@1.5.0
programs=$(scripts/programs.sh byway-mediator byway-host)

new=$(mktemp)
trap 'rm -f "$new"' EXIT
/usr/bin/python3 examples/mediator/tests/interop/run.py "$programs/byway-mediator" "$programs/byway" \
    "$(realpath -s "$python")" "$(realpath "$target/node-coap")" ${1:+"${1#--}"} | tee "$new"

page=docs/mediator.md
between() { sed -n '/<!-- interop -->/,/<!-- end -->/p' "$page" | sed '1d;$d'; }
case ${1:-} in
    --check) diff <(between) "$new" ;;
    --write) sed -i -e "/<!-- interop -->/r $new" -e '/<!-- interop -->/,/<!-- end -->/{/<!-- interop -->/b;/<!-- end -->/b;d}' "$page" ;;
esac
