"""Envoy's decision log without Envoy: lines, a writer like its flush thread, and a policy to explain by."""

from __future__ import annotations

import itertools
import json
from io import FileIO
from pathlib import Path

from septum.audit.explain import Explainer
from septum.audit.files import LogFiles
from septum.audit.inbox import Inbox
from septum.audit.parcel import MOST
from septum.audit.parse import Recorder
from septum.audit.reading import Reading
from septum.audit.store import Store
from septum.model.mesh import Address, Mesh, Protocol, Segment, Workload
from septum.model.operation import HttpPattern
from septum.model.policy import Policy, Rule

_numbers = itertools.count()


def line(**fields: object) -> bytes:
    """One line as Envoy writes it, of an allowed call; None takes a field away."""
    allowed: dict[str, object] = {
        "t": f"1764000000.{next(_numbers) % 1_000_000:06d}",
        "id": "0f1e",
        "node": "n1",
        "caller": "spiffe://shop.test/storefront",
        "target": "orders",
        "authority": "orders",
        "proto": "HTTP/1.1",
        "method": "GET",
        "path": "/orders/42",
        "mode": "enforce",
        "slice": "0123456789abcdef",
        "er": "allowed",
        "ep": "customers-orders",
        "code": 200,
        "details": "via_upstream",
        "us": 1500,
        "up": "127.0.0.1:9102",
    }
    written = {key: value for key, value in (allowed | fields).items() if value is not None}
    return json.dumps(written, separators=(",", ":")).encode() + b"\n"  # as Envoy writes, without spaces


def denied(**fields: object) -> bytes:
    """One line of a denied call."""
    details = "rbac_access_denied_matched_policy[septum.deny]"
    refused = {"er": "denied", "ep": "septum.deny", "code": 403, "details": details, "up": None}
    return line(**({"method": "DELETE"} | refused | fields))


def policy(version: str = "v" * 64) -> Policy:
    """Storefront may read orders; payments speaks gRPC and ledger TCP, and nobody may call them."""
    speaks = {"storefront": Protocol.HTTP, "orders": Protocol.HTTP, "payments": Protocol.GRPC, "ledger": Protocol.TCP}
    workloads = {
        name: Workload(name, "shop", Address("127.0.0.1", 9101 + index), protocol)
        for index, (name, protocol) in enumerate(speaks.items())
    }
    mesh = Mesh("shop", "shop.test", {"shop": Segment("shop")}, workloads, frozenset({"shop"}))
    orders = Rule(
        "customers-orders",
        ("storefront",),
        ("orders",),
        (HttpPattern.parse("GET /orders/{id}"),),
        callers_text="storefront",
        targets_text="orders",
    )
    return Policy(mesh, (orders,), version)


class Always:
    """Policies of which there is one, or none."""

    def __init__(self, policy: Policy | None) -> None:
        self.policy = policy

    def policy_for(self, target: str | None, slice: str | None, time: float) -> Policy | None:
        return self.policy


def recorder(known: Policy | None = None) -> Recorder:
    """A recorder of the mesh `shop.test` over one policy."""
    return Recorder("shop.test", Explainer(Always(known or policy())))


class Carrier:
    """A node's log and its place in a store, with nothing between them but steps."""

    def __init__(self, directory: Path, store: Store, node: str = "n1", chunk: int = MOST) -> None:
        self.reading = Reading(LogFiles(directory), chunk)
        self.inbox = Inbox(node, store, recorder())
        self.reading.resume(self.inbox.position)

    def advance(self) -> bool:
        """Carry one parcel; False when there is none."""
        parcel = self.reading.next()
        if parcel is None:
            return False
        self.inbox.take(parcel)
        self.reading.resume(self.inbox.position)
        return True

    def drain(self) -> None:
        """Carry all there is."""
        while self.advance():
            pass


class Writer:
    """Appends to the log like Envoy: goes on in its file until it is told to open the log again."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "decisions.jsonl"
        self._file = FileIO(self._path, "ab")

    def write(self, data: bytes) -> None:
        """Append bytes, whole lines or not."""
        self._file.write(data)

    def reopen(self) -> None:
        """Close the file, then open the log, as the flush thread does."""
        self._file.close()
        self._file = FileIO(self._path, "ab")

    def close(self) -> None:
        """End."""
        self._file.close()
