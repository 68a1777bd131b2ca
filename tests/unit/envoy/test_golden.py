"""The snapshot of the example shop, as readable JSON. A change of it is reviewed like code.

`REGOLD=1 make test ARGS=tests/unit/envoy/test_golden.py` writes it anew.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2, scoped_route_pb2
from google.protobuf import json_format

from septum.control.files import read_mesh_dir
from septum.envoy.compile import Compiler, Front
from septum.model.resource_types import CLUSTER, LISTENER, ROUTE, SCOPE
from septum.policy.load import load

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests" / "golden" / "shop.json"
MESSAGES: dict[str, Any] = {
    CLUSTER: cluster_pb2.Cluster,
    LISTENER: listener_pb2.Listener,
    ROUTE: route_pb2.RouteConfiguration,
    SCOPE: scoped_route_pb2.ScopedRouteConfiguration,
}


def _readable() -> str:
    policy = load(read_mesh_dir(ROOT / "examples" / "shop")).policy
    assert policy is not None
    snapshot = Compiler().compile(policy, Front("n", tuple(policy.mesh.workloads), {}, "records/decisions.jsonl"))
    shown = {
        f"{type_url.rpartition('.')[2]} {name}": json_format.MessageToDict(MESSAGES[type_url].FromString(resource.body))
        for type_url, resources in snapshot.for_envoy().resources.items()
        for name, resource in resources.items()
    }
    return json.dumps(shown, indent=1, sort_keys=True) + "\n"


def test_the_shop_compiles_to_what_was_reviewed() -> None:
    readable = _readable()
    if os.environ.get("REGOLD"):
        GOLDEN.write_text(readable)
    assert readable == GOLDEN.read_text(), "look at the difference; REGOLD=1 writes it anew"
