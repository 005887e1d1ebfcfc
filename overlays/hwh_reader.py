"""Read a hardware hand-off (.hwh), Vivado's of any release or ours, into plain values.

A hand-off may be of any design, so nothing in it is demanded here but that it is one: what is
missing stays empty, and a number that is none is told in `Design.problems`. Whether the design is
the overlay's is for `overlays.check_hand_off` to say.

The file may come from anywhere: a document type declaration is refused (so no entity is ever
expanded), nesting and size are bounded, and only `OverlayError` leaves this module.

Sources: the elements that pynqmetadata 0.2.0 reads (`frontends/hwh_frontend.py`), and hand-offs
of Vivado 2018.2 to 2024.2 for Zynq-7000, Zynq UltraScale+ and Versal.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element
from xml.parsers import expat

from bacmac.host.errors import OverlayError
from bacmac.host.manifest.overlay import EMULATION, MADE_FOR
from bacmac.overlays.bounded_file import read_bounded

MAX_BYTES = 64 << 20
"""A hand-off of a large design has a few megabytes."""

MAX_DEPTH = 64


@dataclass(frozen=True)
class SaidRegister:
    """A register as a hand-off declares it; words that are no number are None.

    Attributes:
        fields: name, lowest bit and width of each.
    """

    name: str
    offset: int | None
    access: str
    fields: tuple[tuple[str, int | None, int | None], ...]


@dataclass(frozen=True)
class Module:
    """One block of the design.

    Attributes:
        instance: its name in the address map, hierarchy joined by "_".
        vlnv: vendor, library, name and version, joined by ":".
        parameters: by lower-case name; some releases write the same ones in capitals too.
        clocks: for each clock input, the blocks and ports that it is joined to.
        buses: for each bus interface, the net it lies on.
        registers: that it declares; a module reference declares none.
    """

    instance: str
    vlnv: str
    parameters: Mapping[str, str]
    clocks: Mapping[str, tuple[tuple[str, str], ...]]
    buses: Mapping[str, str]
    registers: tuple[SaidRegister, ...]

    @property
    def kind(self) -> str:
        """Third word of the VLNV, as "axi_dma"; empty where there is none."""
        words = self.vlnv.split(":")
        return words[2] if len(words) == 4 else ""


@dataclass(frozen=True)
class MemoryRange:
    """What a master sees of a slave: base .. high, both inclusive byte addresses."""

    master: str
    master_bus: str
    slave: str
    block: str
    base: int
    high: int


@dataclass(frozen=True)
class Design:
    """What a hand-off says.

    Attributes:
        name: of the block design.
        part: device, package and speed grade, as "xczu7ev-ffvc1156-2"; words not there left out.
        release: of Vivado; empty in one made for emulation.
        is_for_emulation: made from our tables, of no build.
        modules, ranges: in the file's order.
        problems: numbers that are none, each a phrase.
    """

    name: str
    part: str
    release: str
    is_for_emulation: bool
    modules: tuple[Module, ...]
    ranges: tuple[MemoryRange, ...]
    problems: tuple[str, ...]

    def of_kind(self, *kinds: str) -> tuple[Module, ...]:
        """Modules whose VLNV has one of these names."""
        return tuple(module for module in self.modules if module.kind in kinds)


def load_hwh(path: Path) -> Design:
    """Read a hand-off from a file; `read_hwh` says the rest.

    Raises:
        OverlayError: it cannot be read, or is no hand-off.
    """
    data = read_bounded(path, MAX_BYTES, "a hardware hand-off")
    return read_hwh(data, str(path))


def read_hwh(data: bytes, name: str = "hand-off") -> Design:
    """Read a hand-off.

    Args:
        data: the whole file; a byte-order mark, as Vivado writes one, may come first.
        name: the file, for errors.

    Raises:
        OverlayError: it is not XML in UTF-8, has a document type declaration, or its root is
            not a design with modules.
    """
    root = _parse(data, name)
    if root.tag != "EDKSYSTEM" or root.find("MODULES") is None:
        raise OverlayError(
            name,
            "root element",
            found=f"<{root.tag[:40]}>" + (" without MODULES" if root.tag == "EDKSYSTEM" else ""),
            expected="<EDKSYSTEM> with MODULES, as Vivado writes a hardware hand-off",
        )
    system = root.find("SYSTEMINFO")
    said = {} if system is None else system.attrib
    words = (said.get(key, "").strip("-") for key in ("DEVICE", "PACKAGE", "SPEEDGRADE"))
    problems: list[str] = []
    elements = list(root.iter("MODULE"))
    ranges = tuple(found for element in elements for found in _ranges(element, problems))
    return Design(
        name=said.get("NAME", ""),
        part="-".join(word for word in words if word),
        release=root.get("VIVADOVERSION", ""),
        is_for_emulation=root.get(MADE_FOR) == EMULATION,
        modules=tuple(_module(element, problems) for element in elements),
        ranges=ranges,
        problems=tuple(problems),
    )


def _parse(data: bytes, name: str) -> Element:
    def wrong(found: str, expected: str) -> OverlayError:
        return OverlayError(name, "text", found=found[:80], expected=expected)

    if len(data) > MAX_BYTES:
        raise wrong(f"more than {MAX_BYTES} bytes", "a hardware hand-off")
    builder = ElementTree.TreeBuilder()
    depth = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_DEPTH:
            raise wrong("elements nested without end", f"{MAX_DEPTH} levels")
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    def doctype(*_: object) -> None:
        raise wrong("a document type declaration", "plain XML without one")

    # the encoding is fixed, so a declared one cannot choose a codec
    parser = expat.ParserCreate("UTF-8")
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.StartDoctypeDeclHandler = doctype
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise wrong(str(error), "XML in UTF-8") from error
    return builder.close()


def _module(element: Element, problems: list[str]) -> Module:
    instance = element.get("INSTANCE", "")
    return Module(
        instance=instance,
        vlnv=element.get("VLNV", ""),
        parameters={
            p.get("NAME", "").lower(): p.get("VALUE", "")
            for p in element.findall("PARAMETERS/PARAMETER")
        },
        clocks={
            port.get("NAME", ""): tuple(
                (joined.get("INSTANCE", ""), joined.get("PORT", ""))
                for joined in port.findall("CONNECTIONS/CONNECTION")
            )
            for port in element.findall("PORTS/PORT")
            if port.get("SIGIS") == "clk" and port.get("DIR") == "I"
        },
        buses={
            bus.get("NAME", ""): bus.get("BUSNAME", "")
            for bus in element.findall("BUSINTERFACES/BUSINTERFACE")
        },
        registers=tuple(
            _register(register, f"{instance}.{register.get('NAME', '')}", problems)
            for register in element.findall("ADDRESSBLOCKS/ADDRESSBLOCK/REGISTERS/REGISTER")
        ),
    )


def _ranges(module: Element, problems: list[str]) -> Iterator[MemoryRange]:
    master = module.get("INSTANCE", "")
    for element in module.findall("MEMORYMAP/MEMRANGE"):
        slave = element.get("INSTANCE", "")
        base, high = (
            _number(element.get(key, ""), f"MEMRANGE {slave} {key}", problems)
            for key in ("BASEVALUE", "HIGHVALUE")
        )
        if base is None or high is None:
            continue
        if high < base:
            problems.append(f"MEMRANGE {slave}: {base:#x} .. {high:#x} is no range")
            continue
        yield MemoryRange(
            master=master,
            master_bus=element.get("MASTERBUSINTERFACE", ""),
            slave=slave,
            block=element.get("ADDRESSBLOCK", ""),
            base=base,
            high=high,
        )


def _register(element: Element, what: str, problems: list[str]) -> SaidRegister:
    says = _properties(element)
    return SaidRegister(
        name=element.get("NAME", ""),
        offset=_number(says.get("ADDRESS_OFFSET", ""), f"{what} ADDRESS_OFFSET", problems),
        access=says.get("ACCESS", ""),
        fields=tuple(
            _field(field, f"{what}.{field.get('NAME', '')}", problems)
            for field in element.findall("FIELDS/FIELD")
        ),
    )


def _field(element: Element, what: str, problems: list[str]) -> tuple[str, int | None, int | None]:
    says = _properties(element)
    lsb, width = (
        _number(says.get(key, ""), f"{what} {key}", problems) for key in ("BIT_OFFSET", "BIT_WIDTH")
    )
    return element.get("NAME", ""), lsb, width


def _properties(element: Element) -> dict[str, str]:
    return {p.get("NAME", ""): p.get("VALUE", "") for p in element.findall("PROPERTY")}


def _number(text: str, what: str, problems: list[str]) -> int | None:
    value = parse_integer(text)
    if value is None:
        problems.append(f"{what}: {text[:40]!r} is no number")
    return value


def parse_integer(text: str) -> int | None:
    """A number below 2**64 as hand-offs write them; None for any other word.

    A vector is written in hexadecimal, as in Verilog, or bit by bit in quotes; more digits of 0
    and 1 than any decimal number below 2**64 has are bits too.

    >>> parse_integer("0xA0000000"), parse_integer("32'hBAC40001"), parse_integer("auto")
    (2684354560, 3133407233, None)
    >>> parse_integer('"10111010110001000000000000000001"') == 0xBAC40001
    True
    """
    word = text.strip().lower()
    for pattern, base in _NUMBERS:
        match = pattern.fullmatch(word)
        if match:
            value = int(match.group(1), base)
            return value if value < 1 << 64 else None
    return None


_NUMBERS = tuple(
    (re.compile(pattern, re.ASCII), base)
    for pattern, base in (
        (r"(?:0x|\d*'h)([0-9a-f]{1,80})", 16),
        (r"(?:0b|\d*'b)([01]{1,80})", 2),
        (r'"([01]{1,80})"', 2),
        (r"([01]{21,80})", 2),
        (r"(?:\d*'d)?(\d{1,80})", 10),
    )
)
