"""The register table as SystemVerilog: `hw_src/rtl/bacmac_registers.svh` is made here.

The file is committed, so that building an overlay needs no Python, and a test compares it with the
table. To make it again:

    python -m bacmac.overlays.rtl_registers NAME.toml OUTPUT.svh
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from bacmac.host.files import write_text
from bacmac.host.manifest.registers import RegisterMap
from bacmac.overlays.registry import parse_register_map
from bacmac.overlays.strict_toml import read_text


def rtl_localparams(registers: RegisterMap) -> str:
    """The text of an include file of localparams, for inside a module.

    For each register `X`: `AT_X`, the number of its word (offset / 4), and `RESET_X`; for each of
    its fields `F`: `X_F_LSB` and `X_F_WIDTH`. Of all words together: `N_WORDS`, the number after
    the last, and `READABLE` and `WRITABLE`, a bit each (0 where no register lies).
    """
    return "\n".join(_lines(registers)) + "\n"


def _lines(registers: RegisterMap) -> Iterator[str]:
    words = {register.offset // 4: register for register in registers.registers}
    n_words = max(words) + 1
    bits = (registers.size_bytes // 4 - 1).bit_length()
    readable = sum(1 << at for at, word in words.items() if word.access != "write-only")
    writable = sum(1 << at for at, word in words.items() if word.access != "read-only")
    yield f"// Made from overlays/regmaps/{registers.name}.toml by overlays/rtl_registers.py:"
    yield "// do not edit. Numbers are of 32-bit words; a byte offset is four times that."
    yield "/* verilator lint_off UNUSEDPARAM */  // whoever includes this uses what it needs"
    yield f"localparam [{bits - 1}:0] N_WORDS = {bits}'d{n_words};"
    yield f"localparam [{n_words - 1}:0] READABLE = {n_words}'h{readable:x};"
    yield f"localparam [{n_words - 1}:0] WRITABLE = {n_words}'h{writable:x};"
    for at, register in sorted(words.items()):
        yield f"localparam [{bits - 1}:0] AT_{register.name} = {bits}'d{at};"
        yield f"localparam [31:0] RESET_{register.name} = 32'h{register.reset:08x};"
        for field in register.fields:
            yield f"localparam integer {register.name}_{field.name}_LSB = {field.lsb};"
            yield f"localparam integer {register.name}_{field.name}_WIDTH = {field.width};"
    yield "/* verilator lint_on UNUSEDPARAM */"


if __name__ == "__main__":
    table, output = map(Path, sys.argv[1:])
    write_text(output, rtl_localparams(parse_register_map(table, read_text(table))))
