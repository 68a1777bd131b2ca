"""A control plane as a process of its own, to be killed: prints `held` when the node holds its one snapshot.

Usage: xds_control.py SOCKET PORT ANSWER
"""

import asyncio
import sys
import time

from xds_harness import NODE, cluster, listener, route, scope, snapshot

from septum.xds.fleet import Fleet
from septum.xds.server import serve
from septum.xds.status import Settled


def tell(happening: object) -> None:
    if isinstance(happening, Settled):
        print("held", flush=True)


async def control(path: str, port: int, answer: str) -> None:
    fleet = Fleet(time.time, tell)
    resources = (cluster("a"), listener("in", port), route("ra", answer), scope("a", "ra"))
    fleet.publish(NODE, snapshot("only", *resources))
    async with serve(path, fleet):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(control(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
