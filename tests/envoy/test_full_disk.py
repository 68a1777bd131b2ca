"""A disk that is full for Envoy's log: enforcement goes on, and what was not written is counted and told."""

from __future__ import annotations

from pathlib import Path

import pytest
from backends import HttpEcho
from mesh_process import Mesh
from waiting import until

from septum.node.binary import find_envoy

pytestmark = pytest.mark.xdist_group("full-disk")

POLICY = "allow: [{name: open, from: front, to: orders, http: [GET /open]}]"
# An Envoy whose files may not grow beyond 8 KiB: writes fail with EFBIG, as they do with ENOSPC on a full disk.
WRAPPER = """#!/bin/sh
trap '' XFSZ
ulimit -f 16
exec {envoy} "$@"
"""


def test_decisions_that_cannot_be_written_are_counted_and_nothing_else_changes(tmp_path: Path) -> None:
    wrapper = tmp_path / "envoy"
    wrapper.write_text(WRAPPER.format(envoy=find_envoy()))
    wrapper.chmod(0o755)
    with (
        HttpEcho() as backend,
        Mesh(
            {"front": {}, "orders": {"at": backend.address}}, POLICY, environment={"SEPTUM_ENVOY": str(wrapper)}
        ) as mesh,
    ):
        asked = 60
        for _ in range(asked // 2):
            assert mesh.status("front", "http://orders/open") == 200
            assert mesh.status("front", "http://orders/closed") == 403

        def counted() -> dict[str, int] | None:
            records = mesh.septum("status", "--json").json["records"]
            return records if records.get("lost") and records["lost"] + records["ingested"] >= asked else None

        records = until(counted, within=30, what="the loss", says=mesh.logs)
        assert records is not None
        assert records["lost"] + records["ingested"] + records["unreadable"] in (
            asked,
            asked + 1,
        )  # one line may be torn
        status = mesh.septum("status")
        assert status.code == 1
        assert f"{records['lost']} decisions" in status.out
        assert "never reached the log" in (mesh.state / "septum.log").read_text()
        assert mesh.status("front", "http://orders/closed") == 403
