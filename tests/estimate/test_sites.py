"""LUT sites, carry blocks and memories are counted as the part has them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bacmac.host.errors import OverlayError
from bacmac.overlays.estimate.sites import Resources, count_cells


def lut(output: int, *inputs: int | str) -> dict[str, Any]:
    ports: dict[str, list[int | str]] = {f"I{i}": [bit] for i, bit in enumerate(inputs)}
    return {"type": f"LUT{len(inputs)}", "connections": {**ports, "O": [output]}}


def carry(carry_in: int | str, first: int, *, selects: list[int]) -> dict[str, Any]:
    return {
        "type": "CARRY4",
        "connections": {
            "CI": [carry_in],
            "CYINIT": ["0"],
            "S": selects,
            "DI": ["0"] * 4,
            "O": list(range(first, first + 4)),
            "CO": list(range(first + 4, first + 8)),
        },
    }


def count(*cells: dict[str, Any]) -> Resources:
    return count_cells("module", {str(i): cell for i, cell in enumerate(cells)})


def test_two_functions_of_five_shared_inputs_share_a_site() -> None:
    found = count(lut(10, 1, 2, 3), lut(11, 3, 4, 5))

    assert (found.lut, found.lut_sites) == (2, 1)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((1, 2, 3, 4), (4, 5, 6)),  # six inputs together
        ((1, 2), (3, 4)),  # nothing shared
        ((1, 2, 3, 4, 5, 6), (1, 2)),  # a 6-input function fills its site
    ],
)
def test_functions_that_do_not_fit_take_two_sites(
    one: tuple[int, ...], other: tuple[int, ...]
) -> None:
    assert count(lut(10, *one), lut(11, *other)).lut_sites == 2


def test_bits_of_a_carry_chain_do_not_share_a_site() -> None:
    luts = [lut(10 + i, 1, 2) for i in range(4)]

    assert count(*luts).lut_sites == 2
    assert count(*luts, carry("0", 20, selects=[10, 11, 12, 13])).lut_sites == 4


def test_an_inverter_takes_a_site_only_on_a_carry_chain() -> None:
    inverter = {"type": "INV", "connections": {"I": [1], "O": [10]}}

    assert count(inverter).lut_sites == 0
    assert count(inverter, carry("0", 20, selects=[10, 2, 3, 4])).lut_sites == 1


def test_constant_inputs_do_not_count() -> None:
    assert count(lut(10, 1, 2, 3, "0", "1"), lut(11, 3, 4, 5)).lut_sites == 1


@pytest.mark.parametrize(("length", "blocks"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3)])
def test_two_carry4_of_a_chain_make_a_carry8(length: int, blocks: int) -> None:
    chain = [
        carry("0" if i == 0 else 100 * i + 7, 100 * (i + 1), selects=[1, 2, 3, 4])
        for i in range(length)
    ]

    assert count(*chain).carry8 == blocks


def test_memories_and_registers_are_counted_in_the_units_of_the_part() -> None:
    kinds = ["RAMB36E2", "RAMB18E2", "URAM288", "RAM64M8", "SRL16E", "FDRE", "FDSE", "DSP48E2"]
    found = count(*({"type": kind, "connections": {}} for kind in kinds), {"type": "$scopeinfo"})

    assert found == Resources(lut=9, lut_sites=9, carry8=0, ff=2, dsp=1, bram36=1.5, uram=1)


def test_a_cell_that_is_not_known_is_not_passed_over() -> None:
    with pytest.raises(OverlayError, match="cell RAMB72"):
        count({"type": "RAMB72", "connections": {}})


@given(st.lists(st.lists(st.integers(0, 12), min_size=1, max_size=6, unique=True), max_size=30))
def test_pairing_never_gains_more_than_half(functions: list[list[int]]) -> None:
    found = count(*(lut(100 + i, *inputs) for i, inputs in enumerate(functions)))

    assert found.lut == len(functions)
    assert (found.lut + 1) // 2 <= found.lut_sites <= found.lut
