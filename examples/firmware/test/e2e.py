#!/usr/bin/env python3
"""Builds an image, boots it in QEMU between four hosts, and checks what they see of each other through it.

    examples/firmware/test/e2e.py [--fuzz SECONDS] [--seed SEED] [IMAGE...]
"""

import argparse
import functools
import json
import os
import random
import subprocess
import sys
import time

import capture
import lab


def plain_forwarding(net):
    """Every host reaches every other one and the router, by name of nothing but its address."""
    for source, target in (("client", "a"), ("client", "b"), ("a", "client")):
        address = lab.HOSTS[target][1]
        seen = net.on(source, "ping", "-n", "-c", "3", "-i", "0.2", "-W", "2", address)
        assert " 0% packet loss" in seen and "ttl=63" in seen, seen
    for own in ("10.1.0.1", "10.2.0.1"):
        seen = net.on("client", "ping", "-n", "-c", "2", "-i", "0.2", "-W", "2", own)
        assert " 0% packet loss" in seen, seen


class NextHop:
    """What the image believes about where host c is. Two checks with a minute between them, in which others are made."""

    ADDRESS = lab.HOSTS["c"][1]
    LIFETIME = 60  # router/src/arp.rs

    def is_asked_for(self, net):
        """The image asks for a next hop once, by broadcast, and then goes by the answer, even when the host has moved."""
        self.capture = os.path.join(net.folder, "at-c")
        capture.start(net, "c", self.capture)
        seen = net.on("client", "ping", "-n", "-c", "3", "-i", "0.2", "-W", "2", self.ADDRESS)
        assert " 0% packet loss" in seen, seen
        [question] = self.questions(net)
        assert question.to == "ff:ff:ff:ff:ff:ff", question
        # Another link address, of which it tells nobody.
        net.on("c", "ip", "link", "set", "eth0", "address", "02:00:00:00:00:40")
        self.moved = time.monotonic()
        seen = net.on("client", "ping", "-n", "-c", "1", "-W", "1", self.ADDRESS, check=False)
        assert " 100% packet loss" in seen, seen
        assert self.questions(net) == [question]

    def expires(self, net):
        """What is known of a next hop is forgotten after a minute: the image asks anew, and finds the host that has moved."""
        time.sleep(max(0, self.moved + self.LIFETIME + 2 - time.monotonic()))
        seen = net.on("client", "ping", "-n", "-c", "3", "-i", "0.2", "-W", "3", self.ADDRESS)
        assert " 0% packet loss" in seen, seen
        [first, second] = self.questions(net)
        assert second.to == "ff:ff:ff:ff:ff:ff" and second.time - first.time > self.LIFETIME, (first, second)

    def questions(self, net):
        seen = capture.questions(self.capture)
        return [each for each in seen if each.asks_for == self.ADDRESS and each.sender in net.image.macs()]


def secret(net):
    """Each start draws another secret, so the same connections get other ports; without a source, there is no start."""
    drawn = []
    for start in range(2):
        if start:
            net.reboot()
        # So that its next hop is known: the image keeps only the last packet for one that it asks for.
        net.on("client", "ping", "-n", "-c", "1", "-W", "2", ORIGINAL)
        with capture.Captures(net, ("a",)) as seen:
            udp = os.path.join(lab.HERE, "udp.py")
            net.on("client", sys.executable, udp, "knock", ORIGINAL, "9", "5001", "5002", "5003")
        knocks = [packet.payload for packet in seen.from_image("a") if packet.protocol == capture.UDP]
        drawn.append({knock[8:].decode(): int.from_bytes(knock[:2]) for knock in knocks})
    print(f"    {drawn}", flush=True)
    assert all(ports.keys() == {"5001", "5002", "5003"} for ports in drawn), drawn
    assert drawn[0] != drawn[1], drawn
    if net.image.random:
        net.reboot(with_random=False, until="the machine needs a source of randomness")
        net.reboot()


def captures(net):
    """What the image sends has right checksums, fits the link, and is what the other side sent but for its TTL."""
    with capture.Captures(net) as seen:
        net.serve("b", 8080, sys.executable, "-m", "http.server", "8080", "--directory", lab.FIRMWARE)
        page = net.on("client", "curl", "-sS", "--fail", "http://10.2.0.30:8080/Cargo.lock")
        with open(os.path.join(lab.FIRMWARE, "Cargo.lock"), encoding="utf-8") as file:
            assert page == file.read()
        net.on("client", "ping", "-n", "-c", "2", "-i", "0.2", "-s", "1472", "-M", "dont", "10.2.0.20")
        net.on("client", "traceroute", "-n", "-w", "1", "10.2.0.20")
    for host, mtu in (("client", 1500), ("a", 1400), ("b", 1400)):
        packets = seen.from_image(host)
        assert packets
        for packet in packets:
            assert packet.checksums_are_right(), packet
            assert packet.length <= mtu, packet
    protocols = [{packet.protocol for packet in seen.from_image(host)} for host in ("client", "a", "b")]
    assert protocols == [{1, 6}, {1, 17}, {6}], protocols
    for here, there in (("client", "a"), ("a", "client"), ("client", "b"), ("b", "client")):
        address = lab.HOSTS[here][1]
        sent = {packet.as_forwarded(): packet.ttl for packet in seen.from_host(here)}
        came = [packet for packet in seen.from_image(there) if packet.source == address]
        assert came
        for packet in came:
            # What was in several segments or fragments on one side need not be in the same ones on the other.
            if packet.protocol != capture.TCP and not packet.is_fragment:
                assert sent[packet.as_forwarded()] == packet.ttl + 1, packet
        assert capture.streams(came) == {
            flow: said for flow, said in capture.streams(seen.from_host(here)).items() if flow[1] == lab.HOSTS[there][1]
        }


def traceroute(net):
    """The router is the first hop, with its address on the client's side."""
    for how in ("--icmp", "--udp"):
        seen = net.on("client", "traceroute", "-n", how, "-q", "3", "-w", "2", "10.2.0.20")
        hops = [line.split()[1] for line in seen.splitlines()[1:]]
        assert hops == ["10.1.0.1", "10.2.0.20"], seen
        assert "*" not in seen, seen


def path_mtu(net):
    """What must not be fragmented is reported with the MTU, and the rest is fragmented."""
    seen = net.on("client", "ping", "-n", "-c", "1", "-W", "2", "-M", "do", "-s", "1472", "10.2.0.20", check=False)
    assert "mtu = 1400" in seen.replace("mtu=", "mtu = "), seen
    assert "mtu 1400" in net.on("client", "ip", "route", "get", "10.2.0.20")
    seen = net.on("client", "ping", "-n", "-c", "2", "-i", "0.2", "-W", "2", "-M", "dont", "-s", "1472", "10.2.0.30")
    assert " 0% packet loss" in seen, seen


def unreachable(net):
    """A host that is not there is reported as such by the router, after its ARP has tried three times."""
    seen = net.on("client", "ping", "-n", "-c", "1", "-W", "6", "10.2.0.99", check=False)
    assert "From 10.1.0.1 icmp_seq=1 Destination Host Unreachable" in seen, seen


# What the client asks for; it is nowhere, and the image diverts it.
ORIGINAL = "100.100.100.100"


def start_servers(net):
    """The same services on both servers; each says who it is."""
    for name in ("a", "b"):
        folder = os.path.join(net.folder, name)
        os.mkdir(folder)
        with open(os.path.join(folder, "name"), "w", encoding="ascii") as file:
            file.write(name)
        with open(os.path.join(folder, "file"), "wb") as file:
            file.write(random.Random(1).randbytes(2_000_000))
        net.serve(name, 80, sys.executable, "-m", "http.server", "80", "--directory", folder)
        net.serve(name, 9000, sys.executable, os.path.join(lab.HERE, "udp.py"), "serve", name, "9000")
        net.serve(name, 5201, "iperf3", "--server")


def diverted(net):
    """The client asks for an address that is nowhere and is served by A: TCP, UDP, ping, traceroute, path MTU."""
    start_servers(net)
    udp = os.path.join(lab.HERE, "udp.py")
    with capture.Captures(net) as seen:
        assert net.on("client", "curl", "-sS", "--fail", f"http://{ORIGINAL}/name") == "a"
        got = os.path.join(net.folder, "got")
        net.on("client", "curl", "-sS", "--fail", "-o", got, f"http://{ORIGINAL}/file")
        with open(got, "rb") as file:
            assert file.read() == random.Random(1).randbytes(2_000_000)
        transfer = json.loads(net.on("client", sys.executable, udp, "ask", ORIGINAL, "9000", "1"))
        assert transfer["order"] == ["a"] and not transfer["missing"], transfer
        ping = net.on("client", "ping", "-n", "-c", "3", "-i", "0.2", "-W", "2", ORIGINAL)
        assert " 0% packet loss" in ping and f"64 bytes from {ORIGINAL}" in ping, ping
        for how in ("--icmp", "--udp"):
            trace = net.on("client", "traceroute", "-n", how, "-q", "3", "-w", "2", ORIGINAL)
            hops = [line.split()[1] for line in trace.splitlines()[1:]]
            assert hops == ["10.1.0.1", ORIGINAL] and "*" not in trace, trace
        ping = net.on("client", "ping", "-n", "-c", "1", "-W", "2", "-M", "do", "-s", "1472", ORIGINAL, check=False)
        assert "mtu = 1400" in ping.replace("mtu=", "mtu = "), ping
        assert "mtu 1400" in net.on("client", "ip", "route", "get", ORIGINAL)
        # Nobody listens there: the server's refusal comes back as the original's.
        refused = net.on("client", "curl", "-sS", "--max-time", "5", f"http://{ORIGINAL}:81/", check=False)
        assert "curl: (7)" in refused, refused
    hidden = {"client": ("10.2.0.20", "10.2.0.30", "10.2.0.1"), "a": ("10.1.0.10", ORIGINAL), "b": ("10.1.0.10", ORIGINAL)}
    for host, addresses in hidden.items():
        for packet in seen.from_image(host):
            assert packet.checksums_are_right(), packet
            assert not set(addresses) & set(packet.addresses()), packet
    # The client hears the original, and the router that reports an error; the server speaks with nobody but the router.
    assert {packet.source for packet in seen.from_image("client")} == {ORIGINAL, "10.1.0.1"}
    assert {packet.source for packet in seen.from_image("a")} == {"10.2.0.1"}
    assert {packet.destination for packet in seen.from_image("a")} == {lab.HOSTS["a"][1]}
    assert {packet.protocol for packet in seen.from_image("client")} == {1, 6, 17}
    assert {packet.protocol for packet in seen.from_image("a")} == {1, 6, 17}
    assert not seen.from_image("b")


# The lab's key (router/src/lab.rs), and where instructions go: over the client's wire, to the router's own address.
KEY = b"of this lab only, not of any use"
CONTROL = "10.1.0.1:213"


def start_monitor(net, key):
    """Starts a monitor, which reads instructions and writes what became of them."""
    client = os.path.join(lab.ROOT, "tests", "control", "client.py")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    return net.start_on("client", sys.executable, client, CONTROL, "1", key.hex(), **pipes)


def instruct(monitor, *instruction):
    """Gives one instruction, and returns what became of it."""
    print(json.dumps({"do": [instruction]}), file=monitor.stdin, flush=True)
    answer = json.loads(monitor.stdout.readline())
    assert answer["code"] == 0, answer
    return answer


def switched(net):
    """An authenticated instruction moves the client to B while it talks to A; it notices nothing. The wrong key does not."""
    a, b = lab.HOSTS["a"][1], lab.HOSTS["b"][1]
    udp = os.path.join(lab.HERE, "udp.py")
    with capture.Captures(net) as seen:
        stranger = start_monitor(net, bytes(32))
        print(json.dumps({"do": [["redivert", a, b, "switch"]]}), file=stranger.stdin, flush=True)
        monitor = start_monitor(net, KEY)
        [told] = [rule["servers"] for rule in instruct(monitor, "rules", 0)["entries"]]
        assert [server for server, _, _ in told] == [a], told
        before = net.watchdog()
        transfer = net.start_on(
            "client", sys.executable, udp, "ask", ORIGINAL, "9000", "4", stdout=subprocess.PIPE, text=True
        )
        time.sleep(2)
        [effect] = instruct(monitor, "redivert", a, b, "switch")["effects"]
        assert effect["outcome"] == "rediverted" and effect["servers"] == 1 and effect["connections"] >= 1, effect
        report = json.loads(transfer.communicate(timeout=30)[0])
        after = net.watchdog()
        # An answer that A had on its way at that moment comes too late, and is counted; nothing else is missing.
        late = after.get("byway.old_server", 0) - before.get("byway.old_server", 0)
        print(f"    {report}, {late} late", flush=True)
        assert report["order"] == ["a", "b"] and len(report["missing"]) == late <= 1, report
        assert net.on("client", "curl", "-sS", "--fail", f"http://{ORIGINAL}/name") == "b"
        assert stranger.poll() is None, "the wrong key was answered"
        stranger.kill()
        counters = instruct(monitor, "counters")["counters"]
        assert counters, counters
    for packet in seen.from_image("client"):
        assert packet.checksums_are_right(), packet
        assert not {a, b} & set(packet.addresses()), packet
    # The instruction was on the client's wire, and of the two that spoke to that port one was answered.
    control = int(CONTROL.split(":")[1]).to_bytes(2)
    asked = {packet.payload[:2] for packet in seen.from_host("client") if packet.payload[2:4] == control}
    answered = {packet.payload[2:4] for packet in seen.from_image("client") if packet.payload[:2] == control}
    assert len(asked) == 2 and len(answered) == 1 and answered < asked, (asked, answered)
    # Both servers have seen the transfer, and nobody but the router in it.
    for host in ("a", "b"):
        transfer = [packet for packet in seen.from_image(host) if packet.protocol == capture.UDP]
        assert len(transfer) > 100, len(transfer)
        assert {packet.source for packet in seen.from_image(host)} == {"10.2.0.1"}
        assert all(packet.checksums_are_right() for packet in seen.from_image(host))
    [effect] = instruct(monitor, "redivert", b, a, "switch")["effects"]
    assert effect["servers"] == 1, effect
    instruct(monitor, "close")
    monitor.stdin.close()
    assert net.on("client", "curl", "-sS", "--fail", f"http://{ORIGINAL}/name") == "a"


def named(net):
    """A name is answered with the original, whatever server is asked; an instruction changes it; others are not answered."""
    b = lab.HOSTS["b"][1]

    def dig(*words):
        return net.on("client", "dig", f"@{b}", "+tries=1", "+timeout=3", *words, check=False)

    with capture.Captures(net) as seen:
        for how in ((), ("+noedns",), ("+bufsize=512",), ("+dnssec",)):
            said = dig("wWw.bT.cOm", *how)
            assert "status: NOERROR" in said and f"86400\tIN\tA\t{ORIGINAL}" in said, said
            said = dig("www.bt.com", "AAAA", *how)
            assert "status: NOERROR" in said and "ANSWER: 0" in said, said
        # Nobody listens there: other names go to the server, whose refusal comes back, and TCP goes nowhere.
        assert "connection refused" in dig("other.test"), "a query for another name reaches the server"
        said = dig("www.bt.com", "+tcp")
        assert ORIGINAL not in said and "unreachable" in said, said
        monitor = start_monitor(net, KEY)
        rule = instruct(monitor, "names", 0)["entries"][0]["rule"]
        assert rule["to"] == f"{ORIGINAL}/32", rule
        instruct(monitor, "name", "other.test", [["203.0.113.7", 1]], 5)
        assert "5\tIN\tA\t203.0.113.7" in dig("other.test")
        instruct(monitor, "remove_name", "other.test")
        assert "connection refused" in dig("other.test")
        instruct(monitor, "close")
        monitor.stdin.close()
    for packet in seen.from_image("client"):
        assert packet.checksums_are_right(), packet
    asked = [packet for packet in seen.from_image("b") if packet.protocol in (capture.UDP, capture.TCP)]
    assert len(asked) == 2 and all(packet.protocol == capture.UDP for packet in asked), asked
    assert net.watchdog()["named"] >= 9


def throughput(net):
    """Ten seconds of iperf3 through the translator: TCP finds the path MTU, and only a full queue loses anything."""
    net.on("client", "ip", "route", "flush", "cache")
    before = net.watchdog()
    seen = json.loads(net.on("client", "iperf3", "--client", ORIGINAL, "--time", "10", "--json"))
    after = net.watchdog()
    rose = {name: count - before.get(name, 0) for name, count in after.items() if count > before.get(name, 0)}
    rate = seen["end"]["sum_received"]["bits_per_second"] / 1e6
    print(f"    {rate:.0f} Mbit/s, {rose}", flush=True)
    totals = {"received", "sent", "forwarded", "translated", "icmp_errors", "connections", "to_server", "to_client", "opened"}
    noise = {"ether_type", "other_station", "too_big", "queue_full"}
    assert rose.keys() <= totals | noise, rose
    assert rose["too_big"] >= 1 and "mtu 1400" in net.on("client", "ip", "route", "get", ORIGINAL), rose
    assert rate > 5 and rose["translated"] > 10_000, rose


def bad_input(net, seed, seconds):
    """Damaged frames on both sides: the image counts what it drops, and forwards as before."""
    before = net.watchdog()
    script = os.path.join(lab.HERE, "fuzz.py")
    fuzzers = [
        net.start_on(
            host, sys.executable, script, str(seed), str(seconds), str(side), net.image.macs()[side], stdout=subprocess.PIPE
        )
        for side, host in enumerate(("client", "a"))
    ]
    sent = sum(int(fuzzer.communicate(timeout=seconds + 30)[0]) for fuzzer in fuzzers)
    assert all(fuzzer.returncode == 0 for fuzzer in fuzzers)
    after = net.watchdog()
    rose = {name: count - before.get(name, 0) for name, count in after.items() if count > before.get(name, 0)}
    print(f"    {sent} frames sent, {rose}", flush=True)
    # Most of it got there, and both the router and the translator say why they drop it.
    assert rose["received"] > sent / 2, rose
    assert {"arp", "arp_conflict", "ipv4", "martian_source", "martian_destination", "ttl", "no_route"} <= rose.keys(), rose
    assert {"byway.malformed_transport", "byway.icmp_checksum", "byway.no_connection"} <= rose.keys(), rose
    # The hosts heard strangers claim the router's address, and some believed it. What is tested here is the router.
    for host in lab.HOSTS:
        net.on(host, "ip", "neighbour", "flush", "dev", "eth0")
    plain_forwarding(net)
    assert net.on("client", "curl", "-sS", "--fail", f"http://{ORIGINAL}/name") == "a"


def check(name, elf, seed, seconds):
    """All of it, for one image."""
    hop = NextHop()
    checks = (secret, hop.is_asked_for, plain_forwarding, traceroute, path_mtu, unreachable, captures, diverted, switched, named)
    checks += throughput, hop.expires, functools.partial(bad_input, seed=seed, seconds=seconds)
    with lab.Lab(lab.IMAGES[name], elf) as net:
        for check_one in checks:
            check_one(net)
            function = getattr(check_one, "func", check_one)
            print(f"ok {name}: {function.__name__}: {function.__doc__.splitlines()[0]}", flush=True)
    print(f"{len(checks)} passed, 0 failed")


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--fuzz", type=float, default=5, metavar="SECONDS", help="how long bad input is sent")
    arguments.add_argument("--seed", type=int, default=1, help="of the bad input")
    arguments.add_argument("--elf", help=argparse.SUPPRESS)
    arguments.add_argument("images", nargs="*", metavar="IMAGE", help=", ".join(lab.IMAGES))
    options = arguments.parse_args()
    if options.elf:
        return check(options.images[0], options.elf, options.seed, options.fuzz)
    for name in options.images or lab.IMAGES:
        # Built outside, where cargo reaches what it needs; the network inside has nobody else in it.
        elf = lab.IMAGES[name].build()
        lab.inside("--elf", elf, "--seed", str(options.seed), "--fuzz", str(options.fuzz), name)


if __name__ == "__main__":
    main()
