"""Is the AXI DMA of a design configured as the driver needs it, and does it reach memory?"""

from __future__ import annotations

from collections.abc import Iterator

from bacmac.host.manifest.overlay import Overlay
from bacmac.overlays.findings import Finding, differs
from bacmac.overlays.hwh import hand_off
from bacmac.overlays.hwh_reader import Design, Module, parse_integer

LOW_DDR_BYTES = 1 << 31
"""DDR below 2 GiB: all of a ZCU104's (UG1085, system address map; UG1267)."""

_DMA_CHANNELS = (
    ("M_AXI_MM2S", "c_include_mm2s", "memory-to-stream"),
    ("M_AXI_S2MM", "c_include_s2mm", "stream-to-memory"),
)
_MOST_RANGES = 4


def check_dma(overlay: Overlay, module: Module) -> Iterator[Finding]:
    """Both channels in simple mode, as wide as a beat, for the largest transfer of the manifest.

    Parameters and their defaults: PG021, "Customizing the core".
    """
    subject, want = "DMA", hand_off(overlay).dma
    version = module.vlnv.rpartition(":")[2]
    if version.partition(".")[0] != "7":
        yield Finding("warning", subject, f"version: found {version[:20]}; the driver knows 7")

    def value(key: str, default: int) -> int | None:
        text = module.parameters.get(key)
        return default if text is None else parse_integer(text)

    def said(key: str, default: int) -> str:
        return module.parameters.get(key, f"{default} by default")[:40]

    for key, default, what, expected in (
        ("c_include_mm2s", 1, "memory-to-stream channel", 1),
        ("c_include_s2mm", 1, "stream-to-memory channel", 1),
        ("c_include_sg", 1, "scatter-gather", 0),
        ("c_micro_dma", 0, "micro mode", 0),
        ("c_m_axis_mm2s_tdata_width", 32, "bits of a sent beat", 8 * want.send_bytes),
        ("c_s_axis_s2mm_tdata_width", 32, "bits of a received beat", 8 * want.receive_bytes),
    ):
        if value(key, default) != expected:
            yield differs(subject, f"{what} ({key})", said(key, default), str(expected))
    length_bits = value("c_sg_length_width", 14)
    if length_bits is None or length_bits < want.length_bits:
        yield differs(
            subject,
            "length bits (c_sg_length_width)",
            said("c_sg_length_width", 14),
            f"at least {want.length_bits}, for transfers of "
            f"{overlay.manifest.max_transfer_bytes} bytes",
        )
    address_bits = value("c_addr_width", 32)
    if address_bits is None or address_bits < want.address_bits:
        yield differs(
            subject,
            "address bits (c_addr_width)",
            said("c_addr_width", 32),
            f"{want.address_bits}: PYNQ may give a buffer that lies above 4 GiB",
            "warning",
        )
    for key in ("c_m_axi_mm2s_data_width", "c_m_axi_s2mm_data_width"):
        bits = value(key, 32)
        if bits is None or bits < 8 * want.send_bytes:
            expected_bits = f"{8 * want.send_bytes}: narrower than the stream, memory is the limit"
            yield differs(
                subject, f"bits towards memory ({key})", str(bits), expected_bits, "warning"
            )


def check_memory_reach(design: Design, dma: Module, ps: Module | None) -> Iterator[Finding]:
    """Both channels reach DDR, where the hand-off records what they reach."""
    reached = [r for r in design.ranges if r.master == dma.instance]
    if not reached or ps is None:
        return
    for bus, key, what in _DMA_CHANNELS:
        if dma.parameters.get(key) == "0":
            continue  # found already
        ddr = [
            r
            for r in reached
            if r.master_bus == bus and r.slave == ps.instance and "DDR" in r.block.upper()
        ]
        end = 0  # of what is reached from 0 on without a gap
        for r in sorted(ddr, key=lambda r: r.base):
            end = max(end, r.high + 1) if r.base <= end else end
        if end < LOW_DDR_BYTES:
            shown = ", ".join(f"{r.base:#x} to {r.high:#x}" for r in ddr[:_MOST_RANGES]) or "none"
            yield differs(
                "DMA",
                f"DDR that the {what} channel reaches",
                shown,
                f"0x0 to {LOW_DDR_BYTES - 1:#x}: a buffer elsewhere fails",
                "warning" if ddr else "error",
            )
