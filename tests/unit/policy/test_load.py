from __future__ import annotations

import errno

import pytest

import meshes
from septum.model.mesh import Address, Limits, Mode, Protocol, Segment, Timeouts
from septum.policy.load import Loader, load
from septum.policy.roles import Role, role

MESH = meshes.SHOP.encode()


def codes(files: dict[str, bytes | OSError]) -> list[tuple[str, str]]:
    return [(diagnostic.code, diagnostic.span.place) for diagnostic in load(files).diagnostics]


def ids(rules: str) -> list[str]:
    return [rule.id for rule in meshes.policy(rules).rules]


def test_the_shop() -> None:
    policy = meshes.policy(meshes.SHOP_RULES)
    assert policy.mesh.name == "shop"
    assert policy.mesh.trust_domain == "shop.test"
    assert policy.mesh.segments["edge"] == Segment("edge", "takes traffic from outside")
    assert policy.mesh.enforced == {"pci", "data"}
    orders = policy.mesh.workloads["orders"]
    assert (orders.segment, orders.at, orders.protocol) == ("core", Address("127.0.0.1", 9102), Protocol.HTTP)
    assert orders.health == "/healthz"
    assert orders.span is not None
    assert str(orders.span) == "septum.yaml:10:3"
    assert [rule.id for rule in policy.rules] == ["customers-orders", "orders->ledger", "segment:core->payments"]
    customers = policy.rules[0]
    assert (customers.callers, customers.targets) == (("storefront",), ("orders",))
    assert customers.because == "customers browse, place and view orders"
    assert [str(pattern.text) for pattern in customers.operations or ()] == [
        "GET /orders/{id}", "GET,HEAD /catalog/**", "POST /orders",
    ]  # fmt: skip
    assert customers.span is not None
    assert customers.span.place == "policy/rules.yaml:2"
    assert policy.rules[1].operations is None
    assert policy.rules[2].callers == ("orders",)


def test_everything_that_can_be_said_of_a_workload() -> None:
    mesh = """\
mesh: m
trust_domain: m.test
segments: {s: null, t: "null"}
workloads:
  web:
    segment: s
    at: "[::1]:8080"
    protocol: http
    health: /live
    websocket: true
    path_parameters: true
    ignore_case: true
    mode: observe
    outbound: 127.0.0.2:9000
    dials: {db: 127.0.0.2:9001}
    timeouts: {connect: 250ms, request: 2m, idle: 0}
    limits: {connections: 1, pending: 2, requests: 3}
  db: {segment: t, at: 10.0.0.1:5432, protocol: tcp}
"""
    found = meshes.policy(mesh=mesh).mesh
    web = found.workloads["web"]
    assert (web.at, web.outbound) == (Address("::1", 8080), Address("127.0.0.2", 9000))
    assert (web.websocket, web.path_parameters, web.ignore_case) == (True, True, True)
    assert (web.mode, web.dials) == (Mode.OBSERVE, {"db": Address("127.0.0.2", 9001)})
    assert web.timeouts == Timeouts(connect=0.25, request=120.0, idle=0.0)
    assert web.limits == Limits(1, 2, 3)
    assert found.workloads["db"].timeouts == Timeouts()
    assert [segment.description for segment in found.segments.values()] == ["", "null"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", {"edge", "core", "pci", "data"}),
        ("enforce: []", set()),
        ("enforce: [pci]", {"pci"}),
        ("enforce:\n  - pci\n  - edge", {"pci", "edge"}),
    ],
)
def test_segments_are_enforced_unless_others_are_named(line: str, expected: set[str]) -> None:
    mesh = meshes.SHOP.replace("enforce: [pci, data]\n", line)
    assert meshes.policy(mesh=mesh).mesh.enforced == expected


@pytest.mark.parametrize("line", ["enforce:", "enforce: null", "enforce: pci", "enforce: {}"])
def test_what_is_enforced_is_a_list_or_not_there_at_all(line: str) -> None:
    assert meshes.read(mesh=meshes.SHOP.replace("enforce: [pci, data]", line)).policy is None


def test_rules_without_a_name_are_numbered_in_the_order_in_which_they_stand() -> None:
    rules = """\
allow:
  - {from: orders, to: ledger, because: first}
  - {from: orders, to: ledger, because: second}
  - {from: [orders], to: ledger, because: third}
  - {from: [storefront, orders], to: ledger}
"""
    policy = meshes.policy(rules)
    assert [(rule.id, rule.because) for rule in policy.rules] == [
        ("orders->ledger", "first"), ("orders->ledger#2", "second"), ("orders->ledger#3", "third"),
        ("storefront,orders->ledger", ""),
    ]  # fmt: skip


def test_a_name_cannot_look_like_an_id_that_was_made() -> None:
    for name in ("orders->ledger", "a#2", "segment:core", "-a", "a b", "é"):
        found = meshes.read(f"allow:\n  - {{name: '{name}', from: orders, to: ledger}}\n").errors
        assert [error.code for error in found] == ["SEP205"], name


def test_rules_are_read_from_every_directory_below_policy() -> None:
    rule = b"allow:\n  - {name: %s, from: orders, to: ledger}\n"
    files = {"septum.yaml": MESH, "policy/a.yaml": rule % b"a", "policy/team/b.yaml": rule % b"b"}
    policy = load(files).policy
    assert policy is not None
    assert [rule.id for rule in policy.rules] == ["a", "b"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("septum.yaml", Role.MESH),
        ("septum.yml", Role.MISNAMED),
        ("policy/a.yaml", Role.POLICY),
        ("policy/team/a.b.yaml", Role.POLICY),
        ("policy/a_test.yaml", Role.TEST),
        ("policy/a_test.yml", Role.MISNAMED),
        ("policy/a.yml", Role.MISNAMED),
        ("policy/a.YAML", Role.MISNAMED),
        ("policy/a.Yml", Role.MISNAMED),
        ("policy/a.yaml.txt", Role.MISNAMED),
        ("policy/a.yaml.disabled", Role.MISNAMED),
        ("policy/a.yaml~", Role.OTHER),
        ("policy/#a.yaml#", Role.OTHER),
        ("policy/.#a.yaml", Role.OTHER),
        ("policy/.a.yaml.swp", Role.OTHER),
        ("policy/.git/a.yaml", Role.OTHER),
        ("policy/a.yaml.orig", Role.OTHER),
        ("policy/a.yaml.tmp", Role.OTHER),
        ("policy/README.md", Role.PAGE),
        ("policy/team/a.md", Role.PAGE),
        ("README.md", Role.OTHER),
        ("policy/yaml", Role.OTHER),
        ("files/login.json", Role.FILE),
        ("files/keys/login.yaml", Role.FILE),
        ("files", Role.FILE),
        ("files/login.json~", Role.OTHER),
        ("files/.login.json", Role.OTHER),
        ("files/.git/login.json", Role.OTHER),
        ("file/login.json", Role.OTHER),
        ("other/a.yaml", Role.OTHER),
        ("a.yaml", Role.OTHER),
    ],
)
def test_what_a_file_is_depends_on_its_path(path: str, expected: Role) -> None:
    assert role(path) is expected


def test_a_mesh_file_that_is_missing_or_misspelt() -> None:
    [missing] = load({}).diagnostics
    assert (missing.code, missing.message) == ("SEP208", "there is no septum.yaml here")
    assert "septum init" in missing.help
    misspelt, ignored = load({"septum.yml": MESH}).diagnostics
    assert misspelt.help == "rename septum.yml to septum.yaml"
    assert ignored.code == "SEP209"


def test_an_empty_mesh_file_lacks_everything() -> None:
    assert [error.message for error in load({"septum.yaml": b"# nothing\n"}).errors] == [
        "the mesh has no `mesh`",
        "the mesh has no `segments`",
        "the mesh has no `trust_domain`",
        "the mesh has no `workloads`",
    ]


def test_without_rules_there_is_a_policy_that_allows_nothing() -> None:
    for files in ({}, {"policy/a.yaml": b""}, {"policy/a.yaml": b"# later\n"}, {"policy/a.yaml": b"allow: []\n"}):
        policy = load({"septum.yaml": MESH} | files).policy
        assert policy is not None
        assert policy.rules == ()


@pytest.mark.parametrize("path", ["septum.yaml", "policy/a.yaml", "policy/secret"])
def test_what_cannot_be_read_refuses_the_whole(path: str) -> None:
    files: dict[str, bytes | OSError] = {"septum.yaml": MESH, path: PermissionError(errno.EACCES, "Permission denied")}
    [error] = load(files).errors
    assert (error.code, error.message, error.span.file) == ("SEP109", "this cannot be read: Permission denied", path)


def test_a_mistake_in_one_file_does_not_hide_those_in_others() -> None:
    files: dict[str, bytes | OSError] = {
        "septum.yaml": MESH.replace(b"9102", b"9101"),
        "policy/a.yaml": b"allow: [",
        "policy/b.yaml": b"allow:\n  - {from: nobody, to: ledger}\n",
        "policy/c.yml": b"",
    }
    assert codes(files) == [
        ("SEP101", "policy/a.yaml:1"), ("SEP203", "policy/b.yaml:2"), ("SEP209", "policy/c.yml:1"),
        ("SEP401", "septum.yaml:10"),
    ]  # fmt: skip


def test_a_warning_does_not_refuse_the_policy() -> None:
    loaded = meshes.read("allow:\n  - {from: [orders, orders], to: ledger}\n")
    assert [diagnostic.code for diagnostic in loaded.diagnostics] == ["SEP304"]
    assert loaded.errors == ()
    assert loaded.policy is not None
    assert loaded.policy.rules[0].callers == ("orders",)


def test_a_rule_about_an_empty_segment_opens_nothing_yet() -> None:
    mesh = meshes.SHOP.replace("  data: stores\n", "  data: stores\n  later: null\n")
    loaded = meshes.read("allow:\n  - {from: orders, to: segment:later, http: GET /}\n", mesh)
    assert [diagnostic.code for diagnostic in loaded.diagnostics] == ["SEP404"]
    assert loaded.policy is not None
    assert loaded.policy.rules[0].targets == ()


def test_a_rule_whose_file_did_not_change_stays_the_same_object() -> None:
    loader = Loader()
    rule = b"allow:\n  - {from: orders, to: ledger, because: %s}\n"
    files = {"septum.yaml": MESH, "policy/a.yaml": rule % b"one", "policy/b.yaml": rule % b"two"}
    before = loader.load(files).policy
    after = loader.load(files | {"policy/c.yaml": rule % b"three"}).policy
    assert before is not None
    assert after is not None
    assert after.mesh is before.mesh
    assert [rule.id for rule in after.rules] == ["orders->ledger", "orders->ledger#2", "orders->ledger#3"]
    assert after.rules[0] is before.rules[0]
    assert after.rules[1] is before.rules[1]


def test_a_loader_resolves_again_when_the_mesh_changes() -> None:
    loader = Loader()
    rules = b"allow:\n  - {from: segment:core, to: ledger}\n"
    before = loader.load({"septum.yaml": MESH, "policy/a.yaml": rules}).policy
    moved = MESH.replace(b"storefront: {segment: edge", b"storefront: {segment: core")
    after = loader.load({"septum.yaml": moved, "policy/a.yaml": rules}).policy
    assert before is not None
    assert after is not None
    assert before.rules[0].callers == ("orders",)
    assert after.rules[0].callers == ("orders", "storefront")
