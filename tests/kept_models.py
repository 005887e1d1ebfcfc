"""Small networks as files that were quantized elsewhere describe them."""

from __future__ import annotations

from collections import Counter

import numpy as np

from bacmac.host.importers.lowering import Lowering
from bacmac.host.model.layers import Grid, KeptWeights, Model


def built(seed: int, *, bits: int = 8, symmetric: bool = False) -> Model:
    """A small residual network whose file has zero points everywhere."""
    random = np.random.default_rng(seed)
    top = (1 << bits) - 1

    def grid(scale, zero):
        return Grid(scale, 0 if symmetric else zero, 0, top)

    def weights(*shape):
        scale = random.uniform(0.2, 1.0, shape[0]) / (60 * np.prod(shape[1:]) ** 0.5)
        return KeptWeights(random.integers(-127, 128, shape).astype(np.int16), scale)

    steps = ["in", "a", "ar", "aq", "b", "bq", "sum", "sumq", "p", "pq", "m", "mq", "f", "d", "dq"]
    uses = Counter(dict.fromkeys(steps, 1))
    uses["aq"] = 2
    lowering = Lowering("in0", (3, 9, 9), uses + Counter({"in0": 1}))
    lowering.quantize("q", "in0", "in", grid(0.02, 114))
    first = weights(5, 3, 3, 3)
    bias = random.normal(0, 0.5, 5).astype(np.float32)
    lowering.conv("a", "in", "a", first.weight, bias, padding=(1, 1, 1, 1), kept=first)
    lowering.clamp("ar", "a", "ar", 0.0, np.inf)
    lowering.quantize("aq", "ar", "aq", grid(0.03, 0))
    second = weights(5, 5, 3, 3)
    lowering.conv("b", "aq", "b", second.weight, bias, padding=(1, 1, 1, 1), kept=second)
    lowering.quantize("bq", "b", "bq", grid(0.06, 140))
    lowering.add("sum", "bq", "aq", "sum")
    lowering.quantize("sumq", "sum", "sumq", grid(0.06, 97))
    depth = weights(5, 1, 3, 3)
    lowering.conv("p", "sumq", "p", depth.weight, None, padding=(1, 1, 1, 1), groups=5, kept=depth)
    lowering.quantize("pq", "p", "pq", grid(0.05, 130))
    lowering.pool("m", "pq", "m", "average", (3, 3), stride=(3, 3))
    lowering.quantize("mq", "m", "mq", grid(0.03, 120))
    lowering.flatten("mq", "f")
    last = weights(4, 45)
    lowering.dense("d", "f", "d", last.weight, random.normal(0, 1, 4).astype(np.float32), kept=last)
    lowering.quantize("dq", "d", "dq", grid(0.1, 71))
    return lowering.finish("dq", name="made", source="made", sha256="")
