"""What a look at an end user's token costs, with the memory of tokens that were verified and without it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from bench import decision, filesystem, meshes
from bench.backend import backend
from bench.decision import CALLERS, CONNECTIONS, Variant
from bench.filesystem import Resources
from bench.load import Wire, request
from bench.network import address, written
from bench.progress import say
from bench.report import Effort, Report, Row, spread
from septum.model.policy import Policy

ISSUER, AUDIENCE = "https://login.bench.test", "bench"
RULES = 1_000
_KEYS: dict[str, Callable[[], Any]] = {
    "RS256": partial(rsa.generate_private_key, 65537, 2048),
    "ES256": partial(ec.generate_private_key, ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
}


def measure(effort: Effort) -> Report:
    """For each algorithm an Envoy that remembers tokens, one that does not, and one whose rules ask for none."""
    rounds, count = effort.of(40, 2), effort.of(400, 100)
    chosen = _variants(effort)
    with TemporaryDirectory(prefix="septum-bench-") as place, ExitStack() as stack:
        stack.enter_context(backend(Path(place), address(decision.BACKEND)))
        for variant in chosen:
            say(f"tokens: starting {variant.label}")
            stack.enter_context(decision.started(variant, Path(place)))
        for number in range(rounds):
            if number % 10 == 0:
                say(f"tokens: round {number + 1} of {rounds}")
            for variant in chosen:
                variant.micros.append(decision.measure_once(variant, count))
    return _report(chosen, rounds, count)


def _variants(effort: Effort) -> list[Variant]:
    made: list[Variant] = []
    allowed = meshes.allowances(effort.of(RULES, 10), CALLERS)
    files = meshes.one_target(allowed, CALLERS, written(decision.BACKEND))
    for algorithm in ("ES256",) if effort.quick else tuple(_KEYS):
        key = _KEYS[algorithm]()
        asking = decision.read(meshes.with_tokens(files, ISSUER, AUDIENCE, _jwks(algorithm, key), "policy/api.yaml"))
        base = len(made)

        def variant(label: str, make: decision.Make, policy: Policy) -> None:
            asks = _wires(allowed, len(made), [_token(algorithm, key, n) for n in range(CONNECTIONS)])  # noqa: B023
            made.append(Variant(f"{algorithm}, {label}", len(made), 0, make, base=base, policy=policy, asks=asks))  # noqa: B023

        variant("no rule asks for it", decision.ours, decision.read(files))
        variant("remembered", decision.ours, asking)
        variant("verified each time", _forgetful, asking)
    return made


def _forgetful(policy: Policy, group: int) -> Resources:
    return filesystem.without_token_cache(decision.ours(policy, group))


def _wires(allowed: Sequence[meshes.Allowed], group: int, tokens: Sequence[str]) -> list[Wire]:
    """A connection for each of the first callers, each with a token of its own."""
    made = []
    for number, token in enumerate(tokens):
        own = [rule for rule in allowed if rule.caller == meshes.caller(number)]
        asks = [request(rule.method, "api", rule.path, authorization=f"Bearer {token}") for rule in own]
        made.append(Wire(address(group, number + 1), asks))
    return made


def _token(algorithm: str, key: Any, number: int) -> str:
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": f"user-{number}", "iat": now, "exp": now + 3600}
    groups = {"groups": ["support", "billing"]}
    return jwt.encode(claims | groups, key, algorithm, headers={"kid": algorithm})


def _jwks(algorithm: str, key: Any) -> str:
    made: dict[str, Any] = jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key(), as_dict=True)
    return json.dumps({"keys": [made | {"kid": algorithm, "alg": algorithm, "use": "sig"}]})


def _report(chosen: Sequence[Variant], rounds: int, count: int) -> Report:
    rows = []
    for variant in chosen:
        assert variant.base is not None
        base = chosen[variant.base].micros
        of_min, of_rounds = decision.ratios(variant.micros, base)
        more = median(own - other for own, other in zip(variant.micros, base, strict=True))
        cells = (*spread(variant.micros), f"{more:+.1f}", f"{of_min:.2f}", f"{of_rounds:.2f}")
        rows.append(Row(variant.label, cells))
    how = (
        f"CPU time of the proxy's process a request, as in the table of decisions: {count} requests a round, {rounds} "
        f"rounds over all variants in turn, {len(chosen)} Envoys with one worker each.",
        "Every request carries a token (the RSA key has 2,048 bits), one a connection, and is allowed. `no rule asks "
        "for it`: the same rules without `when`. `verified each time`: the same Envoy without its cache of tokens. "
        "`more`: median of the differences within each round.",
    )
    columns = ("min", "median", "more", "min x", "median x")
    return Report("CPU of a request with an end user's token (µs)", columns, tuple(rows), how)
