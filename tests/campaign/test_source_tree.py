"""Which source ran is known where there is a git tree, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from bacmac.power.campaign.source_tree import SourceTree, source_tree


def fake_git(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A git that only says what the script says."""
    (folder / ".git").mkdir()
    programs = folder / "programs"
    programs.mkdir()
    (programs / "git").write_text(f"#!/bin/sh\n{script}\n")
    (programs / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/bin:/usr/bin")


@pytest.mark.parametrize(("changes", "dirty"), [("", False), (" M power/energy.py", True)])
def test_commit_and_changes_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: str, dirty: bool
) -> None:
    script = f'case "$*" in *rev-parse*) echo 12ab;; *) echo "{changes}";; esac'
    fake_git(tmp_path, monkeypatch, script)

    tree = source_tree(tmp_path)

    assert tree == SourceTree("12ab", dirty)
    assert tree.text == ("git 12ab, with changes" if dirty else "git 12ab")


def test_an_installed_package_has_no_tree(tmp_path: Path) -> None:
    assert source_tree(tmp_path) is None


def test_a_git_that_fails_or_is_missing_tells_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_git(tmp_path, monkeypatch, "exit 128")
    assert source_tree(tmp_path) is None

    monkeypatch.setenv("PATH", str(tmp_path))
    assert source_tree(tmp_path) is None
