#!/usr/bin/env bash
# Everything about the firmware that can be tested here: what the images share, on the host; then each image in QEMU,
# between four hosts. Installs what it needs. Arguments go to e2e.py.
#
#   examples/firmware/test/run.sh [--fuzz SECONDS] [IMAGE...]
set -euo pipefail

cd "$(dirname "$0")/.."
root=$(cd ../.. && pwd)

"$root/scripts/need.sh" qemu-system-arm qemu-system-misc iproute2 util-linux python3 \
    iputils-ping traceroute curl iperf3 bind9-dnsutils
command -v defmt-print >/dev/null || cargo install --locked --version 1.2.0 defmt-print

cargo test --locked
exec test/e2e.py "$@"
