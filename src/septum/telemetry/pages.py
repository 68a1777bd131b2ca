"""The HTTP side without I/O: a request's head in, a whole response out."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus

# RFC 9112, section 3: method, target, version. What is asked for here has no other characters.
_LINE = re.compile(r"([A-Z]+) (/[!-~]*) HTTP/1\.[01]")
LONGEST_HEAD = 8 << 10
PATHS = ("/metrics", "/healthz", "/readyz")


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that is answered: one of PATHS, `accept` as it was sent."""

    path: str
    accept: str
    with_body: bool


@dataclass(frozen=True, slots=True)
class Response:
    """A whole response; `with_body` is False for HEAD, whose headers are those of GET."""

    status: HTTPStatus
    body: bytes
    media_type: str = "text/plain; charset=utf-8"
    with_body: bool = True
    allow: str = ""

    def write(self) -> bytes:
        """Its bytes. The connection ends after it."""
        lines = [
            f"HTTP/1.1 {self.status.value} {self.status.phrase}",
            f"Content-Type: {self.media_type}",
            f"Content-Length: {len(self.body)}",
            *([f"Allow: {self.allow}"] if self.allow else []),
            "Cache-Control: no-store",
            "Connection: close",
        ]
        head = "".join(f"{line}\r\n" for line in (*lines, "")).encode()
        return head + self.body if self.with_body else head


def read(sent: bytes) -> Asked | Response:
    """What a request asks for, or the response that says why it is not answered. What follows the head is not read."""
    head, end, _ = sent.partition(b"\r\n\r\n")
    if not end or len(head) > LONGEST_HEAD:
        return Response(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, b"the request's head is too long\n")
    line, _, fields = head.decode("latin-1").partition("\r\n")
    match = _LINE.fullmatch(line)
    if match is None:
        return Response(HTTPStatus.BAD_REQUEST, b"not an HTTP/1 request for a path\n")
    method, path = match[1], match[2].partition("?")[0]
    with_body = method != "HEAD"
    if path not in PATHS:
        return Response(HTTPStatus.NOT_FOUND, f"there are {', '.join(PATHS)}\n".encode(), with_body=with_body)
    if method not in ("GET", "HEAD"):
        return Response(HTTPStatus.METHOD_NOT_ALLOWED, b"only GET and HEAD\n", allow="GET, HEAD")
    return Asked(path, _field(fields, "accept"), with_body)


def _field(fields: str, name: str) -> str:
    pairs = (line.partition(":") for line in fields.split("\r\n"))
    return ", ".join(value.strip() for key, _, value in pairs if key.lower() == name)


def verdict(asked: Asked, word: str, reasons: Sequence[str], **more: float) -> Response:
    """200 when there is no reason against it, 503 otherwise, as JSON: `{"ready": false, "reasons": [...]}`."""
    values: Mapping[str, object] = {word: not reasons, "reasons": list(reasons), **more}
    status = HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK
    return Response(status, json.dumps(values).encode() + b"\n", "application/json", asked.with_body)
