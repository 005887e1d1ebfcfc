"""A model finds the narrowest overlay that runs it."""

from __future__ import annotations

import pytest

from bacmac.host.compile.choose import choose_overlay
from bacmac.host.errors import MismatchError
from bacmac.overlays.registry import list_overlays


@pytest.mark.parametrize(
    ("scheme", "product", "name"),
    [
        ("pot-4", None, "bac-pot4"),
        ("pot-4e4", None, "bac-pot4e4"),
        ("ternary", None, "bac-pot4e4"),
        ("ternary", "mac", "mac-uniform4"),
        ("pot-3", "mac", "mac-uniform4"),
        ("uniform-3", None, "mac-uniform4"),
        ("uniform-8", None, "mac-uniform8"),
        ("pot-4", "mac", "mac-uniform8"),
    ],
)
def test_the_narrowest_overlay_that_executes_the_levels_is_chosen(scheme, product, name, models):
    builder = models.Builder(1, scheme=scheme)
    builder.dense(builder.conv(0, 8), 5, logits=True)

    found = choose_overlay(builder.model(), list_overlays(), product=product)

    assert found.manifest.name == name


def test_a_model_that_nothing_runs_is_told_why_by_every_overlay(models):
    builder = models.Builder(1, scheme="uniform-8")
    builder.dense(builder.conv(0, 8), 5, logits=True)

    with pytest.raises(MismatchError, match=r"uniform-8.*bac-pot4"):
        choose_overlay(builder.model(), list_overlays(), product="bac")


def test_no_overlay_at_all_is_said(models):
    builder = models.Builder(1)
    builder.dense(0, 5, logits=True)

    with pytest.raises(MismatchError, match="there is none"):
        choose_overlay(builder.model(), ())
