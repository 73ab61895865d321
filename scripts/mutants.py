#!/usr/bin/env python3
"""Sums up what scripts/mutants.sh has found: a table on standard output, and summary.json.

    scripts/mutants.py FOLDER ROOT        FOLDER is target/mutants, ROOT the repository

Survivors that docs/mutants.md lists as equivalent are counted apart. Ends with 1 if there are others, or if the page lists
what does not survive any more.
"""

import hashlib
import json
import re
import sys
from pathlib import Path

EQUIVALENT = re.compile(r"^- `(?P<mutant>.+?)` at `(?P<line>.+)`: (?P<why>.+)$")
NAME = re.compile(r"^(?P<file>[^:]+):(?P<line>\d+):\d+: (?P<change>.+)$")


def listed(page):
    """What the page says is equivalent, behind its example: (file and change, text of the line) -> why."""
    found = {}
    if page.exists():
        _, _, entries = page.read_text().rpartition("\n```\n")
        for line in entries.splitlines():
            if match := EQUIVALENT.match(line):
                found[match["mutant"], match["line"]] = match["why"]
    return found


def lines(path):
    return path.read_text().splitlines() if path.exists() else []


def is_unchanged(file, digest):
    """Whether a file is what was mutated: else nothing is known of it yet."""
    return file.exists() and digest.read_text().split()[:1] == [hashlib.sha256(file.read_bytes()).hexdigest()]


def key(name, root):
    """A mutant without its place, which moves: file and change, and the text of the line."""
    match = NAME.match(name)
    source = (root / match["file"]).read_text().splitlines()
    return f"{match['file']}: {match['change']}", source[int(match["line"]) - 1].strip()


def main():
    folder, root = Path(sys.argv[1]), Path(sys.argv[2])
    equivalent, excused, rows, alive = listed(root / "docs/mutants.md"), set(), [], []
    for output in sorted(folder.glob("files/*/file")):
        output = output.parent
        out, file = output / "mutants.out", (output / "file").read_text().strip()
        if not is_unchanged(root / file, output / "sum"):
            continue
        unviable = set(lines(output / "unviable")) | set(lines(out / "unviable.txt"))
        caught = set(lines(out / "caught.txt")) | set(lines(out / "previously_caught.txt"))
        missed, slow = set(lines(out / "missed.txt")), set(lines(out / "timeout.txt"))
        known = {name for name in missed | slow if key(name, root) in equivalent}
        excused |= {key(name, root) for name in known}
        alive += sorted((missed | slow) - known)
        stage = "whole" if (output / "whole").exists() else "quick" if (output / "quick").exists() else "under way"
        rows.append({
            "file": file,
            "tests": stage,
            "caught": len(caught - unviable - missed - slow),
            "unviable": len(unviable),
            "equivalent": len(known),
            "timed_out": len(slow - known),
            "missed": len(missed - known),
        })
    files = {row["file"] for row in rows if row["tests"] == "whole"}
    stale = [mutant for mutant in equivalent if mutant not in excused and mutant[0].split(":")[0] in files]
    survivors = []
    for name in alive:
        mutant, line = key(name, root)
        survivors.append({"name": name, "mutant": mutant, "line": line})
    summary = {"files": rows, "survivors": survivors, "no_longer_alive": [list(mutant) for mutant in stale]}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")

    columns = ["file", "tests", "caught", "unviable", "equivalent", "timed_out", "missed"]
    print("| " + " | ".join(columns) + " |")
    print("| --- | --- |" + " ---: |" * (len(columns) - 2))
    for row in rows:
        print("| " + " | ".join(str(row[column]) for column in columns) + " |")
    for survivor in survivors:
        print(f"\nalive: {survivor['name']}\n    {survivor['line']}")
    for mutant, line in stale:
        print(f"\ndocs/mutants.md lists what does not survive: {mutant} at {line}")
    return 1 if survivors or stale else 0


if __name__ == "__main__":
    sys.exit(main())
