"""The pytest plugin, in a pytest of its own: what it collects, the fixture `mesh`, and what a failure says."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import pytest

import meshes
from command_line import write_mesh

pytest_plugins = ["pytester"]

RULES = (
    meshes.SHOP_RULES
    + """\
  - {name: brief, from: storefront, to: orders, http: GET /brief, until: 2027-01-31T00:00:00Z}
  - name: refund
    from: storefront
    to: orders
    http: POST /refund
    when: {claims: {iss: https://login.test, level: 3}}
"""
)
# Two workloads in a segment, so that one name stands for two requests.
SHOP = meshes.SHOP.replace("enforce:", "  desk: {segment: core, at: 127.0.0.1:9105, protocol: http}\nenforce:")
ISSUERS = "issuers:\n  login: {issuer: https://login.test, audiences: [shop], jwks: https://login.test/keys}\n"
CASES = """\
- {name: their order, from: storefront, to: orders, http: GET /orders/42, expect: allow}
- {from: storefront, to: orders, http: PUT /orders/42, expect: allow}
- {from: orders, to: ledger, expect: allow}
- {from: orders, to: ledger, expect: allow}
"""


@pytest.fixture
def shop(pytester: pytest.Pytester) -> pytest.Pytester:
    write_mesh(pytester.path, SHOP + ISSUERS, rules=RULES)
    return pytester


def run(pytester: pytest.Pytester, *arguments: str | Path) -> pytest.RunResult:
    return pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:hypothesispytest", *arguments)


def test_it_is_what_the_package_brings_to_pytest() -> None:
    [entry] = [entry for entry in metadata.entry_points(group="pytest11") if entry.value == "septum.pytest_plugin"]
    assert entry.name == "septum"


def test_the_fixture_answers_as_the_policy_decides(shop: pytest.Pytester) -> None:
    shop.makepyfile(
        """
        import pytest
        from datetime import UTC, datetime

        def test_allows(mesh):
            assert mesh.allows("storefront", "orders", "GET /orders/42")
            assert mesh.allows("storefront", "orders", "GET /orders/42?x=1", by="customers-orders")
            assert mesh.allows("orders", "ledger", "connect")
            assert mesh.allows("segment:core", "payments", "shop.payments.v1.Payments/Authorize")
            assert not mesh.allows("storefront", "orders", "PUT /orders/42")
            assert not mesh.allows("storefront", "orders", "GET /orders/42", by="brief")

        def test_denies(mesh):
            assert mesh.denies("segment:edge", "segment:data", "connect")
            assert mesh.denies("storefront", "orders", "GET /orders/42", websocket=True)
            assert not mesh.denies("orders", "ledger", "connect")

        def test_times(mesh):
            assert mesh.allows("storefront", "orders", "GET /brief", at="2027-01-30T23:59:59Z")
            assert mesh.denies("storefront", "orders", "GET /brief", at=datetime(2027, 1, 31, tzinfo=UTC))
            assert mesh.allows("storefront", "orders", "GET /brief", at=0)
            with pytest.raises(ValueError, match="has no offset"):
                mesh.allows("storefront", "orders", "GET /brief", at=datetime(2027, 1, 31))

        def test_claims(mesh):
            claims = {"iss": "https://login.test", "level": 3}
            assert mesh.allows("storefront", "orders", "POST /refund", claims=claims)
            assert mesh.denies("storefront", "orders", "POST /refund", claims=claims | {"level": "3"})
            assert mesh.denies("storefront", "orders", "POST /refund")
            with pytest.raises(LookupError, match="no issuer is called"):
                mesh.denies("storefront", "orders", "POST /refund", claims={"iss": "other"})

        def test_decide(mesh):
            decision = mesh.decide("storefront", "orders", "GET /orders/42")
            assert decision.allowed
            assert decision.rule.id == "customers-orders"
            with pytest.raises(ValueError, match="are 2 requests"):
                mesh.decide("segment:core", "orders", "GET /")

        @pytest.mark.parametrize(("asked", "said"), [
            (("stroefront", "orders", "GET /"), "no workload is called `stroefront`; did you mean `storefront`?"),
            (("storefront", "order", "GET /"), "no workload or place outside is called `order`"),
            (("segment:cor", "orders", "GET /"), "no segment is called `cor`; did you mean `core`?"),
        ])
        def test_slips_in_names_are_no_denials(mesh, asked, said):
            with pytest.raises(LookupError) as error:
                mesh.denies(*asked)
            assert said in str(error.value)

        @pytest.mark.parametrize(("target", "operation", "said"), [
            ("orders", "GET /orders/{id}", "`{id}` is a pattern, not a path"),
            ("orders", "GET", "is not an operation"),
            ("orders", "connect", "`orders` speaks http, and `connect` is not an operation of it"),
            ("ledger", "GET /", "`ledger` speaks tcp"),
            ("payments", "GET /", "`payments` speaks grpc"),
        ])
        def test_what_is_no_request_is_no_denial(mesh, target, operation, said):
            with pytest.raises(ValueError) as error:
                mesh.denies("storefront", target, operation)
            assert said in str(error.value)

        def test_a_rule_that_is_not_there(mesh):
            with pytest.raises(LookupError, match="no rule .* `customer-orders`; did you mean `customers-orders`"):
                mesh.allows("storefront", "orders", "GET /orders/42", by="customer-orders")

        def test_it_shows_itself_in_few_words(mesh):
            assert repr(mesh).startswith("<mesh shop, version ")
        """
    )
    result = run(shop)
    result.assert_outcomes(passed=15)


def test_a_failed_assertion_says_why(shop: pytest.Pytester) -> None:
    shop.makepyfile(
        """
        def test_denied(mesh):
            assert mesh.allows("storefront", "orders", "PUT /orders/42")

        def test_allowed(mesh):
            assert mesh.denies("orders", "ledger", "connect")

        def test_some(mesh):
            assert mesh.allows("segment:core", "segment:core", "GET /")
        """
    )
    result = run(shop)
    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines(
        [
            "*assert <deny: storefront -> orders PUT /orders/42; nearest customers-orders at policy/rules.yaml:2; "
            "method: it allows GET, not PUT>",
            "*assert <allow: orders -> ledger connect; by orders->ledger at policy/rules.yaml:10>",
        ]
    )


def test_the_tests_of_the_mesh_are_collected_as_items(shop: pytest.Pytester) -> None:
    (shop.path / "policy" / "orders_test.yaml").write_text(CASES)
    (shop.path / "policy" / "notes.md").write_text("```yaml septum-test\n" + CASES.splitlines()[0] + "\n```\n")
    (shop.path / "policy" / "plain.md").write_text("no tests here\n")
    result = run(shop, "-v")
    result.assert_outcomes(passed=4, failed=1)
    result.stdout.fnmatch_lines(
        [
            "policy/notes.md::their order PASSED*",
            "policy/orders_test.yaml::their order PASSED*",
            "policy/orders_test.yaml::storefront -> orders PUT /orders/42 FAILED*",
            "policy/orders_test.yaml::orders -> ledger connect (line 3) PASSED*",
            "policy/orders_test.yaml::orders -> ledger connect (line 4) PASSED*",
            "storefront -> orders  PUT /orders/42: expected allow, decided deny",
            "  nearest  customers-orders  policy/rules.yaml:2",
            "  reason   method: it allows GET, not PUT",
        ]
    )
    assert "Traceback" not in result.stdout.str()
    one = run(shop, "policy/orders_test.yaml::their order")
    one.assert_outcomes(passed=1)
    run(shop, "-k", "ledger").assert_outcomes(passed=2, deselected=3)


def test_workers_collect_the_same_items(shop: pytest.Pytester) -> None:
    (shop.path / "policy" / "orders_test.yaml").write_text(CASES)
    run(shop, "-n", "2").assert_outcomes(passed=3, failed=1)


def test_a_policy_with_errors_is_an_error_of_collection(shop: pytest.Pytester) -> None:
    (shop.path / "policy" / "orders_test.yaml").write_text(CASES)
    (shop.path / "policy" / "more_test.yaml").write_text("- {from: nobody, to: ledger, expect: deny}\n")
    result = run(shop, "--continue-on-collection-errors")
    result.assert_outcomes(errors=1, passed=3, failed=1)
    result.stdout.fnmatch_lines(["error[SEP203]: unknown workload `nobody`", "*policy/more_test.yaml:1:10"])
    assert "unknown workload" not in re.sub("(?s)ERROR collecting.*?====", "", result.stdout.str())
    (shop.path / "policy" / "rules.yaml").write_text("allow: [{from: nobody, to: ledger}]\n")
    shop.makepyfile("def test_x(mesh): pass")
    result = run(shop, "--continue-on-collection-errors")
    result.assert_outcomes(errors=3)
    result.stdout.fnmatch_lines(["*the policy in * has errors, so there is nothing to ask"])


def test_what_is_no_mesh_is_left_alone(pytester: pytest.Pytester) -> None:
    """Files that only look like ours belong to somebody else."""
    (pytester.path / "policy").mkdir()
    (pytester.path / "policy" / "a_test.yaml").write_text("whatever: [\n")
    (pytester.path / "policy" / "a.md").write_text("```yaml septum-test\n[\n```\n")
    pytester.makepyfile("def test_x(): pass")
    run(pytester).assert_outcomes(passed=1)


def test_files_that_are_no_tests_of_a_mesh_are_left_alone(shop: pytest.Pytester) -> None:
    (shop.path / "a_test.yaml").write_text("whatever: [\n")
    (shop.path / "docs" / "policy").mkdir(parents=True)
    (shop.path / "docs" / "policy" / "a_test.yaml").write_text("whatever: [\n")
    (shop.path / "policy" / ".hidden_test.yaml").write_text("whatever: [\n")
    shop.makepyfile("def test_x(): pass")
    run(shop).assert_outcomes(passed=1)


def test_a_mesh_above_rootdir_gives_the_fixture_and_no_items(shop: pytest.Pytester) -> None:
    (shop.path / "policy" / "orders_test.yaml").write_text(CASES)
    (shop.path / "tests").mkdir()
    (shop.path / "tests" / "test_x.py").write_text(
        'def test_x(mesh): assert mesh.allows("orders", "ledger", "connect")\n'
    )
    run(shop, "--rootdir", "tests", "tests").assert_outcomes(passed=1)


@pytest.mark.parametrize("how", ["option", "ini"])
def test_the_mesh_may_be_named(pytester: pytest.Pytester, how: str) -> None:
    write_mesh(pytester.path / "meshes" / "shop", meshes.SHOP, rules=meshes.SHOP_RULES)
    pytester.makepyfile('def test_x(mesh): assert mesh.allows("orders", "ledger", "connect")')
    if how == "ini":
        pytester.makeini("[pytest]\nseptum_mesh = meshes/shop\n")
    run(pytester, *(["--septum-mesh", "meshes/shop"] if how == "option" else [])).assert_outcomes(passed=1)


def test_without_a_mesh_the_fixture_says_where_one_would_be(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_x(mesh): pass")
    result = run(pytester)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["there is no septum.yaml in * or above; *--septum-mesh DIR*"])


def test_pytest_starts_without_loading_what_is_heavy(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_x():
            heavy = ("grpc", "envoy", "yaml", "septum.policy.load", "septum.cli.diagnostics")
            assert [name for name in heavy if name in sys.modules] == []
        """
    )
    plugins = ("no:cacheprovider", "no:hypothesispytest")  # what others load is none of ours
    pytester.runpytest_subprocess(*(part for plugin in plugins for part in ("-p", plugin))).assert_outcomes(passed=1)
