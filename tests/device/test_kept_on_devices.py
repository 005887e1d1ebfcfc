"""A network that its file has quantized runs on every device as the exact engine has it."""

from __future__ import annotations

import numpy as np
import pytest

from bacmac.host.arith.engine import Engine
from bacmac.host.compile.choose import choose_overlay
from bacmac.host.device.registry import open_board
from bacmac.host.model.inputs import input_codes
from bacmac.host.model.layers import Normalization
from bacmac.host.quantize.imported import quantize_imported
from bacmac.host.quantize.options import QuantizeOptions
from bacmac.host.runtime.session import Session
from bacmac.overlays.registry import list_overlays


@pytest.mark.parametrize("device", ["functional:", "rtl:"])
def test_constant_channels_and_sums_apart_run_as_the_engine_has_them(built, device):
    model = quantize_imported(built(3), None, Normalization(), QuantizeOptions())
    images = np.random.default_rng(0).normal(0, 1, (6, 3, 9, 9)).astype(np.float32)
    expected = Engine(model.network).run(
        input_codes(images, model.normalization, model.input_format)
    )
    board = open_board(device)

    with Session(board, choose_overlay(model, list_overlays(())), model) as session:
        results = list(session.stream(images))

    board.close()
    assert np.array_equal(np.concatenate([result.outputs for result in results]), expected)
