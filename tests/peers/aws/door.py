"""HTTP/1.1 in and out: requests as data, and answers that can be whole, cut in the middle, or missing."""

import socket
import socketserver
import struct
import urllib.parse
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler

# The largest request body in bytes: an upload's part is at most 16 MB, and this is a test bed.
MAX_BODY = 256 * 1024 * 1024


@dataclass
class Request:
    method: str
    target: str
    headers: dict
    body: bytes

    @property
    def path(self):
        return self.target.partition("?")[0]

    @property
    def query(self):
        return self.target.partition("?")[2]

    @property
    def query_pairs(self):
        return urllib.parse.parse_qsl(self.query, keep_blank_values=True)


class Cut(Exception):
    """The connection ends here, in the middle of this answer's body if there is one, else without a byte."""

    def __init__(self, reply=None):
        super().__init__("cut in the answer" if reply else "cut")
        self.reply = reply


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def handle_one_request(self):
        try:
            super().handle_one_request()
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def handle_expect_100(self):
        super().handle_expect_100()
        self.wfile.flush()
        return True

    def serve(self):
        headers = {}
        for name, value in self.headers.items():
            name = name.lower()
            headers[name] = f"{headers[name]},{value}" if name in headers else value
        body = self.read_body(headers)
        request = Request(self.command, self.path, headers, body)
        try:
            reply = self.server.answer(request)
        except Cut as cut:
            self.cut(cut)
            return
        self.write(reply, reply.body)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_PATCH = do_OPTIONS = serve

    def read_body(self, headers):
        if headers.get("transfer-encoding", "").lower() == "chunked":
            pieces = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return b"".join(pieces)
        length = int(headers.get("content-length", 0))
        if length > MAX_BODY:
            raise ConnectionError("a body beyond any test's")
        return self.rfile.read(length)

    def write(self, reply, body):
        self.send_response(reply.status)
        length = None
        for name, value in reply.headers.items():
            if name.lower() == "content-length":
                length = value
            elif name.lower() not in ("connection", "date", "server", "transfer-encoding"):
                self.send_header(name, value)
        # An answer to HEAD says the length of what it leaves out.
        whole = self.command == "HEAD" and length is not None
        if reply.status != 204:
            self.send_header("Content-Length", length if whole else str(len(reply.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()

    def cut(self, cut):
        """Half of the answer's body if there is one, then the end; else a reset at once."""
        self.close_connection = True
        if cut.reply is not None and len(cut.reply.body) >= 2:
            self.write(cut.reply, cut.reply.body[: len(cut.reply.body) // 2])
        else:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def date_time_string(self, timestamp=None):
        return super().date_time_string(self.server.now().timestamp() if timestamp is None else timestamp)

    def log_message(self, *_):
        pass


class Server(socketserver.ThreadingTCPServer):
    """`answer(request)` gives a Reply or raises Cut; `now()` is the time this server shows."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, answer, now):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer, self.now = answer, now
