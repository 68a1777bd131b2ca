"""`canonical_path` makes of a request target what a real Envoy makes of it: generated ones, and every byte."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import h1
import pytest
from proxy import backends, free_port, running_proxy

from septum.model.mesh import Address, Mesh, Protocol, Segment, Workload
from septum.model.policy import Policy
from septum.model.request_path import RefusedPath, canonical_path

PIECES = (
    *(
        "/",
        "/",
        "/",
        ".",
        "..",
        "%2e",
        "%2E",
        "a",
        "B",
        "~",
        "%61",
        "%7E",
        "%2f",
        "%5C",
        "\\",
        "//",
        ";",
        "?",
        "#",
        "%",
    ),
    *(
        "%zz",
        "%4",
        "%25",
        "%41",
        "*",
        "{",
        "}",
        "|",
        "^",
        "`",
        '"',
        "<",
        ">",
        "[",
        "]",
        "%3b",
        "%3f",
        "%00",
        "%01",
        "%20",
    ),
    *(
        "%7f",
        "%80",
        "%C3%A9",
        "=",
        "&",
        "+",
        ",",
        "!",
        "$",
        "'",
        "(",
        ")",
        ":",
        "@",
        "-",
        "_",
        "%5f",
        "%2D",
        "%5b",
        "%7b",
    ),
    *("%22", "\x7f", "\x01", "\xe9", "%u0041", "%2", "%%", "A", "4", ".;", "..;", "\\..;", "%2e;", "%2e%2e;"),
)
SEPARATORS = b"\t\n\r "  # they end a request line, so they are no part of a target


@dataclass(frozen=True)
class Lab:
    connection: h1.Connection


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with backends() as at, running_proxy() as proxy:
        outbound = Address("127.0.0.1", free_port())
        open_door = Workload("open", "seen", at["http"], Protocol.HTTP, outbound=outbound)
        mesh = Mesh("lab", "lab.test", {"seen": Segment("seen")}, {"open": open_door}, frozenset())
        proxy.hold(Policy(mesh, (), "v"))
        yield Lab(h1.Connection(outbound.port))


def _compare(lab: Lab, target: bytes) -> None:
    answer = lab.connection.send(b"GET " + target + b" HTTP/1.1\r\nhost: open\r\n\r\n")
    try:
        expected = canonical_path(target)
    except RefusedPath:
        assert answer.status == 400, (target, answer)
        return
    assert answer.status == 200, (target, answer, expected)
    seen = answer.body.split(b" ")[1].partition(b"?")[0].decode("ascii")
    assert seen == expected, target


@pytest.mark.parametrize("seed", range(8))
def test_generated_targets(lab: Lab, seed: int) -> None:
    choose = random.Random(seed)
    for _ in range(1000):
        _compare(lab, ("/" + "".join(choose.choice(PIECES) for _ in range(choose.randint(0, 8)))).encode("latin-1"))


def test_every_byte_and_every_escape(lab: Lab) -> None:
    for byte in range(256):
        for form in (bytes([byte]), b"%%%02x" % byte, b"%%%02X" % byte):
            if form not in (bytes([b]) for b in SEPARATORS):
                _compare(lab, b"/x" + form + b"y")
                _compare(lab, b"/x/" + form)


def test_what_names_no_path_is_refused(lab: Lab) -> None:
    for target in (b"*", b"x", b"?", b"x/y", b"\\"):
        _compare(lab, target)
