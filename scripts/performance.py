#!/usr/bin/env python3
"""Puts the figures of runs into docs/performance.md, between its marks, and draws docs/performance.svg.

    cargo run --release --example speed -- --flows 1,1000,10000,100000,1000000 --json > speed.json
    cargo run --release --example speed -- --rules --json > rules.json
    scripts/performance.py speed.json rules.json
"""

import json
import os
import sys

sys.dont_write_bytecode = True
import chart  # noqa: E402

DOCUMENT = "docs/performance.md"
FIGURES = "<!-- figures: scripts/performance.py -->\n", "<!-- end of figures -->\n"
RULES = "<!-- rules: scripts/performance.py -->\n", "<!-- end of rules -->\n"
INSTRUCTIONS = "benches/instructions.txt"

# Passes that lie further apart than this share of their median were disturbed.
NOISY = 0.25

NAMES = {
    "expire": "expiry, a connection",
    "redivert": "re-divert, the instruction",
    "sweep": "a call of `poll` after it",
    "export": "snapshot, a connection",
    "import": "restore, a connection",
    "import_burst": "restore in bursts, a connection",
}


def name_of(one):
    """What a row is called in the table."""
    if one["row"] == "limit":
        return f"limit {one['limit']}"
    if one["call"] in (None, "export", "import", "import_burst"):
        return NAMES[one["call"] or one["row"]]
    names = {
        "redivert": "next packet after a re-divert",
        "new": "new connection",
        "new_by_prefix": "new connection by a prefix",
        "new_masqueraded": "new connection, masqueraded",
        "new_with_own": "new connection beside an own address",
        "new_with_limit": "new connection with a client limit",
        "new_with_ranges": "new connection with three ranges",
        "answer": "first answer",
        "flood": "SYN flood, full table",
        "hit_measured": "measured hit",
        "hit_resumable": "resumable hit",
        "name_answered": "query for a name of the table",
        "name_other": "query for another name",
        "name_unrelated": "no query, at the naming server",
    }
    words = [names.get(one["row"], one["row"]), one["call"] or ""]
    if one["row"].startswith("hit"):
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
    if one.get("met") is False:
        text = f"**{text}**"
    return text + (" ~" if one["spread"] > NOISY else "")


def demands(cells):
    """What is demanded of a row, for each number of connections of which it is."""
    sizes = {}
    for size, one in sorted(cells.items()):
        if "at_most" in one:
            unit = f" {one['limit']}" if one["at_most"].replace(".", "").isdigit() else ""
            most = one["at_most"].replace(" x", f" {one.get('beside')}")
            sizes.setdefault(most + unit, []).append(chart.short(size))
    if len(sizes) == 1:
        return next(iter(sizes))
    return "; ".join(f"{most} at {' and '.join(at)}" for most, at in sizes.items())


def table(measured, protocol):
    measured = [one for one in measured if one["protocol"] == protocol and "cores" not in one]
    sizes = sorted({one["connections"] for one in measured})
    rows = {}
    for one in measured:
        rows.setdefault(name_of(one), {})[one["connections"]] = one
    lines = [
        f"| {protocol.upper()} | at most | " + " | ".join(chart.short(size) for size in sizes) + " |",
        "| --- | --- |" + " --- |" * len(sizes),
    ]
    for name, row in rows.items():
        cells = [cell(row[size]) if size in row else "" for size in sizes]
        lines.append(f"| {name} | {demands(row)} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def rules_table(measured):
    """What rules cost. A row whose name begins with blanks goes on with what the one before is about."""
    lines = ["| | ns | at most |", "| --- | ---: | --- |"]
    about = ""
    for one in measured:
        what = one["what"]
        if what.startswith("  "):
            what = f"{about}: {what.strip()}"
        else:
            about = what.partition(":")[0]
        taken, demand = number(one["nanoseconds"]), ""
        if "at_most" in one:
            demand = number(one["at_most"]) + (f", {one['because']}" if one["because"] else "")
            taken = taken if one["met"] else f"**{taken}**"
        lines.append(f"| {what} | {taken} | {demand} |")
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


def put(text, marks, figures):
    """The text with these figures between its marks."""
    before, _, rest = text.partition(marks[0])
    _, mark, after = rest.partition(marks[1])
    if not mark:
        sys.exit(f"performance.py: {DOCUMENT} has lost its marks")
    return f"{before}{marks[0]}\n{figures}\n{marks[1]}{after}"


def read(path):
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError) as error:
        sys.exit(f"performance.py: {path}: {error}")


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: scripts/performance.py speed.json rules.json")
    source = os.path.abspath(sys.argv[1])
    measured, rules = read(sys.argv[1]), read(sys.argv[2])
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
    with open(DOCUMENT, encoding="utf-8") as file:
        text = file.read()
    text = put(text, FIGURES, "\n".join([table(measured, "udp"), table(measured, "tcp"), instructions()]))
    text = put(text, RULES, rules_table(rules))
    with open(DOCUMENT, "w", encoding="utf-8") as file:
        file.write(text)
    sys.argv[1:] = [source, "docs/performance.svg"]
    chart.main()


if __name__ == "__main__":
    main()
