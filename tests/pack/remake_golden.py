"""Remake tests/pack/golden-v2.safetensors, after a deliberate change of the format.

python tests/pack/remake_golden.py
"""

from __future__ import annotations

from pathlib import Path

from conftest import ModelBuilder

from bacmac.host.pack.file import write_packed

if __name__ == "__main__":
    write_packed(Path(__file__).with_name("golden-v2.safetensors"), ModelBuilder().tiny())
