#!/usr/bin/env bash
# Installs the Debian packages that are missing, or says which.
#
#   scripts/need.sh PACKAGE...
set -euo pipefail

missing=()
for package in "$@"; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
done
((${#missing[@]})) || exit 0

install=(apt-get install -y --no-install-recommends "${missing[@]}")
if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
    echo "Please install what is missing, as root: ${install[*]}" >&2
    exit 1
fi
echo "Installing ${missing[*]}" >&2
exec 9>/run/lock/byway-packages # one after the other
flock 9
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq >&2
"${install[@]}" -qq >/dev/null
