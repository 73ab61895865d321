#!/usr/bin/env python3
"""Puts the figures of a run into docs/performance.md, between its two marks, and draws docs/performance.svg.

    cargo run --release --example speed -- --flows 1,1000,10000,100000,1000000 --json > speed.json
    scripts/performance.py speed.json
"""

import json
import os
import sys

sys.dont_write_bytecode = True
import chart  # noqa: E402

DOCUMENT = "docs/performance.md"
BEGIN, END = "<!-- figures: scripts/performance.py -->\n", "<!-- end of figures -->\n"
INSTRUCTIONS = "benches/instructions.txt"

# Passes that lie further apart than this share of their median were disturbed.
NOISY = 0.25

NAMES = {
    "expire": "expiry, a connection",
    "redivert": "re-divert, the instruction",
    "export": "snapshot, a connection",
    "import": "restore, a connection",
    "name_answered": "query for a name of the table",
    "name_other": "query for another name",
    "name_unrelated": "no query, at the naming server",
}


def name_of(one):
    """What a row is called in the table."""
    if one["row"] == "limit":
        return f"limit {one['limit']}"
    if one["call"] in (None, "export", "import"):
        return NAMES[one["call"] or one["row"]]
    names = {"redivert": "next packet after a re-divert", "new": "new connection", "flood": "SYN flood, full table"}
    words = [names.get(one["row"], one["row"]), one["call"] or ""]
    if one["row"] == "hit":
        words.append(one["direction"].replace("_", " "))
    return " ".join(word for word in words if word)


def number(value):
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def cell(one):
    """Nanoseconds, and the ratio behind them."""
    text = number(one["nanoseconds"])
    if one["row"] != "limit" and one["ratio"] is not None:
        text += f" ({one['ratio']:.2f} {one['limit']})"
    if "beside" in one:
        text += f", {one['times']:.2f} {one['beside']}"
    return text + (" ~" if one["spread"] > NOISY else "")


def table(measured, protocol):
    measured = [one for one in measured if one["protocol"] == protocol and "cores" not in one]
    sizes = sorted({one["connections"] for one in measured})
    rows = {}
    for one in measured:
        rows.setdefault(name_of(one), {})[one["connections"]] = cell(one)
    lines = [
        f"| {protocol.upper()} | " + " | ".join(chart.short(size) for size in sizes) + " |",
        "| --- |" + " --- |" * len(sizes),
    ]
    lines += [f"| {name} | " + " | ".join(row.get(size, "") for size in sizes) + " |" for name, row in rows.items()]
    return "\n".join(lines) + "\n"


def instructions():
    """The committed counts, one line a row, UDP beside TCP."""
    with open(INSTRUCTIONS, encoding="utf-8") as file:
        lines = [line.split() for line in file if not line.startswith("#")]
    rows = {}
    for name, count in lines:
        words = name.split("/")
        protocol = next((word for word in words if word in ("udp", "tcp")), "tcp")
        words = [word.replace("_", " ") for word in words if word not in ("udp", "tcp")]
        rows.setdefault(" ".join(words), {})[protocol] = f"{float(count):.0f}"
    text = "| instructions a packet, 1000 connections | UDP | TCP |\n| --- | --- | --- |\n"
    for name, row in rows.items():
        text += f"| {name} | {row.get('udp', '')} | {row.get('tcp', '')} |\n"
    return text


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: scripts/performance.py speed.json")
    try:
        with open(sys.argv[1], encoding="utf-8") as file:
            measured = json.load(file)
    except (OSError, ValueError) as error:
        sys.exit(f"performance.py: {sys.argv[1]}: {error}")
    source = os.path.abspath(sys.argv[1])
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
    with open(DOCUMENT, encoding="utf-8") as file:
        before, _, rest = file.read().partition(BEGIN)
        _, mark, after = rest.partition(END)
    if not mark:
        sys.exit(f"performance.py: {DOCUMENT} has lost its marks")
    figures = "\n".join([table(measured, "udp"), table(measured, "tcp"), instructions()])
    with open(DOCUMENT, "w", encoding="utf-8") as file:
        file.write(f"{before}{BEGIN}\n{figures}\n{END}{after}")
    sys.argv[1:] = [source, "docs/performance.svg"]
    chart.main()


if __name__ == "__main__":
    main()
