"""PYNQ warns when it is imported: of old dependencies, and that this is no board."""

from __future__ import annotations

from bacmac.host.device.pynq.preconditions import import_pynq

import_pynq()
