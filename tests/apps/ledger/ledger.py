"""Keeps numbers on a disk: answers for one only after the kernel says that it is on it."""

import json
import os
import signal
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

RELEASE = Path("VERSION").read_text().strip() if Path("VERSION").exists() else ""
BOOK = Path(os.environ.get("BOOK", "/data/book"))
TURN = threading.Lock()


def append(number):
    with TURN, BOOK.open("a") as book:
        book.write(f"{number}\n")
        book.flush()
        os.fsync(book.fileno())


def numbers():
    return [int(line) for line in BOOK.read_text().splitlines()] if BOOK.exists() else []


class App(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        url = urlsplit(self.path)
        if url.path == "/append":
            append(int(parse_qs(url.query)["n"][0]))
        body = {"release": RELEASE, "sandbox": socket.gethostname()}
        if url.path == "/numbers":
            body["numbers"] = numbers()
        text = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


if os.environ.get("EXIT_AT_START") == "1":
    raise SystemExit(1)
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
ThreadingHTTPServer.request_queue_size = 128
ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT"])), App).serve_forever()
