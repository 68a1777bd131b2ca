"""`septum tidy` and `septum lint` by the record of a real mesh, and what is enforced after it."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from backends import HttpEcho
from mesh_process import Mesh
from waiting import until

POLICY = """\
allow:
  - name: orders
    from: front
    to: orders
    http:
      # by its number
      - GET /orders/{id}
      # for nobody any more
      - GET /old
  - {name: seen, from: front, to: seen, http: ["* /**"]}
  - {name: never, from: orders, to: seen, http: GET /x}
"""
TIDY = """\
allow:
  - name: orders
    from: front
    to: orders
    http:
      # by its number
      - GET /orders/{id}
  - {name: seen, from: front, to: seen, http: ["* /**"]}
"""


def test_what_no_recorded_call_used_is_taken_out_and_denied_from_then_on() -> None:
    with HttpEcho() as orders, HttpEcho() as seen:
        workloads = {
            "front": {},
            "orders": {"at": orders.address},
            "seen": {"at": seen.address, "segment": "edge"},
        }
        with Mesh(workloads, POLICY, enforce="[core]") as mesh:
            since = datetime.fromtimestamp(time.time(), UTC).isoformat()
            assert mesh.call("front", "http://orders/orders/42").status == 200
            assert mesh.call("front", "http://seen/a/7").status == 200
            assert mesh.call("orders", "http://seen/else").status == 200  # only because it is observed
            until(lambda: mesh.septum("audit", "--count").out.strip() == "3", what="the records", says=mesh.logs)

            short = mesh.septum("tidy", "--since", since)
            assert (short.code, short.out) == (1, "")
            assert "nothing is proposed: the record goes back" in short.err

            found = mesh.septum("tidy", "--since", since, "--anyway", "--json").json
            assert {(one["rule"], one["operation"]): (one["fate"], one["hits"]) for one in found["operations"]} == {
                ("never", "GET /x"): ("unused", 0),
                ("orders", "GET /old"): ("unused", 0),
                ("orders", "GET /orders/{id}"): ("used", 1),
                ("seen", "* /**"): ("used", 1),
            }
            assert "newer than 30 d" in mesh.septum("tidy", "--anyway").err

            wide = mesh.septum("lint", "--select", "SEP604")
            assert "on record, this was used: GET /a/{id} (1)" in wide.out

            assert mesh.septum("tidy", "--since", since, "--anyway", "--write").code == 0
            assert (mesh.directory / "policy" / "test.yaml").read_text() == TIDY
            assert mesh.call("front", "http://orders/old").status == 200
            mesh.apply()
            assert mesh.call("front", "http://orders/old").status == 403
            assert mesh.call("front", "http://orders/orders/43").status == 200
