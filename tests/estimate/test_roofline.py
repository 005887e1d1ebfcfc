"""Points of the roofline are the device's counters, and lie under the roofs."""

from __future__ import annotations

from pathlib import Path

import pytest

from bacmac.host.arith.network import ConvOp
from bacmac.host.device.registry import open_board
from bacmac.host.importers.images import load_images
from bacmac.host.model.quantized import QuantizedModel
from bacmac.host.runtime.session import Session
from bacmac.overlays.estimate.roofline import Roofline, draw_roofline, measure_roofline
from bacmac.overlays.registry import load_overlay


def measured(model: QuantizedModel, folder: Path) -> Roofline:
    images = load_images(folder / "digits_test.npz", shape=model.input_shape).images[:2]
    board = open_board("functional:")
    with Session(board, load_overlay("bac-pot4e4"), model, batch_size=2) as session:
        session.repeat(images, 3)
        found = measure_roofline(model, session.program, session.layer_counters())
    board.close()
    return found


def test_dense_products_are_those_of_the_network(pack_digits, example_dir: Path) -> None:
    model = pack_digits("pot-4e4", 0.0)
    found = measured(model, example_dir)

    shapes = model.network.shapes[1:]
    products = [
        layer.op.levels.size * shape[1] * shape[2]
        for layer, shape in zip(model.layers, shapes, strict=True)
        if isinstance(layer.op, ConvOp)
    ]
    assert [point.products for point in found.layers] == products
    assert found.total.products == sum(products)
    assert found.total.cycles == sum(point.cycles for point in found.layers)


def test_no_point_is_above_a_roof(pack_digits, example_dir: Path) -> None:
    found = measured(pack_digits("pot-4e4", 0.5), example_dir)

    for point in (*found.layers, found.total):
        memory = found.bytes_per_cycle * point.products_per_byte
        assert 0 < point.products_per_cycle < min(found.peak, memory)
        assert point.utilisation(found.geometry) == point.products_per_cycle / found.peak


def test_the_picture_names_the_network_and_both_roofs(pack_digits, example_dir: Path) -> None:
    found = measured(pack_digits("pot-4e4", 0.0), example_dir)
    (axes,) = draw_roofline(found).axes

    words = " ".join(text.get_text() for text in axes.texts)
    assert "peak of the array: 256" in words
    assert "16 bytes a cycle" in words
    assert found.network in axes.get_title(loc="left")
    assert f"{found.total.utilisation(found.geometry):.1%}" in axes.get_title(loc="left")
    dots = axes.collections[0].get_offsets()
    assert [float(y) for _, y in dots] == pytest.approx(
        [point.products_per_cycle for point in found.layers]
    )
