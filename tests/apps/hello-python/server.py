"""A web app for tests, with the standard library of Python 3.11: tells who it is, streams, echoes, misbehaves on demand."""

import base64
import hashlib
import json
import os
import signal
import socket
import struct
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from urllib.parse import parse_qs, urlsplit

RELEASE = Path("VERSION").read_text().strip() if Path("VERSION").exists() else ""
VERSION = os.environ.get("MIREN_VERSION", RELEASE)
SANDBOX = os.environ.get("MIREN_SANDBOX") or socket.gethostname()
PIECE = b"x" * 65536
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
CLOSE, PING, PONG = 8, 9, 10


def switched_on(name):
    return os.environ.get(name) == "1"


def log(what):
    line = f"at_ns={time.monotonic_ns()} version={VERSION} sandbox={SANDBOX} {what}\n"
    os.write(1, line.encode())  # one write: lines of two threads never mix


def identity():
    return {
        "version": VERSION,
        "release": RELEASE,
        "sandbox": SANDBOX,
        "pid": os.getpid(),
        "app": os.environ.get("MIREN_APP", ""),
        "instance": os.environ.get("MIREN_INSTANCE_NUM", ""),
    }


class App(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def do_GET(self):
        log(f"request {self.command} {self.path}")
        url = urlsplit(self.path)
        self.query = {key: values[0] for key, values in parse_qs(url.query).items()}
        if url.path == "/echo":
            return self.echo()
        for _ in self.body():
            pass
        answers = {"/": self.info, "/info": self.info, "/env": self.environment, "/sleep": self.sleep,
                   "/sse": self.events, "/big": self.big, "/ws": self.websocket, "/crash": self.crash}
        answers.get(url.path, self.unknown)()

    do_POST = do_PUT = do_HEAD = do_DELETE = do_GET

    def number(self, key, default):
        return int(self.query.get(key, default))

    def is_chunked(self):
        return self.headers.get("Transfer-Encoding", "").lower() == "chunked"

    def body(self):
        """The pieces of the request's body, as they arrive."""
        if not self.is_chunked():
            left = int(self.headers.get("Content-Length", 0))
            while left > 0:
                piece = self.rfile.read1(min(left, len(PIECE)))
                if not piece:
                    raise ConnectionError("the body ended early")
                left -= len(piece)
                yield piece
            return
        while length := int(self.rfile.readline().split(b";")[0], 16):
            yield self.rfile.read(length)
            self.rfile.readline()
        self.rfile.readline()

    def head(self, kind, length=None, status=200):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if length is None:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def chunk(self, piece):
        self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))

    def json(self, value, status=200):
        body = json.dumps(value).encode() + b"\n"
        self.head("application/json", len(body), status)
        if self.command != "HEAD":
            self.wfile.write(body)

    def info(self):
        self.json(identity())

    def environment(self):
        self.json(dict(os.environ))

    def unknown(self):
        self.json({"error": "no such path"}, 404)

    def sleep(self):
        time.sleep(self.number("ms", 1000) / 1000)
        self.json(identity())

    def crash(self):
        log("crashing with code 3")
        os._exit(3)

    def echo(self):
        chunked = self.is_chunked()
        self.head("application/octet-stream", None if chunked else int(self.headers.get("Content-Length", 0)))
        for piece in self.body():
            self.chunk(piece) if chunked else self.wfile.write(piece)
        if chunked:
            self.chunk(b"")

    def events(self):
        """Server-sent events, each with the time at which it was flushed."""
        self.head("text/event-stream")
        for n in range(self.number("n", 10)):
            if n:
                time.sleep(self.number("gap_ms", 100) / 1000)
            event = {"n": n, "at_ns": time.monotonic_ns(), "sandbox": SANDBOX}
            self.chunk(f"data: {json.dumps(event)}\n\n".encode())
        self.chunk(b"")

    def big(self):
        left = self.number("bytes", 1 << 20)
        self.head("application/octet-stream", left)
        while left > 0:
            left -= self.wfile.write(PIECE[: min(left, len(PIECE))])

    def websocket(self):
        key = self.headers.get("Sec-WebSocket-Key")
        if key is None:
            return self.json({"error": "upgrade required"}, 426)
        accept = base64.b64encode(hashlib.sha1((key + GUID).encode()).digest()).decode()
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", accept)
        self.end_headers()
        self.close_connection = True
        first = 0
        while first & 15 != CLOSE:
            first, message = self.frame()
            self.wfile.write(frame_of(first & 0xF0 | PONG if first & 15 == PING else first, message))

    def frame(self):
        first, second = self.rfile.read(2)
        length = second & 127
        if length == 126:
            (length,) = struct.unpack(">H", self.rfile.read(2))
        elif length == 127:
            (length,) = struct.unpack(">Q", self.rfile.read(8))
        mask = self.rfile.read(4) if second & 128 else bytes(4)
        return first, bytes(byte ^ mask[i % 4] for i, byte in enumerate(self.rfile.read(length)))


def frame_of(first, message):
    length = len(message)
    if length < 126:
        return bytes([first, length]) + message
    if length < 65536:
        return struct.pack(">BBH", first, 126, length) + message
    return struct.pack(">BBQ", first, 127, length) + message


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512

    def server_bind(self):
        # HTTPServer's own would look its host name up, which may take seconds where no resolver answers.
        TCPServer.server_bind(self)

    def handle_error(self, request, client_address):
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError):
            log(f"error {error!r}")


def stop(*_):
    ignored = switched_on("IGNORE_SIGTERM")
    log("SIGTERM ignored" if ignored else "SIGTERM: exiting")
    if not ignored:
        os._exit(0)


def main():
    if switched_on("EXIT_AT_START"):
        sys.exit("EXIT_AT_START is set: exiting with code 1")
    signal.signal(signal.SIGTERM, stop)
    if switched_on("NEVER_LISTEN"):
        log("NEVER_LISTEN is set: not listening")
        while True:
            signal.pause()
    time.sleep(int(os.environ.get("START_DELAY_MS", 0)) / 1000)
    server = Server(("0.0.0.0", int(os.environ.get("PORT", 3000))), App)
    log(f"listening on port {server.server_address[1]}")
    server.serve_forever()


main()
