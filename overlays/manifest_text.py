"""Write a manifest as TOML, the reverse of `bacmac.overlays.registry.parse_manifest`."""

from __future__ import annotations

import json
from dataclasses import asdict

from bacmac.host.manifest.overlay import Manifest

_HEXADECIMAL = ("build_id", "max_transfer_bytes", "accelerator_base", "dma_base")


def manifest_text(manifest: Manifest, register_map: str, comment: str) -> str:
    """The manifest as the text that is read back as the same one.

    Args:
        manifest: every key of it is written.
        register_map: name of the register map that it names.
        comment: a line for people, above it.
    """
    tables = asdict(manifest)
    resources = {"source": tables.pop("resources_source"), **tables.pop("resources")}
    top = {key: value for key, value in tables.items() if not isinstance(value, dict)}
    lines = [f"# {comment}", "", *_lines({**top, "register_map": register_map})]
    for name in ("geometry", "buffers", "files"):
        lines += ["", f"[{name}]", *_lines(tables[name])]
    return "\n".join([*lines, "", "[resources]", *_lines(resources), ""])


def _lines(table: dict[str, object]) -> list[str]:
    return [f"{key} = {_value(key, value)}" for key, value in table.items()]


def _value(key: str, value: object) -> str:
    if isinstance(value, str):
        # a TOML basic string escapes as JSON does, and DEL besides (TOML 1.0, "String")
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
    if key in _HEXADECIMAL:
        return f"0x{value:08X}"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return repr(value)
