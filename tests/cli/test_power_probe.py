"""`bacmac power probe`, and what `power rails` says of a board."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


def _json(outcome):
    assert outcome.status == 0, outcome.err
    return json.loads(outcome.out)


def zcu104(folder: Path) -> Path:
    """Two regulators, of which one output is off, under a hwmon folder."""
    root = folder / "class" / "hwmon"
    for number, (address, volts) in enumerate(
        {0x43: (851, 1804, 1203, 898), 0x44: (3304, 1125, 5000, 156)}.items()
    ):
        home = folder / "devices" / "i2c-4" / f"4-{address:04x}" / "hwmon" / f"hwmon{number}"
        home.mkdir(parents=True)
        (home / "name").write_text("irps5401\n")
        (home / "device").symlink_to(home.parent.parent)
        for output, millivolts in enumerate(volts, start=2):
            (home / f"in{output}_input").write_text(f"{millivolts}\n")
            (home / f"curr{output}_input").write_text("500\n")
            (home / f"power{output}_input").write_text(f"{millivolts * 500}\n")
        root.mkdir(parents=True, exist_ok=True)
        (root / f"hwmon{number}").symlink_to(home)
    return root


@pytest.mark.parametrize("word", ["emulated:", "emulated:1s-cache", "emulated:coarse"])
def test_the_12v_rail_is_probed_and_told_in_one_sentence(run, word):
    found = _json(run("power", "probe", "--rails", word, "--rail", "12V", "--json"))

    (rail,) = found["rails"]
    assert found["emulated"] is True
    assert rail["refresh"]["period_ns"] == pytest.approx(35.2e6, rel=0.01)
    assert 0 < rail["resolution"]["smallest_share"] < 1
    assert rail["resolution"]["sentence"].startswith("12V resolves BAC/MAC differences of")
    assert rail["cost"] is None


def test_what_is_planned_decides_what_is_resolved(run):
    few = _json(run("power", "probe", "--seconds", "5", "--rail", "12V", "--json"))
    options = ("--watts", "2", "--blocks", "40", "--seconds-per-run", "20")
    many = _json(run("power", "probe", "--seconds", "5", "--rail", "12V", *options, "--json"))

    assert few["campaign"]["assumed"] is True
    assert many["campaign"] == {
        "watts": 2.0,
        "blocks": 40,
        "run_s": 20.0,
        "idle_s": 5.0,
        "assumed": False,
        "duration_s": 2400.0,
    }
    shares = [found["rails"][0]["resolution"]["smallest_share"] for found in (few, many)]
    assert shares[1] < shares[0] / 4


def test_the_tables_keep_their_units_and_say_emulated(run):
    outcome = run("power", "probe", "--seconds", "2")

    assert outcome.status == 0
    for text in ("EMULATED rails", "noise [mW]", "read [ms]", "V x I [mW]", "35.2 ms"):
        assert text in outcome.out
    assert "INT, if it is not stuck, resolves" in outcome.out
    assert "INT: nothing changed in 2000 readings" in outcome.err


def test_a_boards_rails_are_probed_with_the_cost_of_a_read(run, tmp_path):
    word = f"hwmon:{zcu104(tmp_path)}"

    found = _json(run("power", "probe", "--rails", word, "--seconds", "0.05", "--json"))

    rails = {rail["info"]["name"]: rail for rail in found["rails"]}
    assert list(rails) == ["INT", "1V8", "1V2", "MGTA", "3V3", "1V13", "5V0"]
    assert rails["INT"]["cost"]["median_s"] > 0
    assert rails["INT"]["resolution"] is not None
    assert rails["1V8"]["resolution"] is None  # the logic is not on it
    assert "it is off" in found["excluded"]["FMC"]


def test_rails_tell_the_board_what_is_left_out_and_why(run, tmp_path):
    word = f"hwmon:board=zcu104:{zcu104(tmp_path)}"

    found = _json(run("power", "rails", "--rails", word, "--json"))
    told = run("power", "rails", "--rails", word)

    assert (found["board"], found["emulated"], found["die"]) == ("ZCU104", False, None)
    assert found["excluded"]["12V"].startswith("no ina226 at 0x40")
    assert "ZCU104: V, A, W" in told.out
    assert "VCCINT: logic and processors" in told.out
    assert "FMC: left out: reads 0.156 V" in told.err
    assert "no rail feeds the logic alone" in told.err


def test_a_rail_that_is_not_there_says_why(run, tmp_path):
    word = f"hwmon:{zcu104(tmp_path)}"

    outcome = run("power", "probe", "--rails", word, "--rail", "FMC")

    assert outcome.status == 2
    assert "rail 'FMC' cannot be read: reads 0.156 V" in outcome.err
    assert "Traceback" not in outcome.err


def test_a_recording_shows_the_die_temperatures(run, tmp_path):
    word = f"hwmon:{zcu104(tmp_path)}"
    device = tmp_path / "bus" / "iio" / "devices" / "iio:device0"
    device.mkdir(parents=True)
    for name, text in {
        "name": "ams",
        "in_temp2_pl_temp_raw": "42654",
        "in_temp2_pl_temp_offset": "-36058",
        "in_temp2_pl_temp_scale": "7.771514892",
    }.items():
        (device / name).write_text(f"{text}\n")

    options = ("--rails", word, "--rail", "INT", "--seconds", "0.3")
    found = _json(run("power", "record", *options, "--json"))
    told = run("power", "record", *options, "-o", tmp_path / "trace.csv")

    assert found["die"]["PL"]["mean_c"] == pytest.approx(51.26, abs=0.01)
    assert "die PL: 51.3 C (51.3 to 51.3)" in told.out
    assert (tmp_path / "trace.csv").read_text().splitlines()[0].endswith(",power_uw,die_pl_c")


def test_a_system_monitor_that_cannot_be_read_does_not_hide_the_rails(run, tmp_path):
    word = f"hwmon:{zcu104(tmp_path)}"
    device = tmp_path / "bus" / "iio" / "devices" / "iio:device0"
    device.mkdir(parents=True)
    (device / "name").write_text("ams\n")

    outcome = run("power", "rails", "--rails", word)

    assert outcome.status == 0
    assert "no die temperatures:" in outcome.err
    assert "no channel of the system monitor can be read" in outcome.err


def test_rails_that_take_longer_to_read_than_a_sampling_period_are_told(run, tmp_path, monkeypatch):
    monkeypatch.setattr("bacmac.cli.power_probe.DEFAULT_PERIOD_NS", 1_000)

    outcome = run("power", "probe", "--rails", f"hwmon:{zcu104(tmp_path)}", "--seconds", "0.02")

    assert "one reading of these 7 rails takes" in outcome.err
    assert "longer than the 0 ms between samples: name fewer by --rail" in outcome.err
