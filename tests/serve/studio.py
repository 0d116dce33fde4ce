"""A web server in the place of Label Studio, for the pictures of its tasks."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.serve.running import NUCLEI

KEY = "key-of-the-test"


class Studio(BaseHTTPRequestHandler):
    """Serves the picture at /data/upload/1/a.png to who has the token, and redirects at other paths."""

    asked: list[tuple[str, str | None]]
    elsewhere: str

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers.get("Authorization")))
        if (
            self.path == "/data/upload/1/a.png" and self.headers.get("Authorization") == f"Token {KEY}"
        ) or self.path.startswith("/free/"):
            self.send(200, NUCLEI.read_bytes())
        elif self.path == "/tasks/1/resolve/":
            self.send(303, b"", "/free/a.png")
        elif self.path == "/tasks/2/resolve/":
            self.send(303, b"", f"{self.elsewhere}/free/a.png")
        elif self.path == "/data/upload/1/large.png":
            self.send(200, bytes(3_000_000))
        else:
            self.send(401, b"no")

    def send(self, status: int, content: bytes, location: str = "") -> None:
        self.send_response(status)
        if location:
            self.send_header("Location", location)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *words: object) -> None:
        """Quiet."""


def address(server: ThreadingHTTPServer) -> str:
    return f"http://127.0.0.1:{server.server_port}"
