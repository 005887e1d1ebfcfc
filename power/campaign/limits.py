"""Thresholds of the validity checks, in one object that is stored with the campaign."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Each check's thresholds; the numbers are those of the checks in docs/campaigns.md."""
