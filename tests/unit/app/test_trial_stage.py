from __future__ import annotations

import base64
import json

import jwt
import pytest

import meshes
from septum.app.trial.stage import staged, windows_at
from septum.app.trial.tokens import Signer
from septum.model.mesh import Address, Protocol

AT = {protocol: Address("127.0.0.1", 20000 + number) for number, protocol in enumerate(Protocol)}
WINDOWS = """\
allow:
  - {name: always, from: orders, to: ledger}
  - {name: once, from: orders, to: ledger, from_time: 2026-01-01T00:00:00Z, until: 2026-02-01T00:00:00Z}
  - {name: from-then, from: orders, to: ledger, from_time: 2026-02-01T00:00:00Z}
"""
# 2026-02-01T00:00:00Z
TURN = 1769904000


def test_nothing_of_the_mesh_is_listened_at_or_called() -> None:
    mesh = meshes.SHOP.replace("protocol: tcp}", "protocol: tcp, outbound: 127.0.0.1:7, dials: {}}")
    policy = meshes.policy(
        mesh=mesh.replace("9102, protocol: http", "9102, protocol: http, dials: {ledger: 127.0.0.1:8}")
    )
    stage = staged(policy, AT, {"orders": Address("127.0.0.1", 5)}, "{}").mesh
    assert {one.at for one in stage.workloads.values()} <= set(AT.values())
    assert {str(one.outbound) for one in stage.workloads.values()} == {"127.0.0.1:5", "None"}
    assert all(not one.dials for one in stage.workloads.values())


@pytest.mark.parametrize(
    ("moment", "clock", "holding"),
    [
        (TURN - 1000, TURN + 1000, {"once"}),
        (TURN + 1000, TURN - 1000, {"from-then"}),
        (TURN + 1000, TURN + 1001, None),
        (TURN - 2, TURN - 1, {"once"}),
        (TURN, TURN, {"from-then"}),
    ],
    ids=["before", "after", "now", "just before", "at the turn"],
)
def test_a_proxy_goes_by_its_own_clock_where_that_is_the_moment(
    moment: float, clock: float, holding: set[str] | None
) -> None:
    assert windows_at(meshes.policy(WINDOWS), moment, clock) == holding


def test_without_windows_every_moment_is_alike() -> None:
    assert windows_at(meshes.policy(meshes.SHOP_RULES), 0, TURN) is None


def test_a_token_is_signed_by_the_key_that_is_published() -> None:
    signer = Signer()
    claims = {"iss": "me", "aud": ["a", "b"], "groups": [1, True, "x"]}
    token = signer.token(claims, now=4_000_000_000)
    [key] = jwt.PyJWKSet.from_json(signer.jwks).keys
    assert jwt.decode(token, key.key, algorithms=["ES256"], audience="a") == {**claims, "exp": 4_000_003_600}
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(token, jwt.PyJWKSet.from_json(Signer().jwks).keys[0].key, algorithms=["ES256"], audience="a")


def test_a_key_is_public_alone() -> None:
    [key] = json.loads(Signer().jwks)["keys"]
    assert set(key) == {"kty", "crv", "alg", "kid", "x", "y"}
    assert len(base64.urlsafe_b64decode(key["x"] + "=")) == 32
