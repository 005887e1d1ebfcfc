"""What is installed is what is in the tree, and every file of the tree is fit to be published."""

from __future__ import annotations

import ast
import doctest
import importlib
import pkgutil
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("cli", "host", "overlays", "power")
HARDWARE = "bacmac.hw_src"
"""A package of data: what the rtl device and the estimates are built from."""
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv*", ".links", "build", "dist", "*.egg-info", ".*_cache", ".hypothesis",
    "__pycache__", ".coverage*", "demo-output", ".*.part",
)  # fmt: skip


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources alone: a build in the tree leaves files there, and finds old ones."""
    copy = tmp_path_factory.mktemp("tree") / "bacmac"
    shutil.copytree(ROOT, copy, ignore=LEFT_OUT)
    return copy


@pytest.fixture(scope="module")
def distributions(tree: Path) -> tuple[Path, Path]:
    """The sdist, and the wheel built from it.

    With a new enough setuptools installed the build runs in this environment and needs no
    network; else `build` makes one of its own, as pip did when it installed the project.
    """
    new_enough = int(version("setuptools").partition(".")[0]) >= 77
    command = [sys.executable, "-m", "build", *(["--no-isolation"] if new_enough else []), "."]
    result = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    (sdist,), (wheel,) = (tree / "dist").glob("*.tar.gz"), (tree / "dist").glob("*.whl")
    return sdist, wheel


def test_the_table_of_packages_is_what_is_on_disk() -> None:
    on_disk = {
        ".".join(("bacmac", *path.parent.relative_to(ROOT).parts))
        for room in ROOMS
        for path in (ROOT / room).rglob("__init__.py")
    }

    assert sorted(project()["tool"]["setuptools"]["packages"]) == sorted({*on_disk, HARDWARE})


def test_every_module_lies_in_a_listed_package() -> None:
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            if path.parent != ROOT / "host" / "example":  # a script that makes the example
                assert (path.parent / "__init__.py").is_file(), path


def test_the_wheel_holds_the_four_rooms_the_hardware_and_nothing_else(
    tree: Path, distributions: tuple[Path, Path]
) -> None:
    with zipfile.ZipFile(distributions[1]) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}

    wanted = {
        f"bacmac/{path.relative_to(tree).as_posix()}"
        for room in ROOMS
        for path in (tree / room).rglob("*")
        if path.is_file() and not (path.parent.name == "example" and path.suffix == ".py")
    }
    hardware = {
        f"bacmac/{path.relative_to(tree).as_posix()}"
        for path in (tree / "hw_src").rglob("*")
        if path.suffix in {".sv", ".svh", ".v", ".cpp", ".h", ".tcl"}
    }
    assert {name.split("/")[0] for name in names} == {"bacmac"}
    assert {name.split("/")[1] for name in names} == {*ROOMS, "hw_src"}
    assert names == wanted | hardware
    assert "bacmac/hw_src/rtl/bacmac_top.sv" in names
    for room in ROOMS:
        assert f"bacmac/{room}/py.typed" in names
    assert {
        f"bacmac/overlays/manifests/{name}.toml" for name in ("bac-pot4", "mac-uniform8")
    } < names
    assert "bacmac/overlays/regmaps/accelerator-v2.toml" in names


def test_the_wheel_states_licence_command_and_the_light_core(
    distributions: tuple[Path, Path],
) -> None:
    with zipfile.ZipFile(distributions[1]) as wheel:
        (folder,) = {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
        metadata = wheel.read(f"{folder}/METADATA").decode()
        scripts = wheel.read(f"{folder}/entry_points.txt").decode()

    core = [
        re.match(r"[\w-]+", line.split(": ", 1)[1])
        for line in metadata.splitlines()
        if line.startswith("Requires-Dist: ") and "extra ==" not in line
    ]
    assert {match[0] for match in core if match} == {
        *("click", "numpy", "rich", "safetensors", "tomli")
    }
    assert "License-Expression: Apache-2.0" in metadata
    assert "bacmac = bacmac.cli.main:main" in scripts


def test_the_wheel_runs_from_a_folder_of_its_own(
    tmp_path: Path, distributions: tuple[Path, Path]
) -> None:
    with zipfile.ZipFile(distributions[1]) as wheel:
        wheel.extractall(tmp_path / "site")
    code = (
        "import sys; sys.meta_path[:] = [f for f in sys.meta_path if 'ditable' not in repr(f)]; "
        f"sys.path.insert(0, {str(tmp_path / 'site')!r}); "
        "import bacmac.overlays.registry as registry; print(registry.__file__); "
        "print(*(o.manifest.name for o in registry.list_overlays()))"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )

    assert str(tmp_path / "site") in done.stdout
    assert "bac-pot4 bac-pot4e4 mac-uniform4 mac-uniform8" in done.stdout


def test_the_sdist_also_holds_hardware_sources_tests_and_pages(
    distributions: tuple[Path, Path],
) -> None:
    with tarfile.open(distributions[0]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}

    assert {"Makefile", "LICENSE", "README.md", "hw_src/README.md", "docs/overlays.md"} < names
    assert "tests/test_packaging.py" in names
    assert not [name for name in names if name.endswith((".pyc", ".part"))]


def module_names() -> list[str]:
    names = []
    for room in ROOMS:
        package = importlib.import_module(f"bacmac.{room}")
        walked = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        names += [package.__name__, *(module.name for module in walked)]
    # importing `__main__` is running the command; PYNQ lives in environments of its own
    left_out = (".__main__", ".device.pynq.emulated")
    return [name for name in names if not name.endswith(left_out)]


@pytest.mark.parametrize("name", module_names())
def test_the_examples_in_docstrings_are_true(name: str) -> None:
    # pytest's own --doctest-modules imports second copies, as `host.errors`
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)

    assert result.failed == 0


def published() -> list[Path]:
    """Every file that a clone would hold, whether or not there is a git to ask."""
    found = []
    pending = [ROOT]
    while pending:
        folder = pending.pop()
        paths = list(folder.iterdir())
        left_out = LEFT_OUT(str(folder), [path.name for path in paths])
        for path in paths:
            if path.name not in left_out:
                (pending if path.is_dir() else found).append(path)
    return sorted(found)


def test_every_python_file_says_what_it_is() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in published()
        if path.suffix == ".py" and not ast.get_docstring(ast.parse(path.read_bytes()))
    ]

    assert silent == []


def test_no_file_names_a_place_on_one_machine() -> None:
    # the roots under which people and machines keep their own files; split, so not found here
    private = [f"/{root}/" for root in ("home", "work", "Users", "root", "tmp", "mnt", "media")]
    pattern = re.compile(
        rb"(?<![\w.~*})>-])(" + "|".join(map(re.escape, private)).encode() + rb")[\w.-]"
    )
    named = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in published()
        if path.suffix not in (".npz", ".onnx", ".safetensors", ".png")
        for number, line in enumerate(path.read_bytes().splitlines(), 1)
        if pattern.search(line)
    ]

    assert named == []
