"""Each board's rails are found in every way that a kernel may offer them, and never guessed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bacmac.host.device.clock import VirtualClock
from bacmac.host.errors import RailError
from bacmac.power.boards import BOARDS, board_of_model
from bacmac.power.hwmon import HwmonRails
from bacmac.power.sources import open_hwmon

# UG1182 tables 3-22 and 3-56: designator, channel of the multiplexer, address, rail, mV
ZCU102 = [
    ("u79", 1, 0x40, "VCCINT", 849),
    ("u81", 1, 0x41, "VCCBRAM", 852),
    ("u80", 1, 0x42, "VCCAUX", 1803),
    ("u84", 1, 0x43, "VCC1V2", 1201),
    ("u16", 1, 0x44, "VCC3V3", 3302),
    ("u65", 1, 0x45, "VADJ_FMC", 1799),
    ("u74", 1, 0x46, "MGTAVCC", 901),
    ("u75", 1, 0x47, "MGTAVTT", 1199),
    ("u76", 0, 0x40, "VCCPSINTFP", 851),
    ("u77", 0, 0x41, "VCCPSINTLP", 850),
    ("u78", 0, 0x42, "VCCPSAUX", 1801),
    ("u87", 0, 0x43, "VCCPSPLL", 1198),
    ("u85", 0, 0x44, "MGTRAVCC", 848),
    ("u86", 0, 0x45, "MGTRAVTT", 1802),
    ("u93", 0, 0x46, "VCCO_PSDDR_504", 1202),
    ("u88", 0, 0x47, "VCCOPS", 1804),
    ("u15", 0, 0x4A, "VCCOPS3", 3298),
    ("u92", 0, 0x4B, "VCCPSDDRPLL", 1797),
]

# Avnet's ultra96.conf: address, output, rail, mV
ULTRA96V2 = [
    (0x43, 1, "AUX", 1805),
    (0x43, 2, "1V2", 1204),
    (0x43, 3, "PSDDR", 1101),
    (0x43, 4, "INT", 853),
    (0x43, 5, "3V3_D", 3302),
    (0x44, 1, "PSAUX", 1799),
    (0x44, 2, "PSINT_LP", 851),
    (0x44, 3, "3V3", 3306),
    (0x44, 4, "PSINT_FP", 849),
    (0x44, 5, "PSPLL", 1203),
]


def ina(index: int, millivolts: int, iio: bool) -> dict[str, object]:
    shunt, bus = ("in1", "in2") if iio else ("in0", "in1")
    files: dict[str, object] = {f"{shunt}_input": 3, f"{bus}_input": millivolts}
    return files | {"curr1_input": 100 + index, "power1_input": (100 + index) * millivolts}


def zcu102(sysfs: Any, binding: str) -> None:
    for number, channel in ((4, 0), (5, 1)):
        if binding == "channel":
            sysfs.bus(number, f"i2c-0-mux (chan_id {channel})")
    for index, (designator, channel, address, _, millivolts) in enumerate(ZCU102):
        if binding == "iio":
            name = f"ina226_{designator}"
            sysfs.chip(f"ina226-{designator}", name, ina(index, millivolts, iio=True))
        else:
            number = 5 if channel else 4
            label = f"ina226-{designator}" if binding == "label" else ""
            device = f"i2c-{number}/{number}-{address:04x}"
            sysfs.chip(device, "ina226", ina(index, millivolts, iio=False), label)


def irps5401(outputs: dict[int, int], first: int, labels: bool) -> dict[str, object]:
    """Files of a regulator whose output n is at in(first + n - 1), curr and power at n + 1."""
    files: dict[str, object] = {}
    for n, millivolts in outputs.items():
        for kind, number, label, value in (
            ("in", first + n - 1, f"vout{n}", millivolts),
            ("curr", n + 1, f"iout{n}", 250 * n),
            ("power", n + 1, f"pout{n}", 31_250 * n),
        ):
            files[f"{kind}{number}_input"] = value
            if labels:
                files[f"{kind}{number}_label"] = label
    if labels:
        files |= {"in1_label": "vin1", "in1_input": 11_560}
    return files


def ultra96v2(sysfs: Any, mainline: bool, factor: int) -> None:
    for address in (0x44, 0x43):
        outputs = {n: mv for a, n, _, mv in ULTRA96V2 if a == address}
        files = irps5401(outputs, first=6 if mainline else 2, labels=mainline)
        sysfs.chip(f"i2c-6/6-{address:04x}", "irps5401", files)
    files = {"in1_input": 12_000, "in2_input": 5_020 * factor, "curr1_input": 1_000}
    if mainline:
        files |= {"in1_label": "vin", "in2_label": "vout1"}
        files |= {"curr1_label": "iout1", "power1_label": "pout1"}
    sysfs.chip("i2c-6/6-0045", "ir38060", files | {"power1_input": 5_020_000})


def rails_of(sysfs: Any, board: str | None = None, model: str = "") -> HwmonRails:
    return HwmonRails(VirtualClock(5), sysfs.hwmon, board, "6.6.10", model)


@pytest.mark.parametrize("binding", ["iio", "label", "channel"])
def test_the_zcu102s_eighteen_rails_are_found(sysfs: Any, binding: str) -> None:
    zcu102(sysfs, binding)

    source = rails_of(sysfs)

    assert source.board is BOARDS["zcu102"]
    assert {info.name for info in source.rails()} == {rail for *_, rail, _ in ZCU102}
    for index, (*_, rail, millivolts) in enumerate(ZCU102):
        expected = (5, millivolts, 100 + index, (100 + index) * millivolts)
        assert source.read(rail) == expected
    info = source.rails()[0]
    assert (info.name, info.feeds) == ("VCCINT", "logic")
    assert info.instrument.startswith("INA226 u79 at 0x40")
    assert info.offset_a == pytest.approx(0.005)  # 10 uV over 2 mOhm


def test_two_chips_at_one_address_are_not_told_apart_without_channel_or_label(sysfs: Any) -> None:
    zcu102(sysfs, "neither")

    with pytest.raises(RailError, match=r"both are ina226"):
        rails_of(sysfs, "zcu102")


@pytest.mark.parametrize("mainline", [True, False])
@pytest.mark.parametrize("factor", [1, 256])
def test_the_ultra96s_rails_are_found_by_label_or_by_pynqs_numbers(
    sysfs: Any, mainline: bool, factor: int
) -> None:
    ultra96v2(sysfs, mainline, factor)

    source = rails_of(sysfs)

    assert source.board is BOARDS["ultra96v2"]
    assert source.excluded == {}
    for _, output, rail, millivolts in ULTRA96V2:
        assert source.read(rail) == (5, millivolts, 250 * output, 31_250 * output)
    assert source.read("5V") == (5, 5_020, 1_000, 5_020_000)
    assert [i.name for i in source.rails() if "logic" in i.feeds] == ["INT"]


@pytest.mark.parametrize(
    ("device", "name", "label"),
    [("ina260-u14", "ina260_u14", ""), ("i2c-1/1-0040", "ina260", "ina260-u14")],
)
def test_the_kv260s_one_sensor_is_found_in_either_binding(
    sysfs: Any, device: str, name: str, label: str
) -> None:
    files = {"in1_input": 5_025, "curr1_input": 961, "power1_input": 4_830_000}
    sysfs.chip(device, name, files, label)

    source = rails_of(sysfs)

    assert source.board is BOARDS["kv260"]
    assert source.read("SOM_5V") == (5, 5_025, 961, 4_830_000)
    assert source.rails()[0].instrument.startswith("INA260 u14 at 0x40")
    assert source.rails()[0].update_period_ns is None


def test_the_zcu104s_mainline_driver_counts_its_files_otherwise(sysfs: Any) -> None:
    """As M. Simek's `sensors` listing (linux-hwmon, 10 April 2020): vout4 is there and N/A."""
    files: dict[str, object] = {f"in{n}_label": f"vin{n}" for n in range(1, 6)}
    files |= {f"curr{n}_label": f"iin{n}" for n in range(1, 5)}
    files |= {f"power{n}_label": f"pin{n}" for n in range(1, 6)}
    readings = {1: (851, 2000, 1_500_000), 2: (1800, 234, 406_250), 3: (1200, 390, 468_750)}
    readings |= {4: ("", "", ""), 5: (906, 8, 15_620)}
    for n, values in readings.items():
        for stem, label, value in zip(
            (f"in{n + 5}", f"curr{n + 4}", f"power{n + 5}"),
            (f"vout{n}", f"iout{n}", f"pout{n}"),
            values,
            strict=True,
        ):
            files |= {f"{stem}_label": label, f"{stem}_input": value}
    sysfs.chip("i2c-3/3-0043", "irps5401", files)

    source = rails_of(sysfs)

    assert [info.name for info in source.rails()] == ["INT", "1V8", "1V2", "MGTA"]
    assert source.read("INT") == (5, 851, 2000, 1_500_000)
    assert source.read("MGTA") == (5, 906, 8, 15_620)


def test_a_labelled_chip_without_the_output_is_not_read_by_number(sysfs: Any) -> None:
    files = irps5401({1: 851, 2: 1800, 3: 1200, 4: 900}, first=2, labels=True)
    home = sysfs.chip("i2c-3/3-0043", "irps5401", files)

    assert f"{home.name}: no vout5; it has" in rails_of(sysfs).excluded["MGTA"]


@pytest.mark.parametrize(
    ("model", "board"),
    [
        ("ZynqMP ZCU104 RevC", "zcu104"),
        ("ZynqMP ZCU102 Rev1.0", "zcu102"),
        ("Avnet Ultra96-V2 Rev1", "ultra96v2"),
        ("ZynqMP KV260 revB", "kv260"),
        ("ZynqMP SMK-K26 Rev1/B/A", "kv260"),
    ],
)
def test_a_device_tree_names_its_board(model: str, board: str) -> None:
    assert board_of_model(model) is BOARDS[board]


@pytest.mark.parametrize("model", ["", "Avnet Ultra96 Rev1", "Raspberry Pi 4", "Zynq ZC702"])
def test_a_model_that_names_none_of_them_decides_nothing(model: str) -> None:
    assert board_of_model(model) is None


def test_the_device_tree_goes_before_the_chips(sysfs: Any) -> None:
    ultra96v2(sysfs, mainline=False, factor=1)

    source = rails_of(sysfs, model="ZynqMP ZCU104 RevC")

    assert source.board is BOARDS["zcu104"]
    assert "0.85 V is nominal" in source.excluded["INT"]  # what is at 0x43, output 1, is 1.8 V


def test_chips_that_fit_two_boards_are_asked_about(sysfs: Any) -> None:
    power = {"curr1_input": 900, "power1_input": 1}
    sysfs.chip("i2c-1/1-0040", "ina260", {"in1_input": 5_000, **power})
    sysfs.chip("i2c-2/2-0040", "ina226", {"in0_input": 1, "in1_input": 12_000, **power})

    with pytest.raises(RailError, match="say hwmon:board=zcu104 or hwmon:board=kv260"):
        rails_of(sysfs)


def test_the_word_names_folder_and_board(sysfs: Any) -> None:
    zcu102(sysfs, "label")

    source = open_hwmon(f"hwmon:board=zcu102:{sysfs.hwmon}", VirtualClock())

    assert source.board is BOARDS["zcu102"]
    assert source.word == f"hwmon:board=zcu102:{sysfs.hwmon}"
    assert open_hwmon(source.word, VirtualClock()).word == source.word


def test_an_unknown_board_says_which_there_are(tmp_path: Path) -> None:
    with pytest.raises(RailError, match="'pynq-z2'; there are zcu104, zcu102, ultra96v2, kv260"):
        open_hwmon(f"hwmon:board=pynq-z2:{tmp_path}", VirtualClock())


def test_another_boards_tree_says_what_was_looked_for(sysfs: Any) -> None:
    sysfs.chip("i2c-1/1-0050", "eeprom", {})

    with pytest.raises(RailError, match=r"found eeprom, expected ina226 at 0x40 to 0x4b \(ZCU102"):
        rails_of(sysfs, "zcu102")


CONTENTS = st.one_of(
    st.binary(max_size=30),
    st.integers().map(lambda n: b"%d" % n),
    st.sampled_from([b"850", b"1800", b"5000", b"12000", b"9" * 5000, b"-1", b"vout1\n"]),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_whatever_the_files_hold_is_a_reading_or_a_told_error(tmp_path: Path, data: Any) -> None:
    root = tmp_path / "hwmon"
    chips = {"irps5401": "4-0043", "ina226_u183": "", "ir38060": "6-0045", "ina260": "1-0040"}
    for name, device in chips.items():
        home = root / f"hwmon-{name}"
        if not home.exists():
            home.mkdir(parents=True)
            (tmp_path / device).mkdir(exist_ok=True)
            (home / "device").symlink_to(tmp_path / device)
        (home / "name").write_text(name)
        for file in ("in1_input", "in2_input", "curr1_input", "power1_input", "curr2_input"):
            (home / file).write_bytes(data.draw(CONTENTS))
        for file in data.draw(st.sets(st.sampled_from(["in2_label", "curr2_label"]))):
            (home / file).write_bytes(data.draw(CONTENTS))

    message = ""
    try:
        source = HwmonRails(VirtualClock(), root, data.draw(st.sampled_from([None, *BOARDS])))
        for info in source.rails():
            source.read(info.name)
    except RailError as error:
        message = str(error)

    assert message.isprintable()
