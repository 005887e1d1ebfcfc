"""`bacmac power probe`: what a board's rails can tell, found by watching them."""

from __future__ import annotations

from dataclasses import asdict

import click

from bacmac.cli.choices import rail_option, rails_option
from bacmac.cli.output import json_option, note, print_json, print_table, progress, say
from bacmac.cli.remote_command import DeviceCommand
from bacmac.power.probe import RailProbe, Step, analyse_reads, watch
from bacmac.power.rails import chosen_rails
from bacmac.power.refresh import Refresh
from bacmac.power.resolution import ASSUMED_WATTS, Campaign, Resolution, resolvable
from bacmac.power.sampler import DEFAULT_PERIOD_NS
from bacmac.power.sources import excluded_rails, open_with_clock

OFF_EXPECTED = 0.10
"""A refresh further than this share from what the driver says is told."""


@click.command(cls=DeviceCommand)
@rails_option
@rail_option
@click.option(
    "--seconds",
    type=click.FloatRange(0.0, 1e6, min_open=True),
    default=10.0,
    show_default=True,
    help="How long each rail is watched.",
)
@click.option(
    "--watts",
    type=click.FloatRange(0.0, 1e3, min_open=True),
    help=f"Dynamic power of an arm on the rail [default: {ASSUMED_WATTS:g}, assumed].",
)
@click.option(
    "--seconds-per-run",
    "run_s",
    type=click.FloatRange(0.0, 1e6, min_open=True),
    default=Campaign.run_s,
    show_default=True,
    help="Length of a run of the comparison that is planned.",
)
@click.option(
    "--blocks",
    type=click.IntRange(2, 10_000),
    default=Campaign.blocks,
    show_default=True,
    help="Blocks of it, each with one run of either arm.",
)
@json_option
def probe(
    rails_word: str,
    names: tuple[str, ...],
    seconds: float,
    watts: float | None,
    run_s: float,
    blocks: int,
    as_json: bool,
) -> None:
    """Watch each rail and tell refresh, step, noise, cost of a read, and what it can resolve.

    What it resolves is told for rails that the programmable logic is on. Leave the board idle
    meanwhile for its noise. A rail whose step is coarse may not change then: let the board work,
    and take the noise from a finer rail.
    """
    source, clock = open_with_clock(rails_word)
    campaign = Campaign(watts or ASSUMED_WATTS, blocks, run_s, assumed=watts is None)
    probes = []
    with progress() as advance:
        for info in chosen_rails(source, names):
            log = watch(source, clock, info, seconds, progress=advance)
            probes.append(analyse_reads(log, virtual=source.emulated))
    found = [(p, resolvable(p, campaign) if p.info.sees_logic else None) for p in probes]
    excluded = excluded_rails(source)
    if as_json:
        print_json(
            {
                "source": source.word,
                "emulated": source.emulated,
                "campaign": asdict(campaign) | {"duration_s": campaign.duration_s},
                "rails": [_json(p, r) for p, r in found],
                "excluded": excluded,
            }
        )
        return
    _print(found, "EMULATED rails" if source.emulated else "")
    for _, resolution in found:
        if resolution is not None:
            say(f"{resolution.sentence}.")
    for p, _ in found:
        for text in _remarks(p):
            note(f"{p.info.name}: {text}")
    sweep_s = sum(p.cost.median_s for p in probes if p.cost is not None)
    if sweep_s > DEFAULT_PERIOD_NS * 1e-9:
        note(
            f"one reading of these {len(probes)} rails takes {sweep_s * 1e3:.0f} ms, longer than "
            f"the {DEFAULT_PERIOD_NS * 1e-6:.0f} ms between samples: name fewer by --rail"
        )
    for name, reason in excluded.items():
        note(f"{name}: left out: {reason}")


def _print(found: list[tuple[RailProbe, Resolution | None]], title: str) -> None:
    print_table(
        ["rail", "mean [W]", "refresh", "noise [mW]", "lag-1", "read [ms]", "resolves"],
        [
            (
                p.info.name,
                f"{p.mean_w:.3f}",
                _refresh(p.refresh),
                f"{p.noise.noise_w * 1e3:.1f}",
                "-" if p.noise.lag1 is None else f"{p.noise.lag1:+.2f}",
                "-" if p.cost is None else f"{p.cost.median_s * 1e3:.2f}, {p.cost.p99_s * 1e3:.2f}",
                _share(r),
            )
            for p, r in found
        ],
        numbers=(1, 2, 3, 4, 5, 6),
        title=title,
    )
    print_table(
        ["rail", "V [mV]", "I [mA]", "V x I [mW]", "P [mW]", "P - V x I [mW]", "P / V x I"],
        [
            (
                p.info.name,
                _step(p.voltage_v),
                _step(p.current_a),
                f"{p.step_w * 1e3:.1f}" + ("" if p.step_is_measured else " (table)"),
                _step(p.register_w),
                f"{p.register.difference_w * 1e3:+.1f}",
                "-" if p.register.ratio is None else f"{p.register.ratio:.4f}",
            )
            for p, _ in found
        ],
        numbers=(1, 2, 3, 4, 5, 6),
        title="steps",
    )


def _refresh(refresh: Refresh) -> str:
    if refresh.period_ns is None:
        return "not seen"
    sign = "<= " if refresh.kind == "at most" else ""
    return f"{sign}{refresh.period_ns * 1e-6:.1f} ms"


def _step(step: Step) -> str:
    if step.size is None:
        return "-"
    return f"{'' if step.sure else '<= '}{step.size * 1e3:.4g}"


def _share(resolution: Resolution | None) -> str:
    if resolution is None:
        return "-"
    if resolution.smallest_share is None or resolution.smallest_share >= 1:
        return "nothing"
    return f"{resolution.smallest_share:.1%}"


def _remarks(p: RailProbe) -> list[str]:
    texts = list(p.bogus)
    expected_ns, refresh = p.info.update_period_ns, p.refresh
    if refresh.aliased:
        texts.append(
            f"changes about as fast as it was read (every {refresh.read_gap_ns * 1e-6:.2f} ms): "
            "values in between are lost, what repeats that fast aliases"
        )
    elif refresh.kind == "at most":
        texts.append(f"{refresh.n_changes} changes are too few for its refresh: watch longer")
    elif (
        refresh.period_ns is not None
        and expected_ns is not None
        and abs(refresh.period_ns / expected_ns - 1) > OFF_EXPECTED
    ):
        texts.append(
            f"a new value comes every {refresh.period_ns * 1e-6:.1f} ms, "
            f"{expected_ns * 1e-6:.1f} ms were expected"
        )
    if not p.register.agrees:
        texts.append(f"its power register {p.register.text}")
    return texts


def _json(p: RailProbe, resolution: Resolution | None) -> dict[str, object]:
    found = asdict(p)
    found["info"]["quantum_w"] = p.info.quantum_w
    found["refresh"]["aliased"] = p.refresh.aliased
    return found | {"resolution": None if resolution is None else asdict(resolution)}
