"""`septum ca`."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from openssl_judge import openssl
from pki import authority

from command_line import Ran, septum, write_mesh
from fakes.control_plane import FakeControlPlane
from meshes import SHOP
from septum.cli import main
from septum.identity.authority import Authority
from septum.identity.csr import csr, new_key
from septum.identity.ledger import Stage, What
from septum.identity.names import WorkloadId
from septum.identity.pem import is_encrypted
from septum.identity.rotation import Rotation
from septum.model.spiffe import SpiffeId

DOMAIN = "shop.test"


@pytest.fixture(autouse=True)
def ca_is_a_verb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(main.VERBS, "ca", ("Run", "The authority."))


@pytest.fixture
def mesh(tmp_path: Path) -> Path:
    return write_mesh(tmp_path / "shop", SHOP)


@pytest.fixture
def ready(mesh: Path) -> Path:
    assert septum("ca", "init", cwd=mesh).status == 0
    return mesh


def ca(mesh: Path, *arguments: str | Path) -> Ran:
    return septum("ca", *arguments, cwd=mesh)


def opened(mesh: Path) -> Authority:
    return Authority.open(mesh / ".septum" / "ca", DOMAIN)


def test_init_makes_the_authority(mesh: Path) -> None:
    ran = ca(mesh, "init")
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.startswith(f"made the authority of shop.test in {mesh / '.septum' / 'ca'}\n")
    assert "intermediate" in ran.out
    assert opened(mesh).trust_domain == DOMAIN


def test_init_again_says_what_is_there(ready: Path) -> None:
    issuer = opened(ready).issuer
    ran = ca(ready, "init")
    assert ran.status == 0
    assert ran.out.startswith("the authority of shop.test is there already\n")
    assert opened(ready).issuer == issuer


def test_init_with_a_passphrase(mesh: Path) -> None:
    (mesh / "pass").write_text("correct horse\n")
    assert ca(mesh, "init", "--passphrase-file", "pass").status == 0
    [key] = (mesh / ".septum" / "ca").glob("root-*.key")
    assert is_encrypted(key.read_bytes())
    assert "PRIVATE KEY" in openssl("pkey", "-in", str(key), "-passin", f"file:{mesh / 'pass'}")


@pytest.mark.parametrize(
    ("content", "why"), [("\n", "is empty: it should hold the passphrase"), (None, "No such file")]
)
def test_a_passphrase_file_without_one(mesh: Path, content: str | None, why: str) -> None:
    if content is not None:
        (mesh / "pass").write_text(content)
    ran = ca(mesh, "init", "--passphrase-file", "pass")
    assert (ran.status, why in ran.err) == (1, True)
    assert not (mesh / ".septum" / "ca").exists()


def upstream(mesh: Path) -> list[str]:
    root = authority()
    company = authority(root, name="Company")
    (mesh / "up.pem").write_bytes(company.chain_pem + root.pem)
    (mesh / "up.key").write_bytes(company.key_pem)
    (mesh / "root.pem").write_bytes(root.pem)
    return ["--upstream-cert", "up.pem", "--upstream-key", "up.key"]


def test_init_below_another_pki(mesh: Path) -> None:
    ran = ca(mesh, "init", *upstream(mesh))
    assert (ran.status, "CN=Company" in ran.out) == (0, True)
    assert ca(mesh, "export").out == (mesh / "root.pem").read_text()


def test_init_below_another_pki_when_there_is_an_authority(ready: Path) -> None:
    ran = ca(ready, "init", *upstream(ready))
    assert (ran.status, "`septum ca rotate` puts it below an upstream" in ran.err) == (1, True)
    ran = ca(ready, "rotate", *upstream(ready))
    assert (ran.status, "CN=Company" in ran.out) == (0, True)
    assert ca(ready, "export").out == (ready / "root.pem").read_text()


def test_an_upstream_without_its_key(mesh: Path) -> None:
    ran = ca(mesh, "init", *upstream(mesh)[:2])
    assert (ran.status, "--upstream-cert and --upstream-key go together" in ran.err) == (2, True)


def test_an_upstream_that_is_refused(mesh: Path) -> None:
    arguments = upstream(mesh)
    (mesh / "up.key").write_bytes(new_key())
    ran = ca(mesh, "init", *arguments)
    assert (ran.status, "the key is not that of the first certificate of the chain" in ran.err) == (1, True)


def test_show(ready: Path) -> None:
    ran = ca(ready, "show")
    assert ran.status == 0
    lines = ran.out.splitlines()
    assert lines[0] == "trust domain shop.test  no rotation is under way"
    assert lines[1].split() == ["certificate", "id", "use", "from", "until", "key", "subject"]
    assert [line.split()[0] for line in lines[2:]] == ["intermediate", "root"]
    assert all("signs" in line and "here" in line for line in lines[2:])


def test_show_as_json(ready: Path) -> None:
    made = opened(ready)
    issued = made.issue(csr(new_key()), WorkloadId(SpiffeId(DOMAIN, "orders")), 60, time.time())
    made.revoke({issued.serial: issued.not_after}, time.time())
    shown = json.loads(ca(ready, "show", "--json").out)
    assert (shown["trust_domain"], shown["stage"], shown["revoked"]) == (DOMAIN, "steady", 1)
    assert [(one["role"], one["use"], one["key"]) for one in shown["certificates"]] == [
        ("intermediate", "signs", "here"),
        ("root", "signs", "here"),
    ]
    assert shown["warnings"] == []
    assert "revoked certificates: 1\n" in ca(ready, "show").out


def test_show_warns_of_an_end_that_is_near(mesh: Path) -> None:
    Authority.create(mesh / ".septum" / "ca", DOMAIN, time.time() - 340 * 86_400)
    assert "septum ca rotate --what intermediate" in ca(mesh, "show").out
    [warning] = json.loads(ca(mesh, "show", "--json").out)["warnings"]
    assert warning.startswith("the intermediate ")


@pytest.mark.parametrize("verb", ["show", "rotate", "export"])
def test_without_an_authority(mesh: Path, verb: str) -> None:
    ran = ca(mesh, verb)
    assert (ran.status, "`septum ca init` makes one" in ran.err) == (1, True)


def test_a_mesh_with_errors_names_no_trust_domain(ready: Path) -> None:
    (ready / "septum.yaml").write_text("mesh: shop\n")
    ran = ca(ready, "show")
    assert (ran.status, "`septum check`" in ran.err) == (1, True)


def test_rotate_goes_all_the_way(ready: Path) -> None:
    before = opened(ready)
    ran = ca(ready, "rotate")
    assert ran.status == 0
    assert [line.partition(":")[0] for line in ran.out.splitlines()[:3]] == ["prepared", "activated", "retired"]
    assert opened(ready).issuer != before.issuer
    assert opened(ready).bundle(time.time()).roots_pem != before.bundle(time.time()).roots_pem


def test_rotate_step_by_step(ready: Path) -> None:
    for step, stage in (("prepare", Stage.PREPARED), ("activate", Stage.ACTIVATED), ("retire", Stage.RETIRED)):
        assert ca(ready, "rotate", "--what", "intermediate", "--step", step).status == 0
        assert (opened(ready).stage, opened(ready).what) == (stage, What.INTERMEDIATE)


def test_what_was_begun_goes_on(ready: Path) -> None:
    ca(ready, "rotate", "--what", "intermediate", "--step", "prepare")
    assert "a new intermediate is prepared: septum ca rotate --step activate" in ca(ready, "show").out
    ran = ca(ready, "rotate")
    assert ran.out.startswith("activated: the new intermediate signs")
    assert opened(ready).stage is Stage.RETIRED


def test_a_step_out_of_turn(ready: Path) -> None:
    ran = ca(ready, "rotate", "--step", "activate")
    assert (ran.status, "nothing is prepared" in ran.err) == (1, True)


def test_the_roots_key_elsewhere(ready: Path) -> None:
    [key] = (ready / ".septum" / "ca").glob("root-*.key")
    key.rename(ready / "safe.key")
    ran = ca(ready, "rotate", "--what", "intermediate")
    assert (ran.status, "septum ca rotate --what intermediate --root-key FILE" in ran.err) == (1, True)
    assert ca(ready, "rotate", "--what", "intermediate", "--root-key", "safe.key").status == 0


def test_a_running_control_plane_is_asked(ready: Path) -> None:
    with FakeControlPlane(ready, {"status": {}, "ca": {"done": ["prepared: x", "activated: y"]}}) as plane:
        ran = ca(ready, "rotate", "--what", "intermediate")
        assert (ran.status, ran.out) == (0, "prepared: x\nactivated: y\n")
        assert plane.asked[-1] == {"op": "ca", "step": "all", "what": "intermediate"}
        ca(ready, "rotate", "--step", "prepare", *upstream(ready))
        asked = Rotation.read(plane.asked[-1])
        assert plane.asked[-1]["step"] == "prepare"
        assert asked.upstream is not None
        assert asked.upstream.key_pem == (ready / "up.key").read_bytes()
        plane.answers["ca"] = {"error": "beta does not hold it"}
        ran = ca(ready, "rotate")
        assert (ran.status, ran.err) == (1, "Error: beta does not hold it\n")
    assert opened(ready).stage is Stage.STEADY


def test_nodes_have_to_hear_of_each_step(ready: Path) -> None:
    text = SHOP.replace("workloads:", "nodes:\n  alpha: {inbound: 10.0.0.11:7443}\nworkloads:")
    (ready / "septum.yaml").write_text("\n".join(_on_alpha(line) for line in text.splitlines()) + "\n")
    ran = ca(ready, "rotate")
    assert (ran.status, "no control plane runs to tell the nodes" in ran.err) == (1, True)
    assert opened(ready).stage is Stage.STEADY
    assert ca(ready, "rotate", "--step", "prepare").status == 0
    assert ca(ready, "rotate", "--at-once").status == 0
    assert opened(ready).stage is Stage.RETIRED


def _on_alpha(line: str) -> str:
    return line.replace("segment:", "node: alpha, segment:") if "at:" in line else line


@pytest.mark.parametrize("form", ["pem", "spiffe"])
def test_export(ready: Path, form: str) -> None:
    bundle = opened(ready).bundle(time.time())
    expected = bundle.roots_pem.decode() if form == "pem" else bundle.spiffe_json
    assert ca(ready, "export", "--format", form).out == expected
    ran = ca(ready, "export", "--format", form, "-o", "out")
    assert (ran.status, ran.out) == (0, "wrote out\n")
    assert (ready / "out").read_text() == expected


def test_export_into_nowhere(ready: Path) -> None:
    ran = ca(ready, "export", "-o", "no/such/file")
    assert (ran.status, ran.err) == (1, "Error: no/such/file: No such file or directory\n")


@pytest.mark.parametrize("arguments", [(), ("init",), ("show",), ("rotate",), ("export",)])
def test_help(mesh: Path, arguments: tuple[str, ...]) -> None:
    ran = ca(mesh, *arguments, "--help")
    assert (ran.status, ran.out.startswith("Usage: septum ca")) == (0, True)
    assert ".septum/ca" in ca(mesh, "--help").out
