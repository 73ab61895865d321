"""What scripts share that measure several ways in turn and write their table into a page."""

import sys


def take_turns(rounds, loads, ways, measure, digits=0):
    """The results of each way with each load, by (way, load), a turn for each in every round."""
    results = {}
    for turn in range(rounds):
        for load in loads:
            for way in ways:
                result = measure(way, load)
                results.setdefault((way, load), []).append(result)
                print(f"{turn + 1} {load}: {way}: {result[0]:.{digits}f}", file=sys.stderr)
    return results


def put(page, script, what, text):
    """Puts text into a page, between the marks of a script: what it is about stands in the second one."""
    begin, end = f"<!-- {what}: scripts/{script} -->\n", f"<!-- end of {what} -->\n"
    before, rest = page.read_text().split(begin)
    page.write_text(before + begin + "\n" + text + "\n" + end + rest.split(end)[1])
