"""The square: of generated policies and requests `decide`, the set algebra, z3 and a real Envoy say the same.

Envoy names the rule that `decide` names. What z3 and the set algebra find between two policies passes under the one and
not under the other. `make soak` goes on with it for as long as it is told.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise, product

import pytest
from square import (
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

from septum.model.operation import HttpOperation
from septum.policy.decide import decide

# Enough for thousands of requests; the seed is in the test's name, so a failure says how to get it back.
POLICIES = 48
REQUESTS = 80
GRANTS = 0.15

COUNT = {"requests": 0, "witnesses": 0}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with square_lab() as lab:
        yield lab
    print(f"the square: {COUNT['requests']} requests, {COUNT['witnesses']} witnesses")


@pytest.mark.parametrize("seed", range(POLICIES))
def test_http1(lab: Lab, seed: int) -> None:
    generator = Generator(lab.mesh, seed, grants=GRANTS)
    policy = generator.policy()
    lab.proxy.hold(policy)
    operations = [generator.near_a_rule(policy) for _ in range(REQUESTS)]
    COUNT["requests"] += len(agree(lab, policy, send_http1(lab, operations, f"h1-{seed}")))


@pytest.mark.parametrize("seed", range(100, 100 + POLICIES // 2))
def test_http2(lab: Lab, seed: int) -> None:
    generator = Generator(lab.mesh, seed, grants=GRANTS)
    policy = generator.policy()
    lab.proxy.hold(policy)
    operations = [generator.near_a_rule(policy) for _ in range(REQUESTS)]
    COUNT["requests"] += len(agree(lab, policy, send_http2(lab, operations, f"h2-{seed}")))


@pytest.mark.parametrize("seed", range(200, 200 + POLICIES // 2))
def test_grpc(lab: Lab, seed: int) -> None:
    generator = Generator(lab.mesh, seed, grants=GRANTS)
    policy = generator.policy()
    lab.proxy.hold(policy)
    r, callers = generator.random, list(lab.mesh.workloads)
    calls = [(r.choice(callers), r.choice(SERVICES), r.choice(RPCS)) for _ in range(REQUESTS)]
    COUNT["requests"] += len(agree(lab, policy, send_grpc(lab, calls, f"grpc-{seed}")))


@pytest.mark.parametrize("seed", range(300, 300 + POLICIES // 2))
def test_tcp(lab: Lab, seed: int) -> None:
    policy = Generator(lab.mesh, seed, grants=GRANTS).policy()
    lab.proxy.hold(policy)
    pairs = product(lab.mesh.workloads, ("store", "watched-store", "vault", "watched-vault"))
    COUNT["requests"] += len(agree(lab, policy, send_connects(lab, pairs, f"tcp-{seed}")))


@pytest.mark.parametrize("seed", range(400, 400 + POLICIES // 2))
def test_what_is_found_between_two_policies_passes_under_one_of_them_alone(lab: Lab, seed: int) -> None:
    generator = Generator(lab.mesh, seed, grants=GRANTS)
    policies = [generator.policy()]
    for _ in range(3):
        policies.append(generator.near(policies[-1]))
    pairs = list(pairwise(policies))
    for number, (old, new) in enumerate([*pairs, *(pair[::-1] for pair in pairs)]):
        found = witnesses(old, new)
        for request in found:
            assert isinstance(request.operation, HttpOperation)
            assert (decide(old, request).allowed, decide(new, request).allowed) == (True, False), request
        for policy, passes in ((old, True), (new, False)) if found else ():
            lab.proxy.hold(policy)
            operations = [sending(request) for request in found]
            sent = agree(lab, policy, send_http1(lab, operations, f"w-{seed}-{number}-{passes}"))
            # What was found is what is seen when it is sent: its path is normalised as it stands.
            assert [one.request.operation for one in sent] == [request.operation for request in found]
            assert [one.passed for one in sent] == [passes] * len(found), (found, old.rules, new.rules)
        COUNT["witnesses"] += len(found)
