#!/usr/bin/env bash
# Installs the QUIC client and server of Python that a test of the host uses, into target/aioquic.
set -euo pipefail
cd "$(dirname "$0")/.."

python=target/aioquic/bin/python
"$python" -c 'import aioquic' 2>/dev/null && exit 0
/usr/bin/python3 -m venv --clear target/aioquic
"$python" -m pip install --quiet --disable-pip-version-check aioquic==1.7.2
