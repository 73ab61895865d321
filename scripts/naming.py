#!/usr/bin/env python3
"""Measures the naming server against unbound, dnsmasq and dnsdist, and writes the table.

    scripts/naming.py [--rounds N] [--seconds N] [--write]

A client, a proxy and a server are network namespaces, as in forwarding.py. In each round each has its turn on the proxy, with
the same thousand names; unbound on the server knows a thousand others. dnsperf is the judge. Medians over the rounds. All have
one thread, and no cache: an answer for another name is the server's. --write puts the table into docs/naming.md. It needs
a /dev/net/tun that may be opened; scripts/need.sh installs the rest, as root.
"""

import argparse
import os
import pathlib
import re
import statistics
import subprocess
import sys

sys.dont_write_bytecode = True
from forwarding import PROXY, ROOT, SERVER, TARGET, network, sh, start  # noqa: E402
from turns import put, take_turns  # noqa: E402

OWN, ANSWER, COUNT = "10.9.9.9", "100.64.0.1", 1000
WAYS = ["byway, in the path", "byway, asked itself", "unbound", "dnsmasq", "dnsdist"]
LOADS = {"names of the table": "test", "other names": "else"}
NAMES = {load: [f"www.n{n:05}.{top}" for n in range(COUNT)] for load, top in LOADS.items()}


def write(name, text):
    path = pathlib.Path("/run") / name
    path.write_text(text)
    return str(path)


def local_data(load):
    return "".join(f'local-data: "{name}. 300 A {ANSWER}"\n' for name in NAMES[load])


def unbound(address, data, more=""):
    """The command for an unbound that listens there."""
    return ["unbound", "-d", "-c", write(f"unbound-{address}", f"""server:
username: ""
chroot: ""
directory: "/run"
pidfile: ""
use-syslog: no
verbosity: 1
interface: {address}
access-control: 0.0.0.0/0 allow
do-ip6: no
module-config: "iterator"
num-threads: 1
do-not-query-localhost: no
{data}remote-control:
control-enable: no
{more}""")]


def set_up(way):
    """Starts it on the proxy. Returns whom the client asks, and the program."""
    if way.startswith("byway"):
        entries = "".join(f'[[names.entry]]\nname = "{name}"\nto = "{ANSWER}"\n' for name in NAMES["names of the table"])
        config = (
            f'[device]\nroutes = ["{SERVER}/32"]\n[router]\naddress = "{OWN}"\n[nat]\nalternatives = ["10.10.10.10"]\n'
            f'[names]\nanswers_per_second = 0\n[names.relay]\nservers = "{SERVER}"\nclients = "1.2.3.0/24"\n'
            f"queries = 16384\nqueries_per_client = 0\n{entries}"
        )
        program = start([str(TARGET / "release/byway"), "run", "--config", write("byway.toml", config)], "translating")
        return (SERVER if way.endswith("path") else OWN), program
    if way == "unbound":
        forward = f"forward-zone:\nname: \".\"\nforward-addr: {SERVER}\nforward-no-cache: yes\n"
        return PROXY, start(unbound(PROXY, local_data("names of the table"), forward), "start of service")
    if way == "dnsmasq":
        records = "".join(f"host-record={name},{ANSWER}\n" for name in NAMES["names of the table"])
        config = f"user=root\ngroup=\nlisten-address={PROXY}\nbind-interfaces\nno-resolv\nno-hosts\ncache-size=0\npid-file=\n"
        config += f"dns-forward-max=10000\nserver={SERVER}\n{records}"
        return PROXY, start(["dnsmasq", "--keep-in-foreground", "--log-facility=-", f"--conf-file={write('dnsmasq', config)}"], "started")
    names = "".join(f'names:add(newDNSName("{name}"))\n' for name in NAMES["names of the table"])
    known = NAMES["other names"][0]
    config = f'setLocal("{PROXY}:53")\nsetACL("0.0.0.0/0")\nsetSecurityPollSuffix("")\n'
    config += f'newServer({{address="{SERVER}", checkName="{known}."}})\n'
    config += f'names = newDNSNameSet()\n{names}addAction(QNameSetRule(names), SpoofAction("{ANSWER}"))\n'
    return PROXY, start(["dnsdist", "--supervised", "--disable-syslog", "-C", write("dnsdist", config)], "as 'up'")


def tear_down(program):
    program.terminate()
    program.stdout.read()
    program.wait()
    sh("ip rule del priority 7207", "proxy", check=False)
    sh("ip rule del priority 7208", "proxy", check=False)
    sh("ip route flush table 7207", "proxy", check=False)
    sh("ip route flush table 7208", "proxy", check=False)


def measure(way, load, seconds):
    """Queries answered in a second, the mean time until the answer in microseconds, and the share that was lost."""
    address, program = set_up(way)
    try:
        words = f"dnsperf -s {address} -d /run/{LOADS[load]} -l {seconds} -c 8 -T 1 -q 100 -t 2"
        said = sh(words, "client").stdout
    finally:
        tear_down(program)

    def number(pattern):
        found = re.search(pattern, said)
        return float(found[1]) if found else sys.exit(f"{way}, {load}: {said}")

    right = number(r"NOERROR \d+ \(([\d.]+)%\)")
    if right < 99.9:
        sys.exit(f"{way}, {load}: {right} % of the answers are right\n{said}")
    lost = number(r"Queries lost:\s+(\d+)") / number(r"Queries sent:\s+(\d+)")
    return number(r"Queries per second:\s+([\d.]+)"), number(r"Average Latency \(s\):\s+([\d.]+)") * 1e6, lost


def table(results):
    heads = [f"{load}: {what}" for load in LOADS for what in ("a second", "time to answer", "lost")]
    lines = ["| | " + " | ".join(heads) + " |", "| --- " + "| ---: " * len(heads) + "|"]
    for way in WAYS:
        cells = []
        for load in LOADS:
            rate, latency, lost = (statistics.median(column) for column in zip(*results[way, load]))
            cells += [f"{rate / 1e3:.1f} k", f"{latency:.0f} µs", f"{lost * 100:.2f} %"]
        lines.append(f"| {way} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    if "BYWAY_INSIDE" not in os.environ:
        need = ["dnsperf", "unbound", "dnsmasq-base", "dnsdist", "iproute2"]
        subprocess.run([ROOT / "scripts/need.sh", *need], check=True)
        subprocess.run(["cargo", "build", "--release", "--package", "byway-host", "--bins"], check=True, cwd=ROOT)
        inside = ["unshare", "--user", "--map-root-user", "--net", "--mount", "--pid", "--fork", "--kill-child"]
        os.execvpe("unshare", inside + [sys.executable] + sys.argv, os.environ | {"BYWAY_INSIDE": "1"})
    network()
    for load, top in LOADS.items():
        write(top, "".join(f"{name} A\n" for name in NAMES[load]))
    start(unbound(SERVER, local_data("other names")), "start of service", "server")
    results = take_turns(arguments.rounds, LOADS, WAYS, lambda *turn: measure(*turn, arguments.seconds))
    text = table(results)
    print(text)
    if arguments.write:
        put(ROOT / "docs/naming.md", "naming.py", "servers", text)


if __name__ == "__main__":
    main()
