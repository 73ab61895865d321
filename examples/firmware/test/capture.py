"""What the hosts have seen: captures, read frame by frame or packet by packet.

Run on a host as `capture.py FILE`, it makes one, until it is terminated. (tcpdump gives up its privileges by a call that
an unprivileged namespace does not allow.)
"""

import dataclasses
import os
import socket
import struct
import sys
import tempfile
import time

import lab

ICMP, TCP, UDP = 1, 6, 17


def checksum_is_right(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total == 0xFFFF


@dataclasses.dataclass
class Packet:
    """One IPv4 packet as it was on the wire of a host."""

    sender: str  # link address
    bytes: bytes

    @property
    def source(self):
        return socket.inet_ntoa(self.bytes[12:16])

    @property
    def destination(self):
        return socket.inet_ntoa(self.bytes[16:20])

    @property
    def ttl(self):
        return self.bytes[8]

    @property
    def protocol(self):
        return self.bytes[9]

    @property
    def length(self):
        return struct.unpack("!H", self.bytes[2:4])[0]

    @property
    def payload(self):
        return self.bytes[(self.bytes[0] & 15) * 4 : self.length]

    @property
    def is_fragment(self):
        return struct.unpack("!H", self.bytes[6:8])[0] & 0x3FFF != 0

    def addresses(self):
        """Source and destination, and those of the packet that an ICMP error quotes."""
        found = [self.source, self.destination]
        if self.protocol == ICMP and self.payload[:1] in (b"\x03", b"\x0b") and len(self.payload) >= 28:
            found += [socket.inet_ntoa(self.payload[20:24]), socket.inet_ntoa(self.payload[24:28])]
        return found

    def as_forwarded(self):
        """What a router leaves as it is: all but the TTL, and the checksum of the header that goes with it. The checksum of
        UDP is not in it: a host captures what it sends before its own is filled in."""
        head = (self.bytes[0] & 15) * 4
        payload = self.payload
        if self.protocol == UDP and not self.is_fragment:
            payload = payload[:6] + payload[8:]
        return self.bytes[:8] + self.bytes[9:10] + self.bytes[12:head] + payload

    def checksums_are_right(self):
        """Of the header, and of what it carries as far as it is all there."""
        if not checksum_is_right(self.bytes[: (self.bytes[0] & 15) * 4]):
            return False
        if self.is_fragment or self.protocol not in (ICMP, TCP, UDP):
            return True
        if self.protocol == ICMP:
            return checksum_is_right(self.payload)
        if self.protocol == UDP and self.payload[6:8] == b"\0\0":
            return True
        return checksum_is_right(self.bytes[12:20] + struct.pack("!HH", self.protocol, len(self.payload)) + self.payload)


def write(path):
    """Writes every frame that comes or goes to a capture file (pcap, big endian)."""
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    wire.bind(("eth0", 3))
    with open(path, "wb", buffering=0) as file:
        file.write(struct.pack("!IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        while True:
            frame = wire.recv(65535)
            now = time.time()
            seconds = int(now)
            file.write(struct.pack("!IIII", seconds, int((now - seconds) * 1e6), len(frame), len(frame)) + frame)


def start(net, host, path):
    """Starts a capture on a host, and waits until it sees everything."""
    child = net.start_on(host, sys.executable, __file__, path)
    deadline = time.monotonic() + 10
    while not (os.path.exists(path) and os.path.getsize(path) >= 24):
        assert time.monotonic() < deadline, "no capture"
        time.sleep(0.02)
    return child


def frames(path):
    """The frames of a capture file, each with its time in seconds."""
    with open(path, "rb") as file:
        data = file.read()
    offset = 24
    while offset + 16 <= len(data):
        seconds, micros, length, _ = struct.unpack("!IIII", data[offset : offset + 16])
        frame = data[offset + 16 : offset + 16 + length]
        offset += 16 + length
        if len(frame) == length:
            yield seconds + micros / 1e6, frame


def read(path):
    """The IPv4 packets of a capture file."""
    return [Packet(frame[6:12].hex(":"), frame[14:]) for _, frame in frames(path) if frame[12:14] == b"\x08\x00"]


@dataclasses.dataclass
class Question:
    """An ARP request for an address, as it was on the wire of a host."""

    time: float
    sender: str  # link address
    to: str  # link address
    asks_for: str


def questions(path):
    """The ARP requests of a capture file."""
    return [
        Question(seen, frame[6:12].hex(":"), frame[:6].hex(":"), socket.inet_ntoa(frame[38:42]))
        for seen, frame in frames(path)
        if frame[12:22] == b"\x08\x06\x00\x01\x08\x00\x06\x04\x00\x01"
    ]


def streams(packets):
    """What each side of each TCP connection has said, by source, destination and their ports."""
    said, starts = {}, {}
    for packet in packets:
        if packet.protocol != TCP:
            continue
        segment = packet.payload
        ports = struct.unpack("!HH", segment[:4])
        flow = (packet.source, packet.destination, *ports)
        sequence, flags, data = struct.unpack("!I", segment[4:8])[0], segment[13], segment[(segment[12] >> 4) * 4 :]
        if flags & 2:
            starts[flow] = (sequence + 1) & 0xFFFFFFFF
        at = (sequence - starts[flow]) & 0xFFFFFFFF
        stream = said.setdefault(flow, bytearray())
        if data:
            stream.extend(bytes(max(0, at + len(data) - len(stream))))
            stream[at : at + len(data)] = data
    return said


class Captures:
    """Captures on hosts of a lab, while it is entered; afterwards `packets` has what each has seen."""

    def __init__(self, net, hosts=("client", "a", "b")):
        self.net, self.hosts, self.packets = net, hosts, {}

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory()
        self.children = {}
        for host in self.hosts:
            self.children[host] = start(self.net, host, self.path(host))
        return self

    def path(self, host):
        return os.path.join(self.folder.name, host)

    def __exit__(self, *_):
        # What is on its way still arrives.
        time.sleep(0.2)
        for host, child in self.children.items():
            child.terminate()
            child.wait(10)
            self.packets[host] = read(self.path(host))
        self.folder.cleanup()

    def from_image(self, host):
        """What the image has sent to a host."""
        return [packet for packet in self.packets[host] if packet.sender in self.net.image.macs()]

    def from_host(self, host):
        """What a host has sent to the image. With one port, it also sees what others send."""
        own = lab.HOSTS[host][1]
        ours = self.net.image.macs()
        return [packet for packet in self.packets[host] if packet.sender not in ours and packet.source == own]


if __name__ == "__main__":
    write(sys.argv[1])
