"""The storage formats of packed weights, and which is the smallest for a layer.

Every format is a `Packer`; a packed file names the one of each layer. Sizes are closed forms, so a
choice costs no packing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np

from bacmac.host.arith.network import ConvOp
from bacmac.host.arith.schemes import SCHEMES, Levels, Scheme
from bacmac.host.errors import InputError
from bacmac.host.model.quantized import QuantizedModel
from bacmac.host.pack.bits import Bytes, packed_size
from bacmac.host.pack.codes import pack_levels, unpack_levels
from bacmac.host.pack.layer_shape import LayerShape
from bacmac.host.pack.sparse import Bitmap, Coordinates, SomeOfMany, most_of
from bacmac.host.pack.stream import Stream


class Packer(Protocol):
    """A storage format: how the levels of one layer become bytes.

    `name` is what a packed file calls it. What `pack` makes has the size that `size` says, and
    `unpack` takes nothing else than what `pack` makes.
    """

    @property
    def name(self) -> str:
        """As files and the command line have it."""

    def refusal(self, levels: Levels, scheme: Scheme, shape: LayerShape) -> str:
        """Why these levels cannot be stored so, or ""."""

    def size(self, levels: Levels, scheme: Scheme, shape: LayerShape) -> int:
        """Bytes that these levels take, by the format's closed form."""

    def pack(self, levels: Levels, scheme: Scheme, shape: LayerShape) -> Bytes:
        """Levels of the layer's shape and the scheme's dtype to bytes; ValueError where not."""

    def unpack(self, data: Bytes, scheme: Scheme, shape: LayerShape) -> Levels:
        """Undo `pack`; ValueError for bytes that it cannot have made."""


@dataclass(frozen=True)
class Dense:
    """Every weight's code, in the order of the weights' shape (`codes.pack_levels`)."""

    name: str = "dense"

    def refusal(self, levels: Levels, scheme: Scheme, shape: LayerShape) -> str:
        """Nothing is refused."""
        return ""

    def size(self, levels: Levels, scheme: Scheme, shape: LayerShape) -> int:
        """Bytes: ceil(n / g) g b / 8, g codes of b bits being the fewest that fill whole bytes."""
        return packed_size(shape.n_weights, scheme.bits)

    def pack(self, levels: Levels, scheme: Scheme, shape: LayerShape) -> Bytes:
        """Levels of the layer's shape to bytes."""
        return pack_levels(cast(Levels, np.ascontiguousarray(levels).reshape(-1)), scheme)

    def unpack(self, data: Bytes, scheme: Scheme, shape: LayerShape) -> Levels:
        """Undo `pack`; ValueError for bytes that it cannot have made."""
        return unpack_levels(data, shape.n_weights, scheme).reshape(shape.weights)


DENSE = "dense"
AUTO = "auto"
MANY = (4, 8, 16)
"""M of N:M."""
FORMATS = (AUTO, DENSE, "bitmap", "coo", "nm", "stream")
"""What the command line takes: `nm` finds N and M, `stream` needs an overlay's group."""

Group = tuple[int, int]
"""Output channels and inputs of an array's group."""


@dataclass(frozen=True)
class FormatChoice:
    """The format of one layer, and what there was to choose from.

    Attributes:
        layer: its name.
        name: of the format that was taken.
        n_bytes: bytes of every format that can hold the layer, by name.
        refused: why the others cannot, by name.
        why: one sentence for a person.
    """

    layer: str
    name: str
    n_bytes: Mapping[str, int]
    refused: Mapping[str, str]
    why: str


def packer(name: str) -> Packer:
    """The format that a packed file calls so: dense, bitmap, coo, nm-2:4, stream-16x16.

    Raises:
        ValueError: there is no such format.
    """
    plain: dict[str, Packer] = {p.name: p for p in (Dense(), Bitmap(), Coordinates())}
    if name in plain:
        return plain[name]
    if found := re.fullmatch(r"nm-([1-9]\d?):(4|8|16)", name, re.ASCII):
        some, many = int(found[1]), int(found[2])
        if some < many:
            return SomeOfMany(some, many)
    if found := re.fullmatch(r"stream-(8|16|32|64)x(8|16|32|64)", name, re.ASCII):
        return Stream(int(found[1]), int(found[2]))
    raise ValueError(
        f"no format {name!r}: dense, bitmap, coo, nm-N:M (N < M = 4, 8 or 16) or stream-OxI "
        "(8 to 64)"
    )


def choose_formats(
    model: QuantizedModel, wanted: str = AUTO, group: Group | None = None
) -> dict[str, FormatChoice]:
    """The format of every layer that has weights, by layer name.

    Args:
        model: whose layers they are.
        wanted: one of `FORMATS`, or a name that `packer` takes. A layer that it cannot hold
            (a binary one has no zero to leave out) is refused; `auto` takes the smallest.
        group: of an overlay's array; without one `auto` leaves the stream out.

    Raises:
        InputError: no such format, or a layer that it cannot hold, named.
    """
    check_format(wanted, group)
    shapes = model.network.shapes
    return {
        layer.name: _choose(
            layer.name,
            layer.op.levels,
            SCHEMES[layer.scheme],
            LayerShape.of(layer.op, shapes[layer.op.input]),
            wanted,
            group,
        )
        for layer in model.layers
        if isinstance(layer.op, ConvOp)
    }


def check_format(wanted: str, group: Group | None = None) -> None:
    """Refuse what no layer can be stored as, before there are layers.

    Raises:
        InputError: no such format, or the stream without the group of an overlay.
    """
    if wanted == "stream" and group is None:
        raise InputError(
            "options",
            "format",
            found="stream without an overlay",
            expected="the overlay whose order it is: its manifest says how large a group is",
        )
    try:
        if wanted not in FORMATS:
            packer(wanted)
    except ValueError as error:
        raise InputError(
            "options", "format", found=str(error), expected=", ".join(FORMATS)
        ) from error


def layer_formats(
    levels: Levels,
    scheme: Scheme,
    shape: LayerShape,
    group: Group | None = None,
    also: str = AUTO,
) -> tuple[dict[str, int], dict[str, str]]:
    """Bytes of a layer in every format that can hold it, and why the others cannot, by name.

    Args:
        levels: of the layer.
        scheme: of its codes.
        shape: of its weights.
        group: of an overlay's array, for the stream.
        also: a name with its own parameters, like nm-2:4, to be looked at too.

    Raises:
        ValueError: there is no format `also`.
    """
    patterns = [SomeOfMany(max(most_of(levels, many), 1), many) for many in MANY]
    candidates: list[Packer] = [Dense(), Bitmap(), Coordinates()]
    candidates += [pattern for pattern in patterns if pattern.some < pattern.many]
    if group is not None:
        candidates.append(packer(f"stream-{group[0]}x{group[1]}"))
    if also not in FORMATS:
        candidates.append(packer(also))
    n_bytes: dict[str, int] = {}
    refused: dict[str, str] = {}
    for candidate in candidates:
        if why := candidate.refusal(levels, scheme, shape):
            refused[candidate.name] = why
        else:
            n_bytes[candidate.name] = candidate.size(levels, scheme, shape)
    if all(pattern.some >= pattern.many for pattern in patterns):
        refused["nm"] = (
            "groups of 4, of 8 and of 16 inputs have no zero"
            if scheme.has_zero
            else f"{scheme.name} has no zero to leave out"
        )
    return n_bytes, refused


def _choose(
    layer: str,
    levels: Levels,
    scheme: Scheme,
    shape: LayerShape,
    wanted: str,
    group: Group | None,
) -> FormatChoice:
    n_bytes, refused = layer_formats(levels, scheme, shape, group, wanted)
    fitting = [name for name in n_bytes if _is_meant(name, wanted)]
    if not fitting:
        raise InputError(
            "options",
            f"format of layer {layer!r}",
            found=next(
                f"{name}: {why}" for name, why in refused.items() if _is_meant(name, wanted)
            ),
            expected="a format that can hold the layer, or auto",
        )
    name = min(fitting, key=lambda known: n_bytes[known])
    return FormatChoice(layer, name, n_bytes, refused, _why(name, wanted, n_bytes, levels))


def _is_meant(name: str, wanted: str) -> bool:
    """Whether a format is what was asked for: by name, by kind, or any."""
    return wanted in (AUTO, name, name.partition("-")[0])


def _why(name: str, wanted: str, n_bytes: Mapping[str, int], levels: Levels) -> str:
    zeros = 1 - np.count_nonzero(levels) / levels.size
    taken = f"{name}, {n_bytes[name]:,} bytes with {zeros:.0%} zeros"
    if wanted != AUTO:
        return f"{taken}: asked for"
    others = sorted((n, other) for other, n in n_bytes.items() if other != name)
    if not others:
        return f"{taken}: nothing else holds it"
    n, other = others[0]
    if n == n_bytes[name]:
        return f"{taken}: no larger than {other}"
    return f"{taken}: {1 - n_bytes[name] / n:.0%} less than {other}, the next"
