"""Is the design of a hand-off (.hwh) this overlay's: what it says against what it has to say.

Any design gives findings: several DMAs, none, another family's processing system, no accelerator.
Of several candidates the one at the manifest's address is meant.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from bacmac.host.manifest.overlay import Overlay
from bacmac.host.manifest.registers import Register
from bacmac.overlays.check_dma import check_dma, check_memory_reach
from bacmac.overlays.findings import Finding, Level, differs
from bacmac.overlays.hwh import (
    ACCELERATOR,
    DMA,
    DMA_SIZE_BYTES,
    IOPLL_HZ,
    PL0_CONTROL,
    PS,
    HandOff,
    hand_off,
)
from bacmac.overlays.hwh_reader import Design, MemoryRange, Module, SaidRegister, parse_integer

CLOCK_TOLERANCE = 1e-3
"""Relative; a 1.5 GHz PLL on a 33.333 MHz crystal runs at 1.499985 GHz, 1e-5 below."""

RTL_TOP = "bacmac"
"""Kind of the accelerator where the design refers to the module instead of the packaged IP."""

_OTHER_PROCESSORS = ("processing_system7", "versal_cips", "ps_wizard", "microblaze")
_MOST = 5


def check_design(overlay: Overlay, design: Design) -> tuple[Finding, ...]:
    """Every difference between a design and what the overlay's has to be; empty if none."""
    wanted = hand_off(overlay)
    found = [*_part(design, wanted), *_numbers(design)]
    systems = design.of_kind(PS)
    ps = systems[0] if systems else None
    if ps is None:
        others = _listed(m.kind for m in design.modules if m.kind in _OTHER_PROCESSORS)
        found.append(differs("processor", "processing system", others, PS))
    else:
        found += _pl_clock(overlay, ps)
    own = _listed(m.vlnv for m in design.modules if not m.vlnv.startswith("xilinx.com:ip:"))
    candidates = design.of_kind(ACCELERATOR, RTL_TOP)
    at, size = wanted.accelerator_base, wanted.accelerator_bytes
    accelerator = _meant(design, candidates, ps, at, "accelerator", own, wanted.vlnv, found)
    dmas = _listed(module.kind for module in design.modules if "dma" in module.kind)
    dma = _meant(design, design.of_kind(DMA), ps, wanted.dma_base, "DMA", dmas, DMA, found)
    if accelerator is not None:
        found += _accelerator(accelerator, wanted)
        found += _registers(accelerator, wanted)
        found += _address(design, accelerator, ps, at, size, "accelerator")
    if dma is not None:
        found += check_dma(overlay, dma)
        found += _address(design, dma, ps, wanted.dma_base, DMA_SIZE_BYTES, "DMA")
        found += check_memory_reach(design, dma, ps)
    if accelerator is not None and dma is not None:
        found += _streams(design, accelerator, dma)
        for module, subject in ((accelerator, "accelerator"), (dma, "DMA")):
            found += _clock_inputs(module, ps, subject)
    return tuple(found)


def same_clock(a_hz: float, b_hz: float) -> bool:
    """Equal to CLOCK_TOLERANCE."""
    return abs(a_hz - b_hz) <= CLOCK_TOLERANCE * a_hz


def _part(design: Design, wanted: HandOff) -> Iterator[Finding]:
    if design.part.lower() != wanted.part:
        yield differs("hand-off", "part", design.part[:40] or "none", wanted.part)


def _numbers(design: Design) -> Iterator[Finding]:
    for problem in design.problems[:_MOST]:
        yield Finding("warning", "hand-off", problem)
    more = len(design.problems) - _MOST
    if more > 0:
        yield Finding("warning", "hand-off", f"{more} more words that are no numbers")


def _pl_clock(overlay: Overlay, ps: Module) -> Iterator[Finding]:
    """`pl_clk0`: on, at the manifest's frequency, and with dividers that give it under PYNQ 3.

    PYNQ 3 writes the dividers of the hand-off whatever the PLL is, PYNQ 4 computes them from the
    frequency; neither touches the PLL, which the board's image has set.
    """
    wanted_hz = overlay.manifest.clock_hz

    def said(key: str) -> str:
        return ps.parameters.get(f"{PL0_CONTROL}{key}".lower(), "")[:40]

    enabled = ps.parameters.get("psu__fpga_pl0_enable", "")[:40]
    if enabled != "1":
        yield differs("clock", "PSU__FPGA_PL0_ENABLE", repr(enabled), "1: pl_clk0 is the clock")
    found_hz = _megahertz(said("ACT_FREQMHZ"))
    if found_hz is None:
        yield differs("clock", "ACT_FREQMHZ of pl_clk0", repr(said("ACT_FREQMHZ")), "MHz")
    elif not same_clock(wanted_hz, found_hz):
        yield differs("clock", "pl_clk0", _mhz(found_hz), _mhz(wanted_hz))
    if said("SRCSEL") not in ("IOPLL", ""):
        yield Finding(
            "warning",
            "clock",
            f"pl_clk0 is made from {said('SRCSEL')}; of PYNQ's image only IOPLL is known, "
            f"{_mhz(IOPLL_HZ)}",
        )
        return
    first, second = (parse_integer(said(f"DIVISOR{index}")) for index in (0, 1))
    if first and second and not same_clock(wanted_hz, IOPLL_HZ / (first * second)):
        gives = f"{first} x {second}, {_mhz(IOPLL_HZ / (first * second))} under PYNQ 3"
        yield differs("clock", "dividers of pl_clk0", gives, _mhz(wanted_hz))


def _meant(
    design: Design,
    candidates: tuple[Module, ...],
    ps: Module | None,
    base: int,
    subject: str,
    instead: str,
    expected: str,
    found: list[Finding],
) -> Module | None:
    """The one module that is meant; where it is not the only one, `found` is told what there was.

    `instead` says what the design has where there is no candidate, `expected` what it should have.
    """
    if len(candidates) == 1:
        return candidates[0]
    if not candidates:
        found.append(differs(subject, "IP in the design", instead, expected))
        return None
    bases = {m.instance: [r.base for r in _seen(design, m, ps)] for m in candidates}
    listed = ", ".join(
        f"{instance[:40]} at {', '.join(map(hex, at)) or 'no address'}"
        for instance, at in list(bases.items())[:_MOST]
    )
    text = f"{len(candidates)} in the design ({listed})"
    at_base = [m for m in candidates if base in bases[m.instance]]
    if len(at_base) == 1:
        found.append(Finding("note", subject, f"{text}: the one at {base:#x} is looked at"))
        return at_base[0]
    found.append(Finding("error", subject, f"{text}: expected one at {base:#x}"))
    return None


def _accelerator(module: Module, wanted: HandOff) -> Iterator[Finding]:
    if module.kind == RTL_TOP:
        yield Finding("note", "accelerator", f"{module.vlnv[:60]}: a reference to the RTL, no IP")
    elif module.vlnv != wanted.vlnv:
        yield differs("accelerator", "IP", module.vlnv[:60], wanted.vlnv)
    for name, value in wanted.parameters.items():
        said = module.parameters.get(name.lower())
        if said is not None and parse_integer(said) != value:
            shown = f"{value:#x}" if name == "BUILD_ID" else str(value)
            yield differs("accelerator", f"parameter {name}", said[:40], shown)
    if "build_id" not in module.parameters:
        yield Finding("note", "accelerator", "the hand-off records no BUILD_ID")


def _registers(module: Module, wanted: HandOff) -> Iterator[Finding]:
    if not module.registers:
        yield Finding("note", "registers", "the hand-off declares none: offsets cannot be compared")
        return
    have = {register.name: register for register in module.registers}
    for register in wanted.registers:
        said = have.get(register.name)
        expected = _layout(register)
        if said is None:
            yield differs("registers", register.name, "none", expected)
        elif _said_layout(said) != expected:
            yield differs("registers", register.name, _said_layout(said), expected)


def _address(
    design: Design, module: Module, ps: Module | None, base: int, size: int, subject: str
) -> Iterator[Finding]:
    seen = _seen(design, module, ps)
    if not seen:
        yield differs(subject, "address", "none in the address map", hex(base))
        return
    here = next((r for r in seen if r.base == base), seen[0])
    if here.base != base:
        yield differs(subject, "address", hex(here.base), hex(base))
    n_bytes = here.high - here.base + 1
    if n_bytes < size:
        yield differs(subject, "address range", f"{n_bytes:#x} bytes", f"at least {size:#x}")


def _clock_inputs(module: Module, ps: Module | None, subject: str) -> Iterator[Finding]:
    """Every clock input runs on pl_clk0, where the hand-off records what drives it."""
    for name, drivers in module.clocks.items():
        if not drivers or ps is None:
            continue
        if (ps.instance, "pl_clk0") in drivers:
            continue
        of_ps = [port for instance, port in drivers if instance == ps.instance]
        instance, port = drivers[0]
        found = f"{of_ps[0][:40]}" if of_ps else f"{instance[:40]} {port[:40]}"
        level: Level = "error" if of_ps else "warning"
        expected = "pl_clk0, the only clock that is set and read back"
        yield differs(subject, f"clock input {name[:40]}", found, expected, level)


def _streams(design: Design, accelerator: Module, dma: Module) -> Iterator[Finding]:
    """The two streams join DMA and accelerator, where the hand-off records their nets."""
    for mine, its, what in (
        ("s_axis", "M_AXIS_MM2S", "input stream"),
        ("m_axis", "S_AXIS_S2MM", "output stream"),
    ):
        here, there = accelerator.buses.get(mine, ""), dma.buses.get(its, "")
        if not here or not there or here == there != "__NOC__":
            continue
        others = [
            m.instance[:40]
            for m in design.modules
            if m is not accelerator and here in m.buses.values() and here != "__NOC__"
        ]
        found = ", ".join(others[:3]) or "nothing"
        yield differs("accelerator", f"{what} {mine} joins", found, f"{dma.instance[:40]} {its}")


def _seen(design: Design, module: Module, ps: Module | None) -> tuple[MemoryRange, ...]:
    """Where the processing system sees a module; without one that is known, any master."""
    return tuple(
        r
        for r in design.ranges
        if r.slave == module.instance and (ps is None or r.master == ps.instance)
    )


def _listed(words: Iterable[str]) -> str:
    """What is there instead, sorted, shortened; "none" for nothing."""
    known = sorted({word for word in words if word})
    more = f" and {len(known) - _MOST} more" if len(known) > _MOST else ""
    return ", ".join(word[:60] for word in known[:_MOST]) + more or "none"


def _layout(register: Register) -> str:
    """What a driver depends on; descriptions and reset values may differ."""
    fields = sorted((field.lsb, field.width, field.name) for field in register.fields)
    return _shown(register.offset, register.access, fields)


def _said_layout(register: SaidRegister) -> str:
    fields = sorted((lsb or 0, width or 0, name) for name, lsb, width in register.fields)
    return _shown(register.offset, register.access[:40], fields)


def _shown(offset: int | None, access: str, fields: list[tuple[int, int, str]]) -> str:
    where = "no offset" if offset is None else f"{offset:#x}"
    bits = ", ".join(f"{name[:40]}[{lsb}+:{width}]" for lsb, width, name in fields[:32])
    return f"{where} {access} {{{bits}}}"


def _megahertz(text: str) -> float | None:
    """In hertz; None for what is no frequency that a PL clock may have."""
    try:
        mhz = float(text)
    except ValueError:
        return None
    return mhz * 1e6 if math.isfinite(mhz) and 0 < mhz < 1e4 else None


def _mhz(clock_hz: float) -> str:
    return f"{clock_hz / 1e6:g} MHz"
