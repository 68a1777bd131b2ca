"""A rule's conditions in words, as people read them beside what it allows."""

from __future__ import annotations

import json
from typing import assert_never

from septum.model.claims import AnyOf, Contains, Equals, Scope, Test, Value, When


def when_text(when: When) -> str:
    """`iss is "https://login.shop.test", groups holds "support"`."""
    return ", ".join(f"{name} {_test_text(test)}" for name, test in when.claims)


def _test_text(test: Test) -> str:
    match test:
        case Equals(value):
            return f"is {_shown(value)}"
        case AnyOf(values):
            return f"is one of {', '.join(map(_shown, values))}"
        case Contains(value):
            return f"holds {_shown(value)}"
        case Scope(word):
            return f"has the word {_shown(word)}"
        case _:
            assert_never(test)


def _shown(value: Value) -> str:
    return json.dumps(value, ensure_ascii=False)
