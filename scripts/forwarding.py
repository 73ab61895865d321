#!/usr/bin/env python3
"""Measures byway as a router between two machines against what else forwards, and writes the table.

    scripts/forwarding.py [--rounds N] [--seconds N] [--write]

A client, a proxy and a server are network namespaces. In each round each way of forwarding has its turn: the kernel alone,
the kernel with nftables (dnat and snat), a relay over TUN that only copies, and byway. iperf3 is the judge. Medians over
the rounds. --write puts the table into docs/performance.md. It needs iperf3, nftables and a /dev/net/tun that may be opened.
"""

import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import time

sys.dont_write_bytecode = True
from turns import put, take_turns  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
SERVER, ORIGINAL, ALTERNATIVE = "20.0.0.1", "100.100.100.100", "10.10.10.10"
CLIENTS, PROXY = [f"1.2.3.{n}" for n in range(16, 24)], "1.2.3.1"
CLIENT_NETWORK = "1.2.3.16/29"
WAYS = ["kernel", "nftables", "relay, 1 queue", "relay, 2 queues", "byway, 1 queue", "byway, 2 queues"]
# How many clients, what iperf3 is told, and what of its result counts.
LOADS = {
    "TCP, 1 stream": (1, "-O 1 -P 1", lambda end: end["sum_received"]["bits_per_second"] / 1e9),
    "TCP, 8 streams": (1, "-O 1 -P 8", lambda end: end["sum_received"]["bits_per_second"] / 1e9),
    "TCP, 8 clients": (8, "-O 1 -P 1", lambda end: end["sum_received"]["bits_per_second"] / 1e9),
    "UDP, 64-byte packets": (1, "-u -b 0 -l 36", lambda end: received(end) / 1e3),
}


def received(end):
    """UDP datagrams that arrived in a second."""
    total = end["sum"]
    return total["packets"] * (1 - total["lost_percent"] / 100) / total["seconds"]


def sh(command, space="", check=True):
    words = (["nsenter", f"--net=/run/netns/{space}"] if space else []) + command.split()
    return subprocess.run(words, check=check, capture_output=True, text=True)


def network():
    subprocess.run(["mount", "-t", "tmpfs", "none", "/run"], check=True)
    for name in ("client", "proxy", "server"):
        sh(f"ip netns add {name}")
        sh("ip link set lo up", name)
    for name, addresses, prefix in (("client", CLIENTS, CLIENT_NETWORK), ("server", [SERVER], f"{SERVER}/32")):
        sh(f"ip link add to-{name} type veth peer name eth0 netns {name}", "proxy")
        for address in addresses:
            sh(f"ip address add {address}/32 dev eth0", name)
        sh("ip link set eth0 up", name)
        sh(f"ip route add {PROXY}/32 dev eth0", name)
        sh(f"ip route add default via {PROXY} dev eth0", name)
        sh(f"ip address add {PROXY}/32 dev to-{name}", "proxy")
        sh(f"ip link set to-{name} up", "proxy")
        sh(f"ip route add {prefix} dev to-{name}", "proxy")
    sh("sysctl -qw net.ipv4.ip_forward=1", "proxy")


def start(command, ready, space="proxy"):
    """Starts a program in the proxy, or elsewhere, and waits until it says that it is ready."""
    words = ["nsenter", f"--net=/run/netns/{space}"] + command
    program = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    for line in program.stdout:
        if ready in line:
            return program
    sys.exit(f"{command[0]} has ended")


def set_up(way):
    """Makes the proxy forward this way. Returns what the client asks for, and the program if there is one."""
    if way == "kernel":
        return SERVER, None
    if way == "nftables":
        rules = f"""table ip t {{
            chain pre {{ type nat hook prerouting priority -100; ip daddr {ORIGINAL} dnat to {SERVER}; }}
            chain post {{ type nat hook postrouting priority 100; ip daddr {SERVER} snat to {ALTERNATIVE}; }}
        }}"""
        subprocess.run(["nsenter", "--net=/run/netns/proxy", "nft", "-f", "-"], input=rules, text=True, check=True)
        return ORIGINAL, None
    queues = re.search(r"\d", way).group()
    if way.startswith("relay"):
        relay = [str(TARGET / "release/examples/relay"), "relay0", queues, f"{SERVER}/32", CLIENT_NETWORK]
        return SERVER, start(relay, "relaying")
    config = pathlib.Path("/run/byway.toml")
    config.write_text(
        f'[device]\nqueues = {queues}\n[router]\naddress = "10.9.9.9"\n[nat]\nalternatives = ["{ALTERNATIVE}"]\n'
        f'[[rule]]\ndivert = "{ORIGINAL}"\nto = "{SERVER}"\n'
    )
    return ORIGINAL, start([str(TARGET / "release/byway"), "run", "--config", str(config)], "translating")


def tear_down(way, program):
    """Ends it; returns the mean size of the packets that it has read."""
    size = None
    if program:
        program.terminate()
        said = program.stdout.read()
        program.wait()
        found = re.search(r"received=(\d+) received_bytes=(\d+)", said)
        size = int(found[2]) / int(found[1]) if found else None
    sh("ip rule del priority 7207", "proxy", check=False)
    sh("ip rule del priority 7208", "proxy", check=False)
    sh("ip route flush table 7207", "proxy", check=False)
    sh("ip route flush table 7208", "proxy", check=False)
    if way == "nftables":
        sh("nft flush ruleset", "proxy")
    return size


def iperf(address, count, seconds, words):
    """Runs so many clients at once; returns what they say."""
    inside = ["nsenter", "--net=/run/netns/client", "iperf3", "-J", "-c", address, "-t", str(seconds)]
    programs = [
        subprocess.Popen(inside + ["-B", client, "-p", str(port)] + words.split(), stdout=subprocess.PIPE, text=True)
        for port, client in zip(range(5201, 5201 + count), CLIENTS)
    ]
    return [program.communicate()[0] for program in programs]


def measure(way, load, seconds):
    count, words, value = LOADS[load]
    address, program = set_up(way)
    try:
        for _ in range(3):
            results = [json.loads(text or '{"error": "nothing"}') for text in iperf(address, count, seconds, words)]
            errors = [result["error"] for result in results if "error" in result]
            if not errors:
                return sum(value(result["end"]) for result in results), tear_down(way, program)
            time.sleep(0.5)
        sys.exit(f"{way}, {load}: {errors[0]}")
    finally:
        if program and program.poll() is None:
            program.kill()


def table(results):
    lines = ["| | " + " | ".join(LOADS) + " | mean size read |", "| --- " + "| ---: " * 5 + "|"]
    for way in WAYS:
        cells = []
        for load in LOADS:
            values, unit = results[way, load], "kpps" if load.startswith("UDP") else "Gbit/s"
            cells.append(f"{statistics.median(v for v, _ in values):.{0 if unit == 'kpps' else 1}f} {unit}")
        sizes = [size for load in LOADS if load.startswith("TCP") for _, size in results[way, load] if size]
        cells.append(f"{statistics.median(sizes):.0f} bytes" if sizes else "")
        lines.append(f"| {way} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def ratios(results):
    def of(way, load):
        return statistics.median(v for v, _ in results[way, load])

    lines = []
    for queues in ("1 queue", "2 queues"):
        for load in LOADS:
            relay, nft = (of(f"byway, {queues}", load) / of(way, load) for way in (f"relay, {queues}", "nftables"))
            lines.append(f"- {load}, {queues}: {relay:.2f} of the relay with as many queues, {nft:.2f} of nftables")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    if "BYWAY_INSIDE" not in os.environ:
        build = ["cargo", "build", "--release", "--package", "byway-host", "--bins", "--examples"]
        subprocess.run(build, check=True, cwd=ROOT)
        inside = ["unshare", "--user", "--map-root-user", "--net", "--mount", "--pid", "--fork", "--kill-child"]
        os.execvpe("unshare", inside + [sys.executable] + sys.argv, os.environ | {"BYWAY_INSIDE": "1"})
    network()
    listen = ["nsenter", "--net=/run/netns/server", "iperf3", "-s", "-p"]
    for port in range(5201, 5209):
        subprocess.Popen(listen + [str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(0.5)
    results = take_turns(arguments.rounds, LOADS, WAYS, lambda *turn: measure(*turn, arguments.seconds), digits=2)
    text = f"{table(results)}\n\n{ratios(results)}\n"
    print(text)
    if arguments.write:
        put(ROOT / "docs/performance.md", "forwarding.py", "forwarding", text)


if __name__ == "__main__":
    main()
