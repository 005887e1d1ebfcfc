"""Remake the golden files of version 2, after a deliberate change of the format.

python tests/pack/remake_golden.py

golden-v1.safetensors was made by the first release and is never remade.
"""

from __future__ import annotations

from pathlib import Path

from conftest import ModelBuilder

from bacmac.host.pack.file import write_packed

if __name__ == "__main__":
    here = Path(__file__).parent
    write_packed(here / "golden-v2.safetensors", ModelBuilder().tiny())
    write_packed(here / "golden-v2-formats.safetensors", *ModelBuilder().sparse())
