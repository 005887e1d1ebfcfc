"""Which source runs: the commit of the git tree that the package lies in, and whether it is clean.

A package that was installed lies in none; then its version is all there is to know.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2]
TIMEOUT_S = 10.0


@dataclass(frozen=True)
class SourceTree:
    """A git tree.

    Attributes:
        revision: the commit that is checked out.
        dirty: whether files that git knows differ from it.
    """

    revision: str
    dirty: bool

    @property
    def text(self) -> str:
        """As it is kept with a campaign."""
        return f"git {self.revision}{', with changes' if self.dirty else ''}"


def source_tree(folder: Path = PACKAGE) -> SourceTree | None:
    """The tree whose top is `folder`; None where it is none or there is no git to ask."""
    if not (folder / ".git").exists():
        return None
    revision = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    if revision is None or changes is None:
        return None
    return SourceTree(revision.strip(), bool(changes.strip()))


def _git(folder: Path, *arguments: str) -> str | None:
    # no lock on the index: who works in the tree meanwhile is not disturbed
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
