"""What is asked of a workload, and the patterns by which rules name it.

Patterns work on whole path segments: a literal, `{name}` (exactly one non-empty segment) and a final `/**` (the prefix
itself and everything below it). There is no regex, so questions about a policy stay decidable.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import takewhile

# RFC 9110, section 9, and RFC 5789. CONNECT is not here (it is how tunnels open), nor is TRACE (it echoes credentials).
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

# RFC 3986 `pchar` without `%` (checked apart) and without `;`, plus the braces of a placeholder.
_LITERAL = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,=:@-]|%[0-9A-F]{2})*")
_PLACEHOLDER = re.compile(r"\{[A-Za-z_][A-Za-z0-9_]*\}")
_UNRESERVED = re.compile(r"%(?:2[DE]|3[0-9]|4[1-9A-F]|5[0-9AF]|6[1-9A-F]|7[0-9AE])")
_GRPC_SERVICE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")
_GRPC_METHOD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class PatternError(ValueError):
    """A pattern that has no meaning. `offset` is where in the text it goes wrong, `length` how far."""

    def __init__(self, message: str, help: str = "", offset: int = 0, length: int = 0) -> None:
        super().__init__(message)
        self.message, self.help, self.offset, self.length = message, help, offset, length


@dataclass(frozen=True, slots=True)
class HttpOperation:
    """An HTTP request as the policy sees it: `path` is normalised and has no query."""

    method: str
    path: str
    websocket: bool = False

    def __str__(self) -> str:
        return f"{self.method} {self.path}" + (" (websocket)" if self.websocket else "")


@dataclass(frozen=True, slots=True)
class GrpcOperation:
    """A call of a gRPC method. On the wire: POST to `/service/method`."""

    service: str
    method: str

    def __str__(self) -> str:
        return f"{self.service}/{self.method}"


@dataclass(frozen=True, slots=True)
class ConnectOperation:
    """Opening a TCP session with a workload that speaks neither HTTP nor gRPC."""

    def __str__(self) -> str:
        return "connect"


@dataclass(frozen=True, slots=True)
class RefusedOperation:
    """A request that no rule can name, because it has no safe reading: it is denied whatever the policy says."""

    text: str
    reason: str

    def __str__(self) -> str:
        return self.text


Operation = HttpOperation | GrpcOperation | ConnectOperation | RefusedOperation


@dataclass(frozen=True, slots=True)
class PathPattern:
    """A path pattern: `segments` holds literals, and None for a placeholder; `tail` is a final `/**`."""

    text: str
    segments: tuple[str | None, ...]
    tail: bool = False

    @classmethod
    def parse(cls, text: str) -> PathPattern:
        """Read `/orders/{id}` or `/catalog/**`. Raises PatternError where the text has no one meaning."""
        if not text.startswith("/"):
            raise PatternError("a path starts with `/`", f"did you mean `/{text}`?", 0, max(1, len(text)))
        parts = text[1:].split("/")
        tail = parts[-1] == "**"
        offset, segments = 1, []
        for index, part in enumerate(parts[:-1] if tail else parts):
            segments.append(_segment(part, offset, last=index == len(parts) - 1))
            offset += len(part) + 1
        return cls(text, tuple(segments), tail)

    @property
    def literal(self) -> str | None:
        """The one path that a pattern without placeholders and tail matches, or None."""
        if self.tail or None in self.segments:
            return None
        return self.text

    @property
    def literal_prefix(self) -> str:
        """What every matching path starts with, up to the first placeholder; `/catalog` for `/catalog/**`."""
        prefix = ""
        for segment in self.segments:
            if segment is None:
                return prefix + "/"
            prefix += "/" + segment
        return prefix

    def matches(self, path: str, *, ignore_case: bool = False) -> bool:
        """Whether a normalised path without query matches."""
        parts = path[1:].split("/")
        if len(parts) < len(self.segments) or (len(parts) > len(self.segments) and not self.tail):
            return False
        return all(_matches(s, p, ignore_case) for s, p in zip(self.segments, parts, strict=False))

    def covers(self, narrow: PathPattern, *, ignore_case: bool = False) -> bool:
        """Whether this pattern matches every path that `narrow` matches."""
        longer = len(narrow.segments) - len(self.segments)
        if longer < 0 or (not self.tail and (longer > 0 or narrow.tail)):
            return False
        pairs = zip(self.segments, narrow.segments, strict=False)
        return all(mine is None if other is None else _matches(mine, other, ignore_case) for mine, other in pairs)

    def begins(self, path: str, *, ignore_case: bool = False) -> int:
        """How many leading segments of the pattern match those of the path."""
        pairs = zip(self.segments, path[1:].split("/"), strict=False)
        return sum(1 for _ in takewhile(lambda pair: _matches(*pair, ignore_case), pairs))

    def __str__(self) -> str:
        return self.text


def _matches(segment: str | None, part: str, ignore_case: bool) -> bool:
    if segment is None:
        return part != ""
    return segment.lower() == part.lower() if ignore_case else segment == part


# What no normalised path can hold or no pattern can mean: where it shows, what is wrong with it, what to do.
_REFUSED = (
    (re.compile(r"\.{1,2}"), "dot segments are resolved before a path is matched", "write the path they lead to"),
    (
        re.compile(r".*\*.*"),
        "`*` has no meaning inside a path",
        "use `{name}` for one segment, or `/**` at the end for all below",
    ),
    (re.compile(r".*[{}].*"), "a placeholder is a whole segment, such as `{id}`", "patterns work on whole segments"),
    (re.compile(r".*[?#].*"), "the query and the fragment play no part in the policy", "leave them out"),
    (re.compile(r".*;.*"), "a literal cannot hold path parameters", "leave out what follows the `;`"),
    (
        re.compile(r".*%(?:2[Ff]|5[Cc]).*"),
        "requests with an encoded slash are refused, so nothing matches this",
        "leave it out",
    ),
    (re.compile(r".*%00.*"), "requests with an encoded NUL are refused, so nothing matches this", "leave it out"),
)


def _segment(part: str, offset: int, *, last: bool) -> str | None:
    """A literal, or None for a placeholder."""
    if _PLACEHOLDER.fullmatch(part):
        return None
    if part == "" and not last:
        raise PatternError("repeated slashes are merged before a path is matched", "write one `/`", offset - 1, 2)
    for refused, message, help in _REFUSED:
        if refused.fullmatch(part):
            raise PatternError(message, help, offset, len(part))
    if escaped := _UNRESERVED.search(part):
        plain = bytes.fromhex(escaped[0][1:]).decode("ascii")
        at = offset + escaped.start()
        raise PatternError(f"`{escaped[0]}` reaches the policy as `{plain}`", f"write `{plain}`", at, 3)
    if (good := _LITERAL.match(part)) and good.end() < len(part):
        bad = part[good.end()]
        help = "percent-encode it, with upper-case digits"
        raise PatternError(f"`{bad}` cannot stand in a path", help, offset + good.end(), 1)
    return part


@dataclass(frozen=True, slots=True)
class HttpPattern:
    """Methods and a path pattern, as one entry of a rule's `http:` (or, converted, of its `grpc:`)."""

    text: str
    methods: tuple[str, ...]
    path: PathPattern

    @classmethod
    def parse(cls, text: str) -> HttpPattern:
        """Read `GET /orders/{id}`, `GET,HEAD /catalog/**` or `* /admin/**` (any of METHODS). Raises PatternError."""
        words = text.split(" ")
        if len(words) != 2 or not words[0] or not words[1]:
            raise PatternError(
                "an HTTP operation is METHOD, one space and PATH", "such as `GET /orders/{id}`", 0, max(1, len(text))
            )
        return cls(text, _methods(words[0]), _shifted(words[1], len(words[0]) + 1))

    @classmethod
    def parse_grpc(cls, text: str) -> HttpPattern:
        """Read `pkg.Service/Method`, `pkg.Service/*` or `*` as the POST it is on the wire. Raises PatternError."""
        if text == "*":
            return cls(text, ("POST",), PathPattern("/{service}/{method}", (None, None)))
        service, slash, method = text.partition("/")
        if not slash or not _GRPC_SERVICE.fullmatch(service) or not (method == "*" or _GRPC_METHOD.fullmatch(method)):
            raise PatternError(
                "a gRPC operation is `package.Service/Method`",
                "use `package.Service/*` for every method of a service",
                0,
                max(1, len(text)),
            )
        last = None if method == "*" else method
        return cls(text, ("POST",), PathPattern(f"/{service}/{'{method}' if last is None else last}", (service, last)))


def _methods(text: str) -> tuple[str, ...]:
    if text == "*":
        return METHODS
    methods, offset = [], 0
    for method in text.split(","):
        if method not in METHODS:
            known = method.upper()
            help = (
                f"did you mean `{known}`?"
                if known in METHODS
                else f"one of {', '.join(METHODS)}, or `*` for all of them"
            )
            raise PatternError(
                f"`{method}` is not an HTTP method that a rule can allow", help, offset, max(1, len(method))
            )
        methods.append(method)
        offset += len(method) + 1
    return tuple(dict.fromkeys(methods))


def _shifted(path: str, offset: int) -> PathPattern:
    try:
        return PathPattern.parse(path)
    except PatternError as error:
        raise PatternError(error.message, error.help, error.offset + offset, error.length) from None
