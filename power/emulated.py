"""An emulated ZCU104: its INT and 12V rails answer to what the emulated accelerator did.

A model, not a measurement: `coefficients.toml` holds every number with its source. It knows only
the board's ActivityLog and its clock. Power is followed in steps of 8.8 ms (a quarter of the
INA226's averaging time), each step with the exact mean of the activity in it, and it is causal:
a reading depends on nothing later than itself. Seeded, so a campaign can be repeated bit for bit.

Sensor behaviour that is reproduced: INT through an IRPS5401 (low pass, current in steps of
125 mA, power cut down to steps of 250 mW); 12V through an INA226 (the mean over one finished
35.2 ms window, 1 mA, 1.25 mV and 25 mW steps, SBOS547B). As a ZCU102 the same work is read on the
rails of that board that feed the logic alone (`emulated_logic`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from bacmac.host.device.activity import Activity, ActivityLog
from bacmac.host.device.clock import Clock
from bacmac.host.errors import RailError
from bacmac.host.manifest.overlay import Manifest
from bacmac.power.coefficients import Coefficients, load_coefficients
from bacmac.power.emulated_logic import LogicSensors, OrnsteinUhlenbeck
from bacmac.power.rails import INA226_GAIN_ERROR, INA226_OFFSET_A, RailInfo, RawSample

STEP_NS = 8_800_000
STEPS_PER_CONVERSION = 4
_STEP_S = STEP_NS * 1e-9
_CACHE_NS = 1_000_000_000

CONVERSION_NS = STEP_NS * STEPS_PER_CONVERSION
BOXCAR_TAU_S = CONVERSION_NS * 0.5e-9
"""Mean delay of the mean over a conversion: what a filter's time constant is to a step."""

_INT = RailInfo(
    "INT", 0.85, "emulated IRPS5401", STEP_NS, 0.125, 0.25, feeds="logic and processors"
)
_BOARD = RailInfo(
    "12V",
    12.0,
    "emulated INA226",
    CONVERSION_NS,
    0.001,
    0.025,
    INA226_GAIN_ERROR,
    INA226_OFFSET_A,
    "the whole board",
    filter_tau_s=BOXCAR_TAU_S,
)


@dataclass(frozen=True)
class Personality:
    """How an emulated board's sensors behave.

    Attributes:
        int_cache_ns: PMBus readings are repeated for this long (Linux before 5.10), or 0.
        board_step_a: current step of the 12V sensor.
        board: whose rails they are, "ZCU104" or "ZCU102".
    """

    name: str
    description: str
    int_cache_ns: int = 0
    board_step_a: float = 0.001
    board: str = "ZCU104"


PERSONALITIES = {
    p.name: p
    for p in (
        Personality("", "ZCU104, Linux 5.10 or later: readings on demand"),
        Personality("1s-cache", "ZCU104, Linux before 5.10: INT re-read once a second", _CACHE_NS),
        Personality("coarse", "a 12V sensor as coarse as INT's: 106 mW steps", 0, 0.106 / 12.0),
        Personality("zcu102", "ZCU102: an INA226 on each rail, logic alone", board="ZCU102"),
    )
}


class EmulatedRails:
    """INT and 12V of an emulated ZCU104, or the logic's own rails of a ZCU102.

    Args:
        activity: what the emulated board did; work may be logged with an end still to come.
        clock: the emulated board's.
        personality: a key of PERSONALITIES; "" is today's kernel.
        seed: of every noise.

    Raises:
        RailError: there is no such personality.
    """

    emulated = True

    def __init__(
        self,
        activity: ActivityLog,
        clock: Clock,
        personality: str = "",
        seed: int = 0,
        coefficients: Coefficients | None = None,
    ) -> None:
        if personality not in PERSONALITIES:
            known = ", ".join(f"emulated:{name}" for name in PERSONALITIES)
            raise RailError(f"no emulated board {personality!r}; there are {known}")
        self.word = f"emulated:{personality}"
        self.personality = PERSONALITIES[personality]
        self.coefficients = coefficients or load_coefficients()
        self._clock = clock
        cache_ns = self.personality.int_cache_ns
        tau_s = self.coefficients["telemetry_tau_s"]
        self._infos = {
            "INT": replace(_INT, update_period_ns=max(cache_ns, STEP_NS), filter_tau_s=tau_s),
            "12V": replace(_BOARD, current_step_a=self.personality.board_step_a),
        }
        self._logic: LogicSensors | None = None
        if self.personality.board == "ZCU102":
            self._logic = LogicSensors(self.coefficients, seed, _STEP_S, STEPS_PER_CONVERSION)
            self._infos = {
                info.name: replace(info, update_period_ns=CONVERSION_NS, filter_tau_s=BOXCAR_TAU_S)
                for info in self._logic.infos
            }
        self._power = _PowerModel(activity, clock.now_ns(), self.coefficients, seed, self._logic)
        self._cached = RawSample(-cache_ns - 1, 0, 0, 0)

    def rails(self) -> tuple[RailInfo, ...]:
        """INT and 12V, or those of the ZCU102."""
        return tuple(self._infos.values())

    def die_c(self) -> dict[str, float]:
        """Die temperatures in degrees Celsius: ambient and what the chip's power adds, modelled.

        The processors' two sensors lie on the same die, a little warmer.
        """
        self._power.advance(self._clock.now_ns())
        celsius = self._power.die_c
        return {"PL": celsius, "FPD": celsius + 1.0, "LPD": celsius + 1.0}

    def read(self, rail: str) -> RawSample:
        """What the sensor's registers hold now.

        Raises:
            RailError: there is no such rail.
        """
        now = self._clock.now_ns()
        self._power.advance(now)
        if rail not in self._infos:
            known = " and ".join(self._infos)
            raise RailError(f"rail {rail!r} is not emulated; there are {known}")
        if self._logic is not None:
            return self._logic.read(rail, now)
        if rail == "12V":
            return self._read_board(now)
        age_ns = now - self._cached.time_ns
        if self.personality.int_cache_ns and age_ns < self.personality.int_cache_ns:
            return self._cached._replace(time_ns=now)
        self._cached = self._read_int(now)
        return self._cached

    def _read_int(self, now: int) -> RawSample:
        watts = self._power.int_telemetry_w
        volts = 0.851
        eighths = round(watts / volts / _INT.current_step_a)
        power_uw = int(watts / _INT.power_step_w) * 250_000
        return RawSample(now, round(volts * 1e3), eighths * 125, power_uw)

    def _read_board(self, now: int) -> RawSample:
        watts = self._power.board_conversion_w
        volts = round((12.16 - 0.0035 * watts) / 0.00125) * 0.00125  # droop of supply and cable
        step = self.personality.board_step_a
        current_ma = round(round(watts / volts / step) * step * 1e3)
        power_uw = int(watts / _BOARD.power_step_w) * 25_000
        return RawSample(now, round(volts * 1e3), current_ma, power_uw)


class _PowerModel:
    """True power of the two rails, advanced step by step."""

    def __init__(
        self,
        log: ActivityLog,
        start_ns: int,
        numbers: Coefficients,
        seed: int,
        logic: LogicSensors | None = None,
    ) -> None:
        c = numbers
        self._numbers, self._log, self._logic = numbers, log, logic
        self._start_ns, self._step = start_ns, 0
        self._rng = np.random.default_rng([seed, 0x6D57])
        self._normals: list[float] = []
        self._phase = float(self._rng.uniform(0, 2 * math.pi))
        self._noise = OrnsteinUhlenbeck(c["noise_w"], c["noise_tau_s"], _STEP_S)
        self._board_noise = OrnsteinUhlenbeck(c["noise_w"], c["noise_tau_s"], _STEP_S)
        self._slow_noise = OrnsteinUhlenbeck(c["slow_noise_w"], c["slow_noise_tau_s"], _STEP_S)
        self._heat_share = -math.expm1(-_STEP_S / c["self_heating_tau_s"])
        self._telemetry_share = -math.expm1(-_STEP_S / c["telemetry_tau_s"])
        self._heating, self._warm_up_w, self._warm_up_tau_s = (
            c["self_heating"],
            c["warm_up_w"],
            c["warm_up_tau_s"],
        )
        self._ambient_w, self._ambient_rad_s = c["ambient_w"], 2 * math.pi / c["ambient_period_s"]
        self._efficiency, self._rest_w, self._fan_w = (
            c["regulator_efficiency"],
            c["rest_w"],
            c["fan_w"],
        )
        self._heat_w = self._window_sum_w = 0.0
        self._manifest: Manifest | None = None
        self._n_overlays = self._next_work = 0
        self._factor, self._overlay_w = 1.0, 0.0
        self._current: Activity | None = None
        self._current_w = (0.0, 0.0, 0.0)
        self._base_w = self.int_telemetry_w = self._warm_w = c["int_base_w"]
        self._ambient_c, self._warm_up_c = c["ambient_c"], c["warm_up_c"]
        self._c_per_w, self._drift_w = c["die_c_per_w"], 0.0
        self.board_conversion_w = (self.int_telemetry_w + self._rest_w) / self._efficiency
        self.board_conversion_w += self._fan_w

    @property
    def die_c(self) -> float:
        """Temperature of the die: air, a board that warms up, and the chip's own power."""
        warm_up_c = self._warm_up_c * -math.expm1(-self._step * _STEP_S / self._warm_up_tau_s)
        return self._ambient_c + warm_up_c + self._c_per_w * self._warm_w

    def advance(self, now_ns: int) -> None:
        """Take every step that has ended by now."""
        steps = (now_ns - self._start_ns) // STEP_NS
        while self._step < steps:
            if len(self._normals) < 4:
                self._normals = self._rng.standard_normal(4096).tolist()
            self._advance_one()

    def _advance_one(self) -> None:
        begin = self._start_ns + self._step * STEP_NS
        self._step += 1
        self._configure(begin + STEP_NS)
        dynamic_w, dram_w, memory_w = self._mean_work(begin, begin + STEP_NS)
        dynamic_w *= self._factor
        self._heat_w += (dynamic_w - self._heat_w) * self._heat_share
        time_s, draw = self._step * _STEP_S, self._normals.pop
        drift_w = self._warm_up_w * -math.expm1(-time_s / self._warm_up_tau_s)
        drift_w += self._ambient_w * math.sin(self._ambient_rad_s * time_s + self._phase)
        int_w = self._base_w + self._overlay_w + drift_w
        int_w += dynamic_w + self._heating * self._heat_w
        int_w += self._noise.next(draw()) + self._slow_noise.next(draw())
        self._warm_w += (int_w - self._warm_w) * self._heat_share
        self.int_telemetry_w += (int_w - self.int_telemetry_w) * self._telemetry_share
        board_w = (int_w + self._rest_w + dram_w) / self._efficiency + self._fan_w
        self._window_sum_w += board_w + self._board_noise.next(draw())
        if self._step % STEPS_PER_CONVERSION == 0:
            self.board_conversion_w = self._window_sum_w / STEPS_PER_CONVERSION
            self._window_sum_w = 0.0
        if self._logic is not None:
            memory_w *= self._factor
            logic_w = self._overlay_w + dynamic_w - memory_w + self._heating * self._heat_w
            self._logic.take(logic_w, memory_w, dram_w, drift_w)

    def _configure(self, until_ns: int) -> None:
        overlays = self._log.overlays
        while self._n_overlays < len(overlays) and overlays[self._n_overlays][0] < until_ns:
            manifest = overlays[self._n_overlays][1]
            self._n_overlays += 1
            self._manifest = manifest
            self._overlay_w = overlay_w(manifest, self._numbers)
            effect = self._numbers["configuration_effect"]
            self._factor = math.exp(effect * float(self._rng.standard_normal()))

    def _mean_work(self, begin: int, end: int) -> tuple[float, float, float]:
        """Mean power on INT, in the DRAM, and of INT's in block RAM, over [begin, end)."""
        work, index = self._log.work, self._next_work
        while index < len(work) and work[index].end_ns <= begin:
            index += 1
        self._next_work = index
        int_j = dram_j = memory_j = 0.0
        while index < len(work) and work[index].start_ns < end:
            activity = work[index]
            overlap = min(activity.end_ns, end) - max(activity.start_ns, begin)
            int_w, dram_w, memory_w = self._activity_w(activity)
            int_j += int_w * overlap
            dram_j += dram_w * overlap
            memory_j += memory_w * overlap
            index += 1
        return int_j / STEP_NS, dram_j / STEP_NS, memory_j / STEP_NS

    def _activity_w(self, activity: Activity) -> tuple[float, float, float]:
        if activity is self._current:
            return self._current_w
        if self._manifest is None:
            raise RuntimeError("the emulated board worked before an overlay was loaded")
        int_j, dram_j = activity_j(activity, self._manifest, self._numbers)
        memory_j = memory_bytes_j(activity, self._numbers)
        duration_s = max(activity.end_ns - activity.start_ns, 1) * 1e-9
        self._current = activity
        self._current_w = (int_j / duration_s, dram_j / duration_s, memory_j / duration_s)
        return self._current_w


def overlay_w(manifest: Manifest, numbers: Coefficients) -> float:
    """Static and clock power of an idle overlay on INT, in W.

    Raises:
        RailError: the manifest gives no LUT count, or a scheme without a cost.
    """
    luts = manifest.resources.get("LUT")
    if luts is None:
        raise RailError(
            f"overlay {manifest.name}: resources give no LUT count, which emulated power needs"
        )
    if manifest.scheme not in numbers.products:
        raise RailError(
            f"overlay {manifest.name}: {numbers.file} has no product cost for {manifest.scheme}; "
            f"it has {', '.join(numbers.products)}"
        )
    static_w = luts * numbers["static_uw_per_lut"] * 1e-6
    return static_w + luts * numbers["clock_pj_per_lut_cycle"] * 1e-12 * manifest.clock_hz


def activity_j(
    activity: Activity, manifest: Manifest, numbers: Coefficients
) -> tuple[float, float]:
    """Dynamic energy of an activity in J: on INT, and in the DRAM.

    A group that is skipped takes no cycle, and so nothing of it is paid for.
    """
    done_j, isolated_j = numbers.product_j(manifest.scheme)
    int_j = activity.products_done * done_j + activity.products_isolated * isolated_j
    int_j += memory_bytes_j(activity, numbers) + activity.dma_bytes * numbers["dma_byte_pj"] * 1e-12
    return int_j, activity.dma_bytes * numbers["dram_byte_pj"] * 1e-12


def memory_bytes_j(activity: Activity, numbers: Coefficients) -> float:
    """Energy of an activity's reads and writes of on-chip memory, in J: part of that on INT."""
    picojoules = activity.weight_bytes * numbers["weight_byte_pj"]
    picojoules += activity.activation_bytes * numbers["activation_byte_pj"]
    return picojoules * 1e-12
