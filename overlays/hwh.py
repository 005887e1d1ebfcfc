"""The hardware hand-off (.hwh): what it has to say, and the smallest one, made from our tables.

Vivado writes one beside each bitstream: an XML list of the design's modules, their parameters,
registers and addresses. PYNQ reads it to find the clock, the DMA and the registers. The one made
here holds only what PYNQ 3.0 to 4.0 requires (found by removing one element at a time), from the
same manifest and register map that the driver and the emulated slave use.

Sources: pynqmetadata 0.2.0, `frontends/hwh_frontend.py`; AXI DMA, PG021; pl_clk0 and its two
6-bit dividers, CRL_APB.PL0_REF_CTRL in UG1087.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from bacmac.host.device.rtl.parameters import PRODUCTS, rtl_parameters
from bacmac.host.manifest.overlay import EMULATION, MADE_FOR, Manifest, Overlay
from bacmac.host.manifest.registers import Register

IOPLL_HZ = 1.5e9
"""What the PLL behind pl_clk0 runs at under the ZCU104's PYNQ image; PYNQ sets dividers only."""

DMA_SIZE_BYTES = 0x1000
"""Address range of the AXI DMA: its last register is at 0x58, 4 KiB is the least decoded."""

PS, DMA, ACCELERATOR = "zynq_ultra_ps_e", "axi_dma", "accelerator"
"""The three modules by the third word of their VLNV; a built design uses the same."""

PL0_CONTROL = "PSU__CRL_APB__PL0_REF_CTRL__"

_AXIMM = "xilinx.com:interface:aximm:1.0"


@dataclass(frozen=True)
class Dma:
    """The AXI DMA as it was configured; names of the parameters in PG021.

    Attributes:
        sends, receives: the memory-to-stream and stream-to-memory channels are there.
        scatter_gather: descriptors in memory; the driver uses the simple mode without.
        length_bits: of the length registers; one transfer moves at most 2**length_bits - 1 bytes.
        address_bits: that it can address; buffers may lie above 4 GiB.
        send_bytes, receive_bytes: of one beat of each stream.
    """

    sends: bool
    receives: bool
    scatter_gather: bool
    length_bits: int
    address_bits: int
    send_bytes: int
    receive_bytes: int


@dataclass(frozen=True)
class HandOff:
    """What the .hwh of an overlay has to say of the things that the driver relies on.

    Attributes:
        part: device, package and speed grade, as "xczu7ev-ffvc1156-2".
        clock_hz: the accelerator's clock, pl_clk0.
        accelerator_base, accelerator_bytes: its address range.
        dma_base: the DMA's address.
        dma: how the DMA is configured.
        vlnv: of the accelerator: vendor, library, name, version.
        parameters: of the accelerator's RTL, by name; the build id is among them.
        registers: of the accelerator.
    """

    part: str
    clock_hz: float
    accelerator_base: int
    accelerator_bytes: int
    dma_base: int
    dma: Dma
    vlnv: str
    parameters: dict[str, int]
    registers: tuple[Register, ...]


def clock_dividers(clock_hz: float) -> tuple[int, int]:
    """The two dividers of IOPLL_HZ for the fastest pl_clk0 that is not faster than `clock_hz`.

    >>> clock_dividers(250e6)
    (6, 1)
    """
    # a thousandth of slack: PLLs run from a 33.333 MHz crystal, so 1.5 GHz is 1.499985 GHz
    divisors = [(a, b) for b in range(1, 64) for a in range(1, 64)]
    allowed = [(a, b) for a, b in divisors if IOPLL_HZ / (a * b) <= clock_hz * 1.001]
    return min(allowed, key=lambda pair: (pair[0] * pair[1], pair[1]))


def hand_off(overlay: Overlay) -> HandOff:
    """What the .hwh of this overlay has to say.

    The clock is what PYNQ would set: the nearest one not above the manifest's (see IOPLL_HZ).
    """
    manifest = overlay.manifest
    first, second = clock_dividers(manifest.clock_hz)
    return HandOff(
        part=manifest.part.rpartition("-")[0],  # the hand-off leaves out the temperature grade
        clock_hz=IOPLL_HZ / (first * second),
        accelerator_base=manifest.accelerator_base,
        accelerator_bytes=overlay.registers.size_bytes,
        dma_base=manifest.dma_base,
        dma=Dma(
            sends=True,
            receives=True,
            scatter_gather=False,
            length_bits=manifest.max_transfer_bytes.bit_length(),
            address_bits=40,
            send_bytes=manifest.beat_bytes,
            receive_bytes=manifest.beat_bytes,
        ),
        vlnv=f"bacmac:ip:{ACCELERATOR}:{manifest.abi}.0",
        parameters=_rtl_parameters(manifest),
        registers=overlay.registers.registers,
    )


def _rtl_parameters(manifest: Manifest) -> dict[str, int]:
    """Those of our RTL; of an overlay of one's own with other products, the build id alone."""
    if (manifest.product, manifest.scheme) in PRODUCTS:
        return rtl_parameters(manifest)
    return {"BUILD_ID": manifest.build_id}


def make_hwh(overlay: Overlay) -> bytes:
    """The smallest hand-off of this overlay that PYNQ reads: XML in UTF-8, the same every time.

    Its root says that it is made for emulation: beside a bitstream it would describe another
    build. Names of instances and interfaces are those of the built design (hw_src/vivado).
    """
    said = hand_off(overlay)
    device, package, speed = said.part.split("-")
    root = Element(
        "EDKSYSTEM",
        {"EDWVERSION": "1.2", MADE_FOR: EMULATION, "TIMESTAMP": "", "VIVADOVERSION": ""},
    )
    _add(
        root,
        "SYSTEMINFO",
        NAME=overlay.manifest.name,
        ARCH="zynquplus",
        DEVICE=device,
        PACKAGE=package,
        SPEEDGRADE=f"-{speed}",
    )
    _add(root, "EXTERNALPORTS")
    modules = _add(root, "MODULES")

    ps = _add_module(modules, "ps", f"xilinx.com:ip:{PS}:3.5", "M_AXI_HPM0_FPD", "MASTER")
    _add_parameters(ps, _clock_parameters(overlay.manifest.clock_hz))
    ranges = _add(ps, "MEMORYMAP")
    for instance, bus, base, size in (
        ("accelerator", "s_axi", said.accelerator_base, said.accelerator_bytes),
        ("axi_dma", "S_AXI_LITE", said.dma_base, DMA_SIZE_BYTES),
    ):
        _add(
            ranges,
            "MEMRANGE",
            ADDRESSBLOCK="Reg",
            BASEVALUE=_hex(base),
            HIGHVALUE=_hex(base + size - 1),
            INSTANCE=instance,
            MASTERBUSINTERFACE="M_AXI_HPM0_FPD",
            MEMTYPE="REGISTER",
            SLAVEBUSINTERFACE=bus,
        )

    accelerator = _add_module(modules, "accelerator", said.vlnv, "s_axi", "SLAVE")
    # as Vivado writes a vector
    parameters = {**said.parameters, "BUILD_ID": _hex(said.parameters["BUILD_ID"])}
    _add_parameters(accelerator, parameters)
    _add_registers(accelerator, said.registers)

    dma = _add_module(modules, "axi_dma", f"xilinx.com:ip:{DMA}:7.1", "S_AXI_LITE", "SLAVE")
    _add_parameters(dma, _dma_parameters(said.dma))
    ElementTree.indent(root)
    return bytes(ElementTree.tostring(root, encoding="UTF-8", xml_declaration=True)) + b"\n"


def _add(parent: Element, tag: str, **attributes: Any) -> Element:
    return SubElement(parent, tag, {key: str(value) for key, value in attributes.items()})


def _hex(value: int) -> str:
    return f"0x{value:08X}"


def _add_module(modules: Element, instance: str, vlnv: str, bus: str, role: str) -> Element:
    kind = vlnv.split(":")[2]
    module = _add(
        modules, "MODULE", INSTANCE=instance, FULLNAME=f"/{instance}", VLNV=vlnv, MODTYPE=kind
    )
    _add(_add(module, "BUSINTERFACES"), "BUSINTERFACE", NAME=bus, TYPE=role, VLNV=_AXIMM)
    return module


def _add_parameters(module: Element, parameters: dict[str, object]) -> None:
    element = _add(module, "PARAMETERS")
    for name, value in parameters.items():
        _add(element, "PARAMETER", NAME=name, VALUE=value)


def _clock_parameters(clock_hz: float) -> dict[str, object]:
    """pl_clk0 on, the other three off; PYNQ asks for all four."""
    first, second = clock_dividers(clock_hz)
    parameters: dict[str, object] = {}
    for index in range(4):
        control = f"PSU__CRL_APB__PL{index}_REF_CTRL__"
        parameters[f"PSU__FPGA_PL{index}_ENABLE"] = int(index == 0)
        parameters[f"{control}DIVISOR0"] = first
        parameters[f"{control}DIVISOR1"] = second
        parameters[f"{control}SRCSEL"] = "IOPLL"
        parameters[f"{control}ACT_FREQMHZ"] = repr(IOPLL_HZ / (first * second) / 1e6)
    return parameters


def _dma_parameters(dma: Dma) -> dict[str, object]:
    return {
        "c_include_mm2s": int(dma.sends),
        "c_include_s2mm": int(dma.receives),
        "c_include_sg": int(dma.scatter_gather),
        "c_micro_dma": 0,
        "c_sg_length_width": dma.length_bits,
        "c_addr_width": dma.address_bits,
        "c_include_mm2s_dre": 0,
        "c_include_s2mm_dre": 0,
        "c_m_axi_mm2s_data_width": 8 * dma.send_bytes,
        "c_m_axi_s2mm_data_width": 8 * dma.receive_bytes,
        "c_m_axis_mm2s_tdata_width": 8 * dma.send_bytes,
        "c_s_axis_s2mm_tdata_width": 8 * dma.receive_bytes,
    }


def _add_registers(module: Element, registers: tuple[Register, ...]) -> None:
    block = _add(_add(module, "ADDRESSBLOCKS"), "ADDRESSBLOCK", INTERFACE="s_axi", USAGE="register")
    table = _add(block, "REGISTERS")
    for register in registers:
        element = _add(table, "REGISTER", NAME=register.name)
        _add_properties(
            element,
            DESCRIPTION=register.description,
            ADDRESS_OFFSET=hex(register.offset),
            SIZE=32,
            ACCESS=register.access,
            RESET_VALUE=hex(register.reset),
        )
        fields = _add(element, "FIELDS") if register.fields else element
        for field in register.fields:
            _add_properties(
                _add(fields, "FIELD", NAME=field.name),
                DESCRIPTION=field.description,
                BIT_OFFSET=field.lsb,
                BIT_WIDTH=field.width,
                ACCESS=register.access,
            )


def _add_properties(element: Element, **properties: object) -> None:
    for name, value in properties.items():
        _add(element, "PROPERTY", NAME=name, VALUE=value)
