"""`make soak`: the square and the laws of the policy language, with new cases until the time is over.

One process draws policies and asks `decide`, the set algebra and z3; another asks a real Envoy too. How many cases
there were is printed as it goes. Where two differ, the case is made as small as it gets, printed as a case for
tests/policy/*.md, and the answer is 1.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from queue import Empty
from typing import Any

_ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(_ROOT / "tests"), str(_ROOT / "tests" / "envoy")]

from hypothesis import HealthCheck, Phase, given, seed, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from hypothesis.strategies import DataObject  # noqa: E402
from square import (  # noqa: E402  # noqa: E402
    RPCS,
    SERVICES,
    Generator,
    Lab,
    agree,
    send_connects,
    send_grpc,
    send_http1,
    send_http2,
    sending,
    square_lab,
    witnesses,
)

import rivals  # noqa: E402 - the directories above come first
from judges import Difference, Judges  # noqa: E402
from oracle import Question  # noqa: E402
from rivals import CALLER, TARGET, Rivals  # noqa: E402
from septum.model.decision import Request  # noqa: E402
from septum.model.policy import Policy, Rule  # noqa: E402
from septum.policy.decide import decide  # noqa: E402
from septum.verify import region  # noqa: E402

Counts = Counter[str]
Round = Callable[[int], Counts]
_EVERY = 10.0
# Characters of what went wrong: Envoy's reasons have the whole configuration in them.
_SHOWN = 20_000


def main() -> int:
    """Run both parts side by side. The answer is 0, 1 for a difference, 2 when a part broke."""
    arguments = argparse.ArgumentParser(description="Ask decide, the set algebra, z3 and Envoy the same, for minutes.")
    arguments.add_argument("--minutes", type=float, default=10)
    arguments.add_argument("--seed", type=int, default=None, help="where to begin; drawn when it is not given")
    given_ = arguments.parse_args()
    first = random.SystemRandom().randrange(1 << 32) if given_.seed is None else given_.seed
    print(f"soak: seed {first}, {given_.minutes:g} minutes", flush=True)
    processes = multiprocessing.get_context("spawn")
    said: Any = processes.Queue()
    until = time.monotonic() + given_.minutes * 60
    parts = [processes.Process(target=_part, args=(part, first, until, said), daemon=True) for part in _PARTS]
    for part in parts:
        part.start()
    try:
        return _watch(said, parts)
    finally:
        for part in parts:
            part.terminate()
            part.join(10)


def _watch(said: Any, parts: list[Any]) -> int:
    """Add up and print what the parts say, until they end or one has found something."""
    total: Counts = Counter()
    began = shown = time.monotonic()
    ended = 0
    while ended < len(parts):
        try:
            message = said.get(timeout=1)
        except Empty:
            message = Counter()
        match message:
            case Counter():
                total += message
            case "ended":
                ended += 1
            case str():
                _show(total, began)
                print(message, flush=True)
                return 1
        if time.monotonic() - shown > _EVERY:
            shown = time.monotonic()
            _show(total, began)
        if any(part.exitcode for part in parts):
            print("soak: a part ended by itself; see above", flush=True)
            return 2
    _show(total, began)
    print("soak: no difference", flush=True)
    return 0


def _show(total: Counts, began: float) -> None:
    seconds = time.monotonic() - began
    counts = ", ".join(f"{total[what]} {what} ({total[what] / seconds:.0f}/s)" for what in sorted(total))
    print(f"soak: {seconds:.0f} s: {counts}", flush=True)


def _part(part: str, first: int, until: float, said: Any) -> None:
    """Rounds of one kind, each with the next seed."""
    with _PARTS[part]() as rounds:
        number = first
        while time.monotonic() < until:
            try:
                said.put(rounds(number))
            except AssertionError as failure:  # a difference, or a policy that Envoy does not hold
                said.put(f"soak: {part}, seed {number}\n{str(failure)[:_SHOWN]}")
                return
            number += 1
    said.put("ended")


# --- the laws


class _Laws:
    """`decide`, the set algebra and z3 on two sets of rules about one target."""

    def __enter__(self) -> Round:
        return self._round

    def __exit__(self, *_: object) -> None:
        pass

    def _round(self, number: int) -> Counts:
        counts: Counts = Counter()

        @seed(number)
        @_SETTINGS
        @given(st.data())
        def laws(data: DataObject) -> None:
            counts.update(_laws(data))

        laws()
        return counts


_SETTINGS = settings(
    max_examples=50,
    database=None,
    deadline=None,
    report_multiple_bugs=False,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)


def _laws(data: DataObject) -> Counts:
    both = data.draw(rivals.rivals())
    requests = [data.draw(rivals.requests(both)) for _ in range(8)]
    for policy in both.policies:
        judges = Judges(policy, requests)
        for request in requests:
            judges.agreed(request)
    old, new = both.policies
    question = Question(both.target, both.rules)
    found = [*_between(both, question, old, new), *_between(both, question, new, old)]
    return Counter({"requests of three judges": 16, "differences": 2, "witnesses": len(found)})


def _between(both: Rivals, question: Question, of: Policy, without: Policy) -> Iterator[Request]:
    """What z3 and the set algebra find that the first policy alone allows, if `decide` and both say the same of it."""
    left = region.of_rules(of.rules, both.target) - region.of_rules(without.rules, both.target)
    by_z3 = question.difference(of.rules, without.rules, CALLER)
    asked = left.witness(both.target)
    by_region = asked and Request(
        CALLER, TARGET, asked.operation, asked.claims, 15.0 if asked.time is None else asked.time
    )
    for who, request in (("z3", by_z3), ("region", by_region)):
        if request is None:
            continue
        contained = left.contains(request.operation, request.claims, request.time or 0.0)
        wrong = decide(without, request).allowed or not decide(of, request).allowed or not contained
        if wrong or None in (by_z3, by_region):
            others = "\n".join(str(rule) for rule in without.rules)
            more = (
                f"{who} finds this between these rules and others; not all agree. The others:\n\n```text\n{others}\n```"
            )
            raise Difference(of, request, {who: True, "the rest": False}, more)
        yield request


def _any_time(time: float | None) -> float:
    return 15.0 if time is None else time


# --- the square


class _Square:
    """A real Envoy beside them, on random policies."""

    def __enter__(self) -> Round:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that Envoy ends too
        self._opened = square_lab()
        self._lab = self._opened.__enter__()
        return self._round

    def __exit__(self, *error: Any) -> None:
        self._opened.__exit__(*error)

    def _round(self, number: int) -> Counts:
        try:
            return _asked(self._lab, Generator(self._lab.mesh, number, grants=0.15), number)
        except Difference as difference:
            first = difference
        raise shrunk(first, lambda policy: _again(self._lab, policy, first))


def _asked(lab: Lab, generator: Generator, number: int) -> Counts:
    policy, r, callers = generator.policy(), generator.random, list(lab.mesh.workloads)
    lab.proxy.hold(policy)
    operations = [generator.near_a_rule(policy) for _ in range(120)]
    calls = [(r.choice(callers), r.choice(SERVICES), r.choice(RPCS)) for _ in range(15)]
    pairs = [(r.choice(callers), r.choice(("store", "watched-store", "vault", "watched-vault"))) for _ in range(8)]
    sent = [
        *send_http1(lab, operations[:90], f"h1-{number}"),
        *send_http2(lab, operations[90:], f"h2-{number}"),
        *send_grpc(lab, calls, f"grpc-{number}"),
        *send_connects(lab, pairs, f"tcp-{number}"),
    ]
    counts = Counter({"requests of Envoy": len(agree(lab, policy, sent))})
    return counts + _found(lab, policy, generator.near(policy), number)


def _found(lab: Lab, old: Policy, new: Policy, number: int) -> Counts:
    """What is between two policies, sent under both."""
    found = witnesses(old, new)
    for policy in (old, new) if found else ():
        lab.proxy.hold(policy)
        operations = [sending(request) for request in found]
        for one in agree(lab, policy, send_http1(lab, operations, f"w-{number}-{policy.version}")):
            if one.passed is not (policy is old):
                raise Difference(policy, one.request, {"Envoy": one.passed, "a witness": policy is old})
    return Counter({"witnesses of Envoy": len(found)})


def _again(lab: Lab, policy: Policy, first: Difference) -> Difference | None:
    """What differs when the same is sent under another policy."""
    if first.again is None:
        return None
    policy = replace(policy, version=f"{policy.version}+")
    try:
        lab.proxy.hold(policy)
        agree(lab, policy, first.again(f"again-{time.monotonic_ns()}"))
    except Difference as difference:
        return difference
    except AssertionError:
        return None  # Envoy does not hold it
    return None


# --- making it small


def shrunk(found: Difference, differs: Callable[[Policy], Difference | None]) -> Difference:
    """The difference under the smallest policy that shows one, as far as taking one thing away at a time leads."""
    while smaller := next((less for policy in _smaller(found.policy) if (less := differs(policy)) is not None), None):
        found = smaller
    return found


def _smaller(policy: Policy) -> Iterator[Policy]:
    """The policy with less in it, by the largest steps first."""
    rules = policy.rules
    half = len(rules) // 2
    if half > 1:
        yield from (replace(policy, rules=kept) for kept in (rules[:half], rules[half:]))
    for at, rule in enumerate(rules):
        yield replace(policy, rules=(*rules[:at], *rules[at + 1 :]))
        for less in _less(rule):
            yield replace(policy, rules=(*rules[:at], less, *rules[at + 1 :]))


def _less(rule: Rule) -> Iterator[Rule]:
    for at in range(len(rule.callers) if len(rule.callers) > 1 else 0):
        callers = (*rule.callers[:at], *rule.callers[at + 1 :])
        yield replace(rule, callers=callers, callers_text=",".join(callers))
    patterns = rule.operations or ()
    for at in range(len(patterns) if len(patterns) > 1 else 0):
        yield replace(rule, operations=(*patterns[:at], *patterns[at + 1 :]))
    if rule.when is not None:
        yield replace(rule, when=None)
    if rule.window is not None:
        yield replace(rule, window=None)


_PARTS: dict[str, Callable[[], Any]] = {"laws": _Laws, "square": _Square}

if __name__ == "__main__":
    sys.exit(main())
