from __future__ import annotations

import pytest

from septum.model.mesh import Protocol
from septum.model.operation import ConnectOperation, GrpcOperation, HttpOperation, Operation, RefusedOperation
from septum.policy.ask import operation_of


@pytest.mark.parametrize(
    ("text", "protocol", "expected"),
    [
        ("GET /orders/42?x=1", Protocol.HTTP, HttpOperation("GET", "/orders/42")),
        ("GET   /a/../b", Protocol.HTTP, HttpOperation("GET", "/b")),
        ("get /a", Protocol.HTTP, HttpOperation("get", "/a")),
        ("POST /a.B/C", Protocol.GRPC, HttpOperation("POST", "/a.B/C")),
        ("a.B/C", Protocol.GRPC, GrpcOperation("a.B", "C")),
        ("/a.B/C", Protocol.GRPC, GrpcOperation("a.B", "C")),
        ("a.B/C", None, GrpcOperation("a.B", "C")),
        ("connect", Protocol.TCP, ConnectOperation()),
        (" CONNECT ", Protocol.TCP, ConnectOperation()),
        ("GET /a%2Fb", Protocol.HTTP, RefusedOperation("GET /a%2Fb", "the path holds an encoded slash")),
    ],
)
def test_what_a_person_types(text: str, protocol: Protocol | None, expected: Operation) -> None:
    assert operation_of(text, protocol) == expected


@pytest.mark.parametrize(
    ("text", "protocol", "expected"),
    [
        ("/orders", Protocol.HTTP, "`/orders` is not an operation; write `METHOD /path`"),
        ("a.B/C", Protocol.HTTP, "`a.B/C` is not an operation; write `METHOD /path`"),
        ("Authorize", Protocol.GRPC, "`Authorize` is not an operation; write `package.Service/Method`"),
        ("open", Protocol.TCP, "`open` is not an operation; write `connect`"),
        ("", None, "`` is not an operation; write `METHOD /path`, `package.Service/Method` or `connect`"),
    ],
)
def test_what_is_no_operation_says_what_would_be(text: str, protocol: Protocol | None, expected: str) -> None:
    with pytest.raises(ValueError, match="is not an operation") as caught:
        operation_of(text, protocol)
    assert str(caught.value) == expected
