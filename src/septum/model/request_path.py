"""The path of a request as the policy sees it: what Envoy's normalisation makes of the bytes a client sent.

The connection managers run with `normalize_path`, `merge_slashes` and `path_with_escaped_slashes_action:
REJECT_REQUEST`; this mirrors them (SECURITY rows on dot segments, encoded and repeated slashes, fragments), and the
tests compare it with a real Envoy on generated paths.
"""

from __future__ import annotations

import re

_NOT_A_TARGET = re.compile(rb"[^\x21-\x7e]|#")
_ESCAPED_SLASH = re.compile("%(?:2f|5c)", re.IGNORECASE)
_PIECE = re.compile("%[0-9A-Fa-f]{2}|.")
# Envoy reads a bare `..;x` as `..`; an encoded one becomes the segment `..;x`, which `decide` refuses.
_DOT_WITH_PARAMETERS = re.compile(r"/(\.{1,2});[^/]*")
_TWO_HEX = re.compile("[0-9A-Fa-f]{2}")
# RFC 3986, 2.3: an escape of one of these means the character itself.
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
# What a URL parser escapes in a path when it stands bare (WHATWG URL, path percent-encode set).
_ESCAPED_BY_PARSER = re.compile('["<>^`{|}]')


class RefusedPath(ValueError):
    """A request target that Envoy answers with 400 before any policy is asked; the text says why."""


def canonical_path(target: str | bytes) -> str:
    """The normalised path, without query, of an origin-form request target. Raises RefusedPath."""
    raw = target if isinstance(target, bytes) else target.encode("utf-8", "surrogateescape")
    if _NOT_A_TARGET.search(raw):
        raise RefusedPath("the path holds a fragment, a space, a control character or a byte that is not ASCII")
    path, _, _ = raw.decode("ascii").partition("?")
    if not path.startswith("/"):
        raise RefusedPath("the path does not start with `/`")
    if _ESCAPED_SLASH.search(path):
        raise RefusedPath("the path holds an encoded slash")
    path = _DOT_WITH_PARAMETERS.sub(r"/\1", path)
    if "%00" in path:
        raise RefusedPath("the path holds an encoded NUL")
    plain = _decoded(path.replace("\\", "/"))
    escaped = _ESCAPED_BY_PARSER.sub(lambda match: f"%{ord(match[0]):02X}", plain)
    return _merged(_without_dots(escaped))


def _decoded(path: str) -> str:
    """Unreserved escapes decoded; a bare `%` that decoding would turn into an escape is escaped itself."""
    pieces = [_unescaped(piece) for piece in _PIECE.findall(path)]
    for index, piece in enumerate(pieces):
        if piece == "%" and _TWO_HEX.match("".join(pieces[index + 1 : index + 3])):
            pieces[index] = "%25"
    return "".join(pieces)


def _unescaped(piece: str) -> str:
    character = chr(int(piece[1:], 16)) if len(piece) == 3 else ""
    return character if character and character in _UNRESERVED else piece


def _without_dots(path: str) -> str:
    """RFC 3986, 5.2.4; an empty segment is a segment here, since slashes are merged afterwards."""
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)


def _merged(path: str) -> str:
    """Repeated slashes as one. Of nothing but slashes Envoy leaves two (`PathUtil::mergeSlashes`)."""
    return "//" if path.strip("/") == "" and len(path) > 1 else re.sub("/+", "/", path)
