"""What a person types, or a proxy saw, to an Operation."""

from __future__ import annotations

from septum.model.mesh import Protocol
from septum.model.operation import ConnectOperation, GrpcOperation, HttpOperation, Operation, RefusedOperation
from septum.model.request_path import RefusedPath, canonical_path


def operation_of(text: str, protocol: Protocol | None) -> Operation:
    """Read `GET /orders/42?x=1`, `package.Service/Method` or `connect`, for a target that speaks `protocol`.

    Raises ValueError for anything else.
    """
    text = text.strip()
    if text.lower() == "connect":
        return ConnectOperation()
    method, space, target = text.partition(" ")
    if space:
        return http_operation(method, target.strip())
    service, slash, name = text.removeprefix("/").rpartition("/")
    if slash and service and name and protocol is not Protocol.HTTP:
        return GrpcOperation(service, name)
    raise ValueError(f"`{text}` is not an operation; write {_EXPECTED.get(protocol, _ANY)}")


_ANY = "`METHOD /path`, `package.Service/Method` or `connect`"
_EXPECTED: dict[Protocol | None, str] = {
    Protocol.HTTP: "`METHOD /path`",
    Protocol.GRPC: "`package.Service/Method`",
    Protocol.TCP: "`connect`",
}


def http_operation(method: str, target: str | bytes, *, websocket: bool = False) -> Operation:
    """An HTTP request by its method and request target, normalised as the proxies do."""
    try:
        return HttpOperation(method, canonical_path(target), websocket)
    except RefusedPath as error:
        shown = target if isinstance(target, str) else target.decode("latin-1")
        return RefusedOperation(f"{method} {shown}", str(error))
