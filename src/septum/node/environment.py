"""What `septum run` puts into a program's environment, so that its calls go through its own outbound listener."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from septum.model.mesh import Address

_ALWAYS = ("http_proxy", "HTTP_PROXY", "grpc_proxy", "ws_proxy")
_OUTSIDE = ("https_proxy", "HTTPS_PROXY", "wss_proxy", "all_proxy", "ALL_PROXY")
_PRELOAD = Path(__file__).with_name("node_proxy.cjs")


def environment(
    given: Mapping[str, str],
    workload: str,
    outbound: Address,
    dials: Mapping[str, Address],
    *,
    outside: bool = False,
) -> dict[str, str]:
    """The environment of a program that runs as a workload.

    Plain HTTP and gRPC are sent through the proxy, and everything else where the mesh says what of the `outside` may be
    called: HTTPS to the outside is no call between workloads. `no_proxy` is emptied, since it usually excludes the
    loopback addresses at which workloads are. curl reads the lower-case names only. Node gets a preload, which sends
    absolute-form requests on every version; its own switch would tunnel.
    """
    url = f"http://{outbound}"
    made = dict(given)
    made |= dict.fromkeys((*_ALWAYS, *(_OUTSIDE if outside else ())), url)
    made |= dict.fromkeys(("no_proxy", "NO_PROXY", "no_grpc_proxy"), "")
    made |= {"SEPTUM_WORKLOAD": workload, "SEPTUM_OUTBOUND": str(outbound)}
    made["NODE_OPTIONS"] = f"{given.get('NODE_OPTIONS', '')} --require {_node_word(_PRELOAD)}".strip()
    made |= {f"SEPTUM_DIAL_{name.upper().replace('-', '_')}": str(address) for name, address in dials.items()}
    return made


def _node_word(path: Path) -> str:
    """A path as one word of NODE_OPTIONS, where only quotes and backslashes are special between quotes."""
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'
