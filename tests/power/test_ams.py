"""The system monitor under IIO, in the three ways that kernels have named its channels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bacmac.host.device.clock import VirtualClock
from bacmac.host.errors import RailError
from bacmac.power.ams import Ams, find_ams
from bacmac.power.hwmon import HwmonRails
from bacmac.power.record import record, write_trace_csv
from bacmac.power.sampler import PowerTrace

OFFSET, SCALE = -36058, 7.771514892  # drivers/iio/adc/xilinx-ams.c: 509.314 C over 2^16 codes
LPD, FPD, PL = 42598, 42610, 42654  # codes; PL is (42654 - 36058) * 7.7715 mC = 51.26 C
CELSIUS = {"LPD": 50.83, "FPD": 50.92, "PL": 51.26}


def temperature(stem: str, code: int) -> dict[str, object]:
    return {f"{stem}_raw": code, f"{stem}_offset": OFFSET, f"{stem}_scale": SCALE}


def xilinx() -> dict[str, object]:
    files: dict[str, object] = {"in_voltage2_vccint_raw": 18500}
    files |= {"in_voltage2_vccint_scale": 0.045776367}
    files |= temperature("in_temp0_ps_temp", LPD) | temperature("in_temp1_remote_temp", FPD)
    return files | temperature("in_temp2_pl_temp", PL)


def mainline() -> dict[str, object]:
    """Channels are counted through: 7 of the control block, then 13 of PS, then PL."""
    files: dict[str, object] = {"in_voltage2_raw": 18500, "in_voltage2_scale": 0.045776367}
    files |= temperature("in_temp7", LPD) | temperature("in_temp8", FPD)
    return files | temperature("in_temp20", PL)


def labelled() -> dict[str, object]:
    labels = {"in_temp7_label": "Temp_LPD", "in_temp8_label": "Temp_FPD"}
    labels |= {"in_temp20_label": "Temp_PL", "in_voltage2_label": "VCCINT"}
    return mainline() | labels


@pytest.mark.parametrize(
    ("files", "name", "voltage"),
    [
        (xilinx(), "ams", "VCCINT"),
        (mainline(), "xilinx-ams", "voltage2"),
        (labelled(), "xilinx-ams", "VCCINT"),
    ],
)
def test_temperatures_and_voltages_are_told_in_every_naming(
    sysfs: Any, files: dict[str, object], name: str, voltage: str
) -> None:
    sysfs.ams(name, files)

    ams = Ams(sysfs.iio)

    assert ams.temperatures_c() == pytest.approx(CELSIUS, abs=0.01)
    assert ams.voltages_v() == {voltage: pytest.approx(0.8469, abs=1e-4)}


def test_the_same_name_twice_keeps_both_channels(sysfs: Any) -> None:
    files = {"in_voltage22_raw": 18400, "in_voltage22_scale": 0.045776367}
    sysfs.ams("xilinx-ams", labelled() | files | {"in_voltage22_label": "VCCINT"})

    voltages = Ams(sysfs.iio).voltages_v()

    assert list(voltages) == ["VCCINT", "VCCINT22"]
    assert voltages["VCCINT22"] == pytest.approx(0.8423, abs=1e-4)


def test_a_channel_without_power_is_left_out_and_not_told_as_minus_280_degrees(sysfs: Any) -> None:
    sysfs.ams("ams", xilinx() | {"in_temp2_pl_temp_raw": 0})

    ams = Ams(sysfs.iio)

    assert list(ams.temperatures_c()) == ["LPD", "FPD"]
    assert "gives -280.2 degrees Celsius; expected -55 to 150" in ams.excluded["PL"]


def test_a_channel_that_fails_later_is_an_error_naming_its_file(sysfs: Any) -> None:
    device = sysfs.ams("ams", xilinx())
    ams = Ams(sysfs.iio)
    (device / "in_temp2_pl_temp_raw").write_text("busy\n")

    with pytest.raises(RailError, match=r"in_temp2_pl_temp_raw: found b'busy'; expected an int"):
        ams.temperatures_c()


@pytest.mark.parametrize("scale", ["eight", ""])
def test_a_scale_that_is_no_number_leaves_its_channel_out(sysfs: Any, scale: str) -> None:
    sysfs.ams("ams", xilinx() | {"in_temp2_pl_temp_scale": scale})

    assert f"found {scale!r}; expected a number" in Ams(sysfs.iio).excluded["PL"]


def test_no_monitor_is_none_and_asking_for_one_is_an_error(sysfs: Any) -> None:
    assert find_ams(sysfs.hwmon) is None
    with pytest.raises(RailError, match="no device called xilinx-ams or ams"):
        Ams(sysfs.iio)


def test_a_monitor_of_which_nothing_can_be_read_is_an_error(sysfs: Any) -> None:
    sysfs.ams("ams", {"in_temp0_ps_temp_raw": 0, "in_temp0_ps_temp_scale": SCALE})
    # without its offset a code of 0 is 0 degrees, so the code has to be impossible too
    (sysfs.iio / "iio:device1" / "in_temp0_ps_temp_raw").write_text("65535\n")

    with pytest.raises(RailError, match="no channel of the system monitor can be read"):
        find_ams(sysfs.hwmon)


def recorded(sysfs: Any) -> PowerTrace:
    files = {"in0_input": 6, "in1_input": 12_113, "curr1_input": 1_159}
    sysfs.chip("i2c-5/5-0040", "ina226", files | {"power1_input": 14_050_000})
    sysfs.ams("xilinx-ams", labelled())
    clock = VirtualClock()
    rails = HwmonRails(clock, sysfs.hwmon)
    return record(rails, clock, 1.0, ams=find_ams(rails.root))


def test_a_recording_holds_the_die_temperatures(sysfs: Any) -> None:
    die = recorded(sysfs).die

    assert die is not None
    assert len(die.times_ns) == 10
    assert die.celsius["PL"].tolist() == pytest.approx([CELSIUS["PL"]] * 10, abs=0.01)


def test_each_temperature_stands_once_in_the_csv(sysfs: Any, tmp_path: Path) -> None:
    trace = recorded(sysfs)

    write_trace_csv(tmp_path / "trace.csv", trace)

    lines = (tmp_path / "trace.csv").read_text().splitlines()
    rows = [line.split(",") for line in lines[1:]]
    assert lines[0].endswith(",power_uw,die_lpd_c,die_fpd_c,die_pl_c")
    assert {len(row) for row in rows} == {8}
    filled = [row for row in rows if row[5]]
    assert 9 <= len(filled) <= 10  # none comes after the last reading of the rail
    expected = [f"{(code + OFFSET) * SCALE * 1e-3:.3f}" for code in (LPD, FPD, PL)]
    assert all(row[5:] == expected for row in filled)
