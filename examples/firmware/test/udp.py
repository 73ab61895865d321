"""A UDP transfer that notices everything. Runs on a host.

    udp.py serve NAME PORT             answers each datagram with its name and the datagram
    udp.py knock ADDRESS PORT FROM...  sends one datagram from each of these ports; it says which one that is
    udp.py ask ADDRESS PORT SECONDS    sends numbered datagrams, and prints as JSON who answered how many, and what is missing
"""

import json
import socket
import sys
import time

EVERY = 0.005


def serve(name, port):
    wire = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    wire.bind(("0.0.0.0", port))
    while True:
        data, sender = wire.recvfrom(2048)
        wire.sendto(name.encode() + b" " + data, sender)


def knock(address, port, *sources):
    for source in sources:
        wire = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        wire.bind(("0.0.0.0", int(source)))
        wire.sendto(source.encode(), (address, port))


def ask(address, port, seconds):
    wire = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    # Connected: an answer from anybody but this address and port does not arrive.
    wire.connect((address, port))
    start = time.monotonic()
    sent, answers = 0, []
    while True:
        now = time.monotonic() - start
        sending = now < seconds
        if not sending and (len(answers) >= sent or now > seconds + 1):
            break
        if sending and now >= sent * EVERY:
            wire.send(b"%d " % sent + b"x" * 500)
            sent += 1
        wire.settimeout(EVERY / 2)
        try:
            name, number = wire.recv(2048).split()[:2]
            answers.append((name.decode(), int(number)))
        except TimeoutError:
            pass
    names = [name for name, _ in answers]
    # The servers in the order in which they took over.
    order = [name for index, name in enumerate(names) if index == 0 or names[index - 1] != name]
    missing = sorted(set(range(sent)) - {number for _, number in answers})
    print(json.dumps({"sent": sent, "answered": len(answers), "order": order, "missing": missing}))


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2], int(sys.argv[3]))
    elif sys.argv[1] == "knock":
        knock(sys.argv[2], int(sys.argv[3]), *sys.argv[4:])
    else:
        ask(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
