"""What the simulated accelerator did, as an activity log: the register counters over time.

Cycles and products are the differences of the RTL's own counters. Bytes of its memories it does
not count; they are those of `bacmac.host.compile.work` for the program that was loaded, spread
over the batch as its busy cycles are.
"""

from __future__ import annotations

from bacmac.host.compile.loader import BadDescriptorError
from bacmac.host.compile.work import Work, total
from bacmac.host.device.activity import Activity, ActivityLog
from bacmac.host.device.array import held_memories, load_array
from bacmac.host.device.protocol import LOADS, Select
from bacmac.host.manifest.overlay import Overlay

COUNTERS = {
    "cycles": "CYCLES",
    "busy_cycles": "BUSY_CYCLES",
    "products_done": "PRODUCTS",
    "products_isolated": "ISOLATED",
    "products_skipped": "SKIPPED",
}
"""Fields of an Activity, and the register that counts them."""
_ZERO = dict.fromkeys(COUNTERS, 0)


class ActivityMeter:
    """Watches what the host writes and sends, and turns counters into activities.

    Args:
        overlay: on the board.
        log: grows.
    """

    def __init__(self, overlay: Overlay, log: ActivityLog) -> None:
        self._manifest, self._log = overlay.manifest, log
        self._names = {register.offset: register.name for register in overlay.registers.registers}
        self._fields = {f.name: f.mask for f in overlay.registers.register("CTRL").fields}
        self._values: dict[str, int] = {}
        self._loads = dict.fromkeys(LOADS, b"")
        self._batch = Work()
        self._counts, self._beats = _ZERO, 0

    def note_write(self, offset: int, value: int) -> None:
        """The host writes a register."""
        name = self._names.get(offset, "")
        self._values[name] = value
        if name == "STREAM_SELECT" and value in LOADS:
            self._loads[Select(value)] = b""
        if name != "CTRL":
            return
        if value & (self._fields["SOFT_RESET"] | self._fields["CLEAR_COUNTERS"]):
            self._counts = _ZERO
        if value & self._fields["START"]:
            self._batch = self._predicted()

    def note_packet(self, packet: bytes) -> None:
        """The host sends a packet."""
        kind = self._values.get("STREAM_SELECT", Select.IMAGES)
        if kind in LOADS:
            self._loads[Select(kind)] = packet

    def add(self, counts: dict[str, int], beats: int, end_ns: int) -> None:
        """Log what happened since the last call.

        Args:
            counts: the counters as they are, by field of an Activity.
            beats: beats that have passed on both streams, ever.
            end_ns: when the accelerator was last seen at work.
        """
        moved = beats - self._beats
        rise = {name: count - self._counts[name] for name, count in counts.items()}
        before, after = self._counts["busy_cycles"], counts["busy_cycles"]
        self._counts, self._beats = counts, beats
        rise["cycles"] = max(rise["cycles"], moved)  # a load is no batch, and counts none
        if not rise["cycles"]:
            return
        duration_ns = round(rise["cycles"] * 1e9 / self._manifest.clock_hz)
        last_ns = self._log.work[-1].end_ns if self._log.work else 0
        start_ns = max(end_ns - duration_ns, last_ns)
        if start_ns >= end_ns:
            return
        activity = Activity(
            start_ns,
            end_ns,
            **rise,
            weight_bytes=self._share(self._batch.weight_bytes, before, after),
            activation_bytes=self._share(self._batch.activation_bytes, before, after),
            dma_bytes=moved * self._manifest.beat_bytes,
        )
        self._log.work.append(activity)

    def _share(self, n_bytes: int, before: int, after: int) -> int:
        whole = self._batch.busy_cycles
        return n_bytes * after // whole - n_bytes * before // whole if whole else 0

    def _predicted(self) -> Work:
        """Of the batch that starts; nothing where the program makes no sense."""
        n_descriptors = self._values.get("N_DESCRIPTORS", 0)
        memories = held_memories(self._manifest, self._loads, n_descriptors)
        try:
            image = total(load_array(memories, "functional:").layers)
        except BadDescriptorError:
            return Work()
        return image.times(self._values.get("N_IMAGES", 0) * self._values.get("REPEAT", 1))
