"""What one product costs in each weight scheme, relative to 8-bit multiplication: an ESTIMATE.

The hardware that was estimated is named in `coefficients.toml`. A scheme without hardware of its
own costs what the cheapest product term that has all its levels does.
"""

from __future__ import annotations

from bacmac.host.arith.schemes import SCHEMES
from bacmac.host.quantize.budget import REFERENCE
from bacmac.power.coefficients import Coefficients


def relative_product_costs(coefficients: Coefficients) -> dict[str, float]:
    """Cost of a product by scheme, `uniform-8` being 1; no entry where no product term has it."""
    whole = coefficients.products[REFERENCE].toggle_units
    costs = {}
    for scheme in SCHEMES.values():
        executing = [
            product.toggle_units / whole
            for name, product in coefficients.products.items()
            if SCHEMES[name].holds(scheme.levels).all()
        ]
        if executing:
            costs[scheme.name] = min(executing)
    return costs
