"""A receiver of webhooks in Python, with the standard library only.

WEBHOOK_SECRET='the secret of the webhook' PORT=4567 python3 receiver.py
"""

import hashlib
import hmac
import json
import os
import re
import sys
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET = os.fsencode(os.environ.get("WEBHOOK_SECRET", ""))
if not SECRET:
    sys.exit("receiver: WEBHOOK_SECRET is not set: without it anyone could send events")

MAX_BODY = 4 * 1024 * 1024  # a form is up to three times as long as its payload
MAX_SEEN = 10_000
seen = {}  # the newest deliveries, oldest first
lock = threading.Lock()  # over seen and standard output


class TooLarge(Exception):
    pass


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30  # of a sender that stops in the middle

    def do_POST(self):
        self.answer(self.receive())

    def receive(self):
        if self.path != "/api/callback":
            return 404
        try:
            body = self.read_body()
        except TooLarge:
            return 413
        except ValueError:
            return 400
        if not is_signed(body, self.headers.get("X-Clubmed-Signature", "")):
            return 401
        delivery = self.headers.get("X-Clubmed-Delivery", "")
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", delivery):
            return 400
        try:
            payload = read_payload(self.headers.get_content_type(), body)
        except (ValueError, RecursionError):
            return 400
        once(self.headers.get("X-Clubmed-Event"), delivery, payload)
        return 204

    def read_body(self):
        """All bytes of the body as they came: the signature covers those."""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            return b"".join(self.read_chunks())
        length = natural(self.headers.get("Content-Length", ""), 10)
        if length > MAX_BODY:
            raise TooLarge
        return self.rfile.read(length)  # waits until all is there

    def read_chunks(self):
        """http.server leaves chunks (RFC 9112, section 7.1) to its user."""
        total = 0
        while True:
            size = natural(self.rfile.readline(1024).decode("ascii").partition(";")[0].strip(), 16)
            if size == 0:
                break
            total += size
            if total > MAX_BODY:
                raise TooLarge
            yield self.rfile.read(size)
            if self.rfile.read(2) != b"\r\n":
                raise ValueError("a chunk that does not end where it said")
        if self.rfile.readline(1024) != b"\r\n":
            raise ValueError("trailers, which nobody asked for")

    def answer(self, status):
        self.send_response(status)
        if status != 204:
            # Part of the body may not have been read, so that no next request
            # can be found on this connection.
            self.send_header("Content-Length", "0")
            self.send_header("Connection", "close")
        self.end_headers()


def natural(text, base):
    if not re.fullmatch(r"[0-9A-Fa-f]{1,16}", text):
        raise ValueError("not a size")
    return int(text, base)


def is_signed(body, header):
    expected = "sha256=" + hmac.new(SECRET, body, hashlib.sha256).hexdigest()
    # compare_digest takes the same time wherever the two differ.
    return hmac.compare_digest(header.encode("latin-1", "replace"), expected.encode())


def read_payload(content_type, body):
    """The bytes of the JSON."""
    text = body.decode()
    if content_type == "application/x-www-form-urlencoded":
        text = urllib.parse.parse_qs(text).get("payload", [""])[0]
    json.loads(text)
    return text.encode()


def once(event, delivery, payload):
    """Records a delivery, unless it is one that was recorded before and is sent again."""
    with lock:
        if delivery in seen:
            return
        record(event, delivery, payload)
        seen[delivery] = True
        if len(seen) > MAX_SEEN:
            del seen[next(iter(seen))]


def record(event, delivery, payload):
    """Stands for writing the event to your database or queue.

    That is soon done, and done before the answer, since after a 2xx the event is not sent again. The
    work that follows from the event belongs behind that queue, not here.
    """
    sha256 = hashlib.sha256(payload).hexdigest()
    print(json.dumps({"event": event, "delivery": delivery, "bytes": len(payload), "sha256": sha256}), flush=True)


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "4567"))), Receiver)
    print(json.dumps({"listening": f"http://127.0.0.1:{server.server_port}/api/callback"}), flush=True)
    server.serve_forever()
