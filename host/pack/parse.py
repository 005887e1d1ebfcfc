"""From the fields and tensors of a packed file to a checked QuantizedModel."""

from __future__ import annotations

from typing import cast

import numpy as np

from bacmac.host.arith.network import Shape
from bacmac.host.errors import PackedFileError
from bacmac.host.model.quantized import QuantizedLayer, QuantizedModel
from bacmac.host.pack.container import Tensors
from bacmac.host.pack.limits import MAX_LAYERS, MAX_SIDE
from bacmac.host.pack.metadata import Field, parse_json
from bacmac.host.pack.parse_fields import activation_format, finite, normalization, scales
from bacmac.host.pack.parse_layers import Graph, Stored, check_elements, parse_layer

METADATA_KEY = "bacmac"
FORMAT = "bacmac-packed"
VERSION = 2
LOGIT_OFFSET = "logit_offset"


def parse_model(
    file: str, metadata: dict[str, Field], tensors: Tensors
) -> tuple[QuantizedModel, dict[str, Stored]]:
    """The model, and how its weights are stored, by layer name.

    Raises:
        PackedFileError: anything at all is not as it should be.
    """
    if METADATA_KEY not in metadata:
        raise PackedFileError(
            file,
            "metadata",
            found="no key 'bacmac'",
            expected="a packed model's",
            hint="another program wrote this safetensors file",
        )
    if len(metadata) > 1:
        other = min(key for key in metadata if key != METADATA_KEY)
        raise PackedFileError(
            file, "metadata", found=f"the key {other[:60]!r}", expected="only the key 'bacmac'"
        )
    text = metadata[METADATA_KEY].value
    if not isinstance(text, str):
        metadata[METADATA_KEY].refuse("text")
    root = parse_json(file, "metadata", text.encode("utf-8", "surrogatepass"))
    fields = _versioned(root)
    input_shape = cast(Shape, fields["input_shape"].integers(3, 1, MAX_SIDE))
    version = fields["version"].integer(1, VERSION)
    input_format = activation_format(fields["input_format"], version)
    ranges = [(input_format.low, input_format.high)]
    graph = Graph(version, [input_shape], [input_format], ranges)
    check_elements(fields["input_shape"], graph)
    layers: list[QuantizedLayer] = []
    stored: dict[str, Stored] = {}
    entries = fields["layers"].items(1, MAX_LAYERS)
    for index, entry in enumerate(entries):
        layer, how = parse_layer(entry, index, index == len(entries) - 1, graph, tensors)
        layers.append(layer)
        stored[layer.name] = how
    classes = graph.shapes[-1][0]
    logit_scale = scales(tensors, "logit_scale", classes)
    logit_offset = np.zeros(())
    if version > 1 and LOGIT_OFFSET in tensors.arrays:
        logit_offset = finite(tensors, LOGIT_OFFSET, classes)
    tensors.finish()
    model = QuantizedModel(
        name=fields["name"].text(),
        input_shape=input_shape,
        input_format=input_format,
        normalization=normalization(fields["normalization"], input_shape[0]),
        layers=tuple(layers),
        logit_scale=logit_scale,
        provenance=_provenance(fields["provenance"]),
        logit_offset=logit_offset,
    )
    try:
        _ = model.network
    except ValueError as error:
        raise PackedFileError(
            file, "layers", found=str(error), expected="a network that fits together"
        ) from error
    return model, stored


def _versioned(root: Field) -> dict[str, Field]:
    """The top-level fields, once format and version are known to be ours."""
    outline = root.mapping()
    for key in ("format", "version"):
        if key not in outline:
            root.refuse(f"the key {key!r}", "none")
    outline["format"].choice((FORMAT,))
    version = outline["version"].integer(1, 1 << 31)
    if version > VERSION:
        raise PackedFileError(
            root.file,
            "version",
            found=f"version {version}",
            expected=f"version {VERSION}, the newest that this release reads",
            hint="a newer bacmac wrote it",
        )
    return root.record(
        "format",
        "version",
        "name",
        "input_shape",
        "input_format",
        "normalization",
        "layers",
        "provenance",
    )


def _provenance(at: Field) -> dict[str, object]:
    at.mapping()
    return cast(dict[str, object], at.plain())
