"""The Envoys of one node: the one that serves, and those that are leaving after a hand-over."""

from __future__ import annotations

from collections.abc import Callable

from septum.model.snapshot import Snapshot
from septum.xds.fleet import Fleet, Outlet, Stream, Watch
from septum.xds.status import Happening


class Envoys(Fleet):
    """A fleet in which the newest stream of the node is that of the node, and does not end the one before it.

    An Envoy that is leaving still has calls, so it is served what it should hold as before, under a name of its own.
    What it answers counts for nothing: it takes no change of a listener any more.
    """

    def __init__(self, node: str, clock: Callable[[], float], tell: Callable[[Happening], None], watch: Watch) -> None:
        super().__init__(clock, tell, watch)
        self._node = node
        self._serving: Stream | None = None
        self._leaving: list[Stream] = []
        self._left = 0
        self._wanted: Snapshot | None = None
        self.expect(node)

    def want(self, snapshot: Snapshot) -> None:
        """Say what every Envoy of the node should hold."""
        self._wanted = snapshot
        for stream in self._leaving:
            self.publish(stream.node, snapshot)
        self.publish(self._node, snapshot)

    def open(self, node: str, outlet: Outlet) -> Stream:
        """Begin a stream. Raises UnknownNode."""
        if node == self._node and self._serving:
            self._make_way(self._serving)
        stream = super().open(node, outlet)
        self._serving = stream
        return stream

    def close(self, stream: Stream) -> None:
        """Take note that a stream ended; when it is the one that serves, one that was leaving may still be there."""
        super().close(stream)
        if stream in self._leaving:
            self._leaving.remove(stream)
            self.forget(stream.node)
        elif stream is self._serving:
            self._serving = self._leaving.pop() if self._leaving else None
            if self._serving:
                self.rename(self._serving.node, self._node)
                self._offer()

    def _make_way(self, stream: Stream) -> None:
        self._left += 1
        self.rename(self._node, f"{self._node} (leaving, {self._left})")
        self._leaving.append(stream)
        self.expect(self._node)
        self._offer()

    def _offer(self) -> None:
        if self._wanted:
            self.publish(self._node, self._wanted)
