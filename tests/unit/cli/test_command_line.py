from __future__ import annotations

import importlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from command_line import septum
from septum import __version__
from septum.cli import output, place
from septum.cli.main import VERBS

HEAVY = (
    "yaml",
    "rich",
    "grpc",
    "structlog",
    "google",
    "envoy",
    "msgspec",
    "septum.policy",
    "septum.control",
    "difflib",
)


def python(*arguments: str, stdout: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], check=False, text=True, stdout=stdout, stderr=subprocess.PIPE)


def test_help_lists_every_verb_by_group(tmp_path: Path) -> None:
    ran = septum("--help", cwd=tmp_path)
    assert ran.status == 0
    for verb, (group, line) in VERBS.items():
        assert f"\n{group}:\n" in ran.out
        assert f"  {verb} " in ran.out
        assert line in ran.out


def test_help_imports_nothing_heavy() -> None:
    script = """
import json, sys
from septum.cli.main import main
sys.argv = ["septum", "--help"]
main()
print(json.dumps(sorted(sys.modules)))
"""
    modules = json.loads(python("-c", script).stdout.splitlines()[-1])
    assert [name for name in modules if any(name == heavy or name.startswith(heavy + ".") for heavy in HEAVY)] == []


def test_every_verb_explains_itself_with_an_example(tmp_path: Path) -> None:
    for verb in VERBS:
        ran = septum(verb, "--help", cwd=tmp_path)
        assert ran.status == 0
        assert f"Usage: septum {verb}" in ran.out
        assert f"septum {verb}" in ran.out.partition("Example")[2]


def test_the_version(tmp_path: Path) -> None:
    assert septum("--version", cwd=tmp_path).out == f"septum, version {__version__}\n"


def test_an_unknown_verb_suggests_the_nearest(tmp_path: Path) -> None:
    ran = septum("chekc", cwd=tmp_path)
    assert ran.status == 2
    assert "There is no command `chekc`. Did you mean `check`?" in ran.err


def test_a_verb_that_this_installation_lacks_does_not_break_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(VERBS, "teleport", ("More", "Not there."))
    assert septum("--help", cwd=tmp_path).status == 0
    ran = septum("teleport", cwd=tmp_path)
    assert ran.status == 2
    assert "`teleport` is not part of this installation." in ran.err


def test_a_module_that_a_verb_lacks_is_an_error_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise ModuleNotFoundError("No module named 'x'", name="x")

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(ModuleNotFoundError):
        septum("check", cwd=tmp_path)


def test_ctrl_c_ends_quietly_with_130(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("septum.cli.check.read_mesh_dir", interrupted)
    ran = septum("check", cwd=tmp_path)
    assert ran.status == 130
    assert ran.err.strip() == ""


def test_a_reader_that_goes_away_ends_it_quietly() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    ran = python("-m", "septum.cli", "schema", "policy", stdout=writer)
    os.close(writer)
    assert (ran.returncode, ran.stderr) == (141, "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_for_the_shell(tmp_path: Path, shell: str) -> None:
    ran = septum("completion", shell, cwd=tmp_path)
    assert ran.status == 0
    assert f"_SEPTUM_COMPLETE={shell}_complete" in ran.out


def test_verbs_are_completed_without_importing_them() -> None:
    script = """
import os, sys
os.environ |= {"_SEPTUM_COMPLETE": "bash_complete", "COMP_WORDS": "septum c", "COMP_CWORD": "1"}
from septum.cli.main import main
try:
    main()
finally:
    print("septum.cli.check" in sys.modules)
"""
    completed = sorted(f"plain,{verb}" for verb in VERBS if verb.startswith("c"))
    *said, imported = python("-c", script).stdout.split()
    assert (sorted(said), imported) == (completed, "False")
    assert {"plain,check", "plain,control", "plain,completion"} <= set(said)


# --- places


def test_the_nearest_mesh_is_the_one_from_here_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / "septum.yaml").touch()
    monkeypatch.chdir(inner)
    assert place.mesh_dir(None) == tmp_path
    assert place.seen_from_here(tmp_path) == "../../"
    (inner / "septum.yaml").touch()
    assert place.mesh_dir(None) == inner
    assert place.seen_from_here(inner) == ""
    assert place.state_dir(inner) == inner / ".septum"


def test_a_directory_that_is_named_has_the_mesh_itself(tmp_path: Path) -> None:
    (tmp_path / "septum.yaml").touch()
    inner = tmp_path / "a"
    inner.mkdir()
    assert place.mesh_dir(tmp_path) == tmp_path
    with pytest.raises(click.UsageError, match="septum init"):
        place.mesh_dir(inner)


# --- what is printed


class Terminal:
    def isatty(self) -> bool:
        return True


def test_colour_is_for_terminals_without_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert output.wants_colour(Terminal())
    assert not output.wants_colour(io.StringIO())
    monkeypatch.setenv("TERM", "dumb")
    assert not output.wants_colour(Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "")
    assert output.wants_colour(Terminal())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not output.wants_colour(Terminal())


def test_json_is_printed_as_one_value(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json({"at": Path("x"), "é": [1]})
    assert json.loads(capsys.readouterr().out) == {"at": "x", "é": [1]}


def test_a_spinner_says_nothing_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    with output.spinner("waiting", after=0):
        pass
    assert capsys.readouterr() == ("", "")
