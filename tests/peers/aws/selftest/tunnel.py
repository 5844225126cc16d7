"""An endpoint's tunnel by botocore's signature and Python's TLS: `tunnel.py SECURE AUTHORITY TEXT [NAME=VALUE]...`; prints what
comes back for TEXT, or the status and body of a refusal, or `reset`. A name with a value changes that parameter; without one it
goes. `secret`, `opcode` and `size` change the key, and kind and length of the message."""

import base64
import os
import socket
import ssl
import struct
import sys

from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

secure, authority, text = sys.argv[1:4]
parameters = {
    "instanceConnectEndpointId": "eice-0123456789abcdef0",
    "remotePort": "22",
    "privateIpAddress": "10.0.0.5",
    "maxTunnelDuration": "3600",
}
others = {"secret": "test-secret/with+signs", "opcode": "2", "size": str(len(text))}
for change in sys.argv[4:]:
    name, _, value = change.partition("=")
    if name in others:
        others[name] = value
    elif value:
        parameters[name] = value
    else:
        parameters.pop(name)
query = "&".join(f"{name}={value}" for name, value in sorted(parameters.items()))
request = AWSRequest("GET", f"https://{secure}/openTunnel?{query}")
SigV4QueryAuth(
    Credentials("AKIAEPHEMWORKTEST000", others["secret"]), "ec2-instance-connect", "eu-west-1", expires=60
).add_auth(request)
target = request.url.partition(secure)[2]

host, _, port = secure.rpartition(":")
context = ssl.create_default_context(cafile=authority)
stream = context.wrap_socket(socket.create_connection((host, int(port)), timeout=20), server_hostname=host)
key = base64.b64encode(os.urandom(16)).decode()
stream.sendall(
    f"GET {target} HTTP/1.1\r\nHost: {secure}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
)
answer = stream.makefile("rb")
status = answer.readline().split()[1].decode()
length = 0
while (line := answer.readline().strip()) != b"":
    if line.lower().startswith(b"content-length:"):
        length = int(line.partition(b":")[2])
if status != "101":
    print(status, answer.read(length).decode())
    sys.exit()

payload, mask = text.encode().ljust(int(others["size"]), b"."), os.urandom(4)
length = struct.pack("!B", 0x80 | len(payload)) if len(payload) < 126 else struct.pack("!BQ", 0xFF, len(payload))
try:
    stream.sendall(
        bytes([0x80 | int(others["opcode"])]) + length + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    )
    first, size = answer.read(2)
except (OSError, ValueError):
    print("reset")
    sys.exit()
body = answer.read(size)
print(f"close {struct.unpack('!H', body[:2])[0]} {body[2:].decode()}" if first == 0x88 else body.decode())
