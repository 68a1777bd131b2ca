"""The laws of the policy language, each named as a sentence."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DataObject

import strategies
from render import named_files, render, rule_value, text
from septum.model.claims import NO_TOKEN, holds, implies
from septum.model.decision import Request
from septum.model.operation import GrpcOperation, HttpOperation, HttpPattern
from septum.model.policy import Policy, Rule
from septum.policy.ask import operation_of
from septum.policy.decide import decide, goes_through
from septum.policy.digest import slice_of
from septum.policy.load import Loaded, Loader, load
from septum.policy.quarantine import quarantined


def policies() -> st.SearchStrategy[Policy]:
    """Policies over meshes in which there may be everything that a mesh can have."""
    return strategies.wide_meshes().flatmap(strategies.policies)


def drawn(data: DataObject) -> tuple[Policy, Request]:
    policy = data.draw(policies())
    return policy, data.draw(strategies.requests(policy))


def allowed(policy: Policy, request: Request) -> bool:
    return decide(policy, request).allowed


def valid(loaded: Loaded) -> Policy:
    assert loaded.policy is not None, loaded.errors
    return loaded.policy


# --- what a decision is


@given(st.data())
def test_an_empty_policy_denies_everything(data: DataObject) -> None:
    policy, request = drawn(data)
    assert not allowed(strategies.with_rules(policy.mesh, []), request)


@given(st.data())
def test_a_request_is_allowed_exactly_when_some_rule_alone_allows_it(data: DataObject) -> None:
    policy, request = drawn(data)
    alone = [strategies.with_rules(policy.mesh, [rule]) for rule in policy.rules]
    assert allowed(policy, request) == any(allowed(one, request) for one in alone)


@given(st.data())
def test_removing_a_rule_never_widens_and_adding_it_back_never_narrows(data: DataObject) -> None:
    policy, request = drawn(data)
    for index in range(len(policy.rules)):
        less = strategies.with_rules(policy.mesh, [*policy.rules[:index], *policy.rules[index + 1 :]])
        assert allowed(less, request) <= allowed(policy, request)


@given(st.data())
def test_the_rule_that_is_named_allows_by_itself_and_names_caller_and_target(data: DataObject) -> None:
    policy, request = drawn(data)
    rule = decide(policy, request).rule
    if rule is not None:
        assert request.caller in rule.callers
        assert request.target in rule.targets
        assert allowed(strategies.with_rules(policy.mesh, [rule]), request)


@given(st.data())
def test_a_denial_always_has_a_reason_and_an_allow_always_has_a_rule(data: DataObject) -> None:
    policy, request = drawn(data)
    decision = decide(policy, request)
    if decision.allowed:
        assert decision.rule in policy.rules
        assert decision.nearest is None
    else:
        assert decision.rule is None
        assert decision.nearest is not None
        assert decision.nearest.mismatch


@given(st.data())
def test_when_only_the_caller_is_missing_the_nearest_rule_allows_its_own_callers(data: DataObject) -> None:
    policy, request = drawn(data)
    nearest = decide(policy, request).nearest
    if nearest is not None and nearest.rule is not None and nearest.mismatch.startswith("caller:"):
        for caller in nearest.rule.callers:
            assert allowed(policy, replace(request, caller=caller))


@given(st.data())
def test_who_is_not_in_the_mesh_neither_calls_nor_is_called(data: DataObject) -> None:
    policy, request = drawn(data)
    assert not allowed(policy, replace(request, caller="stranger"))
    assert not allowed(policy, replace(request, target="stranger"))


@given(st.data())
def test_places_outside_never_call(data: DataObject) -> None:
    policy, request = drawn(data)
    for place in policy.mesh.external or ():
        assert not allowed(policy, replace(request, caller=place))


# --- what end users' tokens do


@given(st.data())
def test_a_token_never_takes_anything_away_and_without_one_no_conditional_rule_allows(data: DataObject) -> None:
    policy, request = drawn(data)
    without = replace(request, claims=NO_TOKEN)
    unconditional = [rule for rule in policy.rules if rule.when is None]
    assert allowed(policy, without) <= allowed(policy, request)
    assert allowed(policy, without) == allowed(strategies.with_rules(policy.mesh, unconditional), request)


@given(st.data())
def test_a_condition_never_widens_and_holds_exactly_where_its_tests_do(data: DataObject) -> None:
    policy, request = drawn(data)
    freed = [replace(rule, when=None) for rule in policy.rules]
    held = [replace(rule, when=None) for rule in policy.rules if rule.when is None or holds(rule.when, request.claims)]
    assert allowed(policy, request) <= allowed(strategies.with_rules(policy.mesh, freed), request)
    assert allowed(policy, request) == allowed(strategies.with_rules(policy.mesh, held), request)


@given(st.data())
def test_when_a_token_is_what_is_missing_the_nearest_rule_covers_the_operation(data: DataObject) -> None:
    policy, request = drawn(data)
    nearest = decide(policy, request).nearest
    if nearest is not None and nearest.rule is not None and nearest.mismatch.startswith("token:"):
        freed = replace(nearest.rule, when=None)
        assert allowed(strategies.with_rules(policy.mesh, [freed]), request)
        assert ("no valid one" in nearest.mismatch) == (not request.claims)


@given(st.data())
def test_a_condition_that_another_implies_holds_wherever_that_one_does(data: DataObject) -> None:
    mesh = data.draw(strategies.wide_meshes().filter(lambda mesh: mesh.issuers))
    narrow, wide = (data.draw(strategies.whens(mesh)) for _ in range(2))
    claims = data.draw(strategies.tokens(mesh, narrow))
    if implies(narrow, wide) and (narrow is None or holds(narrow, claims)):
        assert wide is None or holds(wide, claims)


# --- what quarantine does


@given(st.data())
def test_nobody_calls_and_nobody_is_called_in_quarantine_and_others_are_as_they_were(data: DataObject) -> None:
    policy, request = drawn(data)
    shut = quarantined(policy, data.draw(strategies.quarantines(policy.mesh)))
    if {request.caller, request.target} & shut.quarantined:
        decision = decide(shut, request)
        assert not decision.allowed
        assert not goes_through(shut, request)
        assert decision.nearest is not None
        assert decision.nearest.mismatch.startswith("quarantine: ")
    else:
        assert replace(decide(shut, request), policy_version="") == replace(decide(policy, request), policy_version="")
        assert goes_through(shut, request) == goes_through(policy, request)


@given(st.data())
def test_quarantine_that_is_lifted_leaves_nothing_behind(data: DataObject) -> None:
    policy = data.draw(policies())
    names = data.draw(strategies.quarantines(policy.mesh))
    shut = quarantined(policy, names)
    assert shut.quarantined == names & policy.mesh.targets.keys()
    assert (shut == policy) == (shut.version == policy.version) == (not shut.quarantined)
    assert quarantined(shut, ()) == policy


@given(st.data())
def test_equal_slices_decide_alike_also_in_quarantine(data: DataObject) -> None:
    policy, request = drawn(data)
    shut = quarantined(policy, data.draw(strategies.quarantines(policy.mesh)))
    for target in policy.mesh.targets:
        asked = replace(request, target=target)
        if slice_of(policy, target) == slice_of(shut, target):
            assert _outcome(policy, asked) == _outcome(shut, asked)
            assert goes_through(policy, asked) == goes_through(shut, asked)


# --- what digests say


@given(st.data())
def test_equal_slices_decide_alike(data: DataObject) -> None:
    mesh = data.draw(strategies.wide_meshes())
    one, other = (data.draw(strategies.policies(mesh, most=2)) for _ in range(2))
    for target in mesh.targets:
        if slice_of(one, target) == slice_of(other, target):
            for policy in (one, other):
                request = replace(data.draw(strategies.requests(policy)), target=target)
                assert _outcome(one, request) == _outcome(other, request)


@given(st.data())
def test_a_slice_changes_only_with_the_rules_of_its_target(data: DataObject) -> None:
    policy = data.draw(policies())
    for rule in policy.rules:
        less = strategies.with_rules(policy.mesh, [other for other in policy.rules if other is not rule])
        unchanged = {name for name in policy.mesh.targets if slice_of(less, name) == slice_of(policy, name)}
        same_ids = {r.id for r in less.rules} == {r.id for r in policy.rules if r is not rule}
        assert unchanged.isdisjoint(rule.targets)
        assert not same_ids or unchanged == policy.mesh.targets.keys() - set(rule.targets)


def _outcome(policy: Policy, request: Request) -> tuple[bool, str | None]:
    decision = decide(policy, request)
    return decision.allowed, decision.rule.id if decision.rule else None


# --- what is written


@given(policies(), st.sampled_from((True, False, None)))
def test_loading_what_was_rendered_is_the_identity(policy: Policy, flow: bool | None) -> None:
    assert valid(load(render(policy, flow=flow))) == policy


@given(policies(), st.data())
def test_the_order_of_files_plays_no_part(policy: Policy, data: DataObject) -> None:
    files = _spread(policy, data)
    shuffled = {path: files[path] for path in data.draw(st.permutations(list(files)))}
    assert load(shuffled) == load(files)


@given(policies(), st.data())
def test_which_file_a_named_rule_is_in_plays_no_part(policy: Policy, data: DataObject) -> None:
    named = strategies.with_rules(policy.mesh, [rule for rule in policy.rules if "->" not in rule.id])
    assert valid(load(_spread(named, data))) == named


@given(policies())
def test_comments_and_blank_lines_play_no_part(policy: Policy) -> None:
    files = render(policy)
    for path in ("septum.yaml", "policy/rules.yaml"):
        files[path] = b"# a comment\n\n" + files[path].replace(b"\n", b"\n\n# another\n")
    assert valid(load(files)).version == policy.version


@given(st.data())
def test_a_loader_that_has_seen_other_files_gives_what_a_fresh_one_gives(data: DataObject) -> None:
    mesh = data.draw(strategies.wide_meshes())
    loader = Loader()
    for _ in range(4):
        other = data.draw(st.sampled_from((mesh, data.draw(strategies.wide_meshes()))))
        files = _spread(data.draw(strategies.policies(other)), data)
        if data.draw(st.booleans()):
            files["policy/0.yaml"] = data.draw(st.sampled_from((b"allow: [", b"allow:\n- {from: x}\n", b"", b"\xff")))
        seen, fresh = loader.load(files), load(files)
        assert seen == fresh
        assert [rule.span for rule in _rules(seen)] == [rule.span for rule in _rules(fresh)]


@given(policies(), st.data())
def test_whatever_stands_in_a_file_the_answer_is_a_policy_or_errors_that_point_into_it(
    policy: Policy, data: DataObject
) -> None:
    files = render(policy, flow=data.draw(st.sampled_from((True, False))))
    path = data.draw(st.sampled_from(sorted(files)))
    files[path] = _damaged(files[path], data)
    loaded = load(files)
    assert (loaded.policy is None) == bool(loaded.errors)
    for diagnostic in loaded.diagnostics:
        span, lines = diagnostic.span, files[diagnostic.span.file].decode("utf-8", "replace").split("\n")
        assert 1 <= span.line <= len(lines)
        assert 1 <= span.column <= len(lines[span.line - 1]) + 1
        assert (span.line, span.column) <= (span.end_line, span.end_column)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_without_a_crash(content: bytes) -> None:
    loaded = load({"septum.yaml": content, "policy/rules.yaml": content})
    assert loaded.policy is None
    assert loaded.errors


@given(strategies.http_patterns(), strategies.http_patterns(), strategies.paths(), st.booleans())
def test_a_pattern_that_covers_another_matches_all_that_it_matches(
    wide: HttpPattern, narrow: HttpPattern, path: str, ignore_case: bool
) -> None:
    assert wide.path.covers(wide.path)
    if wide.path.covers(narrow.path, ignore_case=ignore_case) and narrow.path.matches(path, ignore_case=ignore_case):
        assert wide.path.matches(path, ignore_case=ignore_case)


@given(strategies.operations())
def test_an_operation_is_read_back_from_what_is_shown_of_it(operation: object) -> None:
    if isinstance(operation, GrpcOperation) or (isinstance(operation, HttpOperation) and not operation.websocket):
        assert operation_of(str(operation), None) == operation


def _rules(loaded: Loaded) -> tuple[Rule, ...]:
    return loaded.policy.rules if loaded.policy else ()


def _spread(policy: Policy, data: DataObject) -> dict[str, bytes]:
    """The policy's rules over three files, each where it falls."""
    places: dict[str, list[object]] = {f"policy/{index}.yaml": [] for index in range(3)}
    for rule in policy.rules:
        places[data.draw(st.sampled_from(sorted(places)))].append(rule_value(policy.mesh, rule))
    files = {path: text({"allow": rules}) for path, rules in places.items()}
    return {"septum.yaml": render(policy)["septum.yaml"]} | named_files(policy.mesh) | files


def _damaged(content: bytes, data: DataObject) -> bytes:
    """The content with a stretch of it replaced, mostly by something that means much to YAML."""
    start = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(start, min(len(content), start + 12)))
    pieces = (
        "",
        "*",
        "&a ",
        "{",
        "}",
        "]",
        ": ",
        "- ",
        "\n",
        "\t",
        "'",
        '"',
        "\\",
        "é",
        "# ",
        "|\n ",
        "!x ",
        "---\n",
        "%",
        "\r",
    )
    piece = data.draw(st.one_of(st.sampled_from(pieces).map(str.encode), st.binary(max_size=4)))
    return content[:start] + piece + content[end:]
