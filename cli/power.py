"""`bacmac power`: list power rails, record them, find what they can tell."""

from __future__ import annotations

from pathlib import Path

import click

from bacmac.cli.choices import OUTPUT, rails_option
from bacmac.cli.output import json_option, note, print_json, print_table, progress
from bacmac.cli.power_probe import probe
from bacmac.cli.remote_command import DeviceCommand
from bacmac.host.errors import TraceTooShortError
from bacmac.host.runtime.results import Window
from bacmac.power.energy import energy_j
from bacmac.power.rails import implausible
from bacmac.power.record import record, write_trace_csv
from bacmac.power.sampler import RailTrace
from bacmac.power.sources import open_with_clock


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
    rows = []
    for info in source.rails():
        sample = source.read(info.name)
        rows.append(
            {
                "rail": info.name,
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
    if as_json:
        print_json(rows)
        return
    print_table(
        ["rail", "V", "A", "V x I [W]", "step [W]", "update [s]", "instrument", "remark"],
        [
            (
                row["rail"],
                f"{row['voltage_v']:.3f}",
                f"{row['current_a']:.3f}",
                f"{row['power_w']:.3f}",
                f"{row['quantum_w']:.3f}",
                "not known" if row["update_period_s"] is None else f"{row['update_period_s']:.3f}",
                row["instrument"],
                row["implausible"],
            )
            for row in rows
        ],
        numbers=(1, 2, 3, 4, 5),
        prose=(6, 7),
        title="EMULATED rails" if source.emulated else "",
    )


@power.command("record", cls=DeviceCommand)
@rails_option
@click.option("--rail", "names", multiple=True, help="Only this rail; may be given several times.")
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
        trace = record(source, clock, seconds, rails=names, progress=advance)
    summary = [_summary(name, rail) for name, rail in trace.rails.items()]
    if output is not None:
        write_trace_csv(output, trace)
    if as_json:
        print_json({"emulated": trace.emulated, "rails": summary})
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
    if output is not None:
        note(f"{output}: {sum(len(rail.times_ns) for rail in trace.rails.values())} readings")


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
