"""Levels are found from values: as floats, as integers that another tool rounded, channel by
channel; and what is not on them is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bacmac.host.arith.schemes import SCHEMES
from bacmac.host.importers.registry import load_model
from bacmac.host.model.layers import INPUT, Conv, KeptWeights, Model
from bacmac.host.quantize.level_sets import keep_exactly, power_levels, sum_levels
from bacmac.host.quantize.recognize import recognize_layer, recognize_model

SUMS = np.array([0, 1, 2, 3, 4, 6, 8, 10])


def layer_of(levels: np.ndarray, scale: np.ndarray | float, *, floats: bool = False) -> Conv:
    """A layer of integers (C, K), or of the floats that they stand for."""
    shape = (len(levels), levels.shape[1], 1, 1)
    scale = np.broadcast_to(np.asarray(scale, np.float64), (len(levels),)).copy()
    kept = KeptWeights(levels.astype(np.int16).reshape(shape), scale)
    bias = np.zeros(len(levels), np.float32)
    return Conv("conv", INPUT, kept.weight, bias, kept=None if floats else kept)


def powers(random: np.random.Generator, shape: tuple[int, int], exponents: int) -> np.ndarray:
    """Signed powers of two; every channel holds the smallest and the largest."""
    levels = 2.0 ** random.integers(0, exponents, shape)
    levels[:, 0], levels[:, 1] = 1, 2.0 ** (exponents - 1)
    return levels * random.choice([-1, 1], shape)


def on_127(levels: np.ndarray) -> np.ndarray:
    """Integers of a tool that puts each channel's largest weight on 127."""
    return np.rint(127 * levels / np.abs(levels).max(axis=1, keepdims=True))


@given(st.integers(0, 2**32 - 1), st.integers(1, 15), st.booleans(), st.floats(1e-4, 10))
@settings(max_examples=40)
def test_powers_of_two_are_found_in_floats(
    seed: int, exponents: int, zeros: bool, scale: float
) -> None:
    random = np.random.default_rng(seed)
    levels = powers(random, (6, 30), exponents)
    levels[:, 2] *= not zeros
    folded = random.uniform(0.1, 3, (6, 1))  # a BatchNorm moves each channel's scale
    weight = (levels * scale).astype(np.float32) * folded.astype(np.float32)
    layer = Conv("conv", INPUT, weight.reshape(6, 30, 1, 1), np.zeros(6, np.float32))

    found = recognize_layer(layer)

    assert found.family == "PoT"
    wanted = f"PoT of {exponents} exponent{'s' * (exponents > 1)}{'' if zeros else ' without zero'}"
    assert found.kinds == {wanted: 6}
    assert (found.kept.levels.reshape(6, 30) == levels).all()
    assert found.relative_squared_error < 1e-12
    assert SCHEMES[found.scheme].holds(found.kept.levels).all()
    assert (found.scheme == "binary") == (exponents == 1 and not zeros)


@given(st.integers(0, 2**32 - 1), st.sampled_from([10, 8, 6]))
@settings(max_examples=40)
def test_sums_of_powers_are_found_in_rounded_integers(seed: int, top: int) -> None:
    random = np.random.default_rng(seed)
    levels = random.choice(SUMS[top >= SUMS], (5, 80)) * random.choice([-1, 1], (5, 80))
    levels[:, :3] = top, 3, 1

    found = recognize_layer(layer_of(on_127(levels), 0.01))

    assert found.family == "APoT"
    assert found.scheme == "apot-4"
    assert found.kinds == {f"APoT with top {top}": 5}
    assert (found.kept.levels.reshape(levels.shape) == levels).all()
    assert found.kept.scale == pytest.approx(np.full(5, 0.01 * 127 / top))


def test_127_stands_for_128_where_all_integers_were_rounded() -> None:
    levels = powers(np.random.default_rng(1), (4, 40), 8)

    found = recognize_layer(layer_of(on_127(levels), 2.0**-3 / 127))

    assert set(np.abs(on_127(levels)).ravel().tolist()) == {1, 2, 4, 8, 16, 32, 64, 127}
    assert (found.stands_for_128, found.saturated) == (4, 0)
    assert found.kinds == {"PoT of 8 exponents without zero": 4}
    # 127 steps of the file are 128 of the new scale, which is the power of two it was made from
    assert found.kept.scale.tolist() == pytest.approx([2.0**-10] * 4)
    assert (found.kept.levels.reshape(levels.shape) == levels).all()
    assert "127 stands for 128 in 4 channels" in " ".join(found.sentences())


def test_127_stands_for_128_where_int8_saturated() -> None:
    levels = powers(np.random.default_rng(2), (4, 40), 8)

    found = recognize_layer(layer_of(np.clip(levels, -127, 127), 2.0**-9))

    assert (found.stands_for_128, found.saturated) == (4, 4)
    assert found.kept.scale.tolist() == [2.0**-9] * 4  # everything but 127 was exact
    assert (found.kept.levels.reshape(levels.shape) == levels).all()


def test_eight_exponents_need_pot_5_and_what_pot_4_would_lose_is_counted() -> None:
    levels = powers(np.random.default_rng(3), (3, 50), 8)
    levels[0] = np.where(np.abs(levels[0]) == 1, 2, levels[0])  # seven exponents, from 2

    found = recognize_layer(layer_of(on_127(levels), 0.02))

    assert found.scheme == "pot-5"
    assert found.lost_in_pot_4 == np.count_nonzero(np.abs(levels[1:]) == 1)
    assert found.kinds == {
        "PoT of 8 exponents without zero": 2,
        "PoT of 7 exponents without zero": 1,
    }
    assert any("pot-4 would lose the smallest level" in text for text in found.sentences())


def test_a_scheme_that_was_asked_for_is_used_with_the_nearest_levels() -> None:
    levels = powers(np.random.default_rng(4), (3, 50), 8)

    found = recognize_layer(layer_of(on_127(levels), 0.02), "pot-4")

    assert found.scheme == "pot-4"
    assert SCHEMES["pot-4"].holds(found.kept.levels).all()
    assert 0 < found.relative_squared_error < 0.01


def test_channels_off_the_grid_are_told_with_their_values() -> None:
    levels = powers(np.random.default_rng(5), (12, 60), 7)
    integers = on_127(levels)
    integers[7, 5:8] = 90, 41, -90

    found = recognize_layer(layer_of(integers, 0.01))

    assert found.family == "PoT"
    assert found.kinds == {"PoT of 7 exponents without zero": 11, "off grid": 1}
    (off,) = found.off_grid
    assert (off.channel, off.n_weights, off.values) == (7, 3, (41.0, 90.0))
    assert SCHEMES[found.scheme].holds(found.kept.levels).all()
    assert "channel 7 is off grid: 3 weights, such as 41, 90" in found.sentences()


def test_dead_channels_become_zeros_whatever_stray_codes_they_hold() -> None:
    levels = powers(np.random.default_rng(6), (4, 30), 3)
    integers, scale = on_127(levels), np.full(4, 0.01)
    integers[1], scale[1] = 2, 3.9e-9
    integers[2], scale[2] = 0, 3.9e-9

    found = recognize_layer(layer_of(integers, scale))

    assert found.dead == (1, 2)
    assert found.kinds["dead"] == 2
    assert not found.kept.levels[[1, 2]].any()
    assert found.scheme == "pot-3"


@pytest.mark.parametrize("floats", [False, True])
def test_uniform_weights_are_not_powers_of_two_whatever_their_scale(floats: bool) -> None:
    integers = np.random.default_rng(7).integers(-127, 128, (6, 50))
    integers[:, 0] = 127

    found = recognize_layer(layer_of(integers, 2.0**-8, floats=floats))

    assert (found.family, found.scheme) == ("uniform", "uniform-8")
    assert found.stands_for_128 == 0
    assert found.power_of_two_scales == (0 if floats else 6)
    assert (found.kept.levels.reshape(6, 50) == integers).all()


def test_ordinary_floats_are_on_no_levels() -> None:
    weight = np.random.default_rng(8).normal(size=(5, 30, 1, 1)).astype(np.float32)

    found = recognize_layer(Conv("conv", INPUT, weight, np.zeros(5, np.float32)))

    assert (found.family, found.kept, found.sentences()) == ("none", None, ())


def test_a_layer_of_zeros_is_dead_throughout() -> None:
    found = recognize_layer(layer_of(np.zeros((3, 4)), 0.1))

    assert found.dead == (0, 1, 2)
    assert (found.scheme, found.kinds) == ("ternary", {"dead": 3})


def test_few_small_integers_are_no_sums_of_powers() -> None:
    # 5 lies on no level, but half a step of 1 would let it pass for one
    assert sum_levels(np.array([5.0, 7, 9, 12, 20]), integers=True) is None
    assert sum_levels(np.array([1.0, 3, 6, 10]), integers=True).unit == 1
    assert power_levels(np.array([3.0, 6, -12]), integers=True).unit == 3
    assert power_levels(np.array([3.0, 6, 13]), integers=True).levels.tolist() == [1, 2, 4]
    assert power_levels(np.array([3.0, 6, 14]), integers=True) is None


@pytest.mark.parametrize(
    ("rows", "scheme", "factors"),
    [
        ([[5, -5, 5], [2, 2, -2]], "binary", [5, 2]),
        ([[5, -5, 0], [2, 2, -2]], "ternary", [5, 2]),
        ([[1, 2, -4], [0, 4, 2]], "pot-3", [1, 1]),
        ([[3, 12, 48], [0, 4, 2]], "pot-4e4", [3, 1]),
        ([[1, 3, 2]], "uniform-3", [1]),
        ([[1, 2, 127]], "uniform-8", [1]),
        ([[1, 3, 10], [20, 60, 100]], "apot-4", [1, 10]),
        ([[7, 5, -3]], "uniform-4", [1]),
        ([[1, 128, -64]], "pot-5", [1]),
    ],
)
def test_integers_are_kept_in_the_smallest_scheme_that_holds_them(
    rows: list[list[int]], scheme: str, factors: list[int]
) -> None:
    levels = np.array(rows, np.int16)
    kept = KeptWeights(levels[:, :, None, None], np.full(len(rows), 0.25))

    exact, chosen = keep_exactly(kept)

    assert chosen.name == scheme
    assert (exact.scale / 0.25).tolist() == factors
    assert (exact.weight == kept.weight).all()


def test_integers_that_no_scheme_holds_are_left_to_others() -> None:
    levels = np.array([[300, 290, 1]], np.int16)[:, :, None, None]

    assert keep_exactly(KeptWeights(levels, np.ones(1))) is None
    assert recognize_layer(layer_of(levels[:, :, 0, 0], 1.0)).family == "none"


@given(st.lists(st.integers(-127, 127), min_size=1, max_size=12))
def test_what_is_kept_is_kept_exactly(values: list[int]) -> None:
    levels = np.array([values], np.int16)[:, :, None, None]

    exact, scheme = keep_exactly(KeptWeights(levels, np.array([0.5])))

    assert (exact.levels * exact.scale == levels * 0.5).all()
    assert scheme.holds(exact.levels).all()


def test_only_recognized_layers_of_a_model_change() -> None:
    random = np.random.default_rng(9)
    pot = layer_of(powers(random, (4, 3), 3), 0.1, floats=True)
    plain = Conv(
        "plain",
        "conv",
        random.normal(size=(2, 4, 1, 1)).astype(np.float32),
        np.zeros(2, np.float32),
    )
    model = Model("m", (3, 5, 5), (pot, plain))

    changed, found = recognize_model(model)

    assert [known.family for known in found] == ["PoT", "none"]
    assert changed.layers[0].kept is not None
    assert np.allclose(changed.layers[0].weight, pot.weight, rtol=1e-6)
    assert changed.layers[1] is plain


PUBLISHED = {
    "potacc_apot_resnet20_4bit.tflite": ("APoT", 20, 22),
    "potacc_qkeras_mobilenetv2_4bit_icecs2024.tflite": ("PoT", 40, 58),
}


def test_published_models_are_what_their_authors_say(real_data: Path | None) -> None:
    """Every layer but the first and the last of one, every layer that is not depthwise nor dense
    of the other; without the files, the same integers made here."""
    if real_data is None:
        levels = powers(np.random.default_rng(10), (16, 144), 8)
        assert recognize_layer(layer_of(on_127(levels), 2.0**-7 / 127)).family == "PoT"
        return
    for file, (family, expected, layers) in PUBLISHED.items():
        model = load_model(real_data / file)
        _, found = recognize_model(model)

        families = [known.family for known in found]
        assert families.count(family) == expected
        assert families.count("uniform") == len(found) - expected
        assert len(found) == layers
        assert all(known.relative_squared_error < 1e-4 for known in found)
        assert not any(known.off_grid for known in found)
        if family == "PoT":
            channels = sum(sum(known.kinds.values()) for known in found if known.family == "PoT")
            assert 0.5 * channels < sum(known.stands_for_128 for known in found) <= channels
            assert all(
                "without zero" in kind for k in found if k.family == "PoT" for kind in k.kinds
            )
