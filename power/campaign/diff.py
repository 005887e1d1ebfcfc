"""Compare the ratios of two campaigns, like with like.

Two campaigns can be compared where everything that moves energy is the same in both: then a
difference speaks of repeatability, or of the one property that was changed on purpose and is named.
Anything else is refused, with every property that differs.

The campaigns are independent, so the logarithm of the ratio of their ratios has the variance of
both; its degrees of freedom are by Welch and Satterthwaite (Welch, Biometrika 34, 1947). What the
sensors' steps may hide is added in quadrature (JCGM 100:2008, 5.1.2).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from bacmac.host.errors import MismatchError
from bacmac.power.statistics import COVERAGE_FACTOR, MAX_HALF_WIDTH, student_quantile

RatioKey = tuple[str, str, str, str]
"""Cell, pair, rail and quantity, as they are told."""
NEVER_VARIED = "emulated or measured"
"""A model and a measurement are not compared, whatever is asked for."""


@dataclass(frozen=True)
class RatioPart:
    """What a campaign says of one ratio.

    Attributes:
        log_ratio: mean over blocks.
        standard_error: of the mean, Type A.
        dof: of it.
        u_quantisation: standard uncertainty by the sensor's step, in ln units.
    """

    log_ratio: float
    standard_error: float
    dof: float
    u_quantisation: float


@dataclass(frozen=True)
class Side:
    """One of two campaigns.

    Attributes:
        file: its journal.
        emulated: whether any part of it is a model.
        properties: what must be the same, by name.
        remarks: what may differ and is told, by name.
        ratios: by cell, pair, rail and quantity.
    """

    file: str
    emulated: bool
    properties: Mapping[str, str]
    remarks: Mapping[str, str]
    ratios: Mapping[RatioKey, RatioPart]


@dataclass(frozen=True)
class Difference:
    """A property that is not the same; "" where a campaign lacks it."""

    item: str
    a: str
    b: str


@dataclass(frozen=True)
class RatioChange:
    """One ratio in both campaigns, and the ratio B / A of the two with its 95 % interval."""

    key: RatioKey
    ratio_a: float
    ratio_b: float
    change: float
    low: float
    high: float

    @property
    def verdict(self) -> Literal["agree", "differ"]:
        """Whether the interval holds 1."""
        return "agree" if self.low <= 1.0 <= self.high else "differ"


@dataclass(frozen=True)
class CampaignDiff:
    """Two campaigns compared.

    Attributes:
        a, b: the campaigns.
        varied: properties that differ and were named as those compared.
        remarks: other differences that do not forbid a comparison.
        changes: of every ratio that both have.
        only_in_one: ratios that only one of them has.
    """

    a: Side
    b: Side
    varied: tuple[Difference, ...]
    remarks: tuple[Difference, ...]
    changes: tuple[RatioChange, ...]
    only_in_one: tuple[RatioKey, ...]

    @property
    def headline(self) -> str:
        """What came out, in one or two sentences."""
        origin = "EMULATED, a comparison of models. " if self.a.emulated or self.b.emulated else ""
        n = len(self.changes)
        apart = [change for change in self.changes if change.verdict == "differ"]
        what = ", ".join(row.item for row in self.varied)
        setting = f"They differ in {what}. " if what else "Both were made alike. "
        found = f"{len(apart)} of {n} ratios differ at the 95 % level"
        return f"{origin}{setting}{found}; about {0.05 * n:.1f} would by chance alone."


def property_differences(a: Side, b: Side) -> tuple[Difference, ...]:
    """Every property that is not the same in both."""
    return _differences(a.properties, b.properties)


def diff_campaigns(a: Side, b: Side, *, varying: Sequence[str] = ()) -> CampaignDiff:
    """Ratio of the ratios of two campaigns.

    Args:
        a: the first.
        b: the second; its ratio over that of the first is told.
        varying: properties that may differ because they are what is compared; "overlay" stands
            for every property whose name has that word.

    Raises:
        MismatchError: something else differs, or there is no ratio that both have.
    """
    found = property_differences(a, b)
    varied = tuple(row for row in found if _is_named(row.item, varying))
    unlike = [row for row in found if row not in varied]
    if unlike:
        raise MismatchError(
            b.file,
            ", ".join(row.item for row in unlike),
            found="; ".join(_short(row.b) for row in unlike),
            expected=f"{'; '.join(_short(row.a) for row in unlike)}, as in {a.file}",
            hint="only like is compared with like",
        )
    common = [key for key in a.ratios if key in b.ratios]
    if not common:
        raise MismatchError(
            b.file, "ratios", found="none that both have", expected=f"one that {a.file} has"
        )
    only = [key for key in (*a.ratios, *b.ratios) if not (key in a.ratios and key in b.ratios)]
    return CampaignDiff(
        a,
        b,
        varied,
        _differences(a.remarks, b.remarks),
        tuple(ratio_change(key, a.ratios[key], b.ratios[key]) for key in common),
        tuple(only),
    )


def ratio_change(key: RatioKey, a: RatioPart, b: RatioPart) -> RatioChange:
    """Ratio B / A with its 95 % interval.

    >>> part = RatioPart(0.2, 0.01, 9, 0.0)
    >>> change = ratio_change(("", "", "", ""), part, part)
    >>> change.change, change.verdict
    (1.0, 'agree')
    """
    variances = [a.standard_error**2, b.standard_error**2]
    spread = math.sqrt(sum(variances))
    half_width = COVERAGE_FACTOR * math.hypot(a.u_quantisation, b.u_quantisation)
    if spread > 0:
        shares = [v / sum(variances) for v in variances]
        dof = 1 / sum(s * s / d for s, d in zip(shares, (a.dof, b.dof), strict=True))
        half_width = math.hypot(half_width, student_quantile(0.975, dof) * spread)
    half_width = min(half_width, MAX_HALF_WIDTH)
    change = b.log_ratio - a.log_ratio
    return RatioChange(
        key,
        math.exp(a.log_ratio),
        math.exp(b.log_ratio),
        math.exp(change),
        math.exp(change - half_width),
        math.exp(change + half_width),
    )


def _differences(a: Mapping[str, str], b: Mapping[str, str]) -> tuple[Difference, ...]:
    names = dict.fromkeys((*a, *b))
    rows = (Difference(name, a.get(name, ""), b.get(name, "")) for name in names)
    return tuple(row for row in rows if row.a != row.b)


def _is_named(item: str, varying: Sequence[str]) -> bool:
    words = item.replace(":", " ").split()
    return item != NEVER_VARIED and any(name == item or name in words for name in varying)


def _short(value: str) -> str:
    """Hashes by their first digits: a message is one line."""
    is_hash = len(value) == 64 and all(c in "0123456789abcdef" for c in value)
    return f"{value[:12]}..." if is_hash else value or "none"
