"""The table of exceptions: layers that differ from the rest in scheme, activations or sparsity."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from bacmac.host.arith.schemes import SCHEMES
from bacmac.host.errors import InputError
from bacmac.host.prune.structures import parse_pattern

MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class LayerTable:
    """What is said of single layers, by layer name; a layer not named follows the rest."""

    schemes: dict[str, str] = field(default_factory=dict)
    activation_bits: dict[str, int] = field(default_factory=dict)
    sparsities: dict[str, float] = field(default_factory=dict)
    group_sparsities: dict[str, float] = field(default_factory=dict)
    structures: dict[str, str] = field(default_factory=dict)


def read_layer_table(path: str | Path) -> LayerTable:
    """Read a JSON object of layers: {"conv1": "uniform-8"} or {"conv1": {"scheme": ...}}.

    An object may hold `scheme`, `activation_bits` (2 to 8), `sparsity` and `group_sparsity` (0 to
    below 1), and `structure` (of what becomes zero). Whether the layers exist is for whoever has
    the model to say.

    Raises:
        InputError: unreadable, no JSON object, or a value of the wrong kind.
    """
    rows = _read_object(Path(path))
    table = LayerTable()
    for layer, row in rows.items():
        entry = {"scheme": row} if isinstance(row, str) else row
        if not isinstance(entry, dict):
            raise InputError(
                path, layer, found=type(row).__name__, expected="a scheme name or an object"
            )
        for key, value in entry.items():
            _add(table, path, layer, key, value)
    return table


def _read_object(path: Path) -> dict[str, object]:
    try:
        data = path.read_bytes()[: MAX_BYTES + 1]
    except OSError as error:
        raise InputError(
            path, "file", found=error.strerror or str(error), expected="a readable JSON file"
        ) from error
    if len(data) > MAX_BYTES:
        raise InputError(path, "size", found="over 1 MiB", expected="a small JSON object")
    try:
        rows = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(path, "JSON", found=str(error), expected="a JSON object") from error
    if not isinstance(rows, dict):
        raise InputError(path, "JSON", found=type(rows).__name__, expected="an object")
    return rows


def _add(table: LayerTable, path: str | Path, layer: str, key: str, value: object) -> None:
    where = f"{layer}.{key}"
    if key == "scheme":
        if not isinstance(value, str) or value not in SCHEMES:
            raise InputError(
                path, where, found=repr(value), expected="one of " + ", ".join(SCHEMES)
            )
        table.schemes[layer] = value
    elif key == "structure":
        if not isinstance(value, str):
            raise InputError(path, where, found=repr(value), expected="a name, or N:M")
        parse_pattern(value)
        table.structures[layer] = value
    elif key == "activation_bits":
        if not isinstance(value, int) or isinstance(value, bool) or not 2 <= value <= 8:
            raise InputError(path, where, found=repr(value), expected="a whole number from 2 to 8")
        table.activation_bits[layer] = value
    elif key in ("sparsity", "group_sparsity"):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 <= float(value) < 1:  # type: ignore[arg-type]
            raise InputError(path, where, found=repr(value), expected="a number from 0 to below 1")
        shares = table.sparsities if key == "sparsity" else table.group_sparsities
        shares[layer] = float(value)  # type: ignore[arg-type]
    else:
        raise InputError(
            path,
            where,
            found=repr(key),
            expected="scheme, activation_bits, sparsity, structure or group_sparsity",
        )
