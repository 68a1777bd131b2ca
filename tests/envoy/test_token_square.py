"""The square with claims: for generated rules and tokens, a real Envoy and `decide` say the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from square import RPCS, SERVICES, Generator
from token_lab import Asked, Case, Lab, agree, asking, bearer, token_lab
from tokens import AUDIENCE, ISSUER, Signer, jwks, valid_claims

from oracle import naming
from septum.model.claims import AnyOf, Contains, Equals, Scope, Test, When
from septum.model.mesh import Issuer
from septum.model.operation import HttpOperation
from septum.model.policy import Policy, Rule
from septum.policy.ask import http_operation

PARTNER_ISSUER = "https://login.partner.test"
SIGNERS = {ISSUER: Signer.new("ES256", "one"), PARTNER_ISSUER: Signer.new("EdDSA", "one")}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    issuers = [Issuer(f"i{n}", iss, (AUDIENCE,), jwks(signer)) for n, (iss, signer) in enumerate(SIGNERS.items())]
    with token_lab(*issuers) as lab:
        yield lab


class Conditional(Generator):
    """Rules that often ask for claims, and tokens that often have them."""

    values = ("a", "b", "a b", "", "1", 1, 0, True, False)

    def _rule(self, index: int) -> Rule:
        made = super()._rule(index)
        return replace(made, when=self._when()) if self.random.random() < 0.6 else made

    def _when(self) -> When:
        tests = {self.random.choice("xy"): self._test() for _ in range(self.random.randint(0, 2))}
        return asking(*tests.items(), iss=self.issuer())

    def _test(self) -> Test:
        r = self.random
        some = tuple(r.sample(self.values, r.randint(1, 3)))
        return r.choice((Equals(some[0]), AnyOf(some), Contains(some[0]), Scope(r.choice("ab"))))

    def issuer(self) -> str:
        return self.random.choice((ISSUER, ISSUER, PARTNER_ISSUER))

    def token(self, policy: Policy, caller: str, target: str) -> tuple[tuple[str, ...], dict[str, Any]]:
        """The headers, and the claims that they amount to: often such as some rule for the two asks for."""
        r = self.random
        if r.random() < 0.1:
            return (), {}
        values = [*self.values, *(list(r.sample(self.values, r.randint(0, 3))) for _ in self.values)]
        claims = {"iss": self.issuer(), "x": r.choice(values), "y": r.choice(values)}
        whens = [rule.when for rule in naming(policy, caller, target) if rule.when is not None]
        if whens and r.random() < 0.7:
            claims |= {name: self._meeting(test) for name, test in r.choice(whens).claims}
        return bearer(SIGNERS[claims["iss"]].token(claims)), valid_claims(claims)

    def _meeting(self, test: Test) -> object:
        r = self.random
        match test:
            case Equals(value):
                return value
            case AnyOf(values):
                return r.choice(values)
            case Contains(value):
                return [value, r.choice(self.values)]
            case Scope(word):
                return r.choice((word, f"{word} z", f"z {word}", f"z {word} z", f"z{word} {word}z"))


@pytest.mark.parametrize("seed", range(400, 432))
@pytest.mark.parametrize("protocol", ["h1", "h2"])
def test_http(lab: Lab, seed: int, protocol: str) -> None:
    generator = Conditional(lab.mesh, seed)
    policy = generator.policy()
    lab.proxy.hold(policy)
    cases: list[Case] = []
    while len(cases) < 60:
        caller, target, method, path, _ = generator.near_a_rule(policy)
        named = lab.mesh.workloads.get(target)
        if named is not None and named.protocol == "http" and isinstance(http_operation(method, path), HttpOperation):
            authorization, claims = generator.token(policy, caller, target)
            cases.append(Case(f"seed {seed}", Asked(caller, target, path, authorization, method), claims))
    agree(lab, policy, cases, protocol)


@pytest.mark.parametrize("seed", range(500, 516))
def test_grpc(lab: Lab, seed: int) -> None:
    generator = Conditional(lab.mesh, seed)
    policy = generator.policy()
    lab.proxy.hold(policy)
    cases = []
    for _ in range(60):
        caller = generator.random.choice(list(lab.mesh.workloads))
        path = f"/{generator.random.choice(SERVICES)}/{generator.random.choice(RPCS)}"
        authorization, claims = generator.token(policy, caller, "rpc")
        cases.append(Case(f"seed {seed}", Asked(caller, "rpc", path, authorization), claims))
    agree(lab, policy, cases, "grpc")
