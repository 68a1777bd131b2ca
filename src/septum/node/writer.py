"""The Envoy that writes the decisions, as the record's reader asks it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from septum.audit.account import Counted
from septum.node import admin, adopted

_ENVOY = "envoy"


@dataclass(frozen=True, slots=True)
class EnvoyWriter:
    """Asks the Envoy of a state directory; `counter` is the name of its count of decisions."""

    state: Path
    counter: str

    async def reopen(self) -> None:
        """Have the log opened again; asked again by the caller until there is a new file."""
        try:
            await admin.reopen_logs(self.state)
        except admin.AdminError:
            return  # Envoy is not there: it opens the new file when it starts

    async def counts(self) -> Sequence[Counted]:
        """The decisions of the runs that others took over from, and of the one that is there now if it answers."""
        counted = await self.counted()
        earlier = [Counted(run, count) for run, count in adopted.counts_of(self.state, _ENVOY).items()]
        return [*earlier, counted] if counted else earlier

    async def counted(self) -> Counted | None:
        """The decisions of the run that is there now, or None when it cannot be asked."""
        noted = adopted.read(self.state, _ENVOY)
        counter = await admin.counter_of_epoch(self.state, self.counter)
        if noted is None or counter is None or noted.run != adopted.run_of(self.state, _ENVOY):
            return None
        # A successor may answer before it has taken over.
        return Counted(noted.run, counter.value) if noted.epoch in (None, counter.epoch) else None
