"""The operations on a candidate: proposed, shown, stopped, promoted to what is enforced."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from typing import Any

from septum.control.applied import Applied, Outcome
from septum.control.candidates import Beside, Proposed, summary
from septum.control.plane import Plane
from septum.control.service import files_of, text_of
from septum.model.mesh import Mesh
from septum.policy.candidate import left_out
from septum.policy.load import load
from septum.rpc.local import Handler


class Shadows:
    """Asks one candidate at a time. `apply` is the operation of that name, by which one is promoted."""

    def __init__(self, plane: Plane, apply: Handler, clock: Callable[[], float]) -> None:
        self._plane, self._apply, self._clock = plane, apply, clock

    def handlers(self) -> Mapping[str, Handler]:
        """The operations by name."""
        return {
            "shadow.apply": self.apply,
            "shadow.show": self.show,
            "shadow.stop": self.stop,
            "shadow.promote": self.promote,
        }

    async def apply(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """`files` and `unreadable` as for `apply`; `targets` (None: all); `author`; `patience` in seconds.

        Answers as `apply` does, with the candidate's `version`, and `left_out`: what of its mesh is not asked.
        """
        enforced = self._plane.base
        if enforced is None:
            return {"error": "nothing is enforced yet, so there is nothing to stand beside: `septum apply`"}
        files, targets = files_of(request), request.get("targets")
        loaded = load(files)
        if loaded.policy is None:
            return asdict(Applied(Outcome.INVALID, diagnostics=loaded.diagnostics)) | {"left_out": []}
        if why_not := _unfit(enforced.mesh, loaded.policy.mesh, targets or ()):
            return {"error": why_not}
        contents = {path: content for path, content in files.items() if isinstance(content, bytes)}
        about = None if targets is None else frozenset(targets)
        author = text_of(request["author"])
        proposed = Proposed(loaded.policy.version, contents, about, author, self._clock(), enforced.version)
        applied = await self._plane.shadow(Beside.of(proposed, loaded.policy), author, _patience(request))
        said = {"version": proposed.version, "left_out": left_out(enforced.mesh, loaded.policy.mesh)}
        return asdict(applied) | said | {"diagnostics": [asdict(one) for one in loaded.diagnostics]}

    async def show(self, _: Mapping[str, Any]) -> Mapping[str, Any]:
        """The candidate, or None."""
        beside, enforced = self._plane.beside, self._plane.base
        if beside is None or enforced is None:
            return {"candidate": None}
        said = {"files": sorted(beside.proposed.files), "left_out": left_out(enforced.mesh, beside.base.mesh)}
        return {"candidate": {**(summary(beside, enforced) or {}), **said}}

    async def stop(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Ask it no more."""
        beside = self._plane.beside
        if beside is None:
            return _NONE
        applied = await self._plane.shadow(None, text_of(request["author"]), _patience(request))
        return asdict(applied) | {"version": beside.proposed.version}

    async def promote(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Apply the files of the candidate, on the terms of every apply, and ask it no more once they are enforced.

        Refused when something else is enforced than when it was proposed, unless `force`.
        """
        beside, base, enforced = self._plane.beside, self._plane.base, self._plane.policy
        if beside is None or base is None or enforced is None:
            return _NONE
        proposed = beside.proposed
        if proposed.base != base.version and not request.get("force"):
            moved = f"version {base.version[:12]} is enforced, and {proposed.base[:12]} was when the candidate came"
            return {"error": f"{moved}: ask it anew (`septum shadow apply`), or --force"}
        # The base again, so that nothing else comes between this look and the change.
        sent = {path: content.decode("utf-8") for path, content in proposed.files.items()}
        answer = await self._apply({**request, "files": sent, "base": enforced.version})
        if answer.get("outcome") in (Outcome.HELD, Outcome.SENT, Outcome.UNCHANGED):
            await self._plane.shadow(None, text_of(request["author"]), _patience(request))
        return answer


_NONE = {"error": "no candidate is asked: `septum shadow apply`"}


def _unfit(enforced: Mesh, own: Mesh, targets: Collection[str]) -> str:
    """Why a candidate cannot stand beside a mesh, or nothing."""
    if own.trust_domain != enforced.trust_domain:
        domains = f"{own.trust_domain} and not {enforced.trust_domain}"
        return f"the candidate is of the trust domain {domains}: its callers are nobody here"
    unknown = [name for name in targets if name not in enforced.targets]
    if unknown:
        known = ", ".join(sorted(enforced.targets))
        return f"no target is called {', '.join(f'`{name}`' for name in unknown)}; there are {known}"
    return ""


def _patience(request: Mapping[str, Any]) -> float:
    return float(request.get("patience", 5.0))
