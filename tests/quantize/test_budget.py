"""Schemes within a budget: the best choice there is, and sensitivities that predict."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bacmac.host.arith.engine import Engine
from bacmac.host.arith.schemes import SCHEMES
from bacmac.host.errors import InputError
from bacmac.host.model.forward import forward
from bacmac.host.model.inputs import input_codes, normalized
from bacmac.host.model.layers import INPUT, RELU, Conv, Model, Normalization, Pool
from bacmac.host.quantize.budget import (
    Budget,
    candidate_schemes,
    choose_schemes,
    parse_budget,
)
from bacmac.host.quantize.options import QuantizeOptions, weighted_layers
from bacmac.host.quantize.quantizer import quantize_model
from bacmac.host.quantize.sensitivity import measure_sensitivity
from bacmac.power.coefficients import load_coefficients
from bacmac.power.product_costs import relative_product_costs

PIXELS = Normalization(255.0, (0.5,), (0.25,))
AMONG = ("ternary", "pot-3", "pot-4", "uniform-8")


def network(seed: int = 0) -> Model:
    """Five layers of very different sizes, with a residual."""
    random = np.random.default_rng(seed)

    def conv(name: str, source: str, c_out: int, c_in: int, k: int, **more: object) -> Conv:
        weight = random.normal(size=(c_out, c_in, k, k)) / np.sqrt(c_in * k * k / 2)
        bias = 0.1 * random.normal(size=c_out)
        pad = (k // 2,) * 4
        return Conv(
            name, source, weight.astype(np.float32), bias.astype(np.float32), padding=pad, **more
        )

    return Model(
        "budget",
        (1, 8, 8),
        (
            conv("stem", INPUT, 12, 1, 3, activation=RELU),
            conv("wide", "stem", 40, 12, 3, activation=RELU),
            conv("back", "wide", 12, 40, 3, activation=RELU, residual="stem"),
            Pool("mean", "back", "average", (8, 8), (8, 8)),
            conv("hidden", "mean", 30, 12, 1, activation=RELU),
            conv("dense", "hidden", 5, 30, 1),
        ),
    )


def images(n: int, seed: int = 1) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (n, 1, 4, 4)).repeat(2, 2).repeat(2, 3).astype(np.uint8)


losses = st.lists(
    st.tuples(st.integers(1, 400), st.lists(st.floats(0, 1), min_size=4, max_size=4)),
    min_size=1,
    max_size=5,
)


@given(rows=losses, limit=st.floats(2.0, 8.0))
@settings(max_examples=25, deadline=None)
def test_the_choice_is_the_best_of_all_that_fit(
    rows: list[tuple[int, list[float]]], limit: float
) -> None:
    layers, source = [], INPUT
    for number, (size, _) in enumerate(rows):
        inputs = 3 if number == 0 else rows[number - 1][0]
        weight = np.ones((size, inputs, 1, 1), np.float32)
        layers.append(Conv(f"c{number}", source, weight, np.zeros(size, np.float32)))
        source = f"c{number}"
    model = Model("m", (3, 1, 1), tuple(layers))
    found = {
        f"c{number}": dict(zip(AMONG, loss, strict=True)) for number, (_, loss) in enumerate(rows)
    }
    n = np.array([layer.weight.size for layer in layers])

    choices = choose_schemes(model, found, Budget("bits", limit))

    bits = sum(choice.bits * choice.n_weights for choice in choices) / n.sum()
    assert bits <= limit * (1 + 1e-9)
    assert sum(choice.cost for choice in choices) == pytest.approx(bits / limit)
    best = min(
        sum(loss[pick] for (_, loss), pick in zip(rows, picks, strict=True))
        for picks in product(range(4), repeat=len(rows))
        # costs are rounded up to steps of the budget: what is within one of the limit may go
        if sum(SCHEMES[AMONG[pick]].bits * size for pick, size in zip(picks, n, strict=True))
        <= limit * n.sum() - (limit - 2) * n.sum() * len(rows) / 2**14
    )
    assert sum(choice.sensitivity for choice in choices) <= best + 1e-9


def test_sensitivities_predict_the_noise_of_the_quantized_network() -> None:
    model, unseen = network(), images(64, 7)
    candidates = dict.fromkeys(weighted_layers(model), AMONG)
    found = measure_sensitivity(model, images(64), PIXELS, candidates)
    wanted = forward(model, normalized(unseen, PIXELS))

    for scheme in AMONG[1:3]:
        options = QuantizeOptions(scheme, bias_correction=False)
        quantized = quantize_model(model, images(64), PIXELS, options)
        codes = input_codes(unseen, PIXELS, quantized.input_format)
        outputs = quantized.values(Engine(quantized.network).run(codes))
        measured = float(np.mean((outputs - wanted) ** 2) / wanted.var())
        predicted = sum(layer[scheme] for layer in found.values())
        # later layers make good part of what earlier ones lost: predictions are on the safe side
        assert 0.2 * predicted < measured < 2.0 * predicted

    for layer in found.values():
        assert layer["uniform-8"] < layer["pot-4"] < layer["ternary"]


def test_a_tighter_budget_costs_more_noise_and_fewer_bits() -> None:
    model = network()
    found = measure_sensitivity(
        model, images(32), PIXELS, dict.fromkeys(weighted_layers(model), AMONG)
    )

    totals = []
    for limit in (2.0, 2.5, 3.0, 3.5, 5.0, 8.0):
        choices = choose_schemes(model, found, Budget("bits", limit))
        n_weights = sum(choice.n_weights for choice in choices)
        bits = sum(choice.bits * choice.n_weights for choice in choices) / n_weights
        assert bits <= limit
        totals.append(sum(choice.sensitivity for choice in choices))

    assert totals == sorted(totals, reverse=True)
    assert {choice.scheme for choice in choices} == {"uniform-8"}
    again = measure_sensitivity(
        model, images(32), PIXELS, dict.fromkeys(weighted_layers(model), AMONG)
    )
    assert again == found


def test_an_energy_budget_counts_products_and_their_cost() -> None:
    model = network()
    costs = relative_product_costs(load_coefficients())
    found = measure_sensitivity(
        model, images(16), PIXELS, dict.fromkeys(weighted_layers(model), AMONG)
    )

    choices = choose_schemes(model, found, parse_budget("0.6energy", costs))

    whole = sum(choice.n_products for choice in choices)
    spent = sum(choice.n_products * costs[choice.scheme] for choice in choices)
    assert spent <= 0.6 * whole
    assert next(choice for choice in choices if choice.layer == "wide").n_products == 64 * 4320
    assert len({choice.scheme for choice in choices}) > 1


def test_relative_costs_are_those_of_the_hardware_that_has_the_levels() -> None:
    costs = relative_product_costs(load_coefficients())

    assert costs["uniform-8"] == 1.0
    assert costs["apot-4"] == 1.0  # 8 and 10 need the 8-bit multiplier
    assert costs["pot-3"] == costs["pot-4e4"] < costs["pot-4"] < costs["uniform-4"] < 1.0
    assert "pot-5" not in costs


def test_settled_layers_are_no_choice() -> None:
    options = QuantizeOptions("uniform-4", first_last="uniform-8", schemes={"back": "pot-3"})

    candidates = candidate_schemes(network(), options, ())

    assert candidates["stem"] == candidates["dense"] == ("uniform-8",)
    assert candidates["back"] == ("pot-3",)
    assert candidates["wide"] == ("ternary", "uniform-3", "uniform-4", "uniform-8")
    assert candidate_schemes(network(), options, ("apot-4",))["wide"] == ("apot-4",)


@pytest.mark.parametrize(
    ("text", "kind", "limit"),
    [("3.5bit", "bits", 3.5), ("4bits", "bits", 4), (" 0.6energy ", "energy", 0.6)],
)
def test_a_budget_is_a_number_and_a_word(text: str, kind: str, limit: float) -> None:
    budget = parse_budget(text, {"uniform-8": 1.0})

    assert (budget.kind, budget.limit) == (kind, limit)


@pytest.mark.parametrize(
    "text", ["", "3.5", "bit", "-1bit", "0bit", "9bit", "1.5energy", "nanbit", "1e3bit", "4 bytes"]
)
def test_what_is_no_budget_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="budget"):
        parse_budget(text, {"uniform-8": 1.0})


def test_a_budget_below_the_cheapest_says_what_that_is() -> None:
    model = network()
    found = measure_sensitivity(
        model, images(8), PIXELS, dict.fromkeys(weighted_layers(model), ("pot-3", "pot-4"))
    )

    with pytest.raises(InputError, match="at least 3"):
        choose_schemes(model, found, Budget("bits", 2.5))


def test_an_energy_budget_needs_costs() -> None:
    with pytest.raises(InputError, match="relative costs"):
        Budget("energy", 0.5)
    model = network()
    found = {name: {"pot-5": 0.0} for name in weighted_layers(model)}
    with pytest.raises(InputError, match="a scheme whose product has a known cost"):
        choose_schemes(model, found, Budget("energy", 0.5, {"uniform-8": 1.0}))
