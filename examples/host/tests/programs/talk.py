"""Sends each line that it reads over one connection, and prints the answer's lines and the port that it asks from. It speaks
memcached's text protocol and inline commands of Redis."""

import socket
import sys

connection = socket.create_connection((sys.argv[1], int(sys.argv[2])), 10)
answers = connection.makefile("rb")
for line in sys.stdin:
    connection.sendall(line.strip().encode().decode("unicode_escape").encode() + b"\r\n")
    said = [answers.readline().strip().decode()]
    if said[0].startswith("$"):
        said.append(answers.readline().strip().decode())
    while said[0].startswith("VALUE") and said[-1] != "END":
        said.append(answers.readline().strip().decode())
    print(" ".join(said), connection.getsockname()[1], flush=True)
