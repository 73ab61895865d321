#!/usr/bin/env python3
"""Builds an image, boots it in QEMU between three hosts, and checks what they see of each other through it.

    examples/firmware/test/e2e.py [IMAGE...]
"""

import sys

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


CHECKS = (plain_forwarding, traceroute, path_mtu, unreachable)


def main():
    images = sys.argv[1:] or list(lab.IMAGES)
    lab.enter()
    for name in images:
        image = lab.IMAGES[name]
        elf = image.build()
        with lab.Lab(image, elf) as net:
            for check in CHECKS:
                check(net)
                print(f"ok {name}: {check.__name__}: {check.__doc__}", flush=True)
    print(f"{len(images) * len(CHECKS)} passed, 0 failed")


if __name__ == "__main__":
    main()
