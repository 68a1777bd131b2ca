"""The agent of a node: what is relayed, certified, shipped and reported, side by side for as long as the node lives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import structlog

from septum import __version__
from septum.envoy.access_log import DECISIONS
from septum.node import admin, adopted
from septum.node.certifier import Certifier
from septum.node.credentials import Credentials
from septum.node.link import Link
from septum.node.manifest import Manifest
from septum.node.records import Records
from septum.node.relaying import Relaying, RelayStatus
from septum.node.reporter import Reporter
from septum.node.spire import Spire
from septum.node.writer import EnvoyWriter
from septum.rpc import local
from septum.rpc.client import Tls, open_channel
from septum.rpc.local import Handler, NotRunningError
from septum.rpc.messages import Orders, Report
from septum.rpc.sink import RemoteSink
from septum.telemetry.agent import AgentView
from septum.xds.status import Happening, NodeRefused, Settled

_log = structlog.get_logger("septum.agent")
XDS, KEPT = "xds.sock", "snapshot"


class Agent:
    """Builds the parts and owns them. `tls` tells what the node proves; None on the control plane's own machine."""

    def __init__(
        self,
        state: Path,
        node: str,
        control: str,
        credentials: Credentials,
        tls: Callable[[], Tls] | None,
        spire: str,
        clock: Callable[[], float],
    ) -> None:
        self._state, self._node, self._control, self._credentials = state, node, control, credentials
        self._clock = clock
        proof: Callable[[], Tls | None] = tls or (lambda: None)
        self._link = Link(control, node, proof)
        self._relaying = Relaying(
            node, XDS, state / KEPT, lambda: open_channel(control, proof()), described=self._described, tell=self._told
        )
        self._certifier = Certifier(credentials, self._link, self._relaying.set_locals, clock, member=tls is not None)
        self._spire = Spire(spire, self._relaying.set_locals) if spire else None
        self._reporter = Reporter(self._link, self._observe, self._obey, clock)
        self._records = Records(state / "records", RemoteSink(lambda: self._link.calls), EnvoyWriter(state, DECISIONS))
        self._settled = asyncio.Event()
        # The runs of Envoy that were seen: each start is one.
        self._runs: set[str] = set()
        self._draining = False
        self._untrusting = ""
        self._report = Report()

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._relaying.run(), name="relay")
            group.create_task(self._certifier.run(), name="certificates")
            group.create_task(self._records.run(), name="records")
            group.create_task(self._reporter.run(), name="reports")
            group.create_task(self._refresh(), name="link")
            if self._spire:
                group.create_task(self._spire.run(), name="spire")

    async def finish(self) -> None:
        """Ship what is left, and let go of everything."""
        await self._records.finish()
        await self._link.close()

    def handlers(self) -> Mapping[str, Handler]:
        """What is answered on this host."""
        return {"status": self._status}

    async def _status(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """How the node is; with `patience`, once Envoy holds a whole snapshot, or after so many seconds."""
        await self._until_good(float(request.get("patience", 0.0)))
        relay, report = self._relaying.status(), await self._observe()
        away = "" if relay.upstream.since is not None else " (away)"
        return {
            "node": self._node,
            "good": _good(relay),
            "resources": relay.envoy.resources,
            "control": f"{self._control}{away}",
            "trouble": relay.upstream.error or self._reporter.trouble,
            "certificates": [
                {"identity": c.identity, "ends": c.not_after, "issuer": c.issuer} for c in report.certificates
            ],
            "records": dict(report.records),
            "envoy_up": report.envoy_up,
            "troubles": list(report.troubles),
        }

    async def _until_good(self, patience: float) -> None:
        try:
            async with asyncio.timeout(patience):
                while not _good(self._relaying.status()):
                    self._settled.clear()
                    await self._settled.wait()
        except TimeoutError:
            pass

    def view(self) -> AgentView:
        """How the node is, for telemetry."""
        relay, report = self._relaying.status(), self._report
        ends = {c.identity.rpartition("/")[2]: c.not_after for c in report.certificates}
        return AgentView(
            septum=__version__,
            node=self._node,
            connected=relay.upstream.since is not None,
            version=_good(relay),
            source="control" if relay.upstream.seen is not None else "disk" if relay.cold else "",
            envoy_up=report.envoy_up,
            envoy_starts=report.envoy_starts,
            certificates={name: end for name, end in ends.items() if name != self._node},
            own_ends=ends.get(self._node),
            refused=len(relay.envoy.rejected),
            records_behind_bytes=int(report.records.get("behind") or 0),
            troubles=report.troubles,
        )

    def _described(self, manifest: Manifest) -> None:
        """The control plane says which workloads this node fronts."""
        workloads = manifest.workloads if manifest.content.get("trust_domain") else ()
        if self._spire:
            self._spire.want(str(manifest.content["trust_domain"]), workloads)
        else:
            self._certifier.want(workloads)

    def _told(self, happening: Happening) -> None:
        if isinstance(happening, NodeRefused):
            _log.error("Envoy refuses a resource", name=happening.refusal.name, reason=happening.refusal.reason)
        if isinstance(happening, Settled):
            self._settled.set()

    async def _refresh(self) -> None:
        """Follow with the channel what the node proves and trusts."""
        while True:
            await asyncio.sleep(1.0)
            if await self._link.refresh():
                _log.info("the node proves or trusts something new from now on")

    async def _observe(self) -> Report:
        relay = self._relaying.status()
        vitals = await admin.vitals(self._state)
        run = adopted.run_of(self._state, "envoy")
        self._runs |= {run} if run else set()
        self._report = Report(
            septum=__version__,
            envoy_up=vitals is not None,
            envoy_starts=len(self._runs),
            certificates=(*self._certifier.certificates(), *(self._spire.certificates() if self._spire else ())),
            source="spire" if self._spire else "septum",
            roots=self._credentials.digest(),
            kept=relay.kept,
            clock=self._clock(),
            connections=vitals.connections if vitals else 0,
            health=dict(vitals.health) if vitals else {},
            drained=self._draining,
            records=dict(self._records.status()),
            troubles=(
                *self._certifier.troubles(),
                *(self._spire.troubles() if self._spire else ()),
                *filter(None, (relay.keep_error, self._untrusting)),
            ),
        )
        return self._report

    async def _obey(self, orders: Orders) -> None:
        self._trust(orders.roots)
        self._certifier.expect_issuer(orders.issuer)
        if orders.drain and not self._draining:
            await self._drain()
        elif self._draining and not orders.drain:
            await self._back_into_service()

    def _trust(self, roots: bytes) -> None:
        """Know the control plane by these roots from now on; it sends them until the node has them."""
        try:
            self._credentials.set_roots(roots)
        except OSError as error:
            self._untrusting = f"the roots that the control plane is known by cannot be kept: {error}"
        else:
            self._untrusting = ""

    async def _drain(self) -> None:
        """Take nothing new; say so in answers, so that clients with connections go."""
        try:
            await admin.request(self._state, "POST", "/drain_listeners?graceful&skip_exit")
        except admin.AdminError as error:
            _log.error("Envoy cannot be drained", reason=str(error))
            return
        self._draining = True

    async def _back_into_service(self) -> None:
        """Another Envoy, since one that is drained does not listen again."""
        try:
            await asyncio.to_thread(local.call, self._state, "node.sock", "restart", 60.0)
        except NotRunningError as error:
            _log.error("Envoy cannot be started again", reason=str(error))
            return
        self._draining = False


def _good(relay: RelayStatus) -> str:
    """The snapshot that is whole, and that Envoy holds; empty while there is none."""
    held = relay.envoy.held_version
    return held if relay.whole and held is not None and held == relay.envoy.desired_version else ""
