#!/usr/bin/env python3
"""A second monitor, written from docs/control-protocol.md alone.

  client.py HOST:PORT KEY-NUMBER KEY-HEX     requests from standard input, answers to standard output
  client.py --check FILE                     checks the bytes of a vectors file

A request is one line of JSON: {"do": [INSTRUCTION, ...], "only_if": GENERATION, "dry_run": true}, where an
INSTRUCTION is ["divert", MATCH, [SERVER, ...], FLAGS] (as in a rule), ["remove", MATCH], ["redivert", FROM, TO, HOW],
["name", PATTERN, ANSWER, TTL], ["remove_name", PATTERN], ["names", POSITION], ["timeouts", SIX-MILLISECONDS], ["limit", N], ["forget"], ["rules", POSITION], ["connections", POSITION], ["counters"],
["settings"], ["subscribe", SECONDS, KINDS], ["measurements", POSITION], ["report", SECONDS, MILLISECONDS], ["lead", NUMBER, MILLISECONDS, NOTE], ["close"];
{"wait": SECONDS} waits for events and reports. MATCH is "a.b.c.d[/n][:port]"
or an object; PATTERN is a name, "*." and a name, or a list of that and the clients; ANSWER is {"rule": MATCH} or a list
of [ADDRESS, WEIGHT]; SERVER is "same", "address" or "address:port", or such a string with a weight in a list.
"""
import hashlib, hmac, json, os, socket, struct, sys, time

MAGIC = b"BW"
HELLO, CHALLENGE, OPEN, REQUEST, ANSWER, EVENTS, REFUSAL, REPORT = range(1, 9)
NAMES = {"divert": 1, "remove": 2, "redivert": 3, "timeouts": 4, "limit": 5, "forget": 6, "name": 7, "remove_name": 8, "names": 21, "rules": 16, "connections": 17,
         "counters": 18, "settings": 19, "measurements": 20, "subscribe": 32, "close": 33,
         "report": 34, "lead": 35}
OUTCOMES = [None, "inserted", "updated", "unchanged", "removed", "absent", "rediverted", "set", "forgotten"]
STATES = [None, "opening", "opened", "established", "client_closed", "server_closed", "closing", "time_wait",
          "doubtful", "resetting", "unanswered", "answered"]
WAITS = [0.25, 0.5, 1, 2, 2, 2, 2]


def mac(key, data):
    return hmac.new(key, data, hashlib.sha256).digest()


def sealed(key, data):
    return data + mac(key, data)[:16]


def opened(key, datagram):
    """What was said under the tag; None if the tag is wrong."""
    said, tag = datagram[:-16], datagram[-16:]
    return said if hmac.compare_digest(mac(key, said)[:16], tag) else None


def session_key(secret, key, number, mine, theirs):
    return mac(secret, b"byway control 1 session" + struct.pack(">HI", key, number) + mine + theirs)


def split_port(text):
    host, _, port = text.partition(":")
    return host, int(port) if port else None


def prefix(text):
    network, _, length = text.partition("/")
    return socket.inet_aton(network), int(length) if length else 32


def match(value):
    value = {"to": value} if isinstance(value, str) else value
    host, port = split_port(value["to"])
    network, length = prefix(host)
    clients, clients_length = prefix(value.get("clients", "0.0.0.0/0"))
    protocol = {None: 0, "icmp": 1, "tcp": 6, "udp": 17}[value.get("protocol")]
    return struct.pack(">4sBBBB4sHH", network, length, protocol, port is not None, clients_length, clients, port or 0, 0)


def server(value, weight=1):
    if isinstance(value, list):
        value, weight = value
    if value == "same":
        return struct.pack(">BBH4sH", 0, 0, weight, bytes(4), 0)
    host, port = split_port(value)
    return struct.pack(">BBH4sH", 1 if port is None else 2, 0, weight, socket.inet_aton(host), port or 0)


def pattern(value):
    """The key of an entry: which names, and which clients."""
    text, clients = value if isinstance(value, list) else (value, "0.0.0.0/0")
    below = text.startswith("*.") or text == "*"
    labels = [label.encode() for label in (text[2:] if below else text).lower().split(".") if label]
    name = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    network, length = prefix(clients)
    return struct.pack(">BB4sB", below, length, network, len(name)) + name


def entry(value, answer, ttl=30):
    if isinstance(answer, dict):
        return pattern(value) + struct.pack(">IBB", ttl, 1, 0) + match(answer["rule"])
    addresses = [struct.pack(">4sH", socket.inet_aton(address), weight) for address, weight in answer]
    return pattern(value) + struct.pack(">IBB", ttl, 0, len(addresses)) + b"".join(addresses)


def body(name, *values):
    if name == "name":
        return entry(*values)
    if name == "remove_name":
        return pattern(values[0])
    if name == "divert":
        servers, flags = values[1], values[2] if len(values) > 2 else 0
        return match(values[0]) + bytes([flags, len(servers)]) + b"".join(map(server, servers))
    if name == "remove":
        return match(values[0])
    if name == "redivert":
        how = ["switch", "drain", "reset", "hand-over", "hand-over-or-reset"].index(values[2])
        return bytes([how, 0]) + server(values[0], 0) + server(values[1], 0)
    if name == "timeouts":
        return struct.pack(">6I", *values[0])
    if name == "report":
        return struct.pack(">HH", *values)
    if name == "lead":
        number, lease, note = values
        return struct.pack(">QHBB", number, lease, len(note), 0) + note.encode()
    if name == "subscribe":
        return struct.pack(">HBB", values[0], values[1], 0)
    return struct.pack(">I", values[0]) if values else b""


def instruction(name, *values):
    data = body(name, *values)
    return struct.pack(">BBH", NAMES[name], 0, len(data)) + data


def request_body(request):
    instructions = [instruction(*i) for i in request["do"]]
    demands = "only_if" in request
    flags = (1 if request.get("dry_run") else 0) | (2 if demands else 0)
    return struct.pack(">BBHI", flags, len(instructions), 0, request.get("only_if", 0)) + b"".join(instructions)


# What is read


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, form):
        values = struct.unpack_from(">" + form, self.data, self.at)
        self.at += struct.calcsize(">" + form)
        return values if len(values) > 1 else values[0]

    def endpoint(self):
        host, port = self.take("4sH")
        return f"{socket.inet_ntoa(host)}:{port}"

    def match(self):
        network, length, protocol, has_port, clients_length, clients, port, _ = self.take("4sBBBB4sHH")
        text = f"{socket.inet_ntoa(network)}/{length}" + (f":{port}" if has_port else "")
        return {"to": text, "protocol": {0: None, 1: "icmp", 6: "tcp", 17: "udp"}[protocol],
                "clients": f"{socket.inet_ntoa(clients)}/{clients_length}"}

    def server(self):
        kind, _, weight, host, port = self.take("BBH4sH")
        return [["same", socket.inet_ntoa(host), f"{socket.inet_ntoa(host)}:{port}"][kind], weight]

    def entry(self):
        below, length, network, size = self.take("BB4sB")
        name, labels = self.take(f"{size}s"), []
        while name[0]:
            labels.append(name[1 : 1 + name[0]].decode())
            name = name[1 + name[0] :]
        ttl, flags, count = self.take("IBB")
        told = {"name": ("*." if below else "") + ".".join(labels), "clients": f"{socket.inet_ntoa(network)}/{length}",
                "ttl": ttl, "suspended": bool(flags & 2)}
        told["addresses"] = [[socket.inet_ntoa(host), weight] for host, weight in (self.take("4sH") for _ in range(count))]
        return told | {"rule": self.match() if flags & 1 else None}

    def page(self, entry, head=""):
        following, count, _ = self.take("IHH")
        told = {"next": None if following == 0xFFFFFFFF else following}
        if head:
            told["time"] = self.take(head)
        return told | {"entries": [entry() for _ in range(count)]}

    def rule(self):
        told = {"match": self.match()}
        flags, listed, total = self.take("BBH")
        servers = [self.server() + [self.take("I")] for _ in range(listed)]
        midstream = [None, "pass", "adopt", "drop"][flags >> 2 & 3]
        return told | {"flags": flags, "midstream": midstream, "in_all": total, "servers": servers}

    def ends(self):
        return dict(zip(["client", "original", "alternative", "server"], [self.endpoint() for _ in range(4)]))

    def connection(self):
        protocol, state, measured, _ = self.take("BBBB")
        told = {"protocol": protocol, "state": STATES[state]} | self.ends()
        if measured:
            names = ["packets", "bytes", "smallest", "largest"]
            for way in ["to_server", "to_client"]:
                told[way] = dict(zip(names, self.take("QQHH")))
            told["first"], told["last"] = self.take("QQ")
            waits = ["server_handshake", "client_handshake", "round_trip"]
            told |= {name: None if v == 0xFFFFFFFF else v for name, v in zip(waits, self.take("III"))}
            told |= dict(zip(["retransmissions", "resets", "icmp_errors"], self.take("HHH")))
        return told

    def event(self):
        kind, protocol, state, why = self.take("BBBB")
        told = {"event": [None, "opened", "changed", "moved", "closed"][kind], "protocol": protocol,
                "state": STATES[state], "why": why} | self.ends()
        told["before"] = self.endpoint()
        self.take("H")
        return told

    def measured(self):
        """A server, with the response times as [from, to, count], in microseconds."""
        told = {"position": self.take("I"), "server": self.server(), "since": self.take("Q")}
        told |= dict(zip(["connections", "started", "established"], self.take("III")))
        ends = ["finished", "refused", "reset_before_data", "reset_after_data", "aborted", "handshake_timeouts",
                "expired", "withdrawn"]
        told["ends"] = dict(zip(ends, self.take("8I")))
        told["unreachable"], told["retransmissions"] = self.take("II")
        for way in ["to_server", "to_client"]:
            told[way] = dict(zip(["packets", "bytes"], self.take("QQ")))
        for times in ["server_handshake", "client_handshake", "connecting", "waiting", "unanswered"]:
            told[times] = dict(zip(["count", "micros"], self.take("IQ")))
        silent = self.take("Q")
        told["silent"] = None if silent == 0xFFFFFFFFFFFFFFFF else silent
        told["sum"], filled = self.take("Q"), self.take("11s")
        edge = lambda n: 0 if n == 0 else 16 * 2 ** (n / 4)
        told["response"] = [[edge(n), edge(n + 1), self.take("I")] for n in range(88) if filled[n // 8] >> n % 8 & 1]
        return told

    def settings(self):
        told = {"timeouts": self.take("6I")}
        told |= dict(zip(["client_limit", "rules", "capacity", "in_use"], self.take("4I")))
        rights, length, _, network = self.take("BBH4s")
        return told | {"rights": ["read", "divert", "all"][rights], "prefix": f"{socket.inet_ntoa(network)}/{length}"}

    def effect(self):
        outcome, _, servers, connections = self.take("BBHI")
        return {"outcome": OUTCOMES[outcome], "servers": servers, "connections": connections}


def read_answer(said, request):
    data = Reader(said[16:])
    code, index, flags, generation, detail = data.take("HBBII")
    told = {"code": code, "index": index, "dry_run": bool(flags & 1), "generation": generation, "detail": detail}
    if code:
        return told
    name = request["do"][0][0] if request else None
    if name == "rules":
        told |= data.page(data.rule)
    elif name == "connections":
        told |= data.page(data.connection, "Q")
    elif name == "measurements":
        told |= data.page(data.measured, "Q")
    elif name == "names":
        told |= data.page(data.entry, "II")
        told["entries_in_all"], told["room"] = told.pop("time")
    elif name == "counters":
        count, _ = data.take("HH")
        told["counters"] = dict(data.take("HQ") for _ in range(count))
    elif name == "settings":
        told |= data.settings()
    elif name == "lead":
        leader, told["lease"], told["standing"], length, _ = data.take("QHHBB")
        told["leader"] = None if leader == 2**64 - 1 else leader
        told["note"] = data.take(f"{length}s").decode()
    elif name in ("divert", "remove", "redivert", "timeouts", "limit", "forget", "name", "remove_name"):
        told["effects"] = [data.effect() for _ in request["do"]]
    if data.at != len(data.data):
        raise ValueError("there is something behind the answer")
    return told


class Monitor:
    def __init__(self, peer, key, secret):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect(peer)
        self.key, self.secret, self.sequence, self.told, self.events = key, secret, 0, [], 0
        self.reports, self.reported, self.missed = 0, [], 0
        self.session = self.session_secret = None
        mine = os.urandom(16)
        hello = struct.pack(">2sBBHH16s24s", MAGIC, 1, HELLO, key, 0, mine, bytes(24))
        for _ in range(3):
            greeting = self.exchange(sealed(secret, hello), self.secret, lambda said: said[8:24] == mine, WAITS)
            if greeting[3] == REFUSAL:
                raise SystemExit(f"refused: code {struct.unpack_from('>H', greeting, 24)[0]}")
            theirs, number = struct.unpack_from(">16sI", greeting, 24)
            self.session = theirs[:8]
            self.session_secret = session_key(secret, key, number, mine, theirs)
            said = struct.pack(">2sBBI8sHHI16s8s", MAGIC, 1, OPEN, 0, self.session, key, 0, number, mine, bytes(8))
            try:
                answer = self.ask(said, 0, WAITS[:2])
            except TimeoutError:
                continue
            if read_answer(answer, None)["code"]:
                raise SystemExit("no session")
            return
        raise TimeoutError("no session")

    def exchange(self, datagram, key, wanted, waits):
        for wait in waits:
            self.socket.send(datagram)
            until = time.monotonic() + wait
            while (said := self.receive(until)) is not None:
                if said[3] in (CHALLENGE, REFUSAL, ANSWER) and wanted(said):
                    return said
        raise TimeoutError("no answer")

    def receive(self, until):
        """The next authentic datagram; events are put aside."""
        while (left := until - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                datagram = self.socket.recv(2048)
            except (TimeoutError, ConnectionRefusedError):
                continue
            if len(datagram) < 32 or datagram[:3] != MAGIC + b"\x01":
                continue
            in_session = datagram[3] in (ANSWER, EVENTS, REPORT)
            if in_session and datagram[8:16] != self.session:
                continue
            said = opened(self.session_secret if in_session else self.secret, datagram)
            if said is None:
                continue
            if said[3] == REPORT:
                sequence, _, round = struct.unpack_from(">I8sI", said, 4)
                if sequence > self.reports:
                    self.missed += sequence - self.reports - 1
                    self.reports, data = sequence, Reader(said[20:])
                    self.reported.append({"round": round} | data.page(data.measured, "Q"))
                continue
            if said[3] != EVENTS:
                return said
            sequence, _, lost, count, _ = struct.unpack_from(">I8sIHH", said, 4)
            if sequence > self.events:
                self.events, data = sequence, Reader(said[24:])
                self.told += [data.event() for _ in range(count)]
        return None

    def ask(self, said, sequence, waits=WAITS):
        wanted = lambda a: a[3] == ANSWER and struct.unpack_from(">I", a, 4)[0] == sequence
        return self.exchange(sealed(self.session_secret, said), self.session_secret, wanted, waits)

    def request(self, request):
        self.sequence += 1
        head = struct.pack(">2sBBI8s", MAGIC, 1, REQUEST, self.sequence, self.session)
        return read_answer(self.ask(head + request_body(request), self.sequence), request)


def check(path):
    lines = [line.split(" = ") for line in open(path) if " = " in line and not line.startswith("#")]
    vectors = {name: bytes.fromhex(value) if name[-3:] != ".id" and name != "session.number" else int(value)
               for name, value in lines}
    secret, key = vectors["key.secret"], vectors["session.key"]
    mine, theirs = vectors["nonce.monitor"], vectors["nonce.translator"]
    assert session_key(secret, vectors["key.id"], vectors["session.number"], mine, theirs) == key
    checked = 0
    for name, datagram in vectors.items():
        if not name.startswith(("key.", "nonce.", "session.")):
            outer = name in ("hello", "challenge", "refusal", "hello.9")
            assert opened(secret if outer else key, datagram) is not None, name
            checked += 1
    first = request_body({"do": [["divert", "100.100.100.100:80", ["123.45.67.89:80"]]]})
    assert vectors["request.1"][16:-16] == first
    assert read_answer(vectors["answer.1"][:-16], {"do": [["divert"]]})["effects"][0]["outcome"] == "inserted"
    measured = read_answer(vectors["answer.15"][:-16], {"do": [["measurements"]]})
    (asked,) = [server for server in measured["entries"] if server["started"]]
    assert (asked["sum"], [asked["response"][0][2], asked["to_client"]["packets"]]) == (20_000, [1, 1])
    assert asked["response"][0][0] <= 20_000 < asked["response"][0][1]
    lead = ["lead", 258, 5000, "a note"]
    assert vectors["request.17"][16:-16] == request_body({"do": [lead]})
    expected = {"leader": 258, "lease": 5000, "standing": 1, "note": "a note"}
    led = read_answer(vectors["answer.17"][:-16], {"do": [lead]})
    assert {key: led[key] for key in expected} == expected, led
    data = Reader(vectors["report.1"][20:-16])
    assert data.page(data.measured, "Q") == {key: measured[key] for key in ("next", "time", "entries")}
    assert data.at == len(data.data) and struct.unpack_from(">I", vectors["report.1"], 16)[0] == 1
    rule = {"to": "100.100.100.100"}
    first = request_body({"do": [["divert", rule, ["123.45.67.89"]], ["name", "www.bt.com", {"rule": rule}, 86400]]})
    assert vectors["names.request.1"][16:-16] == first
    group = [["203.0.113.1", 3], ["203.0.113.2", 1]]
    second = [["name", ["*.xyz.com", "192.168.0.0/16"], group, 20]]
    assert vectors["names.request.2"][16:-16] == request_body({"only_if": 2, "do": second})
    last = request_body({"do": [["remove", rule], ["remove_name", "www.bt.com"]]})
    assert vectors["names.request.6"][16:-16] == last
    listed = read_answer(vectors["names.answer.4"][:-16], {"do": [["names", 0]]})
    assert [e["name"] for e in listed["entries"]] == ["www.bt.com", "*.xyz.com"], listed
    assert listed["entries"][1]["addresses"] == group and listed["entries"][0]["rule"]["to"] == "100.100.100.100/32"
    print(f"{checked} datagrams are right")


def main(arguments):
    if arguments[0] == "--check":
        return check(arguments[1])
    host, port = split_port(arguments[0])
    monitor = Monitor((host, port), int(arguments[1]), bytes.fromhex(arguments[2]))
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            monitor.receive(time.monotonic() + request["wait"])
            told, monitor.told = {"events": monitor.told}, []
            told |= {"reports": monitor.reported, "missed": monitor.missed}
            monitor.reported = []
        else:
            told = monitor.request(request)
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
