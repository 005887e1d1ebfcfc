"""Toggles on the shipped network, what they are made into, and the ratios of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bacmac.host.compile.compiler import compile_model
from bacmac.host.errors import MismatchError
from bacmac.host.importers.images import load_images
from bacmac.host.model.inputs import input_codes
from bacmac.host.model.quantized import QuantizedModel
from bacmac.host.pack.file import write_packed
from bacmac.overlays.estimate.activity import BASE, COEFFICIENTS, Events
from bacmac.overlays.estimate.capture import STREAMS, Trace
from bacmac.overlays.estimate.configurations import Configuration, find_configurations
from bacmac.overlays.estimate.energy import (
    SCALES,
    ByteCosts,
    Estimate,
    Part,
    estimate_energy,
    ratios,
)
from bacmac.overlays.estimate.lane_cost import LaneCost, count_lane, count_trace
from bacmac.overlays.estimate.networks import estimate_networks, read_network
from bacmac.overlays.estimate.sites import Resources
from bacmac.overlays.estimate.synthesis import ModuleUse, Utilisation

MODULES = ("bacmac_lane", "bacmac_channel", "bacmac_requantize", "bacmac_activations", "bacmac_run")
USED = Utilisation(
    "any",
    "yosys",
    tuple(ModuleUse(m, 16, Resources(lut_sites=160, ff=100), "yosys") for m in MODULES),
)
COSTS = ByteCosts(weight=30.0, activation=30.0)


def named(name: str) -> Configuration:
    return find_configurations([name])[0]


def counted(name: str, model: QuantizedModel, folder: Path, cycles: int = 160) -> LaneCost:
    images = load_images(folder / "digits_test.npz", shape=model.input_shape).first(2)
    codes = input_codes(images.images, model.normalization, model.input_format)
    return count_lane(named(name), model.network, codes, cycles=cycles)


@pytest.mark.parametrize("name", ["bac-pot4e4", "mac-uniform4"])
def test_zero_weights_hold_a_lane_still(name: str, pack_digits, example_dir: Path) -> None:
    scheme = named(name).manifest.scheme
    dense = counted(name, pack_digits(scheme, 0.0), example_dir)
    pruned = counted(name, pack_digits(scheme, 0.7), example_dir)

    assert dense.zero_share < 0.3 < 0.65 < pruned.zero_share
    for before, after in zip(dense.units(BASE), pruned.units(BASE), strict=True):
        assert 0.2 * before < after < 0.75 * before
    assert dense.settled.clock == dense.transitions.clock == pruned.settled.clock
    assert dense.transitions.lut > dense.settled.lut


def test_a_shift_takes_less_than_the_best_multiplication_of_four_bits(
    pack_digits, example_dir: Path
) -> None:
    bac = counted("bac-pot4e4", pack_digits("pot-4e4", 0.0), example_dir)
    mac = counted("mac-uniform4", pack_digits("uniform-4", 0.0), example_dir)

    for weights in COEFFICIENTS.values():
        for ours, theirs in zip(bac.units(weights), mac.units(weights), strict=True):
            assert 1.0 < theirs / ours < 1.4


def test_an_idle_lane_costs_its_clock_and_nothing_else() -> None:
    shape = (12, STREAMS, 16)
    still = Trace(
        np.zeros(shape, np.uint8), np.zeros(shape, np.int8), np.zeros(shape[:2], np.int64)
    )
    found = count_trace(named("bac-pot4e4"), still)

    assert found.zero_share == 1.0
    assert replace(found.settled, clock=0.0) == Events()
    assert found.settled.clock > 100


def test_levels_of_another_scheme_are_no_trace_of_this_lane() -> None:
    shape = (12, STREAMS, 16)
    seven = Trace(
        np.ones(shape, np.uint8), np.full(shape, 7, np.int8), np.zeros(shape[:2], np.int64)
    )
    with pytest.raises(ValueError, match="levels that pot-4e4 has not"):
        count_trace(named("bac-pot4e4"), seven)


def test_the_array_is_lanes_times_the_cycles_in_which_it_multiplies(pack_digits) -> None:
    configuration = named("bac-pot4e4")
    program = compile_model(pack_digits("pot-4e4", 0.0), configuration.overlay)
    lane = LaneCost(Events(lut=2.0), Events(lut=3.0), n_products=16, zero_share=0, n_cycles=1)
    found = estimate_energy(
        configuration, USED, lane, program, COSTS, network="digits", sparsity=0.0
    )

    cycles = sum(p.work.busy_cycles for p in program.layers if p.work.products_done)
    assert found.array == (2.0 * 16 * cycles, 3.0 * 16 * cycles)
    assert found.cycles == program.image_work.cycles
    by_name = {part.name: part for part in found.parts}
    assert by_name["weight memory"].func == 30.0 * program.image_work.weight_bytes
    assert found.total[0] == pytest.approx(sum(part.func for part in found.parts))
    assert all(part.func > 0 and part.basis for part in found.parts)


def estimated(name: str, array: float, rest: float, coefficients: str = "base") -> Estimate:
    parts = (Part("array", array, 2 * array, "netlist activity"), Part("rest", rest, rest, "rate"))
    return Estimate(name, "net", 0.5, coefficients, 100, parts)


def test_ratios_name_their_baseline_and_span_every_assumption() -> None:
    sets = [
        (estimated("mac", 30.0, 10.0), estimated("bac", 20.0, 10.0)),
        (estimated("mac", 44.0, 10.0, "clock-heavy"), estimated("bac", 40.0, 10.0, "clock-heavy")),
    ]
    array, whole = ratios([e for pair in sets for e in pair], ["mac"], ["bac"])

    assert (array.baseline, array.bac, array.sparsity, array.scope) == ("mac", "bac", 0.5, "array")
    assert array.base == (1.5, 1.5)
    assert (array.lowest, array.highest) == (pytest.approx(1.1), pytest.approx(1.5))
    assert whole.base == (40 / 30, 70 / 50)
    assert whole.highest == pytest.approx((60 + 5) / (40 + 5))
    assert whole.lowest == pytest.approx((44 + 20) / (40 + 20))
    assert set(SCALES) == {0.5, 1.0, 2.0}


def test_ratios_need_the_base_coefficients() -> None:
    with pytest.raises(MismatchError, match="base"):
        ratios([estimated("mac", 1.0, 1.0, "clock-heavy")], ["mac"], ["bac"])


def test_a_network_of_no_configurations_scheme_is_refused(
    pack_digits, tmp_path: Path, example_dir: Path
) -> None:
    path = tmp_path / "net.safetensors"
    write_packed(path, pack_digits("pot-4e4", 0.5))
    network = read_network(path, example_dir / "digits_test.npz", 3)

    assert (network.scheme, network.sparsity, len(network.codes)) == ("pot-4e4", 0.5, 3)
    with pytest.raises(MismatchError, match="expected the scheme of one of mac-uniform4"):
        estimate_networks([named("mac-uniform4")], [USED], [network], COSTS, lambda *_: None)


def test_networks_are_estimated_with_every_set_of_coefficients(
    pack_digits, tmp_path: Path, example_dir: Path
) -> None:
    path = tmp_path / "net.safetensors"
    write_packed(path, pack_digits("pot-4e4", 0.0))
    network = read_network(path, example_dir / "digits_test.npz", 1)
    (found,) = estimate_networks(
        [named("bac-pot4e4")], [USED], [network], COSTS, lambda *_: None, cycles=64
    )

    assert [e.coefficients for e in found.estimates] == list(COEFFICIENTS)
    assert found.products_done > 0
