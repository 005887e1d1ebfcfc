"""A roofline: what each layer attains against the array's peak and the memories' bandwidth.

Products a cycle over products a byte (Williams, Waterman and Patterson, CACM 52-4, 2009). The array
has two roofs: its own products, and the weight memory, which gives one word a cycle; activations
come as fast as the array takes them, whatever the layer. A third roof is the stream's, for whole
batches whose weights are on chip. The points are counted by a device, not modelled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bacmac.host.arith.groups import cut_groups, gather_groups
from bacmac.host.arith.network import ConvOp
from bacmac.host.compile.program import Program
from bacmac.host.compile.weights import is_dense
from bacmac.host.device.batch import LayerCounters
from bacmac.host.errors import MissingExtraError
from bacmac.host.manifest.overlay import Geometry
from bacmac.host.model.quantized import QuantizedModel

if TYPE_CHECKING:
    from matplotlib.figure import Figure


NAMED = 4
"""The layers farthest below the peak have their names in the picture."""


@dataclass(frozen=True)
class Point:
    """One layer with weights, or all of them, for one image.

    Attributes:
        name: the layer's, or "total".
        products: of its weights in groups that are not skipped, zeros included, edges of the array
            not.
        cycles: as the device counted.
        weight_bytes: read from the weight memory.
    """

    name: str
    products: int
    cycles: int
    weight_bytes: int

    @property
    def products_per_cycle(self) -> float:
        """Attained."""
        return self.products / self.cycles

    @property
    def products_per_byte(self) -> float:
        """Of the weight memory."""
        return self.products / max(self.weight_bytes, 1)

    def utilisation(self, geometry: Geometry) -> float:
        """Share of the array's peak."""
        return self.products_per_cycle / (geometry.inputs * geometry.outputs)


@dataclass(frozen=True)
class Roofline:
    """The points of a network on an overlay.

    Attributes:
        overlay, network: names.
        geometry: of the array.
        layers: those with weights, in order.
        total: of these.
        stream_bytes: of one image, in and out, whole beats.
    """

    overlay: str
    network: str
    geometry: Geometry
    layers: tuple[Point, ...]
    total: Point
    stream_bytes: int

    @property
    def peak(self) -> int:
        """Products a cycle of the array."""
        return self.geometry.inputs * self.geometry.outputs

    @property
    def bytes_per_cycle(self) -> int:
        """Of the weight memory, of a port of the activation memory, and of the stream: a word."""
        return self.geometry.inputs


def measure_roofline(
    model: QuantizedModel, program: Program, counters: Sequence[LayerCounters]
) -> Roofline:
    """The roofline of what a device counted over a batch.

    Args:
        model: that ran.
        program: as it was compiled for the overlay.
        counters: of its layers, from the device.
    """
    manifest = program.overlay.manifest
    points = []
    for layer, counted, shape, plan in zip(
        model.layers, counters, model.network.shapes[1:], program.layers, strict=True
    ):
        if isinstance(layer.op, ConvOp):
            in_shape = model.network.shapes[layer.op.input]
            weights = _executed_weights(layer.op, in_shape[1], in_shape[2], manifest.geometry)
            cycles = counted.cycles // counted.images
            points.append(
                Point(layer.name, weights * shape[1] * shape[2], cycles, plan.work.weight_bytes)
            )
    total = Point(
        "total",
        sum(p.products for p in points),
        sum(p.cycles for p in points),
        sum(p.weight_bytes for p in points),
    )
    return Roofline(
        manifest.name,
        model.name,
        manifest.geometry,
        tuple(points),
        total,
        program.input.n_bytes + program.output.n_bytes,
    )


def draw_roofline(roofline: Roofline) -> Figure:
    """The picture: one dot a layer under the two roofs, a star for the whole network.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("a roofline's picture", "report") from error
    figure = Figure(figsize=(7.2, 4.6), layout="constrained")
    axes: Any = figure.add_subplot()
    peak, width = roofline.peak, roofline.bytes_per_cycle
    total = roofline.total
    stream = total.products / roofline.stream_bytes
    intensities = [p.products_per_byte for p in roofline.layers]
    left, right = min(*intensities, 1.0) / 2, max(*intensities, stream) * 2
    ridge = peak / width
    axes.plot([left, ridge, right], [width * left, peak, peak], color="#30363d", lw=1.6)
    axes.text(
        right, peak * 1.06, f"peak of the array: {peak} products a cycle", ha="right", va="bottom"
    )
    axes.text(left * 4, width * left * 2, f"weight memory:\n{width} bytes a cycle", va="top")
    axes.scatter(
        intensities,
        [p.products_per_cycle for p in roofline.layers],
        s=26,
        color="#0f8bb3",
        zorder=3,
        label=f"{len(roofline.layers)} layers, over bytes of the weight memory",
    )
    axes.scatter(
        [total.products_per_byte],
        [total.products_per_cycle],
        s=110,
        marker="*",
        color="#d1691e",
        zorder=4,
        label="whole network, over bytes of the weight memory",
    )
    axes.scatter(
        [stream],
        [total.products_per_cycle],
        s=60,
        marker="D",
        facecolors="none",
        edgecolors="#d1691e",
        zorder=4,
        label="whole network, over bytes of the streams",
    )
    below = sorted(roofline.layers, key=lambda p: p.products_per_cycle)[:NAMED]
    for point in below:
        axes.annotate(
            f"{point.name}: {point.utilisation(roofline.geometry):.0%}",
            (point.products_per_byte, point.products_per_cycle),
            xytext=(7, -4),
            textcoords="offset points",
            fontsize=9,
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xlim(left, right)
    axes.set_ylim(min(p.products_per_cycle for p in roofline.layers) / 2, peak * 1.6)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("products a byte")
    axes.set_ylabel("products a cycle")
    axes.set_title(
        f"{roofline.network} on {roofline.overlay}: "
        f"{total.utilisation(roofline.geometry):.1%} of the peak",
        loc="left",
    )
    axes.grid(which="major", color="#d8dce2", lw=0.6)
    axes.legend(loc="lower right", frameon=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure


def _executed_weights(op: ConvOp, height: int, width: int, geometry: Geometry) -> int:
    """Weights of a layer, zeros too, in groups that hold one that is not zero."""
    cut = cut_groups(
        op.levels.shape,
        op.groups,
        dense=is_dense(op, height, width),
        outputs=geometry.outputs,
        inputs=geometry.inputs,
    )
    full = gather_groups(op.levels, cut).any(axis=(1, 2))
    return int((cut.index[full] >= 0).sum())
