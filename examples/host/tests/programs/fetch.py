"""Asks for each path that it reads over one connection, and prints the mirror's name, the port that it asks from, and the
digest of what came."""

import hashlib
import http.client
import sys

connection = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]), timeout=10)
for path in sys.stdin:
    connection.request("GET", path.strip())
    response = connection.getresponse()
    digest = hashlib.sha256(response.read()).hexdigest()
    print(response.getheader("X-Mirror"), connection.sock.getsockname()[1], digest, flush=True)
