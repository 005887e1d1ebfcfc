"""Rails are found by chip and address in either INA226 layout, and a failed read is an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from bacmac.host.device.clock import VirtualClock
from bacmac.host.errors import RailError
from bacmac.power.hwmon import HwmonRails

PMBUS = {  # address -> output -> mV, mA, uW as PYNQ's notebook prints them
    0x43: {
        2: (851, 4375, 3_500_000),
        3: (1804, 328, 562_500),
        4: (1203, 234, 281_250),
        5: (898, 128, 109_375),
    },
    0x44: {
        2: (3304, 625, 2_000_000),
        3: (1125, 218, 218_750),
        4: (5000, 0, 0),
        5: (156, 10187, 31_250),
        6: (835, 39, 31_250),
    },
}


class Tree:
    """A synthetic /sys/class/hwmon of a ZCU104."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "class" / "hwmon"
        self.root.mkdir(parents=True)
        self._devices = folder / "devices"

    def chip(self, number: int, device: str, name: str, files: dict[str, object]) -> Path:
        home = self._devices / device / "hwmon" / f"hwmon{number}"
        home.mkdir(parents=True)
        (home / "name").write_text(f"{name}\n")
        (home / "device").symlink_to(self._devices / device)
        for file, value in files.items():
            (home / file).write_text(f"{value}\n")
        (self.root / f"hwmon{number}").symlink_to(home)
        return home

    def pmbus(self, number: int, address: int) -> Path:
        files: dict[str, object] = {"in1_input": 12100, "curr1_input": 500, "power1_input": 6000000}
        for output, (millivolts, milliamperes, microwatts) in PMBUS[address].items():
            files[f"in{output}_input"] = millivolts
            files[f"curr{output}_input"] = milliamperes
            files[f"power{output}_input"] = microwatts
        return self.chip(number, f"4-{address:04x}", "irps5401", files)

    def ina2xx(self, number: int) -> Path:
        files = {"in0_input": 6, "in1_input": 12113, "curr1_input": 1159}
        files |= {"power1_input": 14_050_000, "update_interval": 35}
        return self.chip(number, "5-0040", "ina226", files)

    def iio(self, number: int) -> Path:
        files = {"in1_input": 6, "in2_input": 12113, "curr1_input": 1159}
        return self.chip(number, "ina226", "ina226", files | {"power1_input": 14_050_000})


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def rails_of(tree: Tree, kernel: str = "6.6.10") -> HwmonRails:
    return HwmonRails(VirtualClock(77), tree.root, kernel=kernel)


@pytest.mark.parametrize("layout", ["ina2xx", "iio"])
def test_every_rail_is_read_in_either_layout_whatever_the_chips_numbers(
    tree: Tree, layout: str
) -> None:
    getattr(tree, layout)(0)
    tree.pmbus(7, 0x44)
    tree.pmbus(1, 0x43)
    tree.chip(3, "platform", "cpu_thermal", {"temp1_input": 40000})

    source = rails_of(tree)

    names = [info.name for info in source.rails()]
    assert names == ["INT", "1V8", "1V2", "MGTA", "3V3", "1V13", "5V0", "MGTRA", "12V"]
    assert source.read("INT") == (77, 851, 4375, 3_500_000)
    assert source.read("12V") == (77, 12113, 1159, 14_050_000)
    assert source.emulated is False


def test_the_unused_fmc_rail_is_left_out_and_says_why(tree: Tree) -> None:
    tree.pmbus(0, 0x44)
    source = rails_of(tree)

    with pytest.raises(RailError, match=r"FMC.*0\.156 V.*10\.187 A mean nothing"):
        source.read("FMC")


def test_a_rail_switched_on_later_is_plausible(tree: Tree) -> None:
    home = tree.pmbus(0, 0x44)
    (home / "in5_input").write_text("1795\n")
    (home / "curr5_input").write_text("31\n")

    assert "FMC" in [info.name for info in rails_of(tree).rails()]


def test_an_impossible_current_is_left_out(tree: Tree) -> None:
    home = tree.pmbus(0, 0x44)
    (home / "curr2_input").write_text("99000\n")

    assert "more than the 14 A" in rails_of(tree).excluded["3V3"]


def test_a_chip_at_another_address_is_not_taken(tree: Tree) -> None:
    tree.ina2xx(0)
    tree.chip(1, "4-0045", "irps5401", {"in2_input": 851})

    source = rails_of(tree)

    assert [info.name for info in source.rails()] == ["12V"]
    assert "no irps5401 at 0x43" in source.excluded["INT"]


def test_a_failed_read_names_the_file_and_gives_no_old_value(tree: Tree) -> None:
    home = tree.pmbus(0, 0x43)
    source = rails_of(tree)
    source.read("INT")
    (home / "curr2_input").unlink()
    (home / "curr2_input").mkdir()

    with pytest.raises(RailError, match=r"curr2_input: cannot be read"):
        source.read("INT")


def test_text_that_is_no_number_is_an_error(tree: Tree) -> None:
    home = tree.pmbus(0, 0x43)
    source = rails_of(tree)
    (home / "in2_input").write_text("N/A\n")

    with pytest.raises(RailError, match=r"in2_input: found b'N/A'; expected an integer"):
        source.read("INT")


def test_a_rail_that_cannot_be_read_at_opening_is_left_out_and_says_why(tree: Tree) -> None:
    """The ZCU104's own `sensors` listing has outputs that answer N/A: the others still count."""
    home = tree.pmbus(0, 0x43)
    (home / "power2_input").unlink()

    source = rails_of(tree)

    assert [info.name for info in source.rails()] == ["1V8", "1V2", "MGTA"]
    with pytest.raises(RailError, match=r"INT.*power2_input: cannot be read: No such file"):
        source.read("INT")


def test_two_chips_at_one_place_are_not_chosen_between(tree: Tree) -> None:
    tree.ina2xx(0)
    tree.iio(1)

    with pytest.raises(RailError, match="both are ina226"):
        rails_of(tree)


def test_a_folder_without_the_board_says_what_it_holds(tree: Tree) -> None:
    tree.chip(0, "platform", "cpu_thermal", {"temp1_input": 40000})

    with pytest.raises(RailError, match=r"found cpu_thermal, expected irps5401"):
        rails_of(tree)


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RailError, match="no such folder"):
        HwmonRails(VirtualClock(), tmp_path / "nothing")


@pytest.mark.parametrize(
    ("kernel", "period_ns"), [("5.4.0-xilinx", 1_000_000_000), ("5.10.1", None), ("6.1", None)]
)
def test_old_kernels_repeat_pmbus_values_for_a_second(
    tree: Tree, kernel: str, period_ns: int | None
) -> None:
    tree.pmbus(0, 0x43)

    assert rails_of(tree, kernel).rails()[0].update_period_ns == period_ns


def test_update_periods_of_the_two_ina226_layouts(tree: Tree, tmp_path: Path) -> None:
    tree.ina2xx(0)
    other = Tree(tmp_path / "other")
    other.iio(0)

    assert rails_of(tree).rails()[0].update_period_ns == 35_000_000
    assert rails_of(other).rails()[0].update_period_ns == 8_900_000
