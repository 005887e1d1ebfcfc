"""Rails of an emulated ZCU102: an INA226 on each, and the logic has some to itself.

The same power model as the emulated ZCU104's (`emulated`), told apart by rail: products, clocks and
LUTs on VCCINT, on-chip memory on VCCBRAM, DRAM on VCCO_PSDDR_504; VCCAUX and the processors'
VCCPSINTFP carry none of the work. Steps, shunts and places are the board's own (`boards`); idle
powers are assumptions in `coefficients.toml`.
"""

from __future__ import annotations

import math

import numpy as np

from bacmac.power.boards import BOARDS
from bacmac.power.coefficients import Coefficients
from bacmac.power.rails import INA226_GAIN_ERROR, RailInfo, RawSample

INA226_OFFSET_V = 10e-6  # over the shunt, SBOS547B section 6.5
INA226_FULL_SCALE_V = 0.08192  # likewise
RAILS = ("VCCINT", "VCCBRAM", "VCCAUX", "VCCPSINTFP", "VCCO_PSDDR_504")
_IDLE = {
    "VCCINT": "zcu102_vccint_w",
    "VCCBRAM": "zcu102_vccbram_w",
    "VCCAUX": "zcu102_vccaux_w",
    "VCCPSINTFP": "zcu102_vccpsintfp_w",
    "VCCO_PSDDR_504": "zcu102_psddr_w",
}


class OrnsteinUhlenbeck:
    """Exact discretisation of an Ornstein-Uhlenbeck process in equal steps of time."""

    def __init__(self, sigma_w: float, tau_s: float, step_s: float) -> None:
        self._decay = math.exp(-step_s / tau_s)
        self._kick = sigma_w * math.sqrt(1 - self._decay**2)
        self._value = 0.0

    def next(self, normal: float) -> float:
        """Value after one more step, driven by a standard normal number."""
        self._value = self._value * self._decay + self._kick * normal
        return self._value


def _info(name: str) -> RailInfo:
    place = BOARDS["zcu102"].rails[name]
    assert place.shunt_ohm is not None
    return RailInfo(
        name,
        place.nominal_v,
        f"emulated INA226 {place.designator}",
        None,
        place.current_step_a,
        place.power_step_w,
        INA226_GAIN_ERROR,
        INA226_OFFSET_V / place.shunt_ohm,
        place.feeds,
        min(INA226_FULL_SCALE_V / place.shunt_ohm, place.max_current_a),
        place.logic != "none",
    )


class LogicSensors:
    """Five INA226 that each give the mean over their last finished conversion.

    Args:
        numbers: idle powers and noise.
        seed: of the noise.
        step_s: between two calls of `take`.
        steps_per_conversion: as it says.

    Attributes:
        infos: the rails, without what the caller knows of time.
    """

    def __init__(
        self, numbers: Coefficients, seed: int, step_s: float, steps_per_conversion: int
    ) -> None:
        self.infos = tuple(_info(name) for name in RAILS)
        self._by_name = {info.name: (i, info) for i, info in enumerate(self.infos)}
        self._idle_w = [numbers[_IDLE[name]] for name in RAILS]
        self._logic_share = numbers["zcu102_vccint_w"] / numbers["int_base_w"]
        share, tau_s = numbers["zcu102_noise_share"], numbers["noise_tau_s"]
        self._noises = [OrnsteinUhlenbeck(share * watts, tau_s, step_s) for watts in self._idle_w]
        self._steps, self._taken = steps_per_conversion, 0
        self._sums_w = [0.0] * len(RAILS)
        self._conversions_w = list(self._idle_w)
        self._rng = np.random.default_rng([seed, 0x0102])
        self._normals: list[float] = []

    def take(self, logic_w: float, memory_w: float, dram_w: float, drift_w: float) -> None:
        """One more step: power of the overlay and its work, of on-chip memory, of DRAM, drift.

        Drift is that of the ZCU104's INT; the logic's share of it is by its share of the power.
        """
        if len(self._normals) < len(RAILS):
            self._normals = self._rng.standard_normal(4000).tolist()
        added_w = (logic_w + drift_w * self._logic_share, memory_w, 0.0, 0.0, dram_w)
        for i, watts in enumerate(added_w):
            noise_w = self._noises[i].next(self._normals.pop())
            self._sums_w[i] += self._idle_w[i] + watts + noise_w
        self._taken += 1
        if self._taken == self._steps:
            self._conversions_w = [total / self._steps for total in self._sums_w]
            self._sums_w, self._taken = [0.0] * len(RAILS), 0

    def read(self, rail: str, now_ns: int) -> RawSample:
        """What the sensor's registers hold."""
        index, info = self._by_name[rail]
        watts = self._conversions_w[index]
        volts = round(info.nominal_v / 0.00125) * 0.00125
        current_a = round(watts / volts / info.current_step_a) * info.current_step_a
        power_w = math.floor(watts / info.power_step_w) * info.power_step_w
        return RawSample(now_ns, round(volts * 1e3), round(current_a * 1e3), round(power_w * 1e6))
