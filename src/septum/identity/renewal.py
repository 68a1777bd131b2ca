"""When a certificate is renewed."""

from __future__ import annotations

_JITTER = 0.1


def renew_at(not_before: float, not_after: float, draw: float) -> float:
    """When to renew (seconds since 1970): at half its life, earlier or later by up to a tenth of that.

    `draw` is from 0 to 1, at random, so that certificates that were issued together are not renewed together. The other
    half of the life is what an outage of the control plane may take.
    """
    half = (not_after - not_before) / 2
    return not_before + half * (1 + _JITTER * (2 * draw - 1))
