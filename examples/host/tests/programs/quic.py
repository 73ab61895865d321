"""A QUIC server and a client of it, with aioquic.

quic.py server FOLDER NAME      makes a certificate for the original's address, and serves
quic.py client FOLDER ADDRESS   sends each line of its input, a number of bytes, in a stream of one connection; prints
                                the server's name, how many bytes came, and their hash
"""

import asyncio
import datetime
import hashlib
import ipaddress
import ssl
import sys

from aioquic.asyncio import QuicConnectionProtocol, connect, serve
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import StreamDataReceived

PORT = 443
ORIGINAL = "100.100.100.100"


def content(length):
    return hashlib.shake_256(str(length).encode()).digest(length)


def certificate(folder):
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "original")])
    now = datetime.datetime.now(datetime.timezone.utc)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(ORIGINAL))])
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    with open(f"{folder}/cert", "wb") as file:
        file.write(cert.public_bytes(pem))
    with open(f"{folder}/key", "wb") as file:
        plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        file.write(key.private_bytes(pem, *plain))


class Server(QuicConnectionProtocol):
    def quic_event_received(self, event):
        if isinstance(event, StreamDataReceived) and event.end_stream:
            answer = NAME.encode() + content(int(event.data))
            self._quic.send_stream_data(event.stream_id, answer, end_stream=True)
            self.transmit()


async def server(folder):
    configuration = QuicConfiguration(is_client=False)
    configuration.load_cert_chain(f"{folder}/cert", f"{folder}/key")
    await serve("0.0.0.0", PORT, configuration=configuration, create_protocol=Server)
    print("serving", flush=True)
    await asyncio.Event().wait()


async def client(folder, address):
    configuration = QuicConfiguration(is_client=True, server_name=address, verify_mode=ssl.CERT_REQUIRED)
    configuration.load_verify_locations(cafile=f"{folder}/cert")
    # Bound to all addresses of IPv4: the library's own default is IPv6.
    async with connect(address, PORT, configuration=configuration, local_port=0) as connection:
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            reader, writer = await connection.create_stream()
            writer.write(line.strip().encode())
            writer.write_eof()
            answer = await asyncio.wait_for(reader.read(), 20)
            name, data = answer[:1].decode(), answer[1:]
            right = data == content(int(line))
            print(name, len(data), "right" if right else "wrong", flush=True)


if sys.argv[1] == "server":
    NAME = sys.argv[3]
    certificate(sys.argv[2])
    asyncio.run(server(sys.argv[2]))
else:
    asyncio.run(client(sys.argv[2], sys.argv[3]))
