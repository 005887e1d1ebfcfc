"""The options of `bacmac pack`, by what they are about, and what they mean to the library."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from bacmac.cli.choices import FILE, OVERLAY
from bacmac.host.arith.schemes import SCHEMES
from bacmac.host.errors import InputError
from bacmac.host.manifest.overlay import Manifest
from bacmac.host.model.layers import Normalization
from bacmac.host.pack.compress import IMPORTED, CompressOptions
from bacmac.host.pack.layer_table import LayerTable, read_layer_table
from bacmac.host.prune.plan import COMPENSATED, METHODS
from bacmac.host.quantize.budget import Budget, parse_budget
from bacmac.power.coefficients import load_coefficients
from bacmac.power.product_costs import relative_product_costs

_Command = TypeVar("_Command", bound=Callable[..., Any])
_SCHEME = click.Choice(list(SCHEMES))
_BIAS_CORRECTION = {"auto": None, "on": True, "off": False}

_SCHEMES = (
    click.option(
        "--scheme", type=_SCHEME, default="pot-4", show_default=True, help="Weight scheme."
    ),
    click.option("--first-last", type=_SCHEME, help="Weight scheme of the first and last layer."),
    click.option(
        "--layer-table",
        type=FILE,
        help='Exceptions by layer, JSON: {"conv1": "uniform-8", "conv2": {"scheme": "pot-3", '
        '"activation_bits": 6, "sparsity": 0.3, "structure": "tile", "group_sparsity": 0.5}}.',
    ),
    click.option(
        "--budget",
        metavar="N",
        help='Choose each layer\'s scheme: "3.5bit" is the mean bits of a weight, "0.6energy" the '
        "share of the estimated energy of all products in uniform-8.",
    ),
    click.option(
        "--budget-scheme",
        "budget_schemes",
        type=_SCHEME,
        multiple=True,
        help="Choose among these (give it several times)  [default: what --overlay executes, or "
        "widths of the kind of --scheme].",
    ),
    click.option(
        "--shift-only",
        is_flag=True,
        help="Requantize by shifts alone, for an accelerator without one multiplier.",
    ),
    click.option(
        "--imported",
        type=click.Choice(IMPORTED),
        default="keep",
        show_default=True,
        help="Of a file that holds integers: keep them, recognize power-of-two levels (in floats "
        "too), or quantize anew.",
    ),
)
_PRUNING = (
    click.option(
        "--sparsity", type=float, default=0.0, show_default=True, help="Share of weights made zero."
    ),
    click.option(
        "--structure",
        metavar="KIND",
        default="weight",
        show_default=True,
        help="What goes to zero together: weight, channel, block (4 input channels of an output), "
        "tile (4x4), or N:M (at most N of M inputs stay; it is its own --sparsity).",
    ),
    click.option(
        "--prune-groups",
        type=float,
        default=0.0,
        show_default=True,
        help="Share of weight groups made empty, which cost no time at all; needs --overlay.",
    ),
    click.option(
        "--overlay",
        type=OVERLAY,
        help="Overlay name or manifest: how large a group is, what --budget chooses among.",
    ),
    click.option(
        "--pruning",
        type=click.Choice(METHODS),
        default=COMPENSATED,
        show_default=True,
        help="Which weights go to zero: chosen together with rounding so that the others can take "
        "over, or the smallest.",
    ),
    click.option(
        "--scope",
        type=click.Choice(["layer", "global"]),
        help="Reach the share in each layer, or over all layers together, where it costs least  "
        "[default: global if --pruning compensated, else layer].",
    ),
)
_QUANTIZING = (
    click.option(
        "--rounding",
        type=click.Choice(["compensated", "nearest"]),
        default="compensated",
        show_default=True,
        help="How weights are rounded to levels.",
    ),
    click.option(
        "--bias-correction",
        type=click.Choice(list(_BIAS_CORRECTION)),
        default="auto",
        show_default=True,
        help="Match each channel's mean output; auto: yes if --rounding compensated, else the "
        "better of both.",
    ),
    click.option(
        "--activation-bits",
        type=click.IntRange(2, 8),
        default=8,
        show_default=True,
        help="Bits of stored activations.",
    ),
    click.option(
        "--calibration-images",
        type=click.IntRange(1),
        default=512,
        show_default=True,
        help="How many images of the set are used, from its start.",
    ),
)


def compress_options(command: _Command) -> _Command:
    """Add everything that says how a model is compressed."""
    for option in reversed((*_SCHEMES, *_PRUNING, *_QUANTIZING)):
        command = option(command)
    return command


def resolve_options(
    chosen: Mapping[str, Any], manifest: Manifest | None, normalization: Normalization | None
) -> CompressOptions:
    """What the options ask of the library.

    Args:
        chosen: values of `compress_options`, by parameter name.
        manifest: of the overlay that was named.
        normalization: of pixels.

    Raises:
        InputError: groups without an overlay, a layer table that is none, no such budget.
    """
    table_file: Path | None = chosen["layer_table"]
    table = read_layer_table(table_file) if table_file else LayerTable()
    if manifest is None and (chosen["prune_groups"] or table.group_sparsities):
        raise InputError(
            "pack",
            "--prune-groups",
            found="no --overlay",
            expected="the overlay whose groups they are: its manifest says how large one is",
        )
    return CompressOptions(
        scheme=chosen["scheme"],
        first_last=chosen["first_last"],
        schemes=table.schemes,
        sparsity=chosen["sparsity"],
        sparsities=table.sparsities,
        structure=chosen["structure"],
        structures=table.structures,
        pruning=chosen["pruning"],
        scope=chosen["scope"],
        group_sparsity=chosen["prune_groups"],
        group_sparsities=table.group_sparsities,
        group=group_shape(manifest),
        rounding=chosen["rounding"],
        bias_correction=_BIAS_CORRECTION[chosen["bias_correction"]],
        activation_bits=chosen["activation_bits"],
        activation_bits_table=table.activation_bits,
        calibration_images=chosen["calibration_images"],
        normalization=normalization,
        imported=chosen["imported"],
        budget=_budget(chosen["budget"]),
        budget_schemes=chosen["budget_schemes"] or _executed(manifest),
        shift_only=chosen["shift_only"],
    )


def group_shape(manifest: Manifest | None) -> tuple[int, int] | None:
    """Output channels and inputs of the overlay's groups."""
    if manifest is None:
        return None
    return manifest.geometry.group_outputs, manifest.geometry.group_inputs


def _budget(text: str | None) -> Budget | None:
    if text is None:
        return None
    return parse_budget(text, relative_product_costs(load_coefficients()))


def _executed(manifest: Manifest | None) -> tuple[str, ...]:
    """The schemes of which an overlay executes every level; none without an overlay."""
    if manifest is None:
        return ()
    own = SCHEMES[manifest.scheme]
    return tuple(
        scheme.name
        for scheme in SCHEMES.values()
        if scheme.bits <= own.bits and own.holds(scheme.levels).all() and scheme.has_zero
    )
