"""Bad input for the image: a bounded stream of damaged frames on one port. Runs on a host, as `fuzz.py SEED SECONDS SIDE MAC`,
and prints how many it has sent.

Nothing here claims to be one of the hosts by ARP, because a router that believes such a claim is right to: ARP has
no other proof. Everything else is fair.
"""

import ipaddress
import random
import socket
import struct
import sys
import time

RATE = 2000

HOSTS = ["10.1.0.10", "10.2.0.20", "10.2.0.30", "10.1.0.1", "10.2.0.1", "100.100.100.100"]
STRANGE = ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "10.1.0.255", "10.2.0.0", "192.0.2.1", "240.0.0.1"]
MY_MAC = bytes.fromhex("020000000099")


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


class Fuzzer:
    def __init__(self, seed, side, mac):
        self.random = random.Random(seed)
        self.subnet = f"10.{side + 1}.0."
        self.mac = bytes.fromhex(mac.replace(":", ""))
        self.side = side
        self.kinds = [self.ethernet, self.arp, self.ipv4, self.ipv4, self.fragment, self.icmp, self.transport]

    def address(self):
        kind = self.random.random()
        if kind < 0.6:
            return self.random.choice(HOSTS)
        if kind < 0.8:
            return str(ipaddress.ip_address(self.random.getrandbits(32)))
        return self.random.choice(STRANGE)

    def source(self):
        """Mostly a neighbour that is not one of the hosts."""
        return self.subnet + str(self.random.randrange(100, 250)) if self.random.random() < 0.7 else self.address()

    def frame(self, kind, payload):
        to = self.mac if self.random.random() < 0.95 else self.random.choice([b"\xff" * 6, self.random.randbytes(6)])
        return to + MY_MAC + struct.pack("!H", kind) + payload

    def packet(self, protocol, payload, fragment=0, options=b"", ttl=None, length=None):
        ttl = self.random.choice([0, 1, 2, 64, 255]) if ttl is None else ttl
        length = 20 + len(options) + len(payload) if length is None else length
        head = struct.pack("!BBHHHBBH", 0x40 | (5 + len(options) // 4), 0, length & 0xFFFF, self.random.getrandbits(16), fragment, ttl, protocol, 0)
        head += socket.inet_aton(self.source()) + socket.inet_aton(self.address()) + options
        return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload

    def ethernet(self):
        kind = self.random.choice([0x0800, 0x0806, 0x86DD, 0x8100, 0x0005, self.random.getrandbits(16)])
        return self.frame(kind, self.random.randbytes(self.random.choice([0, 1, 19, 20, 27, 28, 60, self.random.randrange(1501)])))

    def arp(self):
        hardware, protocol, sizes, operation = self.random.choice(
            [(1, 0x0800, 0x0604, 1), (1, 0x0800, 0x0604, 2), (1, 0x0800, 0x0604, 9), (6, 0x0800, 0x0604, 1), (1, 0x86DD, 0x0610, 1), (1, 0x0800, 0xFFFF, 1)]
        )
        sender = self.random.choice([self.subnet + str(self.random.randrange(100, 255)), self.subnet + "1", self.random.choice(STRANGE)])
        mac = self.random.choice([MY_MAC, b"\xff" * 6, self.random.randbytes(6)])
        body = struct.pack("!HHHH", hardware, protocol, sizes, operation) + mac + socket.inet_aton(sender)
        body += self.random.randbytes(6) + socket.inet_aton(self.address())
        return self.frame(0x0806, body[: self.random.choice([28, 28, 28, self.random.randrange(29)])])

    def ipv4(self):
        options = self.random.randbytes(4 * self.random.choice([0, 0, 1, 10]))
        payload = self.random.randbytes(self.random.choice([0, 1, 7, 8, 20, 1000, 1480 - len(options)]))
        length = self.random.choice([None, None, None, 0, 19, 20, 21, 65535])
        packet = bytearray(self.packet(self.random.choice([1, 6, 17, 2, 47, 255]), payload, options=options, length=length))
        if self.random.random() < 0.3:
            packet[self.random.randrange(len(packet))] ^= 1 << self.random.randrange(8)
        return self.frame(0x0800, bytes(packet))

    def fragment(self):
        """Tiny, overlapping, endless, out of order, of few datagrams so that they meet."""
        payload = self.random.randbytes(self.random.choice([0, 1, 8, 16, 1480]))
        fragment = self.random.choice([0x2000, 0, 0x4000, 0x6000, 0x8000]) | self.random.choice([0, 1, 2, 3, 185, 0x1FFF])
        packet = bytearray(self.packet(self.random.choice([1, 6, 17]), payload, fragment, ttl=64))
        packet[4:6] = struct.pack("!H", self.random.randrange(4))
        packet[10:12] = b"\0\0"
        packet[10:12] = struct.pack("!H", checksum(bytes(packet[:20])))
        return self.frame(0x0800, bytes(packet))

    def icmp(self):
        """Errors about packets that never were, cut short, and quotes of quotes."""
        quoted = self.packet(self.random.choice([1, 6, 17]), self.random.randbytes(self.random.randrange(40)))
        quoted = quoted[: self.random.choice([0, 8, 19, 20, 24, 28, len(quoted)])]
        body = struct.pack("!BBHI", self.random.choice([0, 3, 4, 5, 8, 11, 12, 13, 250]), self.random.randrange(16), 0, self.random.getrandbits(32)) + quoted
        if self.random.random() < 0.8:
            body = body[:2] + struct.pack("!H", checksum(body)) + body[4:]
        return self.frame(0x0800, self.packet(1, body, ttl=64))

    def transport(self):
        """TCP with any flags and offset, UDP with any length, on ports that mean something and ports that do not."""
        ports = struct.pack("!HH", *(self.random.choice([0, 53, 80, 213, 1024, 65535, self.random.getrandbits(16)]) for _ in range(2)))
        body = ports + self.random.randbytes(self.random.choice([0, 4, 16, 16, 16, 100]))
        return self.frame(0x0800, self.packet(self.random.choice([6, 17]), body, ttl=64))


def main():
    seed, seconds, side, mac = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    fuzzer = Fuzzer(seed + side, side, mac)
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    wire.bind(("eth0", 0))
    start = time.monotonic()
    sent = 0
    while (now := time.monotonic() - start) < seconds:
        while sent < now * RATE:
            frame = fuzzer.random.choice(fuzzer.kinds)()
            wire.send(frame[:1514])
            sent += 1
        time.sleep(0.005)
    print(sent)


if __name__ == "__main__":
    main()
