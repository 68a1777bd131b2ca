"""Which policy a record was decided by: found by the digest of its target's rules, which every record carries."""

from __future__ import annotations

from collections import OrderedDict

from septum.control.plane import Plane
from septum.control.state import State, StateError
from septum.model.policy import Policy
from septum.policy.digest import slice_of
from septum.policy.load import Loader
from septum.policy.quarantine import quarantined

KEPT = 16


class History:
    """Policies that proxies hold or held. The current one answers almost always; older ones are read from the state."""

    def __init__(self, state: State, plane: Plane) -> None:
        self._state, self._plane = state, plane
        self._loader = Loader()
        self._policies: OrderedDict[str, Policy] = OrderedDict()
        self._found: OrderedDict[tuple[str, str], Policy | None] = OrderedDict()
        self._for: Policy | None = None

    def policy_for(self, target: str | None, slice: str | None, time: float) -> Policy | None:
        """The newest policy in which the target had these rules; without them, the one that is enforced now."""
        current = self._plane.policy
        if current is not self._for:
            self._for, self._found = current, OrderedDict()
        if target is None or slice is None:
            return current
        key = (target, slice)
        if key not in self._found:
            self._found[key] = self._search(current, target, slice, time)
            if len(self._found) > 4096:
                self._found.popitem(last=False)
        return self._found[key]

    def _search(self, current: Policy | None, target: str, slice: str, time: float) -> Policy | None:
        if current is not None and target in current.mesh.targets and slice_of(current, target) == slice:
            return current
        try:
            version = self._state.with_slice(target, slice, time)
        except StateError:
            return None
        if version is None:
            return None
        if version.digest not in self._policies:
            policy = self._loader.load(version.files).policy
            if policy is None:
                return None
            self._policies[version.digest] = quarantined(policy, version.quarantined)
            if len(self._policies) > KEPT:
                self._policies.popitem(last=False)
        return self._policies[version.digest]
