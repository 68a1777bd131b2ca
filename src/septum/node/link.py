"""The agent's channel to the control plane, made anew whenever what it proves or trusts has changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from septum.rpc.client import Calls, Tls, open_channel
from septum.rpc.messages import Orders, Renew, Report, Sign, Signed


class Link:
    """`target` is `HOST:PORT`, or `unix:PATH` on the control plane's own machine, where `tls` gives None."""

    def __init__(self, target: str, node: str, tls: Callable[[], Tls | None]) -> None:
        self._target, self._node, self._tls = target, node, tls
        self._proved = tls()
        self.channel = open_channel(target, self._proved)

    async def refresh(self) -> bool:
        """Open a new channel if what the node proves or trusts is not what the channel was opened with."""
        wanted = self._tls()
        if wanted == self._proved:
            return False
        old, self._proved = self.channel, wanted
        self.channel = open_channel(self._target, wanted)
        await old.close(grace=1.0)
        return True

    async def sign(self, request: Renew | Sign) -> Signed:
        """A certificate. Raises ControlUnavailable or ControlRefuses, as all calls do."""
        return await self.calls.call(type(request).__name__, request, Signed)

    async def report(self, report: Report) -> Orders:
        """Tell how the node is, and hear what is wanted."""
        return await self.calls.call("Report", report, Orders)

    @property
    def calls(self) -> Calls:
        """Calls over the channel of this moment."""
        return Calls(self.channel, self._node)

    async def close(self) -> None:
        """Close the channel."""
        await self.channel.close()

    def now(self) -> Any:
        """The channel of this moment, for streams that open theirs again when it ends."""
        return self.channel
