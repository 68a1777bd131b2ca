"""What of a candidate's mesh cannot be asked beside the enforced one, said to its author."""

from __future__ import annotations

import pytest

from meshes import SHOP, policy
from septum.policy.candidate import left_out

PLACES = "external:\n  pay: {host: pay.test, port: 443, protocol: http}\n"


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("", "", []),
        ("core: order handling", "core: orders and baskets", []),
        ("health: /healthz", "health: /ready", []),
        ("health: /healthz", "health: /healthz, path_parameters: true, ignore_case: true", []),
        ("9103", "9113", ["`payments` has another `at` in the candidate: the enforced one stays"]),
        ("enforce: [pci, data]", "enforce: [pci, data, edge]",
         ["`storefront` would be enforced: a candidate carries nothing out, whatever its mode"]),
        ("enforce: [pci, data]", "enforce: [pci]",
         ["`ledger` would be observed: a candidate carries nothing out, whatever its mode"]),
        ("protocol: grpc", "protocol: http",
         ["`payments` is something else in the candidate (http): every call to it counts as denied"]),
        ("  ledger:     {segment: data, at: 127.0.0.1:9104, protocol: tcp}\n",
         "  basket:     {segment: data, at: 127.0.0.1:9104, protocol: tcp}\n",
         ["`basket` is not in the enforced mesh, so nobody can call it yet, nor it anybody",
          "`ledger` is not in the candidate: every call to it or from it counts as denied"]),
        ("enforce: [pci, data]\n", f"enforce: [pci, data]\n{PLACES}",
         ["`pay` is not in the enforced mesh, so nobody can call it yet, nor it anybody"]),
        ("enforce: [pci, data]\n", 'enforce: [pci, data]\nissuers:\n  shop: {issuer: "https://a.test", '
         'audiences: [shop], jwks: "https://a.test/keys"}\n',
         ["the issuers of tokens differ: tokens are verified as the enforced mesh says"]),
    ],
)  # fmt: skip
def test_what_is_left_out(before: str, after: str, said: list[str]) -> None:
    assert before in SHOP
    proposed = policy("allow: []\n", SHOP.replace(before, after) if before else SHOP)
    assert list(left_out(policy("allow: []\n").mesh, proposed.mesh)) == said


def test_an_upgrade_that_the_enforced_route_refuses() -> None:
    enforced = SHOP.replace("enforce: [pci, data]", "enforce: [core]")
    proposed = enforced.replace("health: /healthz", "health: /healthz, websocket: true")
    said = left_out(policy("allow: []\n", enforced).mesh, policy("allow: []\n", proposed).mesh)
    assert said == ("`orders` would take WebSocket: its proxy still refuses it before anything is asked",)
    # Where it is observed, its proxy lets every upgrade by.
    observed = left_out(policy("allow: []\n").mesh, policy("allow: []\n", proposed).mesh)
    assert not any("WebSocket" in sentence for sentence in observed)
