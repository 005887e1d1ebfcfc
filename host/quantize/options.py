"""What to quantize how: one scheme for all, exceptions for the ends and for single layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bacmac.host.arith.schemes import SCHEMES
from bacmac.host.errors import InputError
from bacmac.host.model.layers import INPUT, Conv, Model, moves_only

ROUNDINGS = ("nearest", "compensated")


@dataclass(frozen=True)
class QuantizeOptions:
    """How `quantize_model` quantizes.

    Attributes:
        scheme: weight scheme of every layer that nothing else is said of.
        first_last: weight scheme of the first and the last layer with weights; None = `scheme`.
        schemes: weight schemes of single layers, before everything else.
        rounding: "nearest", or "compensated" (`compensate`).
        bias_correction: match each channel's mean output on the calibration images.
        activation_bits: bits of every stored tensor, 2 to 8.
        activation_bits_table: bits of single tensors, by layer name or "input".
        shift_only: every requantization is a shift: multiplier 1, residuals by powers of two.

    Raises:
        InputError: a value is out of range or a scheme does not exist.
    """

    scheme: str = "pot-4"
    first_last: str | None = None
    schemes: Mapping[str, str] = field(default_factory=dict)
    rounding: str = "compensated"
    bias_correction: bool = False
    activation_bits: int = 8
    activation_bits_table: Mapping[str, int] = field(default_factory=dict)
    shift_only: bool = False

    def __post_init__(self) -> None:
        check_choice("rounding", self.rounding, ROUNDINGS)
        check_choice("scheme", self.scheme, SCHEMES)
        if self.first_last is not None:
            check_choice("first_last", self.first_last, SCHEMES)
        for layer, scheme in self.schemes.items():
            check_choice(f"schemes[{layer!r}]", scheme, SCHEMES)
        bits = {f"activation_bits_table[{k!r}]": v for k, v in self.activation_bits_table.items()}
        for name, value in {"activation_bits": self.activation_bits, **bits}.items():
            if not 2 <= value <= 8:
                raise InputError("options", name, found=str(value), expected="2 to 8")


def check_choice(name: str, value: str, choices: Mapping[str, object] | tuple[str, ...]) -> None:
    """Refuse an option that is not one of its choices.

    Raises:
        InputError: naming the option and what exists.
    """
    if value not in choices:
        expected = f"one of {', '.join(choices)}"
        raise InputError("options", name, found=repr(value), expected=expected)


def weighted_layers(model: Model) -> tuple[str, ...]:
    """Names of the layers whose weights are quantized, in order: not pools, not structural."""
    return tuple(
        layer.name for layer in model.layers if isinstance(layer, Conv) and not layer.structural
    )


def layer_schemes(model: Model, options: QuantizeOptions) -> dict[str, str]:
    """Scheme of each layer with weights, by name.

    Raises:
        InputError: the table names a layer that has no weights or does not exist.
    """
    names = weighted_layers(model)
    _check_names("schemes", options.schemes, names)
    schemes = dict.fromkeys(names, options.scheme)
    if options.first_last is not None and names:
        schemes[names[0]] = schemes[names[-1]] = options.first_last
    schemes.update(options.schemes)
    return schemes


def tensor_bits(model: Model, options: QuantizeOptions) -> dict[str, int]:
    """Bits of each tensor that has a format of its own, by name.

    What passes through keeps its input's format and has none of its own.

    Raises:
        InputError: the table names a tensor that does not exist or takes another's format.
    """
    names = (INPUT, *(layer.name for layer in model.layers if not moves_only(layer)))
    _check_names("activation_bits", options.activation_bits_table, names)
    return {**dict.fromkeys(names, options.activation_bits), **options.activation_bits_table}


def _check_names(table: str, entries: Mapping[str, object], names: tuple[str, ...]) -> None:
    for name in entries:
        if name not in names:
            raise InputError(
                "options",
                f"{table}[{name!r}]",
                found="no layer of this name that it applies to",
                expected=f"one of {', '.join(names)}",
            )
