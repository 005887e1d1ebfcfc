"""Compensated rounding: nearer on the inputs it saw, and pruned weights stay zero."""

from __future__ import annotations

import numpy as np
import pytest

from bacmac.host.arith.schemes import SCHEMES
from bacmac.host.model.forward import columns
from bacmac.host.model.layers import Conv
from bacmac.host.quantize.compensate import _inverse_factor, compensated_levels, hessian
from bacmac.host.quantize.weights import Float, round_to_levels, search_scales


def correlated_inputs(rows: int, seed: int = 0) -> Float:
    """Inputs (n, rows) as a network has them: few directions hold most of the energy."""
    random = np.random.default_rng(seed)
    mixing = random.normal(size=(rows // 3, rows))
    return np.maximum(random.normal(size=(2000, rows // 3)) @ mixing + 0.5, 0)


def output_error(inputs: Float, weights: Float, levels: np.ndarray, scale: Float) -> float:
    return float(np.sum((inputs @ (weights - levels * scale[:, None]).T) ** 2))


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=lambda scheme: scheme.name)
@pytest.mark.parametrize("share", [0.0, 0.4])
def test_compensation_lowers_the_error_of_the_outputs(scheme: object, share: float) -> None:
    inputs = correlated_inputs(60)
    weights = np.random.default_rng(1).normal(size=(20, 60))
    kept = np.abs(weights) >= np.quantile(np.abs(weights), share if scheme.has_zero else 0.0)
    scale = search_scales(weights * kept, scheme)

    levels = compensated_levels(weights, kept, scale, (inputs.T @ inputs)[None], scheme)

    nearest = round_to_levels(weights * kept / scale[:, None], scheme)
    compensated_error = output_error(inputs, weights, levels, scale)
    assert compensated_error < 0.8 * output_error(inputs, weights, nearest, scale)
    assert (levels[~kept] == 0).all()
    assert np.isin(levels, scheme.levels).all()


def test_independent_inputs_leave_nothing_to_compensate() -> None:
    scheme = SCHEMES["pot-4"]
    weights = np.random.default_rng(2).normal(size=(6, 90))
    scale = search_scales(weights, scheme)

    levels = compensated_levels(
        weights, np.ones(weights.shape, bool), scale, np.diag(np.arange(1.0, 91.0))[None], scheme
    )

    assert (levels == round_to_levels(weights / scale[:, None], scheme)).all()


def test_inputs_that_calibration_never_saw_are_rounded_as_they_are() -> None:
    scheme = SCHEMES["uniform-4"]
    weights = np.random.default_rng(3).normal(size=(4, 9))
    scale = search_scales(weights, scheme)

    levels = compensated_levels(
        weights, np.ones(weights.shape, bool), scale, np.zeros((1, 9, 9)), scheme
    )

    assert (levels == round_to_levels(weights / scale[:, None], scheme)).all()


def test_groups_are_compensated_each_with_its_own_inputs() -> None:
    scheme = SCHEMES["pot-3"]
    weights = np.random.default_rng(4).normal(size=(8, 30))
    kept = np.ones(weights.shape, bool)
    scale = search_scales(weights, scheme)
    hessians = np.stack([i.T @ i for i in (correlated_inputs(30, 5), correlated_inputs(30, 6))])

    together = compensated_levels(weights, kept, scale, hessians, scheme)

    for group, part in enumerate((slice(0, 4), slice(4, 8))):
        alone = compensated_levels(
            weights[part], kept[part], scale[part], hessians[group : group + 1], scheme
        )
        assert (together[part] == alone).all()


def test_the_factor_is_that_of_the_damped_inverse() -> None:
    inputs = correlated_inputs(24)
    moments = inputs.T @ inputs

    factor = _inverse_factor(moments)

    damped = moments + np.eye(24) * 0.01 * np.trace(moments) / 24
    assert np.allclose(factor, np.triu(factor))
    assert np.allclose(factor.T @ factor @ damped, np.eye(24), atol=1e-6)


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_the_hessian_is_the_moment_of_the_windows_of_each_group(groups: int, centred: bool) -> None:
    random = np.random.default_rng(7)
    inputs = random.integers(0, 256, (5, 4, 6, 6)).astype(np.uint8)
    layer = Conv(
        "conv",
        "input",
        np.zeros((8, 4 // groups, 3, 2), np.float32),
        np.zeros(8, np.float32),
        stride=(2, 1),
        padding=(1, 0, 1, 1),
        groups=groups,
    )

    found = hessian(layer, inputs, centred=centred)

    windows = columns(inputs.astype(np.float32), (3, 2), (2, 1), (1, 0, 1, 1))
    for group, part in enumerate(np.split(windows.astype(np.float64), groups, axis=3)):
        rows = part.reshape(-1, part[0, 0, 0].size)
        rows = rows - rows.mean(0) * centred
        assert np.allclose(found[group], rows.T @ rows, rtol=1e-4, atol=1)


def test_windows_that_hardly_differ_are_rounded_all_the_same() -> None:
    """About their mean nothing but rounding error is left, which no Cholesky factor has."""
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((3, 6))
    noise = rng.standard_normal((6, 6)) * 1e-9
    hessians = (noise + noise.T)[None]
    scale = np.abs(weights).max(1) / 127

    levels = compensated_levels(
        weights, np.ones(weights.shape, np.bool_), scale, hessians, SCHEMES["uniform-8"]
    )

    assert np.abs(levels * scale[:, None] - weights).max() < 0.5
