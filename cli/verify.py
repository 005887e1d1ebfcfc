"""`bacmac verify`: the same images on two devices, bit for bit."""

from __future__ import annotations
