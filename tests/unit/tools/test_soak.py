"""What `make soak` prints of a difference is small, and a case as it stands."""

from __future__ import annotations

from dataclasses import replace

import literate
from judges import Difference
from rivals import CALLER, LOGIN, TARGET, mesh_of, policy_of, rule_of
from septum.model.claims import Equals, When
from septum.model.decision import Request
from septum.model.mesh import Address, External, Protocol, Workload
from septum.model.operation import HttpOperation
from septum.model.policy import Policy
from septum.model.window import Window
from septum.policy.load import load
from septum.policy.quarantine import quarantined
from tools.soak import shrunk

ORDERS = Workload(TARGET, "all", Address("127.0.0.1", 9102), Protocol.HTTP, health="/healthz", path_parameters=True)
ASKED = Request(CALLER, TARGET, HttpOperation("DELETE", "/a"), {"iss": LOGIN}, 15.0)
SAID = {"decide": True, "region": False}


def policy() -> Policy:
    when, window = When((("iss", Equals(LOGIN)),)), Window(10, 20)
    rules = [rule_of("GET /b", "GET,HEAD /c/**", on=ORDERS, id=f"r{at}", window=window) for at in range(9)]
    rules[5] = rule_of("GET /b", "DELETE /a", "POST /{id}", on=ORDERS, id="r5", when=when, window=window)
    return policy_of(mesh_of(ORDERS), rules)


def test_of_a_policy_what_shows_the_difference_is_left() -> None:
    def differs(policy: Policy) -> Difference | None:
        shown = any(p.text == "DELETE /a" for rule in policy.rules for p in rule.operations or ())
        return Difference(policy, ASKED, SAID) if shown else None

    found = shrunk(Difference(policy(), ASKED, SAID), differs)
    (rule,) = found.policy.rules
    assert (rule.id, rule.when, rule.window) == ("r5", None, None)
    assert [pattern.text for pattern in rule.operations or ()] == ["DELETE /a"]


def test_a_difference_that_does_not_come_again_stays_as_it_is() -> None:
    first = Difference(policy(), ASKED, SAID)
    assert shrunk(first, lambda policy: None) is first


def test_a_difference_is_printed_as_a_case_that_is_read_as_the_same_policy_and_request() -> None:
    shut = quarantined(policy(), [TARGET])
    for one, names in ((policy(), ""), (shut, TARGET)):
        text = str(Difference(one, ASKED, SAID, "Somebody is wrong."))
        loaded = load(literate._files(text))
        assert loaded.policy is not None, loaded.errors
        assert quarantined(loaded.policy, names.split()) == one
        (asked,) = literate._asked(text)
        assert (asked.caller, asked.target, asked.operation) == (CALLER, TARGET, "DELETE /a")
        assert (asked.claims, asked.time) == (f'{{"iss": "{LOGIN}"}}', "1970-01-01T00:00:15Z")
        assert (asked.decision, asked.rule) == (("deny", "") if names else ("allow", "r5"))
        assert "decide: allow, region: deny" in text


def test_of_the_mesh_those_are_printed_who_play_a_part_and_at_places_that_a_mesh_can_have() -> None:
    mesh = mesh_of(External(TARGET, "localhost", 80, Protocol.HTTP))
    crowd = {name: replace(mesh.workloads[CALLER], name=name) for name in ("other", CALLER)}
    one = policy_of(replace(mesh, workloads=crowd), [rule_of("GET /a", on=mesh.targets[TARGET])])
    loaded = load(literate._files(str(Difference(one, ASKED, SAID))))
    assert loaded.policy is not None, loaded.errors
    assert set(loaded.policy.mesh.targets) == {CALLER, TARGET}
    assert loaded.policy.rules == one.rules
