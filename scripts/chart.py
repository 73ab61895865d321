#!/usr/bin/env python3
"""Draws time per packet against the number of connections: byway, and the limits of the machine.

    cargo run --release --example speed -- --json > speed.json
    scripts/chart.py speed.json [docs/performance.svg]
"""

import json
import math
import sys

WIDTH, HEIGHT = 760, 440
LEFT, RIGHT, TOP, BOTTOM = 64, 184, 48, 56

# Each line: name, what the objects must have, colour, dashes.
TO_SERVER_UDP = {"direction": "to_server", "protocol": "udp"}
SERIES = [
    ("byway, single call", {"row": "hit", "call": "single"}, "#b3261e", ""),
    ("byway, burst", {"row": "hit", "call": "burst"}, "#1a56b0", ""),
    ("L4w: two lines", {"row": "limit", "limit": "L4w"}, "#b3261e", "2 4"),
    ("L5w: two lines, prefetched", {"row": "limit", "limit": "L5w"}, "#1a56b0", "2 4"),
    ("L3w: one line, prefetched", {"row": "limit", "limit": "L3w"}, "#5b6770", "7 4"),
    ("L1: packet only", {"row": "limit", "limit": "L1"}, "#5b6770", "1 3"),
]


def points_of(measured, wanted):
    """The points of one line, by number of connections."""
    wanted = wanted | TO_SERVER_UDP
    points = {}
    for one in measured:
        if "cores" not in one and all(one[key] == value for key, value in wanted.items()):
            points[one["connections"]] = one["nanoseconds"]
    return sorted(points.items())


def short(count):
    """1 k for 1000, and so on, so that neighbours do not touch."""
    for unit, name in ((1_000_000, " M"), (1_000, " k")):
        if count >= unit and count % unit == 0:
            return f"{count // unit}{name}"
    return str(count)


def spread(places, distance):
    """Moves labels apart that would overlap; `places` ascend, and so does the result."""
    moved = list(places)
    for _ in range(200):
        for i in range(1, len(moved)):
            overlap = distance - (moved[i] - moved[i - 1])
            if overlap > 0.01:
                moved[i - 1] -= overlap / 2
                moved[i] += overlap / 2
    return moved


def draw(lines):
    every_x = [x for _, points, _, _ in lines for x, _ in points]
    every_y = [y for _, points, _, _ in lines for _, y in points]
    x_low, x_high = math.log10(min(every_x)), math.log10(max(every_x))
    x_span = (x_high - x_low) or 1
    ticks = [m * 10**e for e in range(-1, 6) for m in (1, 2, 5)]
    y_least = max(tick for tick in ticks if tick <= min(every_y))
    y_most = min(tick for tick in ticks if tick >= max(every_y))
    y_low, y_span = math.log10(y_least), math.log10(y_most / y_least) or 1

    def x_of(connections):
        return LEFT + (math.log10(connections) - x_low) / x_span * (WIDTH - LEFT - RIGHT)

    def y_of(nanoseconds):
        share = (math.log10(nanoseconds) - y_low) / y_span
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    svg = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12" fill="#222">',
        "<title>Time per packet against the number of connections</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<text x="{LEFT}" y="24" font-size="15" font-weight="bold">Nanoseconds per packet '
        '<tspan font-size="12" font-weight="normal" fill="#5b6770">UDP, to the server, both scales logarithmic</tspan></text>',
    ]
    for tick in ticks:
        if y_least <= tick <= y_most:
            y = y_of(tick)
            svg.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#e3e6e8"/>')
            svg.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    bottom = HEIGHT - BOTTOM
    svg.append(f'<path d="M{LEFT} {bottom}H{WIDTH - RIGHT}" stroke="#222"/>')
    for connections in sorted(set(every_x)):
        x = x_of(connections)
        name = short(connections)
        svg.append(f'<path d="M{x:.1f} {bottom}v5" stroke="#222"/>')
        svg.append(f'<text x="{x:.1f}" y="{bottom + 20}" text-anchor="middle">{name}</text>')
    svg.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 12}" text-anchor="middle">connections</text>')

    by_end = sorted(lines, key=lambda line: y_of(line[1][-1][1]))
    for line, label_y in zip(by_end, spread([y_of(line[1][-1][1]) for line in by_end], 16)):
        name, points, colour, dashes = line
        path = "L".join(f"{x_of(x):.1f} {y_of(y):.1f}" for x, y in points)
        dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
        svg.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2" stroke-linecap="round"{dashed}/>')
        for x, y in points:
            svg.append(f'<circle cx="{x_of(x):.1f}" cy="{y_of(y):.1f}" r="3" fill="{colour}"/>')
        svg.append(f'<text x="{WIDTH - RIGHT + 10}" y="{label_y + 4:.1f}" fill="{colour}">{name}</text>')
    svg.append("</svg>")
    return "\n".join(svg) + "\n"


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: scripts/chart.py speed.json [docs/performance.svg]")
    try:
        with open(sys.argv[1], encoding="utf-8") as file:
            measured = json.load(file)
    except (OSError, ValueError) as error:
        sys.exit(f"chart.py: {sys.argv[1]}: {error}")
    lines = [(name, points_of(measured, wanted), colour, dashes) for name, wanted, colour, dashes in SERIES]
    lines = [line for line in lines if line[1]]
    if not lines:
        sys.exit(f"chart.py: {sys.argv[1]} has no row that the chart shows")
    with open(sys.argv[2] if len(sys.argv) == 3 else "docs/performance.svg", "w", encoding="utf-8") as file:
        file.write(draw(lines))


if __name__ == "__main__":
    main()
