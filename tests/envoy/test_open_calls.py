"""A call that lasts is on record while it lasts: neither days nor a killed Envoy may hide its decision."""

from __future__ import annotations

import socket
from pathlib import Path

from proxy import backends, free_port, running_proxy, wait_for

from septum.audit.explain import Explainer
from septum.audit.files import LogFiles
from septum.audit.inbox import Inbox
from septum.audit.parse import Recorder
from septum.audit.query import Filter, Reader
from septum.audit.reading import Reading
from septum.audit.store import Store
from septum.audit.traffic import Traffic
from septum.model.mesh import Address, Mesh, Protocol, Segment, Workload
from septum.model.policy import Policy, Rule


class One:
    """A history of one policy."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def policy_for(self, target: str | None, slice: str | None, time: float) -> Policy:
        return self._policy


def test_a_session_is_recorded_while_it_is_open_and_again_when_it_ends(tmp_path: Path) -> None:
    with backends() as at, running_proxy() as proxy:
        outbound = Address("127.0.0.1", free_port())
        store = Workload("store", "core", at["tcp"], Protocol.TCP, outbound=outbound)
        mesh = Mesh("lab", "lab.test", {"core": Segment("core")}, {"store": store}, frozenset({"core"}))
        policy = Policy(mesh, (Rule("keep", ("store",), ("store",), None),), "v")
        proxy.hold(policy)
        with socket.create_connection(("127.0.0.1", outbound.port), 10) as session:
            authority = f"store:{store.at.port}"
            session.sendall(f"CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\nx-request-id: long\r\n\r\n".encode())
            wait_for(lambda: _lines(proxy.decisions) >= 2, "two lines about an open session", deadline=40)
        wait_for(lambda: b"DownstreamEnd" in proxy.decisions.read_bytes(), "the line about its end")
        records = Store(tmp_path / "decisions.db")
        reading, inbox = (
            Reading(LogFiles(proxy.directory)),
            Inbox("n", records, Recorder("lab.test", Explainer(One(policy)))),
        )
        reading.resume(inbox.position)
        while parcel := reading.next():
            inbox.take(parcel)
            reading.resume(inbox.position)
        reading.close()
        records.close()

    rows = [row.record for row in Reader(tmp_path / "decisions.db").newest(Filter(request_id="long"), 10)]
    assert sorted((row.open, row.decision, row.rule) for row in rows) == [
        (False, "allow", "keep"),
        (True, "allow", "keep"),
    ]
    traffic = Traffic(3600)
    traffic.add(sorted(rows, key=lambda row: not row.open))
    counted = traffic.rows(rows[0].time + 60)
    assert [(row.allowed, row.denied) for row in counted] == [(1, 0)]


def _lines(decisions: Path) -> int:
    return decisions.read_bytes().count(b"\n") if decisions.exists() else 0
