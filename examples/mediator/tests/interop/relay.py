"""A UDP relay in front of a server: it adds a delay in each direction, and loses some datagrams."""
import collections
import random
import socket
import threading
import time


class Relay(threading.Thread):
    """Its sockets are in the namespace that it is made in."""

    def __init__(self, at, server, delay, loss=0.0, seed=1):
        super().__init__(daemon=True)
        self.at, self.server, self.delay, self.loss, self.dice = at, server, delay, loss, random.Random(seed)
        self.front = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.front.bind(at)
        self.clients, self.requests, self.lost = {}, 0, 0
        # How often it got each request, by identifier and token, which a repetition has too; and when answers left.
        self.seen, self.answered = collections.Counter(), []
        self.start()

    def carry(self, receive, send):
        waiting, some = [], threading.Condition()

        def deliver():
            while True:
                with some:
                    while not waiting:
                        some.wait()
                    at, send_it = waiting.pop(0)
                time.sleep(max(0, at - time.monotonic()))
                send_it()

        threading.Thread(target=deliver, daemon=True).start()
        while True:
            datagram, source = receive()
            if self.dice.random() < self.loss:
                self.lost += 1
                continue
            due = time.monotonic() + self.delay
            with some:
                waiting.append((due, lambda datagram=datagram, source=source: send(datagram, source)))
                some.notify()

    def run(self):
        self.carry(lambda: self.front.recvfrom(2048), self.to_server)

    def to_server(self, datagram, client):
        self.requests += 1
        self.seen[datagram[2:4 + (datagram[0] & 15)]] += 1
        if client not in self.clients:
            back = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            back.connect(self.server)
            self.clients[client] = back

            def answer(datagram, _):
                self.front.sendto(datagram, client)
                self.answered.append(time.monotonic())

            threading.Thread(target=self.carry, args=(lambda: (back.recv(2048), None), answer), daemon=True).start()
        self.clients[client].send(datagram)
