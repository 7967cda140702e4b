"""The wire: a CONNECT proxy that speaks TLS for the vendors' names itself."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

import trustme

__all__ = ["Answer", "Proxy", "Request"]

_CHUNK = 1 << 16
#: Seconds in which a client reads what it has got before a reset takes it away.
_READ_FIRST = 0.3


@dataclass(frozen=True)
class Request:
    """What a client asked for, its query and form in one mapping."""

    host: str
    path: str
    form: Mapping[str, str]
    headers: Mapping[str, str]

    @property
    def name(self) -> str:
        """``timeseries.get_range``, or the name of the file."""
        return self.path.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Answer:
    """What goes back, and how the connection ends.

    Attributes
    ----------
    streamed : bool
        In chunks, without announcing a length.
    length : int, optional
        The length to announce where it is not the body's.
    ends : str
        ``whole``; ``broken``, closed before what was announced; ``reset`` after half of the body.
    wait : float
        Seconds before the first byte.
    made_of : object
        What a fault needs to make another body.
    """

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    streamed: bool = False
    length: int | None = None
    ends: Literal["whole", "broken", "reset"] = "whole"
    wait: float = 0.0
    made_of: Any = None


class Proxy:
    """Serves ``hosts`` on a port of 127.0.0.1 and writes the certificate of its authority.

    Parameters
    ----------
    admit : callable
        Whether a connection to this host is made; hosts that are not served never are.
    answer : callable
        Request to answer; called from many threads.
    """

    def __init__(
        self,
        hosts: tuple[str, ...],
        certificate: Path,
        admit: Callable[[str], bool],
        answer: Callable[[Request], Answer],
    ) -> None:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(certificate))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(*hosts).configure_cert(context)
        self._stopping = threading.Event()
        stopping = self._stopping

        class Tunnel(BaseHTTPRequestHandler):
            def do_CONNECT(self) -> None:
                host = self.path.rpartition(":")[0]
                if host not in hosts or not admit(host):
                    self.send_error(502)
                    return
                self.send_response(200, "Connection established")
                self.end_headers()
                self.close_connection = True
                try:
                    with context.wrap_socket(self.connection, server_side=True) as secured:
                        _serve(secured, self.client_address, host, answer, stopping)
                except OSError:
                    pass  # the client went away

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Tunnel)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _serve(
    secured: ssl.SSLSocket,
    address: Any,
    host: str,
    answer: Callable[[Request], Answer],
    stopping: threading.Event,
) -> None:
    """Answer the one request of a connection."""

    class Site(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.reply(urlsplit(self.path).query)

        def do_POST(self) -> None:
            self.reply(self.rfile.read(int(self.headers.get("Content-Length", 0))).decode())

        def reply(self, form: str) -> None:
            fields = {name: values[0] for name, values in parse_qs(form).items()}
            given = answer(Request(host, urlsplit(self.path).path, fields, dict(self.headers)))
            if given.wait:
                stopping.wait(given.wait)
            self.close_connection = True
            self.send_response(given.status)
            for name, value in given.headers.items():
                self.send_header(name, value)
            self.send_header("Connection", "close")
            if given.streamed:
                self.send_header("Transfer-Encoding", "chunked")
            else:
                length = len(given.body) if given.length is None else given.length
                self.send_header("Content-Length", str(length))
            self.end_headers()
            body = given.body[: len(given.body) // 2] if given.ends == "reset" else given.body
            for start in range(0, len(body), _CHUNK):
                self.write(body[start : start + _CHUNK], given.streamed)
            if given.ends == "reset":
                stopping.wait(_READ_FIRST)
                at_once = struct.pack("ii", 1, 0)
                secured.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
            elif given.streamed and given.ends == "whole":
                self.wfile.write(b"0\r\n\r\n")

        def write(self, part: bytes, streamed: bool) -> None:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part) if streamed else part)

        def log_message(self, format: str, *args: object) -> None:
            pass

    Site(secured, address, None)  # type: ignore[arg-type]  # needs no server
