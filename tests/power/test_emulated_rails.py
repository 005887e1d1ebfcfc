"""The emulated ZCU104: it answers to the work, shows its sensors' steps, and is causal."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from bacmac.host.device.activity import Activity, ActivityLog
from bacmac.host.device.clock import VirtualClock
from bacmac.host.device.emulated import EmulatedBoard
from bacmac.host.errors import RailError
from bacmac.overlays.registry import load_overlay
from bacmac.power.coefficients import Coefficients, load_coefficients
from bacmac.power.emulated import EmulatedRails, activity_j, overlay_w
from bacmac.power.sources import open_rails, rail_words

SECOND = 1_000_000_000
QUIET = ("noise_w", "slow_noise_w", "warm_up_w", "warm_up_c", "ambient_w", "configuration_effect")


def quiet() -> Coefficients:
    numbers = load_coefficients()
    values = dict(numbers.values)
    for name in QUIET:
        values[name] = replace(values[name], value=0.0)
    return replace(numbers, values=values)


def work(start_s: float, end_s: float, products: int = 10**10) -> Activity:
    return Activity(round(start_s * SECOND), round(end_s * SECOND), 1, 1, products, 0, 0, 0, 0, 0)


def loaded(overlay: str = "bac-pot4") -> ActivityLog:
    return ActivityLog(overlays=[(0, load_overlay(overlay).manifest)])


def watts(source: EmulatedRails, rail: str) -> float:
    sample = source.read(rail)
    return sample.voltage_mv * sample.current_ma * 1e-6


def test_the_12v_rail_rises_by_the_work_over_the_regulators_efficiency() -> None:
    clock, log, numbers = VirtualClock(), loaded(), quiet()
    source = EmulatedRails(log, clock, coefficients=numbers)
    clock.sleep_ns(2 * SECOND)
    idle_w = watts(source, "12V")
    log.work.append(work(2, 3, products=10**12))

    clock.sleep_ns(SECOND // 2)

    expected_w = activity_j(log.work[0], log.overlays[0][1], numbers)[0]
    heating = 1 + numbers["self_heating"] * (1 - np.exp(-0.5 / numbers["self_heating_tau_s"]))
    rise_w = watts(source, "12V") - idle_w
    assert rise_w == pytest.approx(expected_w * heating / numbers["regulator_efficiency"], rel=0.01)


def test_dram_traffic_is_seen_at_12v_and_not_on_int() -> None:
    clock, log = VirtualClock(), loaded()
    source = EmulatedRails(log, clock, coefficients=quiet())
    clock.sleep_ns(SECOND)
    before = watts(source, "12V"), watts(source, "INT")
    moved = replace(work(1, 2, products=0), dma_bytes=10**9)
    log.work.append(moved)

    clock.sleep_ns(SECOND // 2)

    dram_j = activity_j(moved, log.overlays[0][1], quiet())[1]
    assert dram_j == pytest.approx(0.162)
    assert watts(source, "12V") - before[0] > dram_j
    step_w = 0.125 * 0.851  # INT sees the logic's 10 mW for it: at most one step of its sensor
    assert abs(watts(source, "INT") - before[1]) <= 1.001 * step_w < dram_j


def test_an_idle_board_takes_what_the_public_sample_shows() -> None:
    clock = VirtualClock()
    source = EmulatedRails(loaded(), clock)
    clock.sleep_ns(10 * SECOND)

    assert watts(source, "12V") == pytest.approx(13.8, abs=0.15)
    assert watts(source, "INT") == pytest.approx(3.72, abs=0.11)


def test_readings_lie_on_the_sensors_steps() -> None:
    clock = VirtualClock()
    source = EmulatedRails(loaded(), clock, seed=3)

    for _ in range(200):
        clock.sleep_ns(20_000_000)
        rail = source.read("INT")
        assert rail.current_ma % 125 == 0
        assert rail.power_uw % 250_000 == 0
        board = source.read("12V")
        assert board.power_uw % 25_000 == 0
        product_uw = board.voltage_mv * board.current_ma
        assert board.power_uw <= product_uw + 13_000  # truncated; half a current step of slack


def test_the_ina226_holds_a_value_for_a_whole_conversion() -> None:
    clock = VirtualClock()
    source = EmulatedRails(loaded(), clock, seed=1)
    clock.sleep_ns(35_200_000 * 10)

    values = []
    for _ in range(352):
        values.append(source.read("12V").current_ma)
        clock.sleep_ns(1_000_000)

    changes = np.flatnonzero(np.diff(values))
    assert 3 <= len(changes) <= 10
    assert np.all(np.diff(changes) >= 35)


def test_the_ina226_averages_over_its_conversion() -> None:
    """Work in one half of a conversion shows half its power: nothing is lost between readings."""
    clock, log = VirtualClock(), loaded()
    source = EmulatedRails(log, clock, coefficients=quiet())
    conversion = 35.2e-3
    log.work.append(work(28 * conversion, 28.5 * conversion, products=10**10))
    log.work.append(work(29 * conversion, 30 * conversion, products=2 * 10**10))

    readings = []
    for _ in range(30):
        clock.sleep_ns(35_200_000)
        readings.append(watts(source, "12V"))

    half, full = readings[28] - readings[27], readings[29] - readings[27]
    assert full == pytest.approx(2 * half, rel=0.02)


def test_a_reading_does_not_depend_on_what_comes_later() -> None:
    def readings(with_future: bool) -> list[tuple[int, int]]:
        clock, log = VirtualClock(), loaded()
        source = EmulatedRails(log, clock, seed=5)
        log.work.append(work(0.5, 1.0))
        if with_future:
            log.work.append(work(2.0, 3.0, products=10**13))
        result = []
        for _ in range(80):
            clock.sleep_ns(20_000_000)
            result.append((source.read("INT").current_ma, source.read("12V").current_ma))
        return result

    assert readings(False) == readings(True)


def test_readings_do_not_depend_on_how_often_one_reads() -> None:
    def after(step_ns: int) -> tuple[int, ...]:
        clock = VirtualClock()
        source = EmulatedRails(loaded(), clock, seed=5)
        for _ in range(2 * SECOND // step_ns):
            clock.sleep_ns(step_ns)
            source.read("12V")
        return source.read("12V")

    assert after(SECOND) == after(10_000_000)


def test_the_seed_decides_the_noise() -> None:
    def value(seed: int) -> list[int]:
        clock = VirtualClock()
        source = EmulatedRails(loaded(), clock, seed=seed)
        found = []
        for _ in range(20):
            clock.sleep_ns(100_000_000)
            found.append(source.read("12V").current_ma)
        return found

    assert value(1) == value(1)
    assert value(1) != value(2)


def test_work_cut_short_by_a_reset_is_not_counted() -> None:
    clock, log = VirtualClock(), loaded()
    source = EmulatedRails(log, clock, coefficients=quiet())
    log.work.append(work(0, 10, products=10**13))
    clock.sleep_ns(SECOND)
    busy_w = watts(source, "12V")
    log.work[-1] = replace(log.work[-1], end_ns=SECOND, products_done=10**12)

    clock.sleep_ns(SECOND)
    log.work.append(work(2.0, 3.0, products=10**12))
    idle_w = watts(source, "12V")
    clock.sleep_ns(SECOND // 2)

    assert busy_w - idle_w > 1.0
    assert watts(source, "12V") == pytest.approx(busy_w, abs=0.1)


def test_an_old_kernel_repeats_int_for_a_second_and_not_12v() -> None:
    clock, log = VirtualClock(), loaded()
    source = EmulatedRails(log, clock, "1s-cache", seed=2)
    log.work.append(work(0.5, 30, products=10**13))
    values: dict[str, list[int]] = {"INT": [], "12V": []}
    for _ in range(100):
        clock.sleep_ns(50_000_000)
        for rail, found in values.items():
            found.append(source.read(rail).current_ma)

    assert len(np.flatnonzero(np.diff(values["INT"]))) <= 5
    assert len(np.flatnonzero(np.diff(values["12V"]))) > 30
    assert source.rails()[0].update_period_ns == SECOND


def test_the_coarse_board_has_106_mw_steps_at_12v() -> None:
    clock = VirtualClock()
    source = EmulatedRails(loaded(), clock, "coarse", seed=2)
    clock.sleep_ns(SECOND)

    assert source.rails()[1].quantum_w == pytest.approx(0.106)
    steps = source.read("12V").current_ma / (106 / 12)
    assert abs(steps - round(steps)) < 0.06  # the file holds whole mA


def test_static_power_follows_the_lut_count() -> None:
    numbers = load_coefficients()
    bac, mac = (load_overlay(name).manifest for name in ("bac-pot4", "mac-uniform8"))

    ratio = overlay_w(mac, numbers) / overlay_w(bac, numbers)

    assert ratio == pytest.approx(mac.resources["LUT"] / bac.resources["LUT"])


def test_a_zero_weight_costs_less_than_a_product_and_a_skipped_group_nothing() -> None:
    numbers, manifest = load_coefficients(), load_overlay("bac-pot4").manifest
    done = work(0, 1, products=10**9)
    isolated = replace(done, products_done=0, products_isolated=10**9)
    skipped = replace(done, products_done=0, products_skipped=10**9)

    costs = [activity_j(a, manifest, numbers)[0] for a in (done, isolated, skipped)]

    assert costs[1] / costs[0] == pytest.approx(numbers.products["pot-4"].skipped)
    assert costs[2] == 0


def test_an_overlay_without_luts_or_without_a_cost_is_refused() -> None:
    manifest = load_overlay("bac-pot4").manifest

    with pytest.raises(RailError, match="no LUT count"):
        overlay_w(replace(manifest, resources={}), load_coefficients())
    with pytest.raises(RailError, match="no product cost for ternary"):
        overlay_w(replace(manifest, scheme="ternary"), load_coefficients())


@pytest.mark.parametrize(
    ("word", "text"),
    [
        (
            "emulated",
            "there are emulated:, emulated:1s-cache, emulated:coarse, emulated:zcu102, hwmon:",
        ),
        ("ina226:", "no rails 'ina226:'"),
        ("emulated:fast", "no emulated board 'fast'"),
        ("hwmon:/nowhere", "/nowhere: no such folder"),
        ("", "no rails ''"),
    ],
)
def test_a_wrong_rails_word_says_what_there_is(word: str, text: str) -> None:
    with pytest.raises(RailError, match=text):
        open_rails(word, EmulatedBoard())


def test_rails_are_not_emulated_beside_a_real_board() -> None:
    board = SimpleNamespace(word="pynq:", clock=VirtualClock())

    with pytest.raises(RailError, match="use hwmon:"):
        open_rails("emulated:", board)  # type: ignore[arg-type]


def test_every_word_that_is_offered_for_emulation_opens() -> None:
    for word in rail_words():
        if word.startswith("emulated:"):
            assert open_rails(word, EmulatedBoard()).word == word


def test_reading_an_unknown_rail_names_the_two() -> None:
    with pytest.raises(RailError, match="there are INT and 12V"):
        EmulatedRails(loaded(), VirtualClock()).read("3V3")


def test_a_zcu102_shows_products_memory_and_dram_on_rails_of_their_own() -> None:
    numbers = quiet_logic()
    clock, log = VirtualClock(), loaded()
    source = EmulatedRails(log, clock, "zcu102", coefficients=numbers)
    clock.sleep_ns(SECOND)
    names = [info.name for info in source.rails()]
    before = {name: watts(source, name) for name in names}
    log.work.append(replace(work(1, 2, products=10**11), weight_bytes=10**10, dma_bytes=10**9))

    clock.sleep_ns(SECOND // 2)

    rises = {name: watts(source, name) - before[name] for name in names}
    done_j = numbers.product_j("pot-4")[0] * 10**11 + numbers["dma_byte_pj"] * 1e-3
    assert rises["VCCINT"] == pytest.approx(done_j, rel=0.03)
    assert rises["VCCBRAM"] == pytest.approx(numbers["weight_byte_pj"] * 1e-2, abs=0.001)
    assert rises["VCCO_PSDDR_504"] == pytest.approx(numbers["dram_byte_pj"] * 1e-3, abs=0.002)
    assert rises["VCCAUX"] == rises["VCCPSINTFP"] == 0


def quiet_logic() -> Coefficients:
    numbers = quiet()
    share = replace(numbers.values["zcu102_noise_share"], value=0.0)
    return replace(numbers, values={**numbers.values, "zcu102_noise_share": share})


def test_a_zcu102_says_which_rails_see_the_logic_and_its_own_steps() -> None:
    source = EmulatedRails(loaded(), VirtualClock(), "zcu102")
    infos = {info.name: info for info in source.rails()}

    assert [name for name, info in infos.items() if info.sees_logic] == [
        "VCCINT",
        "VCCBRAM",
        "VCCAUX",
    ]
    assert infos["VCCINT"].current_step_a == pytest.approx(0.00125)  # 2.5 uV over 2 mOhm
    assert infos["VCCINT"].quantum_w < 0.0011


def test_the_die_warms_up_with_the_work_and_cools_after_it() -> None:
    clock, log, numbers = VirtualClock(), loaded(), quiet()
    source = EmulatedRails(log, clock, coefficients=numbers)
    clock.sleep_ns(300 * SECOND)
    idle_c = source.die_c()["PL"]
    log.work.append(work(300, 500, products=10**14))

    clock.sleep_ns(200 * SECOND)
    busy_c = source.die_c()["PL"]
    clock.sleep_ns(200 * SECOND)

    expected_w = activity_j(log.work[0], log.overlays[0][1], numbers)[0] / 200
    assert 30 < idle_c < 45
    assert busy_c - idle_c == pytest.approx(numbers["die_c_per_w"] * expected_w, rel=0.1)
    assert source.die_c()["PL"] == pytest.approx(idle_c, abs=0.7)


def test_reading_the_temperature_changes_no_reading() -> None:
    def last(ask: bool) -> tuple[int, ...]:
        clock = VirtualClock()
        source = EmulatedRails(loaded(), clock, seed=5)
        for _ in range(50):
            clock.sleep_ns(SECOND // 10)
            if ask:
                source.die_c()
        return source.read("12V")

    assert last(True) == last(False)
