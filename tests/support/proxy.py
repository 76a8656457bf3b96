"""An HTTP proxy that misbehaves on request: between a client and a real server, to see what a bad network does to it.

A plan is called with the number (from 1), method and path of each request and returns None, or one of FAULTS.
"""

import contextlib
import http.client
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

FAULTS = {
    "drop": "the connection closes before the server hears of the request",
    "lose": "the server handles the request, its answer never arrives",
    "cut": "the answer ends in the middle of its body",
    "slow_down": "503 SlowDown instead of doing it",
    "error": "500 InternalError instead of doing it",
    "slow": "the answer takes a second longer",
    "taken": "412 PreconditionFailed instead of doing it",
    "full": "403 QuotaExceeded instead of doing it",
}
SLOW_SECONDS = 1.0
_ANSWERS = {
    "slow_down": (503, "SlowDown"),
    "error": (500, "InternalError"),
    "taken": (412, "PreconditionFailed"),
    "full": (403, "QuotaExceeded"),
}
Plan = Callable[[int, str, str], str | None]


class FaultyProxy:
    """Forwards to `upstream` (http://host:port); `plan` may be replaced at any time."""

    def __init__(self, upstream: str):
        self.plan: Plan = lambda number, method, path: None
        self.seen: list[tuple[str, str, str | None]] = []
        """(method, path, fault) of every request so far."""
        self._upstream = urlsplit(upstream)
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def decide(self, method: str, path: str) -> str | None:
        with self._lock:
            number = next(self._numbers)
        fault = self.plan(number, method, path)  # without the lock: a plan may itself use the proxy
        self.seen.append((method, path, fault))
        if fault == "slow":
            time.sleep(SLOW_SECONDS)
            return None
        return fault

    def forward(self, method: str, path: str, headers, body: bytes) -> tuple[http.client.HTTPResponse, bytes]:
        connection = http.client.HTTPConnection(self._upstream.hostname, self._upstream.port, timeout=60)
        with contextlib.closing(connection):
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in headers.items():
                if name.lower() != "expect":  # the body is here already
                    connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer, answer.read()


@contextlib.contextmanager
def faulty_proxy(upstream: str) -> Iterator[tuple[FaultyProxy, str]]:
    """A running proxy and its own endpoint."""
    proxy = FaultyProxy(upstream)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(proxy))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield proxy, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(proxy: FaultyProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def answer(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            fault = proxy.decide(self.command, self.path)
            if fault in _ANSWERS:
                status, code = _ANSWERS[fault]
                return self.reply(status, {}, f"<Error><Code>{code}</Code></Error>".encode())
            if fault != "drop":
                answer, content = proxy.forward(self.command, self.path, self.headers, body)
                if fault is None or fault == "cut":
                    self.reply(answer.status, dict(answer.getheaders()), content, cut=fault == "cut")
            if fault is not None:
                self.close_connection = True

        def reply(self, status: int, headers: dict, content: bytes, cut: bool = False):
            self.send_response_only(status)
            lengths = {"content-length", "transfer-encoding", "connection"}
            for name, value in headers.items():
                if name.lower() not in lengths:
                    self.send_header(name, value)
            length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(content))
            self.send_header("Content-Length", length)
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if cut else content)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer

        def log_message(self, *arguments):
            pass

    return Handler
