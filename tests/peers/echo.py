"""WebSocket echo: `echo.py serve PORT` and `echo.py talk URL TAG MESSAGES BYTES`."""

import hashlib
import os
import sys

from websockets.sync.client import connect
from websockets.sync.server import serve


def echo(websocket):
    # The server speaks first, so that both directions carry a message of their own.
    websocket.send(f"hello {websocket.request.path}")
    for message in websocket:
        websocket.send(message)


def talk(url, tag, messages, size):
    headers = {} if tag == "none" else {"X-Ephemwork": tag}
    with connect(url, additional_headers=headers, compression=None, max_size=None, open_timeout=30) as websocket:
        assert tag == "none" or websocket.response.headers["X-Ephemwork-Served-By"] == tag
        assert websocket.recv(timeout=30) == "hello /chat?room=1"
        for number in range(messages):
            message = os.urandom(size) if number % 2 else os.urandom(size // 2).hex()
            websocket.send(message)
            back = websocket.recv(timeout=30)
            assert type(back) is type(message), (type(back), type(message))
            assert len(back) == len(message) == size, (len(back), size)
            raw = back if isinstance(back, bytes) else back.encode()
            sent = message if isinstance(message, bytes) else message.encode()
            assert hashlib.sha256(raw).digest() == hashlib.sha256(sent).digest()
        pong = websocket.ping()
        assert pong.wait(30), "no pong"
        websocket.close(4001, "done")
        assert websocket.protocol.close_rcvd.code == 4001, websocket.protocol.close_rcvd
    print("talked", messages)


if sys.argv[1] == "serve":
    with serve(echo, "127.0.0.1", int(sys.argv[2]), compression=None, max_size=None) as server:
        print("listening", server.socket.getsockname()[1], flush=True)
        server.serve_forever()
else:
    talk(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
