"""The emulated power model's numbers: every one has a unit and a named source, or is refused."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bacmac.host.errors import InputError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEFAULT_FILE = Path(__file__).with_name("coefficients.toml")
BASES = ("study", "public", "assumption")
NEEDED = (
    *("toggle_unit_pj", "weight_byte_pj", "activation_byte_pj", "dma_byte_pj", "dram_byte_pj"),
    *("clock_pj_per_lut_cycle", "static_uw_per_lut", "self_heating", "self_heating_tau_s"),
    *("configuration_effect", "int_base_w", "rest_w", "regulator_efficiency", "fan_w"),
    *("warm_up_w", "warm_up_tau_s", "ambient_w", "ambient_period_s", "telemetry_tau_s"),
    *("noise_w", "noise_tau_s", "slow_noise_w", "slow_noise_tau_s"),
    *("ambient_c", "warm_up_c", "die_c_per_w", "zcu102_vccint_w", "zcu102_vccbram_w"),
    *("zcu102_vccaux_w", "zcu102_vccpsintfp_w", "zcu102_psddr_w", "zcu102_noise_share"),
)


@dataclass(frozen=True)
class Coefficient:
    """A number with its unit, what it rests on (one of BASES) and its source."""

    name: str
    value: float
    unit: str
    basis: str
    source: str


@dataclass(frozen=True)
class ProductCost:
    """Relative cost of one product of a lane, by the overlay's scheme.

    Attributes:
        func, glitch: toggle units of settled values, and with transport delays.
        skipped: cost of a zero weight's slot, relative to `toggle_units`.
    """

    scheme: str
    func: float
    glitch: float
    skipped: float
    source: str

    @property
    def toggle_units(self) -> float:
        """Mean of the two counts that bracket the hardware."""
        return (self.func + self.glitch) / 2


@dataclass(frozen=True)
class Coefficients:
    """All numbers of the model, and the file they were read from."""

    products: Mapping[str, ProductCost]
    values: Mapping[str, Coefficient]
    file: str

    def __getitem__(self, name: str) -> float:
        return self.values[name].value

    def product_j(self, scheme: str) -> tuple[float, float]:
        """Energy in J of a product done and of a zero weight's slot; KeyError: unknown scheme."""
        cost = self.products[scheme]
        done = cost.toggle_units * self["toggle_unit_pj"] * 1e-12
        return done, done * cost.skipped

    def table(self) -> tuple[Coefficient, ...]:
        """Every number for a report, products first."""
        products = [
            Coefficient(
                f"product, {p.scheme}",
                p.toggle_units,
                f"toggle units (func {p.func:g}, glitch {p.glitch:g}); zero weight x {p.skipped:g}",
                "study",
                p.source,
            )
            for p in self.products.values()
        ]
        return (*products, *self.values.values())


def load_coefficients(path: Path = DEFAULT_FILE) -> Coefficients:
    """Read a coefficient file.

    Raises:
        InputError: it cannot be read, or a number lacks its value, unit or source.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            path, "file", found=error.strerror or str(error), expected="a coefficient file"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(path, "TOML", found=str(error), expected="a coefficient file") from error
    if document.get("schema") != 1:
        raise InputError(path, "schema", found=repr(document.get("schema")), expected="1")
    values = {
        c.name: c for c in (_coefficient(path, row) for row in document.get("coefficient", []))
    }
    products = {p.scheme: p for p in (_product(path, row) for row in document.get("product", []))}
    missing = [name for name in NEEDED if name not in values]
    if missing or not products:
        raise InputError(
            path, "coefficient", found=f"no {', '.join(missing) or 'product'}", expected="all"
        )
    return Coefficients(products, values, str(path))


def _coefficient(path: Path, row: dict[str, Any]) -> Coefficient:
    name = _text(path, row, "name")
    basis = _text(path, row, "basis", name)
    if basis not in BASES:
        raise InputError(path, f"{name}.basis", found=repr(basis), expected=" or ".join(BASES))
    return Coefficient(
        name,
        _number(path, row, "value", name),
        _text(path, row, "unit", name),
        basis,
        _text(path, row, "source", name),
    )


def _product(path: Path, row: dict[str, Any]) -> ProductCost:
    scheme = _text(path, row, "scheme")
    return ProductCost(
        scheme,
        _number(path, row, "func", scheme),
        _number(path, row, "glitch", scheme),
        _number(path, row, "skipped", scheme),
        _text(path, row, "source", scheme),
    )


def _text(path: Path, row: dict[str, Any], key: str, of: str = "entry") -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value:
        raise InputError(path, f"{of}.{key}", found=repr(value), expected="a text")
    return value


def _number(path: Path, row: dict[str, Any], key: str, of: str) -> float:
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
        raise InputError(path, f"{of}.{key}", found=repr(value), expected="a number, 0 or more")
    return float(value)
