"""Without the extra `report` a report is refused in a line, and all else works."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from made_campaigns import made_journal

from bacmac.power.campaign.plan import CampaignPlan

BLOCKED = """
import sys
for name in ("matplotlib", "jinja2"):
    sys.modules[name] = None
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda n, *a: None if n in ("matplotlib", "jinja2") else find(n, *a)
from bacmac.cli.main import main
main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def journal_file(small_plan: CampaignPlan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_journal(tmp_path_factory.mktemp("bare") / "a.journal", small_plan)


def bare(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", BLOCKED, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_report_names_the_extra(journal_file: Path, tmp_path: Path) -> None:
    ended = bare("campaign", "report", journal_file, "-o", tmp_path / "r")

    assert ended.returncode == 2
    assert ended.stderr.splitlines() == [
        "Error: an HTML report needs the extra 'report': pip install 'bacmac[report]'"
    ]
    assert list(tmp_path.iterdir()) == []


def test_campaigns_are_compared_without_it(journal_file: Path) -> None:
    ended = bare("campaign", "diff", journal_file, journal_file)

    assert ended.returncode == 0, ended.stderr
    assert "0 of 12 ratios differ" in " ".join(ended.stdout.split())
