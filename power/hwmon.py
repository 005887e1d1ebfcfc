"""Rails of a known board straight from Linux hwmon files: no PYNQ, no libsensors, any root folder.

PYNQ's own loop hides read errors (it ignores the return code and repeats the last value) and
returns 0 without libsensors; here a failed read is an error that names the file. Which chip is
which rail is in `power/boards.py`, how a chip is known in `power/chips.py`.
"""

from __future__ import annotations

import os
from pathlib import Path

from bacmac.host.device.clock import Clock
from bacmac.host.errors import RailError
from bacmac.power.boards import BOARDS, Board, RailPlace, board_of_model
from bacmac.power.chips import Chip, RailFiles, list_chips, read_int
from bacmac.power.rails import (
    INA226_GAIN_ERROR,
    INA260_GAIN_ERROR,
    INA260_OFFSET_A,
    PLAUSIBLE_VOLTAGE,
    RailInfo,
    RawSample,
    implausible,
)

DEFAULT_ROOT = Path("/sys/class/hwmon")
MODEL_FILE = Path("/proc/device-tree/model")
INA226_OFFSET_V = 10e-6  # over the shunt, SBOS547B


class HwmonRails:
    """The rails of a board under a hwmon folder.

    Args:
        clock: stamps the readings.
        root: the hwmon folder.
        board: a key of BOARDS; None asks the device tree, then the chips that are there.
        kernel: release; None asks the running one.
        model: the device tree's `model`; None reads it where `root` is the default.

    Attributes:
        root: the hwmon folder.
        board: whose rails they are.
        excluded: rail -> why it is not offered (missing chip, switched off, unreadable, ...).

    Raises:
        RailError: no board is known or named by that, nothing of it can be read, or a rail is
            found twice.
    """

    emulated = False

    def __init__(
        self,
        clock: Clock,
        root: Path = DEFAULT_ROOT,
        board: str | None = None,
        kernel: str | None = None,
        model: str | None = None,
    ) -> None:
        self._clock, self.root = clock, root
        self.word = _word(root, board)
        self.excluded: dict[str, str] = {}
        self._files: dict[str, RailFiles] = {}
        self._infos: dict[str, RailInfo] = {}
        if board is not None and board not in BOARDS:
            raise RailError(f"no rails of board {board!r}; there are {', '.join(BOARDS)}")
        chips = list_chips(root)
        if model is None:
            model = _read_model() if root == DEFAULT_ROOT else ""
        self.board = BOARDS[board] if board is not None else detect_board(chips, model, root)
        for name, place in self.board.rails.items():
            found = [chip for chip in chips if chip.is_at(place)]
            if not found:
                self.excluded[name] = f"no {place.chip} at 0x{place.address:02x} under {root}"
                continue
            if len(found) > 1:
                both = " and ".join(str(chip.path) for chip in found)
                raise RailError(f"rail {name}: {both} both are {place.chip}; give a root with one")
            self._add(name, place, found[0], kernel or os.uname().release)
        if not self._infos:
            raise RailError(
                f"{root}: none of the {self.board.name}'s rails can be read: "
                f"{_found_instead(chips, [self.board])}{self._why_excluded()}"
            )

    def _why_excluded(self) -> str:
        off = "; ".join(f"{k} {v}" for k, v in self.excluded.items() if not v.startswith("no "))
        return f" ({off})" if off else ""

    def _add(self, name: str, place: RailPlace, chip: Chip, kernel: str) -> None:
        try:
            files = chip.files(place)
            gain_error, offset_a = _type_b(place)
            period_ns = chip.update_period_ns(place, kernel)
            info = RailInfo(
                name,
                place.nominal_v,
                chip.instrument(place),
                period_ns,
                place.current_step_a,
                place.power_step_w,
                gain_error,
                offset_a,
                place.feeds,
                place.max_current_a,
                place.logic != "none",
                0.0 if place.chip == "ina260" else None,  # its shunt is inside, in its gain error
                # a current sensor gives the mean over what it is renewed in
                period_ns * 0.5e-9 if place.is_sensor and period_ns is not None else None,
            )
            self._files[name] = files
            reason = implausible(info, self.read(name))
        except RailError as error:  # an output that is not fitted answers with an I/O error
            reason = str(error)
        if reason:
            self._files.pop(name, None)
            self.excluded[name] = reason
        else:
            self._infos[name] = info

    def rails(self) -> tuple[RailInfo, ...]:
        """Rails that are there and read a plausible voltage."""
        return tuple(self._infos.values())

    def read(self, rail: str) -> RawSample:
        """Read voltage, current and power of a rail, stamped in the middle.

        Raises:
            RailError: the rail is not offered, or a file cannot be read.
        """
        files = self._files.get(rail)
        if files is None:
            raise RailError(
                f"rail {rail!r} cannot be read: {self.excluded.get(rail, 'unknown name')}; "
                f"there are {', '.join(self._infos)}"
            )
        before = self._clock.now_ns()
        voltage, current, power = files.read_mv(), read_int(files.current), read_int(files.power)
        return RawSample((before + self._clock.now_ns()) // 2, voltage, current, power)


def detect_board(chips: list[Chip], model: str, root: Path) -> Board:
    """Whose chips these are: what the device tree says, else whose rails read plausible voltages.

    Raises:
        RailError: no board fits, or two fit equally well.
    """
    named = board_of_model(model)
    if named is not None:
        return named
    scores = {word: _n_plausible(chips, board) for word, board in BOARDS.items()}
    best = max(scores.values())
    fitting = [word for word, score in scores.items() if score == best]
    if best == 0:
        raise RailError(
            f"{root}: no known board: {_found_instead(chips, list(BOARDS.values()))}"
            "; name one by hwmon:board=..."
        )
    if len(fitting) > 1:
        choices = " or ".join(f"hwmon:board={word}" for word in fitting)
        raise RailError(f"{root}: its chips fit more than one board: say {choices}")
    return BOARDS[fitting[0]]


def _n_plausible(chips: list[Chip], board: Board) -> int:
    return sum(
        any(chip.is_at(place) and _reads_nominal(chip, place) for chip in chips)
        for place in board.rails.values()
    )


def _reads_nominal(chip: Chip, place: RailPlace) -> bool:
    try:
        volts = chip.files(place).read_mv() * 1e-3
    except RailError:
        return False
    return abs(volts - place.nominal_v) <= PLAUSIBLE_VOLTAGE * place.nominal_v


def _found_instead(chips: list[Chip], boards: list[Board]) -> str:
    names = ", ".join(sorted({chip.name for chip in chips})) or "no chip at all"
    wanted = "; ".join(f"{_chips_of(board)} ({board.name})" for board in boards)
    return f"found {names}, expected {wanted}"


def _chips_of(board: Board) -> str:
    addresses: dict[str, set[int]] = {}
    for place in board.rails.values():
        addresses.setdefault(place.chip, set()).add(place.address)
    texts = []
    for chip, found in addresses.items():
        ends = [f"0x{address:02x}" for address in (min(found), max(found))]
        texts.append(f"{chip} at {' to '.join(dict.fromkeys(ends))}")
    return ", ".join(texts)


def _type_b(place: RailPlace) -> tuple[float | None, float | None]:
    """Largest gain error and offset by the datasheet, None where none is known."""
    if place.chip == "ina260":
        return INA260_GAIN_ERROR, INA260_OFFSET_A
    if place.shunt_ohm is None:
        return None, None
    return INA226_GAIN_ERROR, INA226_OFFSET_V / place.shunt_ohm


def _read_model() -> str:
    try:
        return MODEL_FILE.read_text(encoding="ascii", errors="replace").strip("\0\n ")
    except OSError:  # no device tree: not a board, or not told
        return ""


def _word(root: Path, board: str | None) -> str:
    path = "" if root == DEFAULT_ROOT else str(root)
    if board is None:
        return f"hwmon:{path}"
    return f"hwmon:board={board}" + (f":{path}" if path else "")
