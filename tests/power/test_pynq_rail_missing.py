"""Without pynq the adapter says so; nothing else of the rails needs it."""

from __future__ import annotations

from importlib import metadata

import pytest

from bacmac.host.device.clock import VirtualClock
from bacmac.host.device.emulated import EmulatedBoard
from bacmac.host.errors import DeviceMissingError
from bacmac.power.emulated import EmulatedRails
from bacmac.power.pynq_rail import as_pynq_rails


def test_without_pynq_the_adapter_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    source = EmulatedRails(EmulatedBoard().activity, VirtualClock())

    with pytest.raises(DeviceMissingError, match="PYNQ is not installed"):
        as_pynq_rails(source)
