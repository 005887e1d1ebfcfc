"""Read a hardware hand-off (.hwh), Vivado's or ours, as far as the driver depends on it.

The file may come from anywhere: a document type declaration is refused (so no entity is ever
expanded), nesting and size are bounded, and only `OverlayError` leaves this module.

Sources: the elements that pynqmetadata 0.2.0 reads; the parameters of AXI DMA in PG021.
"""

from __future__ import annotations

from typing import cast, get_args
from xml.etree import ElementTree
from xml.etree.ElementTree import Element
from xml.parsers import expat

from bacmac.host.errors import OverlayError
from bacmac.host.manifest.registers import Access, Field, Register
from bacmac.overlays.hwh import ACCELERATOR, DMA, PL0_CONTROL, PS, Dma, HandOff

MAX_BYTES = 64 << 20
"""A hand-off of a large design has a few megabytes."""

MAX_DEPTH = 64


def read_hwh(data: bytes, name: str = "hand-off") -> HandOff:
    """Read what `HandOff` holds; a document type declaration is refused, so no entity expands.

    Args:
        data: the whole file.
        name: the file, for errors.

    Raises:
        OverlayError: it is not XML, or lacks one of these, or says it in another form.
    """
    reader = _Reader(name)
    root = reader.parse(data)
    modules: dict[str, Element] = {}
    for module in root.iter("MODULE"):
        kind = module.get("VLNV", "").split(":")
        if len(kind) == 4 and kind[2] in (PS, DMA, ACCELERATOR):
            if kind[2] in modules:
                raise reader.wrong(f"MODULE {kind[2]}", "two", "one")
            modules[kind[2]] = module
    for kind_name in (PS, DMA, ACCELERATOR):
        if kind_name not in modules:
            raise reader.wrong(f"MODULE {kind_name}", "none in any VLNV", "one")
    system = reader.child(root, "SYSTEMINFO")
    part = (reader.get(system, key) for key in ("DEVICE", "PACKAGE", "SPEEDGRADE"))
    ps, dma, accelerator = (modules[kind_name] for kind_name in (PS, DMA, ACCELERATOR))
    base, size = reader.address_range(ps, reader.get(accelerator, "INSTANCE"))
    return HandOff(
        part="-".join(word.strip("-") for word in part),
        clock_hz=reader.clock_hz(ps),
        accelerator_base=base,
        accelerator_bytes=size,
        dma_base=reader.address_range(ps, reader.get(dma, "INSTANCE"))[0],
        dma=reader.dma(dma),
        registers=tuple(reader.register(r) for r in accelerator.iter("REGISTER")),
    )


class _Reader:
    """Reads elements of one file and names it in every error."""

    def __init__(self, name: str) -> None:
        self._name = name

    def wrong(self, field: str, found: str, expected: str) -> OverlayError:
        return OverlayError(self._name, field, found=found[:80], expected=expected)

    def parse(self, data: bytes) -> Element:
        if len(data) > MAX_BYTES:
            raise self.wrong("file", f"{len(data)} bytes", f"at most {MAX_BYTES}")
        builder = ElementTree.TreeBuilder()
        depth = 0

        def start(tag: str, attributes: dict[str, str]) -> None:
            nonlocal depth
            depth += 1
            if depth > MAX_DEPTH:
                raise self.wrong("text", "elements nested without end", f"{MAX_DEPTH} levels")
            builder.start(tag, attributes)

        def end(tag: str) -> None:
            nonlocal depth
            depth -= 1
            builder.end(tag)

        def doctype(*_: object) -> None:
            raise self.wrong("text", "a document type declaration", "plain XML without one")

        # the encoding is fixed, so a declared one cannot choose a codec
        parser = expat.ParserCreate("UTF-8")
        parser.StartElementHandler = start
        parser.EndElementHandler = end
        parser.StartDoctypeDeclHandler = doctype
        try:
            parser.Parse(data, True)
        except expat.ExpatError as error:
            raise self.wrong("text", str(error), "XML in UTF-8") from error
        return builder.close()

    def child(self, element: Element, tag: str) -> Element:
        found = element.find(tag)
        if found is None:
            raise self.wrong(f"{element.tag}/{tag}", "none", "one")
        return found

    def get(self, element: Element, key: str) -> str:
        value = element.get(key)
        if not value:
            raise self.wrong(f"{element.tag} {key}", repr(value), "a text")
        return value

    def integer(self, field: str, text: str) -> int:
        try:
            value = int(text, 0)
        except ValueError as error:
            raise self.wrong(field, repr(text), "an integer") from error
        if not 0 <= value < 1 << 64:
            raise self.wrong(field, repr(text), "an integer in 0 .. 2**64 - 1")
        return value

    def parameters(self, module: Element) -> dict[str, str]:
        return {p.get("NAME", ""): p.get("VALUE", "") for p in module.iter("PARAMETER")}

    def clock_hz(self, ps: Element) -> float:
        text = self.parameters(ps).get(f"{PL0_CONTROL}ACT_FREQMHZ", "")
        try:
            mhz = float(text)
        except ValueError as error:
            raise self.wrong(
                f"{PL0_CONTROL}ACT_FREQMHZ", repr(text), "a frequency in MHz"
            ) from error
        if not 0 < mhz < 1e4:
            raise self.wrong(f"{PL0_CONTROL}ACT_FREQMHZ", repr(text), "a frequency in MHz")
        return mhz * 1e6

    def address_range(self, ps: Element, instance: str) -> tuple[int, int]:
        """Base and size in bytes; a slave's range that several masters see is told once."""
        for found in ps.iter("MEMRANGE"):
            if found.get("INSTANCE") == instance:
                field = f"MEMRANGE {instance}"
                base = self.integer(f"{field} BASEVALUE", self.get(found, "BASEVALUE"))
                high = self.integer(f"{field} HIGHVALUE", self.get(found, "HIGHVALUE"))
                if high < base:
                    raise self.wrong(field, f"{base:#x} .. {high:#x}", "a range")
                return base, high - base + 1
        raise self.wrong(f"MEMRANGE {instance}", "none", "its address")

    def dma(self, module: Element) -> Dma:
        # the upper case of some Vivado releases says the same; PG021 gives the defaults
        given = {key.lower(): value for key, value in self.parameters(module).items()}

        def value(key: str, default: int) -> int:
            return self.integer(f"axi_dma {key}", given.get(key, str(default)))

        return Dma(
            sends=value("c_include_mm2s", 1) == 1,
            receives=value("c_include_s2mm", 1) == 1,
            scatter_gather=value("c_include_sg", 1) == 1,
            length_bits=value("c_sg_length_width", 14),
            address_bits=value("c_addr_width", 32),
            send_bytes=value("c_m_axis_mm2s_tdata_width", 32) // 8,
            receive_bytes=value("c_s_axis_s2mm_tdata_width", 32) // 8,
        )

    def register(self, element: Element) -> Register:
        name = self.get(element, "NAME")
        says = self._properties(element)
        return Register(
            name=name,
            offset=self._number(name, says, "ADDRESS_OFFSET"),
            access=self._access(name, says),
            reset=self.integer(f"{name} RESET_VALUE", says.get("RESET_VALUE", "0")),
            description=says.get("DESCRIPTION", ""),
            fields=tuple(self._field(name, field) for field in element.iter("FIELD")),
        )

    def _field(self, register: str, element: Element) -> Field:
        name = self.get(element, "NAME")
        says = self._properties(element)
        return Field(
            name=name,
            lsb=self._number(f"{register}.{name}", says, "BIT_OFFSET"),
            width=self._number(f"{register}.{name}", says, "BIT_WIDTH"),
            description=says.get("DESCRIPTION", ""),
        )

    def _properties(self, element: Element) -> dict[str, str]:
        return {p.get("NAME", ""): p.get("VALUE", "") for p in element.findall("PROPERTY")}

    def _number(self, what: str, says: dict[str, str], key: str) -> int:
        return self.integer(f"{what} {key}", says.get(key, ""))

    def _access(self, name: str, says: dict[str, str]) -> Access:
        access = says.get("ACCESS", "")
        if access not in get_args(Access):
            raise self.wrong(f"{name} ACCESS", repr(access), " or ".join(get_args(Access)))
        return cast(Access, access)
