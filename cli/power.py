"""`bacmac power`: list power rails, record them, find what they can tell."""

from __future__ import annotations

from pathlib import Path

import click

from bacmac.cli.choices import OUTPUT, rail_option, rails_option
from bacmac.cli.output import json_option, note, print_json, print_table, progress, say
from bacmac.cli.power_probe import probe
from bacmac.cli.remote_command import DeviceCommand
from bacmac.host.errors import RailError, TraceTooShortError
from bacmac.host.runtime.results import Window
from bacmac.power.ams import Ams
from bacmac.power.energy import energy_j
from bacmac.power.hwmon import HwmonRails
from bacmac.power.rails import RailSource, implausible
from bacmac.power.record import record, write_trace_csv
from bacmac.power.sampler import PowerTrace, RailTrace
from bacmac.power.sources import ams_of, excluded_rails, open_with_clock


@click.group()
def power() -> None:
    """List power rails, record them, and find what they can tell."""


power.add_command(probe)


@power.command(cls=DeviceCommand)
@rails_option
@json_option
def rails(rails_word: str, as_json: bool) -> None:
    """List the rails that can be read, with one reading of each."""
    source, _ = open_with_clock(rails_word)
    ams = _ams(source)
    rows = []
    for info in source.rails():
        sample = source.read(info.name)
        rows.append(
            {
                "rail": info.name,
                "feeds": info.feeds,
                "instrument": info.instrument,
                "emulated": source.emulated,
                "voltage_v": sample.voltage_mv * 1e-3,
                "current_a": sample.current_ma * 1e-3,
                "power_w": sample.voltage_mv * sample.current_ma * 1e-6,
                "quantum_w": info.quantum_w,
                "update_period_s": None
                if info.update_period_ns is None
                else info.update_period_ns * 1e-9,
                "implausible": implausible(info, sample),
            }
        )
    excluded = excluded_rails(source)
    if as_json:
        print_json(
            {
                "source": source.word,
                "emulated": source.emulated,
                "board": source.board.name if isinstance(source, HwmonRails) else None,
                "rails": rows,
                "excluded": excluded,
                "die": None
                if ams is None
                else {
                    "temperatures_c": ams.temperatures_c(),
                    "voltages_v": ams.voltages_v(),
                    "excluded": ams.excluded,
                },
            }
        )
        return
    print_table(
        ["rail", "V", "A", "V x I", "step", "feeds", "instrument"],
        [
            (
                row["rail"],
                f"{row['voltage_v']:.3f}",
                f"{row['current_a']:.3f}",
                f"{row['power_w']:.3f}",
                f"{row['quantum_w']:.4f}",
                row["feeds"],
                row["instrument"],
            )
            for row in rows
        ],
        numbers=(1, 2, 3, 4),
        prose=(5, 6),
        title=f"{'EMULATED rails' if source.emulated else _board(source)}: V, A, W",
    )
    if ams is not None:
        _print_ams(ams)
    for row in rows:
        if row["implausible"]:
            note(f"{row['rail']}: {row['implausible']}")
    for name, reason in excluded.items():
        note(f"{name}: left out: {reason}")
    if isinstance(source, HwmonRails):
        note(f"{source.board.name}: {source.board.remark}")


def _ams(source: RailSource) -> Ams | None:
    """The board's system monitor; rails are told without it where it cannot be read."""
    try:
        return ams_of(source)
    except RailError as error:
        note(f"no die temperatures: {error}")
        return None


def _board(source: RailSource) -> str:
    return source.board.name if isinstance(source, HwmonRails) else source.word


def _print_ams(ams: Ams) -> None:
    rows = [(name, f"{value:.1f}", "C") for name, value in ams.temperatures_c().items()]
    rows += [(name, f"{value:.3f}", "V") for name, value in ams.voltages_v().items()]
    print_table(["die", "value", "unit"], rows, numbers=(1,), title="system monitor (AMS)")
    for name, reason in ams.excluded.items():
        note(f"{name}: left out: {reason}")


@power.command("record", cls=DeviceCommand)
@rails_option
@rail_option
@click.option(
    "--seconds",
    type=click.FloatRange(0.0, 1e6, min_open=True),
    default=5.0,
    show_default=True,
    help="How long.",
)
@click.option("-o", "--output", type=OUTPUT, help="Write every reading as CSV.")
@json_option
def record_command(
    rails_word: str, names: tuple[str, ...], seconds: float, output: Path | None, as_json: bool
) -> None:
    """Record rails for a while and print what they carried."""
    source, clock = open_with_clock(rails_word)
    with progress() as advance:
        trace = record(source, clock, seconds, rails=names, ams=_ams(source), progress=advance)
    summary = [_summary(name, rail) for name, rail in trace.rails.items()]
    if output is not None:
        write_trace_csv(output, trace)
    if as_json:
        print_json({"emulated": trace.emulated, "rails": summary, "die": _die(trace)})
        return
    print_table(
        ["rail", "samples", "seconds", "mean [W]", "s.d. [W]", "energy [J]"],
        [
            (
                row["rail"],
                row["samples"],
                f"{row['span_s']:.3f}",
                f"{row['mean_w']:.3f}",
                f"{row['standard_deviation_w']:.3f}",
                f"{row['energy_j']:.3f}",
            )
            for row in summary
        ],
        numbers=(1, 2, 3, 4, 5),
        title="EMULATED rails" if trace.emulated else "",
    )
    for name, found in _die(trace).items():
        say(f"die {name}: {found['mean_c']:.1f} C ({found['min_c']:.1f} to {found['max_c']:.1f})")
    if output is not None:
        note(f"{output}: {sum(len(rail.times_ns) for rail in trace.rails.values())} readings")


def _die(trace: PowerTrace) -> dict[str, dict[str, float]]:
    celsius = trace.die.celsius if trace.die is not None else {}
    return {
        name: {"mean_c": float(c.mean()), "min_c": float(c.min()), "max_c": float(c.max())}
        for name, c in celsius.items()
    }


def _summary(name: str, rail: RailTrace) -> dict[str, object]:
    if len(rail.times_ns) < 2:
        raise TraceTooShortError(
            f"rail {name}: {len(rail.times_ns)} reading; a mean needs 2 or more: raise --seconds"
        )
    window = Window(int(rail.times_ns[0]), int(rail.times_ns[-1]))
    watts = rail.power_w
    joules = energy_j(rail.times_ns, watts, window, name)
    return {
        "rail": name,
        "samples": len(watts),
        "span_s": window.duration_s,
        "mean_w": joules / window.duration_s,
        "standard_deviation_w": float(watts.std(ddof=1)),
        "energy_j": joules,
    }
