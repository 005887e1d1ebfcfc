"""Levels after descent and exchange: never worse, zeros where they must be, as many as before."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bacmac.host.arith.schemes import SCHEMES
from bacmac.host.model.forward import run_layer
from bacmac.host.model.layers import INPUT, LINEAR, Conv
from bacmac.host.model.sparse_fit import damped
from bacmac.host.prune.structures import Pattern, Units, unit_numbers
from bacmac.host.quantize.compensate import descended, exchanged
from bacmac.host.quantize.fit import fit_layer
from bacmac.host.quantize.weights import round_to_levels, search_scales

NAMES = ("pot-4", "pot-3", "uniform-4", "apot-4", "ternary", "uniform-8")


def problem(seed: int, groups: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Weights (6, 12) and Hessians of inputs that are alike."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(groups, 12, 60)) + random.normal(size=(groups, 1, 60))
    return random.normal(size=(6, 12)), damped(x @ x.transpose(0, 2, 1), 0.01)


def losses(errors: np.ndarray, hessians: np.ndarray) -> np.ndarray:
    by_group = errors.reshape(len(hessians), -1, 12)
    return np.sum((by_group @ hessians) * by_group, axis=2).reshape(-1)


@given(seed=st.integers(0, 999), name=st.sampled_from(NAMES), groups=st.sampled_from([1, 2, 3]))
def test_descent_never_makes_a_channel_worse_and_leaves_zeros_alone(
    seed: int, name: str, groups: int
) -> None:
    weights, hessians = problem(seed, groups)
    kept = np.random.default_rng(seed).random(weights.shape) < 0.6
    scale = search_scales(weights, SCHEMES[name])
    start = round_to_levels(weights / scale[:, None], SCHEMES[name]) * kept

    levels = descended(start, weights, kept, scale, hessians, SCHEMES[name])

    assert SCHEMES[name].holds(levels).all()
    assert not levels[~kept].any()
    before, after = (losses(weights - q * scale[:, None], hessians) for q in (start, levels))
    assert (after <= before * (1 + 1e-9)).all()


def test_after_descent_no_level_alone_can_be_bettered() -> None:
    scheme = SCHEMES["pot-4"]
    weights, hessians = problem(3)
    kept = np.ones(weights.shape, np.bool_)
    scale = search_scales(weights, scheme)
    start = round_to_levels(weights / scale[:, None], scheme)

    levels = descended(start, weights, kept, scale, hessians, scheme)

    least = losses(weights - levels * scale[:, None], hessians)
    for column in range(12):
        for level in scheme.levels:
            other = levels.copy()
            other[:, column] = level
            tried = losses(weights - other * scale[:, None], hessians)
            assert (tried >= least - 1e-9).all()


@given(seed=st.integers(0, 999), share=st.floats(0.1, 0.9), pattern=st.booleans())
def test_exchange_keeps_the_number_of_zeros_and_is_never_worse(
    seed: int, share: float, pattern: bool
) -> None:
    scheme = SCHEMES["pot-4"]
    weights, hessians = problem(seed)
    shape = (6, 12, 1, 1)
    selection: Units | Pattern = Units(unit_numbers("weight", shape), round(share * 72))
    if pattern:
        selection = Pattern(2, 4, shape)
    kept = selection.kept(weights**2, 1.0)
    scale = search_scales(weights, scheme)
    start = round_to_levels(weights / scale[:, None], scheme) * kept
    start = descended(start, weights, kept, scale, hessians, scheme)

    levels, stays = exchanged(start, weights, kept, scale, hessians, scheme, selection)

    assert np.count_nonzero(stays) == np.count_nonzero(kept)
    assert not levels[~stays].any()
    if pattern:
        assert (stays.reshape(6, 3, 4).sum(2) == 2).all()
    before, after = (losses(weights - q * scale[:, None], hessians) for q in (start, levels))
    assert after.sum() <= before.sum() * (1 + 1e-9)


@pytest.mark.parametrize("groups", [1, 2])
def test_a_layer_makes_good_what_its_inputs_lost(groups: int) -> None:
    """Its inputs are coarse and off by a factor; its sums come back to those of the float layer."""
    random = np.random.default_rng(0)
    weight = random.normal(size=(4, 4 // groups, 3, 3)).astype(np.float32)
    bias = random.normal(size=4).astype(np.float32)
    layer = Conv("conv", INPUT, weight, bias, padding=(1, 1, 1, 1), groups=groups)
    floats = random.random((32, 4, 8, 8)).astype(np.float32)
    codes = np.rint(floats * 0.8 * 15).astype(np.uint8)
    targets = run_layer(layer, floats)
    scheme = SCHEMES["uniform-8"]

    def error(found: Conv) -> float:
        sums = run_layer(found, codes.astype(np.float32) / np.float32(15.0))
        return float(np.mean((sums - targets) ** 2))

    fitted = fit_layer(
        layer,
        codes,
        1 / 15,
        targets,
        scheme,
        lambda weights: (search_scales(weights, scheme),),
        None,
        free_bias=True,
    )

    values = fitted.levels * fitted.scale[:, None]
    better = Conv(
        "conv",
        INPUT,
        values.reshape(weight.shape).astype(np.float32),
        fitted.bias.astype(np.float32),
        padding=(1, 1, 1, 1),
        groups=groups,
        activation=LINEAR,
    )
    assert error(better) < 0.05 * error(layer)
