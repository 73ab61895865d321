#!/usr/bin/env python3
"""Compares byway with haproxy and nginx in front of the same six servers, and writes the tables of docs/monitor.md.

    scripts/balancers.py [--rounds N] [--seconds N] [--seed N] [--kinds each,apart,kept,memcached] [--ways TEXT]
                         [--json FILE] [--keep FOLDER] [--from FILE...] [--write]

Clients, a proxy and servers are network namespaces. Servers are queues with eight workers whose service time is known and
who sleep instead of working (`examples/host/examples/balancers`). In each round each balancer has its turn with the same
requests at the same times: all servers are well, the strongest one slows down, and so on. Response times count from the
moment at which a request was to be sent. A request that fails counts as the client's whole patience. Medians over the rounds.

`each`: a connection for each request. `apart`: the same with rests between the phases. `kept`: ten requests on each.
`memcached`: memcached behind the balancers, of which one is stopped.

--json stores the result of each turn, and --keep each request and the monitor's decisions. --write puts the tables into
docs/monitor.md; --from takes the results of earlier runs instead of a new one, of the same way the last one. It needs haproxy,
nginx with its stream module, memcached, and a /dev/net/tun that may be opened.
"""

import argparse
import datetime
import json
import os
import pathlib
import re
import resource
import secrets
import signal
import statistics
import subprocess
import sys
import time

sys.dont_write_bytecode = True
from turns import put  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
ORIGINAL, ALTERNATIVE, PROXY, CLIENT, GATEWAY = "100.100.100.100", "10.10.10.10", "1.1.1.1", "1.1.1.2", "20.0.0.254"
CLIENTS = "1.2.0.0/16"
# As in the simulation (examples/monitor/servers.rs): speeds, and how long an answer travels.
SPEEDS = [1.0, 1.0, 0.5, 2.0, 1.0, 0.25]
TRAVEL = [2, 5, 10, 5, 20, 2]
SERVERS = [f"20.0.0.{number + 1}" for number in range(len(SPEEDS))]
NOMINAL = [round(speed * 4) for speed in SPEEDS]
EQUAL = [1] * len(SPEEDS)
WORKERS, WORK, LOAD, PATIENCE, WARM_UP = 8, 0.040, 0.6, 2.0, 10
RATE = LOAD * sum(SPEEDS) * WORKERS / WORK

# What happens, and the commands that make it happen.
PHASES = [
    ("all well", []),
    ("the strongest at a third", ["3 slower 3"]),
    ("one resets half, at once", ["3 well", "1 fails 0.5"]),
    ("one hangs", ["1 well", "0 hangs"]),
    ("one is dead (refuses)", ["0 well", "4 refuses"]),
    ("all well again", ["4 well"]),
]
# The same with rests between them, which are not counted.
APART = [
    ("one resets half, at once", ["1 fails 0.5"]),
    ("", ["1 well"]),
    ("one hangs", ["0 hangs"]),
    ("", ["0 well"]),
    ("one is dead (refuses)", ["4 refuses"]),
]
STOPS = [("all well", None), ("one is stopped", signal.SIGSTOP), ("it goes on", signal.SIGCONT)]

# Program, how it chooses, weights. `KEPT` and `DATABASE` are the ways that the other kinds go.
WAYS = {
    "haproxy, static weights": ("haproxy", "roundrobin", NOMINAL),
    "haproxy, `leastconn`": ("haproxy", "leastconn", EQUAL),
    "haproxy, `leastconn`, weights": ("haproxy", "leastconn", NOMINAL),
    "haproxy, `random(2)`": ("haproxy", "random(2)", EQUAL),
    "nginx, `least_conn`": ("nginx", "least_conn", EQUAL),
    "byway, static weights": ("byway", "", NOMINAL),
    "byway, least loaded": ("byway", "least_loaded = true", EQUAL),
    "byway, least loaded, `eject`, weights": ("byway", "least_loaded = true\neject = true", NOMINAL),
    "byway with its monitor": ("byway+monitor", "least_loaded = true\neject = true", EQUAL),
}
KEPT = [
    "haproxy, `leastconn`",
    "haproxy, `leastconn`, weights",
    "nginx, `least_conn`",
    "byway, least loaded, `eject`, weights",
    "byway with its monitor",
]
DATABASE = [way for way in KEPT if way != "haproxy, `leastconn`, weights"]
# Ways, phases, requests on each connection, requests a second.
KINDS = {
    "each": (list(WAYS), PHASES, 1, RATE),
    "apart": (KEPT, APART, 1, RATE),
    "kept": (KEPT, PHASES, 10, RATE),
    "memcached": (DATABASE, STOPS, 10, 500),
}


def inside(space, words, **more):
    return subprocess.Popen(["nsenter", f"--net=/run/netns/{space}", *map(str, words)], text=True, **more)


def sh(command, space="", check=True):
    words = (["nsenter", f"--net=/run/netns/{space}"] if space else []) + command.split()
    return subprocess.run(words, check=check, capture_output=True, text=True)


def network():
    subprocess.run(["mount", "-t", "tmpfs", "none", "/run"], check=True)
    subprocess.run(["mount", "-t", "proc", "none", "/proc"], check=False)
    for name in ("clients", "proxy", "servers"):
        sh(f"ip netns add {name}")
        sh("ip link set lo up", name)
    for name, addresses, gateway in (("clients", [CLIENT], PROXY), ("servers", SERVERS, GATEWAY)):
        sh(f"ip link add to-{name} type veth peer name eth0 netns {name}", "proxy")
        for address in addresses:
            sh(f"ip address add {address}/24 dev eth0", name)
        sh("ip link set eth0 up", name)
        sh(f"ip address add {gateway}/24 dev to-{name}", "proxy")
        sh(f"ip link set to-{name} up", "proxy")
        sh(f"ip route add default via {gateway} dev eth0", name)
    sh(f"ip route add {CLIENTS} via {CLIENT} dev to-clients", "proxy")
    sh(f"ip route add local {CLIENTS} dev lo", "clients")
    sh("sysctl -qw net.ipv4.ip_forward=1", "proxy")
    # A balancer that opens connections of its own needs as many ports as byway has.
    ports = ["nsenter", "--net=/run/netns/proxy", "sysctl", "-qw", "net.ipv4.ip_local_port_range=1024 65535"]
    subprocess.run(ports, check=True)


def until(ready, what):
    for _ in range(500):
        if ready():
            return
        time.sleep(0.02)
    sys.exit(f"{what} has not started")


def haproxy(balance, weights, port):
    # An operator who knows haproxy: checks that ask, connection failures noticed at once, another server after one.
    ask, answer = ("version\\r\\n", "VERSION") if port != 80 else ("1000\\n", "done")
    servers = "\n".join(f"  server s{n} {server}:{port} weight {w}" for n, (server, w) in enumerate(zip(SERVERS, weights)))
    pathlib.Path("/run/haproxy.cfg").write_text(f"""global
  maxconn 8000
defaults
  mode tcp
  timeout connect 1s
  timeout client 1m
  timeout server 1m
  timeout check 1s
  retries 3
  option redispatch 1
listen web
  bind {ORIGINAL}:{port}
  balance {balance}
  option tcp-check
  tcp-check connect
  tcp-check send {ask}
  tcp-check expect string {answer}
  default-server check inter 1s fall 2 rise 2 observe layer4
{servers}
""")
    return [["haproxy", "-db", "-f", "/run/haproxy.cfg"]]


def nginx(choice, weights, port):
    servers = "\n".join(f"    server {server}:{port} weight={w};" for server, w in zip(SERVERS, weights))
    module = "/usr/lib/nginx/modules/ngx_stream_module.so"
    load = f"load_module {module};\n" if os.path.exists(module) else ""
    pathlib.Path("/run/nginx.conf").write_text(f"""{load}user root;
daemon off;
worker_processes auto;
worker_rlimit_nofile 20000;
pid /run/nginx.pid;
error_log /run/nginx.log crit;
events {{ worker_connections 9000; }}
stream {{
  upstream web {{
    zone web 256k;
    {choice};
{servers}
  }}
  server {{
    listen {ORIGINAL}:{port} backlog=4096;
    proxy_connect_timeout 1s;
    proxy_pass web;
  }}
}}
""")
    return [["nginx", "-e", "/run/nginx.log", "-c", "/run/nginx.conf"]]


def byway(rule, weights, port, monitor):
    program = str(TARGET / "release/byway")
    key = pathlib.Path("/run/key")
    key.write_text(f"1 {secrets.token_hex(32)}\n")
    key.chmod(0o600)
    listed = ", ".join(f'"{server}:{port}*{weight}"' for server, weight in zip(SERVERS, weights))
    pathlib.Path("/run/byway.toml").write_text(f"""[device]
address = "{PROXY}"
[router]
address = "10.9.9.9"
[nat]
alternatives = ["{ALTERNATIVE}"]
[control]
listen = "127.0.0.1:5213"
[[control.key]]
file = "key"
[[rule]]
divert = "{ORIGINAL}:{port} tcp"
to = [{listed}]
{rule}
""")
    pathlib.Path("/run/decisions.jsonl").unlink(missing_ok=True)
    pathlib.Path("/run/monitor.toml").write_text(f"""[[translator]]
name = "edge"
at = "127.0.0.1:5213"
key = "key"
[[service]]
name = "web"
divert = "{ORIGINAL}:{port} tcp"
servers = [{listed}]
""")
    run = [program, "run", "--config", "/run/byway.toml"]
    return [run, [program, "monitor", "--config", "/run/monitor.toml"]] if monitor else [run]


class Balancer:
    """A balancer that runs in the proxy."""

    def __init__(self, way, port):
        program, choice, weights = WAYS[way]
        self.own = program.startswith("byway")
        self.log = open("/run/balancer.log", "w+")
        if self.own:
            commands = byway(choice, weights, port, "monitor" in program)
        else:
            sh(f"ip address add {ORIGINAL}/32 dev lo", "proxy")
            commands = {"haproxy": haproxy, "nginx": nginx}[program](choice, weights, port)
        self.programs = []
        for words in commands:
            self.programs.append(inside("proxy", words, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log))
            if self.own and len(self.programs) == 1:
                until(lambda: "translating" in pathlib.Path("/run/balancer.log").read_text(), way)
        if not self.own:
            until(lambda: sh(f"ss -Hltn src {ORIGINAL}:{port}", "proxy").stdout, way)
        if any(one.poll() is not None for one in self.programs):
            sys.exit(f"{way} has ended: {pathlib.Path('/run/balancer.log').read_text()}")

    def end(self):
        for program in reversed(self.programs):
            if program.poll() is not None:
                sys.exit(f"the balancer has ended: {pathlib.Path('/run/balancer.log').read_text()}")
            program.terminate()
            program.wait()
        if not self.own:
            sh(f"ip address del {ORIGINAL}/32 dev lo", "proxy")


class Mirrors:
    """The servers whose service time is known."""

    port, ask = 80, []

    def __init__(self):
        words = [TARGET / "release/examples/balancers", "servers"]
        words += [f"{speed}@{travel}" for speed, travel in zip(SPEEDS, TRAVEL)]
        self.program = inside("servers", words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.program.stdout.readline() == "serving\n"

    def tell(self, commands):
        for command in commands:
            self.program.stdin.write(command + "\n")
            self.program.stdin.flush()
            assert self.program.stdout.readline() == "done\n", command

    def end(self):
        self.program.stdin.close()
        self.program.wait()


class Memcached:
    """memcached, six times."""

    port, ask = 11211, ["to=100.100.100.100:11211", "ask=get nothing", "answer=5"]

    def __init__(self):
        start = ["memcached", "-u", "root", "-t", "1", "-p", "11211", "-U", "0", "-l"]
        self.programs = [inside("servers", start + [server], stderr=subprocess.DEVNULL) for server in SERVERS]
        until(lambda: sh("ss -Hltn sport = :11211", "servers").stdout.count("\n") == len(SERVERS), "memcached")

    def tell(self, what):
        if what:
            self.programs[0].send_signal(what)

    def end(self):
        for program in self.programs:
            program.terminate()
            program.wait()


def busy():
    """Seconds that all processors of the machine have worked, and that our own programs have which have ended."""
    words = pathlib.Path("/proc/stat").read_text().split("\n")[0].split()[1:9]
    user, nice, system, _, _, irq, soft, _ = map(int, words)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (user + nice + system + irq + soft) / os.sysconf("SC_CLK_TCK"), children.ru_utime + children.ru_stime


def turn(kind, way, seed, seconds, keep):
    """Returns, for each phase, response times of all requests in milliseconds, and why some failed."""
    _, phases, requests, rate = KINDS[kind]
    before, begun = busy(), time.monotonic()
    servers = Memcached() if kind == "memcached" else Mirrors()
    balancer = Balancer(way, servers.port)
    # haproxy checks its servers first; the monitor reads its translator's rules.
    time.sleep(2)
    words = [f"seed={seed}", f"rate={rate}", f"work={WORK}", f"patience={PATIENCE}", f"seconds={WARM_UP + seconds * len(phases)}"]
    words += [f"requests={requests}", *servers.ask]
    words = [TARGET / "release/examples/balancers", "clients", *words]
    clients = inside("clients", words, stdout=subprocess.PIPE)
    assert clients.stdout.readline() == "begin\n"
    begin = time.monotonic()
    late = 0
    for number, (_, commands) in enumerate(phases):
        time.sleep(max(0, begin + WARM_UP + number * seconds - time.monotonic()))
        servers.tell(commands)
        late = max(late, time.monotonic() - begin - WARM_UP - number * seconds)
    said, _ = clients.communicate()
    if clients.returncode != 0:
        sys.exit("the clients have failed")
    balancer.end()
    servers.end()
    if keep:
        pathlib.Path(keep, f"{kind}-{way}-{seed}.requests".replace(" ", "_")).write_text(said)
        if "monitor" in way:
            decisions = pathlib.Path("/run/decisions.jsonl").read_text()
            pathlib.Path(keep, f"{kind}-{way}-{seed}.decisions".replace(" ", "_")).write_text(decisions)
    result = [{"all": [], "settled": [], "why": {}} for _ in phases]
    for line in said.splitlines():
        at, took, why = line.split(" ", 2)
        at = int(at) / 1e6 - WARM_UP
        if at < 0:
            continue
        phase = result[int(at // seconds)]
        took = int(took) / 1e3 if why == "ok" else max(int(took) / 1e3, PATIENCE * 1e3)
        for part in ["all"] + ["settled"] * (at % seconds >= seconds / 2):
            phase[part].append((took, why != "ok"))
        if why != "ok":
            phase["why"][why] = phase["why"].get(why, 0) + 1
    after = busy()
    others = (after[0] - before[0] - after[1] + before[1]) / (time.monotonic() - begun) / os.cpu_count()
    own = (after[1] - before[1]) / (time.monotonic() - begun) / os.cpu_count()
    return {"phases": [summary(phase) for phase in result], "others": others, "own": own, "late": late}


def summary(phase):
    def of(requests):
        times = sorted(took for took, _ in requests)
        rank = [times[min(len(times) - 1, int(len(times) * share))] for share in (0.5, 0.99)]
        return {"p50": rank[0], "p99": rank[1], "failed": 100 * sum(failed for _, failed in requests) / len(times)}

    return {"all": of(phase["all"]), "settled": of(phase["settled"]), "why": phase["why"], "requests": len(phase["all"])}


def number(value):
    return "0" if value == 0 else f"{value:.2g}" if value < 10 else f"{value:.0f}"


def table(results, kind, part, fields):
    ways, phases, _, _ = KINDS[kind]
    counted = [place for place, (name, _) in enumerate(phases) if name]
    lines = ["| | " + " | ".join(phases[place][0] for place in counted) + " |", "| --- " + "| ---: " * len(counted) + "|"]
    for way in ways:
        turns = results.get(kind, {}).get(way)
        if not turns:
            continue
        cells = []
        for phase in counted:
            values = [statistics.median(one["phases"][phase][part][field] for one in turns) for field in fields]
            cells.append(" / ".join(map(number, values)))
        lines.append(f"| {way} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def text(results, about, runs):
    turns = [one for ways in results.values() for all in ways.values() for one in all]
    others = [one["others"] * 100 for one in turns]
    own = [one["own"] * 100 for one in turns]
    side = f" {runs} runs, some of them side by side." if runs > 1 else ""
    lines = [
        f"{about['date']}, {about['versions']}, seeds {about['seed']} to {about['seed'] + about['rounds'] - 1}, one for each round. "
        f"Medians of {about['rounds']} turns; phases of {about['seconds']} s. Of {os.cpu_count()} processors the programs of one "
        f"turn took {statistics.median(own):.0f} %, and all others on the machine "
        f"{statistics.median(others):.0f} %; what was to happen happened at most {max(one['late'] for one in turns) * 1e3:.0f} ms "
        f"late.{side}",
    ]
    titles = {
        "each": "**A connection for each request**",
        "apart": "**The same with rests** of the same length between the phases, which are not counted",
        "kept": "**Ten requests on each connection**, 0.1 s apart on average",
        "memcached": "**memcached**, 500 requests a second, ten on each connection",
    }
    for kind in filter(results.get, KINDS):
        lines += [f"{titles[kind]}: p50 / p99 in ms / failed in %", table(results, kind, "all", ["p50", "p99", "failed"])]
        if kind != "memcached":
            lines += ["The second half of each phase alone: p99 in ms / failed in %", table(results, kind, "settled", ["p99", "failed"])]
    return "\n\n".join(lines) + "\n"


def versions():
    haproxy = re.search(r"version (\S+)", sh("haproxy -v").stdout)[1]
    nginx = re.search(r"nginx/(\S+)", sh("nginx -v").stderr)[1]
    memcached = sh("memcached -V").stdout.split()[-1]
    return f"haproxy {haproxy}, nginx {nginx}, memcached {memcached}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=20, help="of each phase")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--ways", default="", help="only ways whose name has this regular expression")
    parser.add_argument("--json", type=pathlib.Path, help="the result of each turn goes here as well")
    parser.add_argument("--keep", help="a folder for each turn's requests and the monitor's decisions")
    parser.add_argument("--from", dest="earlier", nargs="+", type=pathlib.Path, help="results of earlier runs, by --json")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    if arguments.earlier:
        earlier = [json.loads(file.read_text()) for file in arguments.earlier]
        results = {}
        for one in earlier:
            for kind, ways in one["results"].items():
                results.setdefault(kind, {}).update(ways)
        return show(text(results, earlier[0], len(earlier)), arguments.write)
    if "BYWAY_INSIDE" not in os.environ:
        subprocess.run([ROOT / "scripts/need.sh", "haproxy", "iproute2", "libnginx-mod-stream", "memcached", "nginx-light"], check=True)
        build = ["cargo", "build", "--release", "--package", "byway-host", "--bin", "byway", "--example", "balancers"]
        subprocess.run(build, check=True, cwd=ROOT)
        apart = ["unshare", "--user", "--map-root-user", "--net", "--mount", "--pid", "--fork", "--kill-child"]
        os.execvpe("unshare", apart + [sys.executable] + sys.argv, os.environ | {"BYWAY_INSIDE": "1"})
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    network()
    about = {"date": f"{datetime.date.today()}", "versions": versions()}
    about |= {"seed": arguments.seed, "rounds": arguments.rounds, "seconds": arguments.seconds}
    print(about["versions"], file=sys.stderr)
    results = {}
    for kind in arguments.kinds.split(","):
        ways = [way for way in KINDS[kind][0] if re.search(arguments.ways, way)]
        for round in range(arguments.rounds):
            # Each begins a round once, as it were.
            for way in ways[round % len(ways) :] + ways[: round % len(ways)]:
                result = turn(kind, way, arguments.seed + round, arguments.seconds, arguments.keep)
                results.setdefault(kind, {}).setdefault(way, []).append(result)
                cells = [f"{one['all']['p99']:.0f}/{one['settled']['p99']:.0f}/{one['all']['failed']:.2f}" for one in result["phases"]]
                load = f"own {result['own']:.0%}, others {result['others']:.0%}, late {result['late']:.3f}"
                print(f"{kind} {round + 1} {way}: {' '.join(cells)}  ({load})", file=sys.stderr, flush=True)
                if arguments.json:
                    arguments.json.write_text(json.dumps(about | {"results": results}))
    show(text(results, about, 1), arguments.write)


def show(said, write):
    print(said)
    if write:
        put(ROOT / "docs/monitor.md", "balancers.py", "balancers", said)


main()
