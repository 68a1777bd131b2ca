"""The pytest plugin `septum`: a fixture that asks the policy, and the policy's own tests as pytest's.

pytest loads this at every start, so it imports nothing that is heavy until a mesh is at hand.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from septum.policy.roles import MESH_FILE, POLICY_DIR, Role, role

if TYPE_CHECKING:
    from septum.pytest_plugin.under_test import MeshUnderTest

_WHERE = "the mesh that the fixture `mesh` is about: a directory with a septum.yaml"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The place of the mesh, where it is not at or above pytest's rootdir."""
    parser.getgroup("septum").addoption("--septum-mesh", metavar="DIR", help=_WHERE)
    parser.addini("septum_mesh", f"{_WHERE}, relative to rootdir")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """`*_test.yaml`, and Markdown with tests, below the `policy/` of a mesh that is in rootdir."""
    if not file_path.name.endswith(("_test.yaml", ".md")) or POLICY_DIR not in file_path.parts:
        return None
    mesh = _mesh_of(file_path, parent.config.rootpath)
    if mesh is None or role(file_path.relative_to(mesh).as_posix()) not in (Role.TEST, Role.PAGE):
        return None
    from septum.pytest_plugin.items import CasesFile, holds_tests  # noqa: PLC0415 - most files are none of ours

    return CasesFile.of(parent, file_path, mesh) if holds_tests(file_path) else None


def _mesh_of(file: Path, root: Path) -> Path | None:
    """The nearest directory above a file that is a mesh, up to `root`."""
    above = (place for place in file.parents if place == root or place.is_relative_to(root))
    return next((place for place in above if (place / MESH_FILE).is_file()), None)


@pytest.fixture(scope="session")
def mesh(pytestconfig: pytest.Config) -> MeshUnderTest:
    """The mesh's policy, to ask what it decides: `assert mesh.allows("storefront", "orders", "GET /orders/42")`."""
    from septum.pytest_plugin.under_test import PolicyError, read  # noqa: PLC0415 - only who asks for it pays

    try:
        return read(_chosen(pytestconfig))
    except PolicyError as error:
        pytest.fail(str(error), pytrace=False)


def _chosen(config: pytest.Config) -> Path:
    given = config.getoption("--septum-mesh")
    if given:
        return config.invocation_params.dir / str(given)
    if named := config.getini("septum_mesh"):
        return config.rootpath / str(named)
    root = config.rootpath
    found = next((place for place in (root, *root.parents) if (place / MESH_FILE).is_file()), None)
    if found is None:
        help = "say where it is with --septum-mesh DIR, or with `septum_mesh` in pytest's own settings"
        pytest.fail(f"there is no {MESH_FILE} in {root} or above; {help}", pytrace=False)
    return found
