"""Python's servers as developers write them: what came is said back, with its nonce. Bodies are read where one is expected, by POST and
PUT, and nowhere else.

    garden.py PORT VERSION      http.server, speaking HTTP/1.0 (its default, a connection for each request) or HTTP/1.1
    uvicorn garden:app          an ASGI application
"""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def words(method, target, nonce, length):
    print(f"seen {method} {target}", flush=True)
    return f"nonce={nonce} target={target} length={length}\n".encode()


class Handler(BaseHTTPRequestHandler):
    def reply(self, length=0):
        body = words(self.command, self.path, self.headers.get("X-Nonce"), length)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        self.reply()

    do_HEAD = do_DELETE = do_OPTIONS = do_GET

    def do_POST(self):
        self.reply(len(self.rfile.read(int(self.headers.get("Content-Length") or 0))))

    do_PUT = do_POST

    def log_message(self, *_):
        pass


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    length = 0
    if scope["method"] in ("POST", "PUT"):
        more = True
        while more:
            event = await receive()
            length += len(event.get("body", b""))
            more = event.get("more_body", False)
    nonce = next((value.decode() for name, value in scope["headers"] if name == b"x-nonce"), None)
    body = words(scope["method"], scope["path"], nonce, length)
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


if __name__ == "__main__":
    Handler.protocol_version = f"HTTP/{sys.argv[2]}"
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
