"""What the way through program, DMA, registers and driver costs beside the engine alone.

Both run the same images in one process, in turns; the ratio of CPU times is the result.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

import engine_networks

from bacmac.host.arith.engine import Engine
from bacmac.host.arith.network import ConvOp, IntegerNetwork
from bacmac.host.device.registry import open_board
from bacmac.host.model.inputs import input_codes
from bacmac.host.model.layers import Normalization
from bacmac.host.model.quantized import ActivationFormat, QuantizedLayer, QuantizedModel
from bacmac.host.runtime.session import Session
from bacmac.overlays.registry import load_overlay

ROUNDS = 5


def as_model(name: str, network: IntegerNetwork) -> QuantizedModel:
    """The network with names around it; scales do not matter here."""
    layers = tuple(
        QuantizedLayer(
            f"layer{index}",
            op,
            None if op.requantize is None else ActivationFormat(1.0, signed=op.requantize.low < 0),
            "pot-4" if isinstance(op, ConvOp) else "",
        )
        for index, op in enumerate(network.ops)
    )
    return QuantizedModel(
        name,
        network.input_shape,
        ActivationFormat(1 / 127, signed=network.input_low < 0),
        Normalization(),
        layers,
        np.ones(network.shapes[-1][0]),
    )


def main() -> None:
    """Print a line a network."""
    rng = np.random.default_rng(0)
    for name, n_images in (("resnet20", 512), ("lenet5", 4096)):
        model = as_model(name, getattr(engine_networks, name)())
        images = rng.integers(0, 256, (n_images, *model.input_shape), dtype=np.uint8)
        codes = input_codes(images, model.normalization, model.input_format)
        engine = Engine(model.network)
        ratios, speeds = [], []
        with Session(open_board("functional:"), load_overlay("bac-pot4"), model) as session:
            work = session.program.image_work
            for _ in range(ROUNDS + 1):
                start = time.process_time()
                outputs = [result.outputs for result in session.stream(images)]
                middle = time.process_time()
                expected = engine.run(codes)
                end = time.process_time()
                assert np.array_equal(np.concatenate(outputs), expected)
                ratios.append((middle - start) / (end - middle))
                speeds.append(n_images / (middle - start))
        print(
            f"{name}: {statistics.median(speeds[1:]):.0f} images per CPU second through the "
            f"session, {statistics.median(ratios[1:]):.3f} x the engine's time; "
            f"{work.cycles} cycles an image"
        )


if __name__ == "__main__":
    main()
