"""APoT and DeepShift checkpoints, and integers with a scale, become the weights they stand for.

The references are the formulas of the two papers' code, written here with PyTorch's operations.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bacmac.host.errors import ModelFileError
from bacmac.host.importers.registry import load_model
from bacmac.host.importers.weight_conventions import APOT_LEVELS
from bacmac.host.model.forward import forward
from bacmac.host.model.layers import RELU, Conv, Grid, Model

CONV = {"name": "conv", "op": "conv", "weight": "conv.weight", "padding": 1}
LAYERS = [
    CONV,
    {"name": "relu", "op": "relu"},
    {"name": "next", "op": "conv", "weight": "next.weight"},
]


def load(folder: Path, state: dict[str, torch.Tensor], layers: Any = None, **header: Any) -> Model:
    torch.save({"state_dict": state, "epoch": 4}, folder / "net.pth.tar")
    content = {
        "format": "bacmac-layers",
        "version": 1,
        "input_shape": [3, 6, 6],
        "weights": "net.pth.tar",
        "layers": [CONV] if layers is None else layers,
        **header,
    }
    (folder / "net.json").write_text(json.dumps(content))
    return load_model(folder / "net.json")


def first(model: Model) -> Conv:
    layer = model.layers[0]
    assert isinstance(layer, Conv)
    assert layer.kept is not None
    np.testing.assert_allclose(layer.weight, layer.kept.weight, rtol=1e-6)
    return layer


# --- APoT ---------------------------------------------------------------------------------------


def apot_levels(bits: int) -> torch.Tensor:
    """Sums of one power of two of each set, over the largest (arXiv 1909.13144, equation 5)."""
    sets = {
        3: [[0, 1 / 2, 1 / 4, 1 / 8]],
        4: [[0, 1 / 2, 1 / 4, 1 / 16], [0, 1 / 8]],
        5: [[0, 1 / 2, 1 / 8, 1 / 32], [0, 1 / 4, 1 / 16, 1 / 64]],
    }[bits]
    sums = sorted({sum(parts) for parts in itertools.product(*sets)})
    return torch.tensor(sums) / max(sums)


def apot(weight: torch.Tensor, alpha: float, bits: int) -> torch.Tensor:
    """What its convolution multiplies by."""
    ratio = ((weight - weight.mean()) / weight.std() / alpha).clamp(-1, 1)
    if bits == 2:
        return ratio.round() * alpha
    levels = apot_levels(bits)
    index = (ratio.abs().flatten()[None] - levels[:, None]).abs().min(0)[1]
    return levels[index].reshape(weight.shape) * ratio.sign() * alpha


def apot_state(clip: str = "weight_quant.wgt_alpha") -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {
        "conv.weight": torch.randn(8, 3, 3, 3) * 0.2 + 0.01,
        f"conv.{clip}": torch.tensor(2.7),
        "conv.act_alpha": torch.tensor(1.5),
    }


@pytest.mark.parametrize("bits", [3, 4, 5])
def test_the_levels_are_those_of_the_paper(bits: int) -> None:
    levels = APOT_LEVELS[bits]

    np.testing.assert_allclose(apot_levels(bits), np.array(levels) / levels[-1], rtol=1e-6)


@pytest.mark.parametrize("clip", ["weight_quant.wgt_alpha", "weight_alpha"])
@pytest.mark.parametrize("bits", [2, 3, 4, 5])
def test_apot_weights_are_those_of_its_forward_pass(bits: int, clip: str, tmp_path: Path) -> None:
    state = apot_state(clip)

    model = load(tmp_path, state, quantized={"method": "apot", "bits": bits})

    conv = next(layer for layer in model.layers if isinstance(layer, Conv) and not layer.structural)
    assert conv.kept is not None
    assert set(np.abs(conv.kept.levels).ravel()) <= set(APOT_LEVELS[bits])
    expected = apot(state["conv.weight"], 2.7, bits).numpy()
    np.testing.assert_allclose(conv.weight, expected, atol=1e-6)


def test_apot_of_unsaid_bits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"APoT weights .*unsaid bits.*does not say its bits"):
        load(tmp_path, apot_state())


def test_apot_activations_are_clipped_where_they_were_learned(tmp_path: Path) -> None:
    state = apot_state()
    state["next.weight"] = torch.randn(2, 8, 1, 1)
    state["next.weight_quant.wgt_alpha"] = torch.tensor(2.0)
    state["next.act_alpha"] = torch.tensor(0.75)
    said = {"method": "apot", "bits": 4}
    first_layer = {**CONV, "quantized": {**said, "activations": "ignore"}}

    model = load(tmp_path, state, [first_layer, *LAYERS[1:]], quantized=said)

    assert first(model).activation.low == 0.0
    assert first(model).activation.high == 0.75
    assert len(model.layers) == 2
    assert any("act_alpha" in note for note in model.notes)


def test_uniform_activations_are_a_grid(tmp_path: Path) -> None:
    state = apot_state()
    state["next.weight"] = torch.randn(2, 8, 1, 1)
    state["next.weight_alpha"] = torch.tensor(2.0)
    state["next.act_alpha"] = torch.tensor(0.75)
    said = {"method": "apot", "bits": 4, "activations": "uniform"}
    x = torch.rand(2, 3, 6, 6) * 2

    model = load(tmp_path, state, LAYERS, quantized=said)

    def snap(value: torch.Tensor, alpha: float) -> torch.Tensor:
        return ((value / alpha).clamp(0, 1) * 15).round() / 15 * alpha

    y = torch.nn.functional.conv2d(snap(x, 1.5), apot(state["conv.weight"], 2.7, 4), padding=1)
    y = torch.nn.functional.conv2d(snap(y.relu(), 0.75), apot(state["next.weight"], 2.0, 4))
    assert model.grids["input"] == Grid(0.1, 0.0, 0, 15)
    assert model.grids["conv"].high == 15
    assert len(model.layers) == 2
    np.testing.assert_allclose(forward(model, x.numpy()), y.numpy(), atol=1e-4)


def test_apot_s_first_layer_has_its_own_eight_bits(tmp_path: Path) -> None:
    weight = torch.randn(4, 3, 3, 3)
    layer = {**CONV, "quantized": {"method": "apot", "bits": 8}}

    conv = first(load(tmp_path, {"conv.weight": weight}, [layer]))

    largest = weight.max()
    expected = (weight / largest * 127).round() / 127 * largest
    np.testing.assert_allclose(conv.weight, expected, atol=1e-6)


def test_the_list_s_method_leaves_plain_layers_alone(tmp_path: Path) -> None:
    state = {**apot_state(), "next.weight": torch.randn(2, 8, 1, 1)}
    said = {"method": "apot", "bits": 4, "activations": "ignore"}

    model = load(tmp_path, state, LAYERS, quantized=said)

    last = model.layers[-1]
    assert isinstance(last, Conv)
    assert last.kept is None
    np.testing.assert_array_equal(last.weight, state["next.weight"])


def test_a_batchnorm_behind_only_changes_the_scale(tmp_path: Path) -> None:
    state = apot_state()
    state |= {f"bn.{part}": torch.rand(8) + 0.5 for part in ("weight", "bias", "mean", "var")}
    parts = {"scale": "bn.weight", "shift": "bn.bias", "mean": "bn.mean", "variance": "bn.var"}
    said = {"method": "apot", "bits": 4, "activations": "ignore"}
    plain = first(load(tmp_path, state, quantized=said))

    folded = first(
        load(tmp_path, state, [CONV, {"name": "bn", "op": "batchnorm", **parts}], quantized=said)
    )

    assert plain.kept is not None
    assert folded.kept is not None
    np.testing.assert_array_equal(folded.kept.levels, plain.kept.levels)
    assert not np.allclose(folded.kept.scale, plain.kept.scale)


def test_a_whole_apot_network_computes_what_its_forward_pass_does(tmp_path: Path) -> None:
    """A stem, a residual block with a shortcut that is a convolution, and a dense layer."""
    torch.manual_seed(3)
    state: dict[str, torch.Tensor] = {
        "conv1.weight": torch.randn(4, 3, 3, 3) * 0.3,
        "fc.weight": torch.randn(5, 8),
        "fc.bias": torch.randn(5),
    }
    quantized = {"b.conv1": (8, 4, 3), "b.conv2": (8, 8, 3), "b.downsample.0": (8, 4, 1)}
    for index, (name, (c_out, c_in, side)) in enumerate(quantized.items()):
        state[f"{name}.weight"] = torch.randn(c_out, c_in, side, side)
        state[f"{name}.weight_quant.wgt_alpha"] = torch.tensor(2.5 + index)
        state[f"{name}.act_alpha"] = torch.tensor(0.6 + 0.2 * index)
    norms = {"bn1": 4, "b.bn1": 8, "b.bn2": 8, "b.downsample.1": 8}
    for name, channels in norms.items():
        for part in ("weight", "bias", "running_mean", "running_var"):
            state[f"{name}.{part}"] = torch.rand(channels) + 0.5

    def conv(name: str, **more: Any) -> dict[str, Any]:
        return {"name": name, "op": "conv", "weight": f"{name}.weight", **more}

    def norm(name: str) -> dict[str, Any]:
        fields = ("weight", "bias", "running_mean", "running_var")
        parts = zip(("scale", "shift", "mean", "variance"), fields, strict=True)
        return {"name": name, "op": "batchnorm", **{a: f"{name}.{b}" for a, b in parts}}

    eight = {"quantized": {"method": "apot", "bits": 8}}
    layers = [
        conv("conv1", padding=1, **eight), norm("bn1"), {"name": "relu", "op": "relu"},
        conv("b.downsample.0", stride=2), norm("b.downsample.1"),
        conv("b.conv1", input="relu", stride=2, padding=1), norm("b.bn1"),
        {"name": "b.relu", "op": "relu"}, conv("b.conv2", padding=1), norm("b.bn2"),
        {"name": "b.add", "op": "add", "with": "b.downsample.1"}, {"name": "out", "op": "relu"},
        {"name": "mean", "op": "globalavgpool"}, {"name": "flat", "op": "flatten"},
        {"name": "fc", "op": "dense", "weight": "fc.weight", "bias": "fc.bias", **eight},
    ]  # fmt: skip
    x = torch.randn(3, 3, 8, 8)

    model = load(
        tmp_path, state, layers, quantized={"method": "apot", "bits": 4}, input_shape=[3, 8, 8]
    )

    def first_or_last(weight: torch.Tensor) -> torch.Tensor:
        return (weight / weight.max() * 127).round() / 127 * weight.max()

    def convolved(value: torch.Tensor, name: str, **more: int) -> torch.Tensor:
        alpha = float(state[f"{name}.weight_quant.wgt_alpha"])
        clipped = value.clamp(0, float(state[f"{name}.act_alpha"]))
        weight = apot(state[f"{name}.weight"], alpha, 4)
        return torch.nn.functional.conv2d(clipped, weight, **more)

    def normed(value: torch.Tensor, name: str) -> torch.Tensor:
        parts = (state[f"{name}.{p}"] for p in ("running_mean", "running_var", "weight", "bias"))
        return torch.nn.functional.batch_norm(value, *parts)

    stem = torch.nn.functional.conv2d(x, first_or_last(state["conv1.weight"]), padding=1)
    stem = normed(stem, "bn1").relu()
    y = normed(convolved(stem, "b.conv1", stride=2, padding=1), "b.bn1").relu()
    y = normed(convolved(y, "b.conv2", padding=1), "b.bn2")
    y = (y + normed(convolved(stem, "b.downsample.0", stride=2), "b.downsample.1")).relu()
    expected = y.mean((2, 3)) @ first_or_last(state["fc.weight"]).T + state["fc.bias"]
    np.testing.assert_allclose(
        forward(model, x.numpy())[:, :, 0, 0], expected.numpy(), rtol=1e-4, atol=1e-4
    )
    weights = [layer for layer in model.layers if isinstance(layer, Conv) and not layer.structural]
    assert len(weights) == 5
    assert all(layer.kept is not None for layer in weights)


# --- DeepShift ----------------------------------------------------------------------------------


def shifts(low: float = -6.4) -> dict[str, torch.Tensor]:
    torch.manual_seed(2)
    return {
        "conv.shift": torch.rand(8, 3, 3, 3) * low,
        "conv.sign": torch.rand(8, 3, 3, 3) * 4 - 2,
        "conv.bias": torch.randn(8),
    }


def test_shift_and_sign_are_powers_of_two(tmp_path: Path) -> None:
    state = shifts()
    layer = {**CONV, "bias": "conv.bias"}
    x = torch.randn(2, 3, 6, 6)

    model = load(tmp_path, state, [layer])

    weight = 2 ** state["conv.shift"].round() * state["conv.sign"].round().sign()
    conv = first(model)
    assert conv.kept is not None
    np.testing.assert_array_equal(conv.weight, weight)
    magnitudes = np.unique(np.abs(conv.kept.levels))
    assert set(magnitudes) <= {0, *(1 << k for k in range(7))}
    assert 0 in magnitudes
    expected = torch.nn.functional.conv2d(x, weight, state["conv.bias"], padding=1)
    np.testing.assert_allclose(forward(model, x.numpy()), expected.numpy(), atol=1e-4)


def test_the_bits_of_a_shift_bound_it(tmp_path: Path) -> None:
    state = shifts(-30.0)

    conv = first(load(tmp_path, state, quantized={"method": "deepshift", "bits": 4}))

    shift = state["conv.shift"].clamp(-6, 0).round()
    np.testing.assert_array_equal(conv.weight, 2**shift * state["conv.sign"].round().sign())


def test_a_dense_layer_of_shifts(tmp_path: Path) -> None:
    state = {"fc.shift": torch.full((2, 108), -3.0), "fc.sign": torch.ones(2, 108)}
    layers = [
        {"name": "flatten", "op": "flatten"},
        {"name": "fc", "op": "dense", "weight": "fc.weight"},
    ]

    conv = first(load(tmp_path, state, layers))

    assert conv.kept is not None
    assert set(conv.kept.levels.ravel()) == {1}
    np.testing.assert_allclose(conv.kept.scale, 1 / 8)


def test_shifts_too_far_apart_are_floats_and_a_note(tmp_path: Path) -> None:
    state = shifts(-30.0)

    model = load(tmp_path, state)

    conv = model.layers[0]
    assert isinstance(conv, Conv)
    assert conv.kept is None
    weight = 2 ** state["conv.shift"].round() * state["conv.sign"].round().sign()
    np.testing.assert_array_equal(conv.weight, weight)
    assert any("15 powers of two" in note for note in model.notes)


def test_mode_q_rounds_to_the_nearest_logarithm(tmp_path: Path) -> None:
    weight = torch.randn(8, 3, 3, 3) * 0.3
    weight[0, 0, 0, 0] = 0.0

    conv = first(
        load(tmp_path, {"conv.weight": weight}, quantized={"method": "deepshift", "bits": 4})
    )

    bounded = torch.where(weight == 0, weight, weight.sign() * weight.abs().clamp(2**-7, 1))
    expected = 2.0 ** torch.log2(bounded.abs()).round() * weight.sign()
    np.testing.assert_array_equal(conv.weight, torch.where(weight == 0, weight, expected))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"conv.sign": torch.ones(8, 3, 3, 1)}, "one shape"),
        ({"conv.shift": torch.full((8, 3, 3, 3), torch.nan)}, "NaN"),
        ({"conv.shift": torch.full((8, 3, 3, 3), 1e30)}, "2\\^126"),
    ],
)
def test_shifts_that_cannot_be_are_refused(
    changes: dict[str, torch.Tensor], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelFileError, match=words):
        load(tmp_path, {**shifts(), **changes})


# --- integers with a scale ----------------------------------------------------------------------


def integers(folder: Path, layer: dict[str, Any], arrays: dict[str, Any], **header: Any) -> Model:
    np.savez(folder / "net.npz", **arrays)
    content = {
        "format": "bacmac-layers",
        "version": 1,
        "input_shape": [3, 6, 6],
        "weights": "net.npz",
        "layers": [{**CONV, **layer}, {"name": "relu", "op": "relu"}],
        **header,
    }
    (folder / "net.json").write_text(json.dumps(content))
    return load_model(folder / "net.json")


CODES = np.random.default_rng(4).integers(-128, 128, (8, 3, 3, 3)).astype(np.int8)


@pytest.mark.parametrize("scale", [0.25, np.float32(0.25), np.linspace(0.1, 0.8, 8)])
def test_integers_and_their_scale_are_kept(scale: Any, tmp_path: Path) -> None:
    arrays = {"conv.weight": CODES, "s": np.asarray(scale)}
    layer = {"scale": scale if isinstance(scale, float) else "s"}

    conv = first(integers(tmp_path, layer, arrays))

    assert conv.kept is not None
    np.testing.assert_array_equal(conv.kept.levels, CODES)
    np.testing.assert_allclose(conv.kept.scale, np.broadcast_to(scale, 8))
    assert conv.activation == RELU


def test_a_zero_point_is_subtracted(tmp_path: Path) -> None:
    codes = (CODES.astype(np.int16) + 128).astype(np.uint8)
    layer = {"scale": 0.5, "zero_point": "z"}

    conv = first(integers(tmp_path, layer, {"conv.weight": codes, "z": np.full(8, 128, np.uint8)}))

    assert conv.kept is not None
    np.testing.assert_array_equal(conv.kept.levels, CODES)


def test_grids_of_the_list_are_those_of_the_model(tmp_path: Path) -> None:
    grid = {"scale": 0.05, "zero": 4, "low": 0, "high": 255, "rounding": "half-away"}
    arrays = {"conv.weight": CODES, "s": np.array([0.02], np.float32)}
    x = np.random.default_rng(5).normal(size=(2, 3, 6, 6)).astype(np.float32)

    model = integers(
        tmp_path,
        {"scale": 0.01, "grid": grid},
        arrays,
        input_grid={"scale": "s", "low": -128, "high": 127},
    )

    assert model.grids["input"] == Grid(float(np.float32(0.02)), 0.0, -128, 127)
    # the ReLU behind the grid leaves the codes below the zero point out
    assert model.grids["conv"] == Grid(0.05, 4.0, 4, 255, "half-away")
    y = forward(model, x)
    codes = y / 0.05 + 4
    np.testing.assert_allclose(codes, np.rint(codes), atol=1e-3)


@pytest.mark.parametrize(
    ("layer", "arrays", "words"),
    [
        ({"scale": 0}, {}, "scale that is 0"),
        ({"scale": -1.0}, {}, "negative"),
        ({"scale": "s"}, {"s": np.ones(5)}, "5 scales"),
        ({"scale": "s"}, {"s": np.full(8, np.nan)}, "NaN"),
        ({"scale": "s"}, {"s": np.array(["a"])}, "type"),
        ({"scale": 1.0, "zero_point": 0.5}, {}, "not whole"),
        ({"scale": 1.0, "zero_point": 1 << 29}, {}, "a level of"),
        ({}, {}, "integers need a scale"),
    ],
)
def test_integers_without_a_sound_scale_are_refused(
    layer: dict[str, Any], arrays: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelFileError, match=words):
        integers(tmp_path, layer, {"conv.weight": CODES, **arrays})
