"""Why an end user's token does not pass a rule's `when`, in words. A claim's value is nobody's business but its own."""

from __future__ import annotations

import json
from typing import assert_never

from septum.model.claims import AnyOf, Claims, Contains, Equals, Scope, Test, Value, When, failed


def token_mismatch(when: When | None, claims: Claims) -> str:
    """What a record says of a condition that does not hold; what the token says stays out of it."""
    missed = failed(when, claims) if when is not None else None
    assert missed is not None  # asked of conditions that do not hold alone
    name, test = missed
    if not claims:
        return f"token: there is no valid one, and its `{name}` {_has_to(test)}"
    if name not in claims:
        return f"token: it has no `{name}`, which {_has_to(test)}"
    return f"token: its `{name}` does not fit; it {_has_to(test)}"


def _has_to(test: Test) -> str:
    match test:
        case Equals(value):
            return f"has to be {_shown(value)}"
        case AnyOf(values):
            return f"has to be one of {', '.join(map(_shown, values))}"
        case Contains(value):
            return f"has to be a list that holds {_shown(value)}"
        case Scope(word):
            return f"has to hold the word {_shown(word)}"
        case _:
            assert_never(test)


def _shown(value: Value) -> str:
    return json.dumps(value, ensure_ascii=False)
