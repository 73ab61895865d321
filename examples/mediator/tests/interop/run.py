"""HTTP clients against CoAP servers through byway-mediator: prints a table in Markdown.

run.py MEDIATOR BYWAY PYTHON-WITH-AIOCOAP FOLDER-WITH-NODE-MODULES [figures]

Clients and servers are in network namespaces of their own, and only the mediator's connects them (spaces.py). A client
stores, reads, replaces and deletes on each server: small bodies, and bodies of 20 000 bytes that go block by block in both
directions. Each answer is compared. Then downloads with curl are moved from one server to another one of the same kind that
has the same bytes: by `byway ctl`, and 1000 times each by a monitor of its own, also while datagrams are lost. Ends with 1 if
anything fails.

To standard error it prints how long each part takes, and figures: how much memory 1000 clients take, in the middle of
downloads and of uploads; and, over relays that add 5 ms in each direction, how long a download takes with curl, with
libcoap's own client, and with curl while it is moved, in turns. With `figures` it prints only these.
"""
import collections
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

sys.dont_write_bytecode = True
import spaces

spaces.enter()

from clients import WORK, Clients, file, read
from relay import Relay

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.append(os.path.join(HERE, "../../../../tests/control"))
from client import Monitor

MEDIATOR, BYWAY, PYTHON, NODE = sys.argv[1:5]
LARGE = hashlib.shake_256(b"large").digest(20_000)
MOVED = hashlib.shake_256(b"moved").digest(2_000_000)
# An operator's commands take their time.
LONG = hashlib.shake_256(b"long").digest(4_000_000)
# 1465 blocks.
OFTEN = hashlib.shake_256(b"often").digest(1_500_000)
FAR = hashlib.shake_256(b"far").digest(300_000)
SECRET = b"\x42" * 32
BASE, CONTROL, PORT = f"http://{spaces.MEDIATOR}:8080", ("127.0.0.1", 5213), 5683
# Two servers of each kind, relays before them, and one that never answers.
SERVERS = {name: [f"203.0.113.{10 * kind + at}" for at in (1, 2)] for kind, name in enumerate(("libcoap", "aiocoap", "node"), 1)}
FAR_AWAY = {name: [address.replace("113.", "113.1") for address in both] for name, both in SERVERS.items() if name != "node"}
LOSSES = {0: "203.0.113.20{}", 1: "203.0.113.21{}", 5: "203.0.113.22{}"}
SILENT = "203.0.113.250"
# node-coap takes blocks of one request only with one token, which RFC 7959 does not ask for; libcoap's own client gets the
# same 5.00 from it. Its large resources are there from the start.
ONE_TOKEN = "node"
running = []


def start(*command, **more):
    log = open(os.path.join(WORK, f"log-{len(running)}"), "wb")
    running.append(subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=spaces.dies_with_us, **more))


def took(what, since=[time.monotonic()]):
    """Says how long it was since the last time."""
    now = time.monotonic()
    print(f"{now - since[0]:.1f} s: {what}", file=sys.stderr)
    since[0] = now


def together(ask, all_of):
    """What each of them comes to, at the same time."""
    with ThreadPoolExecutor() as threads:
        return list(threads.map(ask, all_of))


def ctl(*words):
    return subprocess.run([BYWAY, "ctl", "--agent", "%s:%d" % CONTROL, "--key", file("key"), *words], capture_output=True, timeout=60)


def story(server, client):
    """What is asked, and which answers are right: name, question, statuses, body."""
    url, large = f"{BASE}/{server}/{client}", f"{BASE}/{server}/large"
    takes_blocks, may_patch = server != ONE_TOKEN, client != "Java"
    steps = [
        ("PUT", ("PUT", url, b"hello"), {201, 204}, None),
        ("GET", ("GET", url, None), {200}, b"hello"),
        ("HEAD", ("HEAD", url, None), {200}, None),
        takes_blocks and ("PUT, blocks", ("PUT", url, LARGE), {201, 204}, None),
        ("GET, blocks", ("GET", url if takes_blocks else large, None), {200}, LARGE),
        # libcoap's example server has no such method.
        may_patch and ("PATCH", ("PATCH", url, b" more"), {400} if server == "libcoap" else {204}, None),
        may_patch and server != "libcoap" and ("GET, patched", ("GET", url, None), {200}, (LARGE if takes_blocks else b"hello") + b" more"),
        ("POST", ("POST", url, b"abc"), {200, 201, 204}, None),
        ("DELETE", ("DELETE", url, None), {200, 204}, None),
        ("GET, gone", ("GET", url, None), {404}, None),
    ]
    return [step for step in steps if step]


def answers(ask, server, client):
    steps = story(server, client)
    got = ask([question for _, question, _, _ in steps])
    bad = []
    for (step, _, statuses, body), (status, found) in zip(steps, got):
        if status not in statuses or (body is not None and found != body):
            bad.append(f"{step}: {status}")
    return bad


def wrk(near, base):
    """Many requests at once, of each method. What went wrong."""
    bad = []
    # Not HEAD: wrk waits for the body.
    for method in ("PUT", "GET", "POST", "DELETE"):
        script = file(f"wrk-{os.path.basename(base)}.lua", f'wrk.method = "{method}"\n'.encode() + (b'wrk.body = "hello"\n' if method[0] == "P" else b""))
        text = near.run("wrk", "-t1", "-c32", "-d1s", "-s", script, f"{base}/wrk").stdout.decode()
        total = next((int(line.split()[0]) for line in text.splitlines() if "requests in" in line), 0)
        bad += [f"{method}: {line.strip()}" for line in text.splitlines() if "Non-2xx" in line or "Socket errors" in line]
        bad += [f"{method}: {total}"] if total < 50 else []
    return bad


def crowd(near, process, what, number=1000):
    """Many downloads or uploads at once: how much memory the proxy takes, and how much more for each, in KiB."""
    def resident():
        with open(f"/proc/{process.pid}/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
    before, connections = resident(), []
    with near.space.inside():
        for each in range(number):
            one = socket.create_connection((spaces.MEDIATOR, 8080))
            if what == "downloads":
                one.sendall(f"GET /libcoap/moved?{each} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            else:
                # To an origin that never answers: all buffers are full, and stay so.
                head = f"PUT /silent/{each} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n"
                one.sendall(head.encode() + bytes(30_000))
            connections.append(one)
    for one in connections:
        one.settimeout(50)
        assert what == "uploads" or one.recv(1000).startswith(b"HTTP/1.1 200 ")
    time.sleep(1)
    after = resident()
    for one in connections:
        one.close()
    return after, (after - before) / number


def over_a_link(near, relays, rounds, moves=10):
    """A download of FAR over relays: with libcoap's client, with curl, with curl from aiocoap, and moved. For each how many
    datagrams it has sent to servers, and seconds: the least of all rounds, since the machine may have more to do."""
    out = file("far.out", b"")
    get = lambda name: (near.run, ["curl", "-sS", "-o", out, f"{BASE}/far-{name}/far"])
    # It is where the proxy is.
    own = lambda *words: subprocess.run(words, capture_output=True, timeout=60)
    own = own, ["coap-client-notls", "-o", out, f"coap://{FAR_AWAY['libcoap'][0]}/far"]
    first, second = FAR_AWAY["aiocoap"]

    def timed(run, words):
        start = time.monotonic()
        ended = run(*words)
        took = time.monotonic() - start
        assert ended.returncode == 0 and read(out) == FAR, (words, ended, len(read(out)))
        return took

    def while_it_moves():
        done, took = 0, []
        download = threading.Thread(target=lambda: took.append(timed(*get("aiocoap"))))
        download.start()
        while download.is_alive() and done < moves:
            time.sleep(0.2)
            done += ctl("redivert", *((first, second) if done % 2 == 0 else (second, first))).returncode == 0
        download.join()
        assert done == moves
        return took[0]

    ways = {
        "libcoap's client": lambda: timed(*own),
        "curl": lambda: timed(*get("libcoap")),
        "curl, aiocoap": lambda: timed(*get("aiocoap")),
        "curl, aiocoap, moved": while_it_moves,
    }
    sent = lambda: sum(relay.requests for relay in relays)
    found = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            before, took = sent(), way()
            found[name].append((sent() - before, took))
    return {name: [min(column) for column in zip(*each)] for name, each in found.items()}


def download(near, url, body, every, move):
    """Downloads it, and calls `move(moves)` again and again on the way, each time so many bytes have come, or for a while
    none has. How many moves there were, and what became of it: whether the bytes are right, and whether it was aborted."""
    out, moves, last, patience = file(hashlib.sha256(url.encode()).hexdigest(), b""), 0, 0, time.monotonic()
    with near.space.inside():
        client = subprocess.Popen(["curl", "-sS", "-N", "-m", "300", "-o", out, url], stderr=subprocess.DEVNULL)
    while client.poll() is None:
        size, now = os.path.getsize(out), time.monotonic()
        if size >= last + every or (size and now >= patience + 0.05):
            moves += move(moves)
            last, patience = size, now
        time.sleep(0.0005)
    got = read(out)
    return moves, client.returncode == 0 and got == body, client.returncode == 18 and body.startswith(got)


def moved_by_ctl(near, name):
    """A download that `byway ctl` moves: right bytes, or an abort that the client sees."""
    first, second = SERVERS[name]
    # The others have it from the start.
    if name == "libcoap":
        for there, back in ((first, second), (second, first)):
            assert near.curl("PUT", f"{BASE}/{name}/moved", MOVED)[0] in (201, 204)
            assert ctl("redivert", there, back).returncode == 0
    move = lambda moves: moves < 60 and ctl("redivert", *((first, second) if moves % 2 == 0 else (second, first))).returncode == 0
    moves, is_right, is_aborted = download(near, f"{BASE}/{name}/moved", MOVED, 60_000, move)
    if moves % 2:
        ctl("redivert", second, first)
    # libcoap's example server counts for its ETags, so whether two servers agree is chance.
    if name == "libcoap":
        return "moved with the right bytes, or aborted", is_right or is_aborted
    return ("moved, bytes right", True) if is_right and moves > 2 else (f"{moves} moves, right: {is_right}", False)


def moved_by_monitor(near, name="aiocoap"):
    """A download that an operator moves through `byway monitor`, which has the service's rule from then on."""
    first, second = [f"{address}:{PORT}" for address in SERVERS[name]]
    path = lambda of: os.path.join(WORK, of)
    config = file("monitor.toml", f"""
        [monitor]
        journal = "{path('journal')}"
        page = "127.0.0.1:8213"
        token = "{path('token')}"
        [[translator]]
        name = "mediator"
        at = "{CONTROL[0]}:{CONTROL[1]}"
        key = "{file('key')}"
        [[service]]
        name = "{name}"
        divert = "192.0.2.{10 + list(SERVERS).index(name)}:{PORT}"
        servers = ["{first}", "{second}"]
    """.encode())
    start(BYWAY, "monitor", "--config", config)
    monitor = lambda *words: subprocess.run([BYWAY, "monitor", *words, "--config", config], capture_output=True, timeout=60)
    until = time.time() + 20
    while b": open" not in monitor("show").stdout and time.time() < until:
        time.sleep(0.2)
    on_first = lambda: f"{first} ".encode() in ctl("connections").stdout

    def move(moves):
        words = (first, second) if on_first() else (second, first)
        return moves < 5 and monitor("move", name, *words, "--how", "switch").returncode == 0 and monitor("release", name).returncode == 0

    moves, is_right, _ = download(near, f"{BASE}/{name}/long", LONG, 100_000, move)
    # It gives instructions as long as it is there.
    ended = running.pop()
    ended.terminate()
    ended.wait(timeout=20)
    return ("moved, bytes right", True) if is_right and moves >= 3 else (f"{moves} moves, right: {is_right}", False)


def stays(near, name, moves=6):
    """A long upload that `byway ctl` cannot move: the server that has its beginning gets all of it, and no other anything."""
    (first, second), url = SERVERS[name], f"{BASE}/{name}/stays"
    # libcoap's server has one state for the long uploads to all paths that do not exist yet.
    near.curl("PUT", url, b"small")
    with near.space.inside():
        words = ["curl", "-sS", "-m", "50", "--limit-rate", "200k", "-o", "/dev/null", "-w", "%{http_code}", "-T", file("far"), url]
        client = subprocess.Popen(words, stdout=subprocess.PIPE)
    done = 0
    while client.poll() is None:
        time.sleep(0.2)
        if done < moves and client.poll() is None:
            done += ctl("redivert", *((first, second) if done % 2 == 0 else (second, first))).returncode == 0
    if done % 2:
        ctl("redivert", second, first)
    status, stored = int(client.stdout.read()), near.curl("GET", url, None)
    ctl("redivert", first, second)
    other = near.curl("GET", url, None)[0]
    ctl("redivert", second, first)
    is_right = done >= 3 and status in (201, 204) and stored == (200, FAR) and other == 404
    return ("stayed, bytes right" if is_right else f"{done} moves, {status}, {stored[0]}, {other}"), is_right


def moved_often(near, ask, name, loss):
    """A download that is moved 1000 times, over relays that lose so much of a hundred in each direction."""
    first, second = [LOSSES[loss].format(at) + f":{PORT + len(name)}" for at in (1, 2)]
    hops = ((first, second), (second, first))

    def move(moves):
        told = ask({"do": [["redivert", *hops[moves % 2], "switch"]]})
        assert told["code"] == 0, told
        return True

    start = time.monotonic()
    moves, is_right, _ = download(near, f"{BASE}/lost-{loss}-{name}/often", OFTEN, 1, move)
    print(f"{name} at {loss} % loss: {moves} moves in {time.monotonic() - start:.1f} s, right: {is_right}", file=sys.stderr)
    return ("right hash", True) if is_right and moves >= 1000 else (f"{moves} moves, right: {is_right}", False)


def gaps(near, relays, name="aiocoap", moves=20):
    """A download over a delay of 5 ms in each direction that is moved on the way. The proxy asks for a block as soon as it has
    the one before, so the gap between two blocks is as many round trips as there were requests for the latter."""
    hops = [f"{address}:{PORT}" for address in FAR_AWAY[name]]
    both, monitor = [relay for relay in relays if relay.at[0] in FAR_AWAY[name]], Monitor(CONTROL, 1, SECRET)
    for relay in both:
        relay.seen.clear()
        relay.answered.clear()
    asked = lambda: len(both[0].seen.keys() | both[1].seen.keys())
    out, done, last = file("gaps.out", b""), 0, 0
    with near.space.inside():
        client = subprocess.Popen(["curl", "-sS", "-N", "-m", "300", "-o", out, f"{BASE}/far-{name}/far"])
    while client.poll() is None:
        # Never twice for one block.
        if asked() >= last + 10 and done < moves:
            told = monitor.request({"do": [["redivert", hops[done % 2], hops[1 - done % 2], "switch"]]})
            assert told["code"] == 0, told
            done, last = done + 1, asked()
        time.sleep(0.001)
    assert done == moves and done % 2 == 0
    most = collections.Counter(both[0].seen)
    most.update(both[1].seen)
    in_vain, most = sum(most.values()) - len(most), max(most.values())
    times = sorted(at for relay in both for at in relay.answered)
    longest = max(after - before for before, after in zip(times, times[1:])) / 0.01
    text = f"{done} moves, {in_vain} requests in vain, at most {most} for a block, longest gap {longest:.2f} round trips"
    print(f"over 10 ms: {text}", file=sys.stderr)
    is_right = client.returncode == 0 and read(out) == FAR and most <= 2 and in_vain <= done
    return ("right bytes, at most 2" if is_right else text), is_right


def table(near, relays):
    """Prints it; whether all was right."""
    is_right, rows = True, []
    for client, ask in near.all.items():
        row = []
        methods = [method for method in ("PUT", "GET", "HEAD", "POST", "PATCH", "DELETE") if (client, method) != ("Java", "PATCH")]
        for name in SERVERS:
            bad = answers(ask, name, client)
            is_right &= not bad
            left_out = "uploads in blocks" if name == ONE_TOKEN else "PATCH" if name == "libcoap" and "PATCH" in methods else None
            row.append("; ".join(bad) or (f"all but {left_out}" if left_out else "all"))
        rows.append((f"{client}: {', '.join(methods)}, blocks both ways", row))
        took(client)
    row = []
    for bad in together(lambda name: wrk(near, f"{BASE}/{name}"), SERVERS):
        is_right &= not bad
        row.append("; ".join(bad) or "all")
    rows.append(("wrk: PUT, GET, POST, DELETE, 32 connections", row))
    took("wrk")
    # Of these servers only libcoap's has something to observe: its clock.
    events = near.run("curl", "-sN", "-m", "4", "-H", "Accept: text/event-stream", f"{BASE}/libcoap/time").stdout.count(b"\ndata: ")
    shown = len(set(near.events(BASE, "/libcoap/time", 3)))
    for title, number in (("curl: event stream", events), ("Chromium: EventSource", shown)):
        rows.append((f"{title} of what is observed", ["all" if number >= 3 else f"{number} events", "-", "-"]))
        is_right &= number >= 3
    took("events")
    tried = together(lambda name: moved_by_ctl(near, name), SERVERS)
    rows.append(("curl: GET of 2 MB while `byway ctl` moves it", [text for text, _ in tried]))
    is_right &= all(is_good for _, is_good in tried)
    took("moved by ctl")
    tried = [stays(near, name) for name in SERVERS if name != ONE_TOKEN]
    rows.append(("curl: PUT of 300 kB while `byway ctl` moves all else", [text for text, _ in tried] + ["-"]))
    is_right &= all(is_good for _, is_good in tried)
    took("stays")
    names = [name for name in SERVERS if name != "libcoap"]
    # One session, in turns: of several handshakes with one key at the same time the last one wins.
    monitor, turn = Monitor(CONTROL, 1, SECRET), threading.Lock()

    def request(what):
        with turn:
            return monitor.request(what)

    tried = together(lambda each: moved_often(near, request, *each), [(name, loss) for loss in LOSSES for name in names])
    for loss in LOSSES:
        both, tried = tried[:len(names)], tried[len(names):]
        rows.append((f"curl: GET of 1.5 MB, moved 1000 times, {loss} % of the datagrams lost in each direction", ["-"] + [text for text, _ in both]))
        is_right &= all(is_good for _, is_good in both)
    took("moved often")
    text, is_good = gaps(near, relays)
    rows.append(("curl: GET of 300 kB over a delay of 10 ms, moved 20 times: round trips between two blocks", ["-", text, "-"]))
    is_right &= is_good
    took("gaps")
    # Last, as the rule is the monitor's then.
    text, is_good = moved_by_monitor(near)
    rows.append(("curl: GET of 4 MB while an operator moves it with `byway monitor`", ["-", text, "-"]))
    is_right &= is_good
    took("moved by a monitor")
    print("| HTTP client | " + " | ".join(SERVERS) + " |")
    print("| --- |" + " --- |" * len(SERVERS))
    for title, row in rows:
        print(f"| {title} | " + " | ".join(row) + " |")
    return is_right


def figures(near, relays):
    # libcoap's server has one state for long uploads of an endpoint to all paths that do not exist yet, and answers the second
    # such upload wrongly; the proxy refuses that (502). Which of the two servers has a path depends on the moves before.
    for path, body in (("moved", MOVED), ("far", FAR)):
        for part in (b"small", body):
            status = near.curl("PUT", f"{BASE}/libcoap/{path}", part)[0]
            assert status in (201, 204), f"PUT {path}, {len(part)} bytes: {status}"
    # Seconds are the least of some rounds; datagrams are what is judged, and each round has the same.
    found = over_a_link(near, relays, 5 if "figures" in sys.argv else 1)
    for name, (requests, seconds) in found.items():
        print(f"{len(FAR)} bytes over 10 ms: {requests} datagrams, {seconds:.2f} s, {name}", file=sys.stderr)
    # Each is a round trip, whatever else the machine does; seconds are for people.
    is_right = found["libcoap's client"][0] / found["curl"][0] >= 0.95
    is_right &= found["curl, aiocoap"][0] / found["curl, aiocoap, moved"][0] >= 0.95
    took("over a link")
    for what in ("downloads", "uploads"):
        total, each = crowd(near, running[-1], what)
        print(f"1000 {what} at once: {total / 1024:.1f} MiB, {each:.1f} KiB for each client", file=sys.stderr)
        is_right &= total <= 32 * 1024 and each <= 16
        took(f"1000 {what}")
    return is_right


def serve():
    """Starts the servers, and relays before them. Gives the relays that only delay."""
    aiocoap, node = os.path.join(HERE, "aiocoap_server.py"), os.path.join(HERE, "node_server.js")
    moved, often, far, large = file("moved", MOVED), file("often", OFTEN), file("far", FAR), file("large", LARGE)
    long = file("long", LONG)
    for at in (0, 1):
        start("coap-server-notls", "-A", SERVERS["libcoap"][at], "-p", str(PORT), "-d", "100")
        start(PYTHON, aiocoap, SERVERS["aiocoap"][at], str(PORT), moved, often, far, long)
        start("node", node, SERVERS["node"][at], str(PORT), large, moved, often, env={**os.environ, "NODE_PATH": os.path.join(NODE, "node_modules")})
    for loss, address in LOSSES.items():
        for name in ("aiocoap", "node"):
            for at in (1, 2):
                Relay((address.format(at), PORT + len(name)), (SERVERS[name][at - 1], PORT), 0.0005, loss / 100, at)
    return [Relay((relay, PORT), (server, PORT), 0.005) for name in FAR_AWAY for relay, server in zip(FAR_AWAY[name], SERVERS[name])]


def mediate(origins):
    """Starts the mediator, which leads each of the origins' paths to a server. Nothing listens at the origins."""
    words = [MEDIATOR, "--listen", f"{spaces.MEDIATOR}:8080", "--control", "%s:%d" % CONTROL, "--key", file("key"), "--counters", "1"]
    for number, (path, server) in enumerate(origins.items()):
        words += ["--origin", f"/{path}=coap://192.0.2.{10 + number}", "--divert", f"192.0.2.{10 + number}:5683={server}"]
    start(*words)


def is_reachable(space, address):
    with space.inside(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        return one.connect_ex((address, PORT)) == 0


def main():
    extra = list(LOSSES.values())
    addresses = [*sum(SERVERS.values(), []), *sum(FAR_AWAY.values(), []), *(a.format(at) for a in extra for at in (1, 2)), SILENT]
    near = Clients(spaces.Space("clients", spaces.MEDIATOR, spaces.CLIENT))
    there = spaces.Space("servers", spaces.MEDIATOR_THERE, *addresses)
    assert not any(is_reachable(near.space, address) for address in addresses), "clients must not reach servers by themselves"
    assert not is_reachable(there, spaces.CLIENT)
    with there.inside():
        relays = serve()
        silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        silent.bind((SILENT, PORT))
    os.chmod(file("key", b"1 " + SECRET.hex().encode() + b"\n"), 0o600)
    origins = {name: both[0] for name, both in SERVERS.items()} | {f"far-{name}": both[0] for name, both in FAR_AWAY.items()}
    origins |= {f"lost-{loss}-{name}": LOSSES[loss].format(1) + f":{PORT + len(name)}" for loss in LOSSES for name in ("aiocoap", "node")}
    mediate(origins | {"silent": SILENT})
    assert subprocess.run(["javac", "-d", WORK, os.path.join(HERE, "Ask.java")], timeout=60).returncode == 0
    until = time.time() + 20
    while time.time() < until and not all(near.curl("GET", f"{BASE}/{name}/x", None)[0] == 404 for name in SERVERS):
        time.sleep(0.3)
    took("servers and namespaces")
    is_right = "figures" in sys.argv or table(near, relays)
    return 0 if figures(near, relays) and is_right else 1


code = 1
try:
    code = main()
finally:
    if code:
        # The mediator prints what it counts each second.
        time.sleep(1.5)
        print(f"logs: {WORK}", file=sys.stderr)
    for process in running:
        process.send_signal(signal.SIGTERM)
        process.wait()
if not code:
    shutil.rmtree(WORK, ignore_errors=True)
sys.exit(code)
