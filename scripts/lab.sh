#!/usr/bin/env bash
# Runs `byway lab` as a user without rights, as a newcomer would, and looks that nothing is left of it: not after its end,
# and not after a kill. As root, which opens /dev/net/tun to everybody for as long as that takes.
set -euo pipefail
cd "$(dirname "$0")/.."

programs=$(scripts/programs.sh byway-host)
folder=$(mktemp -d)
mode=$(stat -c %a /dev/net/tun)
trap 'chmod "$mode" /dev/net/tun; rm -rf "$folder"' EXIT
install -m 755 "$programs/byway" "$folder/byway-under-test"
chmod 755 "$folder"
chmod 666 /dev/net/tun
# Without what this shell has: a home, a terminal, a group.
nobody=(setpriv --reuid=65534 --regid=65534 --clear-groups env -i PATH="$PATH")

left() {
    local links
    links=$(ip -o link)
    # The program runs as /proc/self/exe inside.
    if [[ $links == *byway* ]] || pgrep -f byway-under-test >/dev/null || pgrep -f '/proc/self/exe (lab|run)' >/dev/null; then
        echo "$1: something is left" >&2
        return 1
    fi
}

"${nobody[@]}" "$folder/byway-under-test" lab
left "after its end"
for signal in INT TERM KILL; do
    for after in 0.05 0.2 1 3; do
        "${nobody[@]}" timeout -s "$signal" "$after" "$folder/byway-under-test" lab >/dev/null 2>&1 || true
        # The kernel ends what is inside, and that takes a moment.
        for _ in {1..50}; do
            left "" 2>/dev/null && break
            sleep 0.05
        done
        left "$signal after $after s"
    done
done
echo "Nothing is left after INT, TERM and KILL at any moment"
