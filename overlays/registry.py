"""Find overlays by name or path and read their two texts into the frozen types.

An overlay is a manifest (`NAME.toml`) and the register map that it names. The shipped ones are
package data; a user keeps own ones in a folder: `NAME.toml` beside its `.bit` and `.hwh`, and a
register map of its own, where it has one, under `regmaps/`. A build of a shipped overlay keeps its
name and takes its place. The formats are in docs/overlays.md.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Literal, cast

from bacmac.host.arith.schemes import SCHEMES
from bacmac.host.errors import OverlayError
from bacmac.host.manifest.overlay import Buffers, Files, Geometry, Manifest, Overlay
from bacmac.host.manifest.registers import Access, Field, Register, RegisterMap
from bacmac.overlays.strict_toml import Table, read_text

RESOURCES = ("LUT", "FF", "DSP", "BRAM36", "URAM", "slack_ns")
"""What a manifest may say of a build; slack is the worst setup slack, so it may be negative."""

BUILD_MAY_SAY = ("description", "resources", "resources_source", "files")
"""In what a build's manifest may differ from the shipped one of its name, whose place it takes."""

_NAME = r"[a-z0-9]+([-_][a-z0-9]+)*"
_PART = r"xc[a-z0-9]+-[a-z0-9]+-[0-9][a-z]*-[a-z]+"


def list_overlays(folders: Sequence[Path] = ()) -> tuple[Overlay, ...]:
    """Every overlay that is shipped or lies in one of `folders`, by name.

    Raises:
        OverlayError: a manifest or register map is wrong, a folder cannot be read, or two
            manifests have one name.
    """
    return tuple(_load(path) for _, path in sorted(_manifests(folders).items()))


def load_overlay(name_or_path: str | Path, folders: Sequence[Path] = ()) -> Overlay:
    """The overlay of that name, or the one whose manifest is at that path.

    Args:
        name_or_path: "bac-pot4", or a path; a word with a `/` or ending in `.toml` is a path.
        folders: where else than in the package a name is looked for.

    Raises:
        OverlayError: no such overlay (the error lists those that exist), or its texts are wrong.

    >>> load_overlay("bac-pot4").manifest.scheme
    'pot-4'
    """
    return _load(find_manifest(name_or_path, folders))


def find_manifest(name_or_path: str | Path, folders: Sequence[Path] = ()) -> Path:
    """Where the manifest lies; its `.bit` and `.hwh` are looked for beside it.

    Raises:
        OverlayError: no such overlay.
    """
    word = str(name_or_path)
    if isinstance(name_or_path, Path) or "/" in word or word.endswith(".toml"):
        return Path(word)
    known = _manifests(folders)
    if word not in known:
        raise OverlayError(
            "overlay",
            "name",
            found=repr(word),
            expected=f"one of {', '.join(sorted(known))}",
            hint="or the path of a manifest, NAME.toml",
        )
    return known[word]


def parse_register_map(path: Path, text: str) -> RegisterMap:
    """The register map in a TOML text; `path` is only named in errors.

    Raises:
        OverlayError: see docs/overlays.md for what is demanded.
    """
    top = Table.parse(path, text)
    name = _name(top, path)
    version = top.integer("version", 1, 0xFFFF)
    size_bytes = top.integer("size_bytes", 0x1000, 0x100000)
    if size_bytes & (size_bytes - 1):
        top.problem("size_bytes", size_bytes, "a power of two, as an address decoder needs")
    registers: list[Register] = []
    for table in top.tables("register", required=True):
        register = _register(table, size_bytes)
        _note_repeated(table, "name", register.name, [r.name for r in registers])
        _note_repeated(table, "offset", register.offset, [r.offset for r in registers])
        registers.append(register)
    top.finish()
    return RegisterMap(name, version, size_bytes, tuple(registers))


def parse_manifest(path: Path, text: str) -> tuple[Manifest, str]:
    """The manifest in a TOML text, and the name of its register map.

    Raises:
        OverlayError: see docs/overlays.md for what is demanded.
    """
    top = Table.parse(path, text)
    name = _name(top, path)
    resources_source, resources = _resources(top.table("resources"))
    manifest = Manifest(
        name=name,
        description=top.line("description"),
        abi=top.integer("abi", 1, 0xFFFF),
        product=cast(Literal["bac", "mac"], top.text("product", "bac|mac", '"bac" or "mac"')),
        scheme=top.text("scheme", "|".join(SCHEMES), f"one of {', '.join(SCHEMES)}"),
        build_id=top.integer("build_id", 1, 0xFFFFFFFF),
        clock_hz=top.number("clock_hz", 1e6, 1e9),
        beat_bytes=top.integer("beat_bytes", 1, 128),
        max_transfer_bytes=top.integer("max_transfer_bytes", 255, (1 << 26) - 1),
        # the window of M_AXI_HPM0_FPD below 4 GiB (UG1085, system address map)
        accelerator_base=top.integer("accelerator_base", 0xA0000000, 0xAFFFF000, multiple_of=4096),
        dma_base=top.integer("dma_base", 0xA0000000, 0xAFFFF000, multiple_of=4096),
        board=top.line("board"),
        part=top.text("part", _PART, "a part as 'xczu7ev-ffvc1156-2-e'"),
        geometry=_geometry(top.table("geometry")),
        buffers=_buffers(top.table("buffers")),
        files=_files(top.table("files")),
        resources=resources,
        resources_source=resources_source,
    )
    register_map = top.text("register_map", _NAME, "the name of a register map")
    scheme = SCHEMES.get(manifest.scheme)
    if scheme is not None and manifest.product == "bac" and scheme.kind != "pot":
        top.problem("scheme", scheme.name, "a power-of-two scheme: a shifter executes no other")
    if manifest.beat_bytes & (manifest.beat_bytes - 1):
        top.problem("beat_bytes", manifest.beat_bytes, "a power of two (AXI4-Stream data width)")
    if (manifest.max_transfer_bytes + 1) & manifest.max_transfer_bytes:
        top.problem(
            "max_transfer_bytes", manifest.max_transfer_bytes, "2**n - 1, n bits of length register"
        )
    top.finish()
    return manifest, register_map


def _manifests(folders: Sequence[Path]) -> dict[str, Path]:
    """Path of each manifest by the name of its file; a build stands for the shipped one."""
    shipped = _named(_package_folder("manifests"))
    found = dict(shipped)
    for folder in folders:
        for name, path in _named(folder).items():
            earlier = found.setdefault(name, path)
            if earlier.resolve() == path.resolve():
                continue
            differing = _differing(earlier, path) if earlier == shipped.get(name) else ()
            if earlier != shipped.get(name) or differing:
                also = f", and differs in {', '.join(differing)}" if differing else ""
                raise OverlayError(
                    path,
                    "name",
                    found=f"{name!r}, which {earlier} has too{also}",
                    expected="one manifest for each name, or a build of the shipped one",
                )
            found[name] = path
    return found


def _named(folder: Path) -> dict[str, Path]:
    try:
        return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix == ".toml"}
    except OSError as error:
        raise OverlayError(
            folder, "folder", found=error.strerror or str(error), expected="a readable folder"
        ) from error


def _differing(shipped: Path, other: Path) -> tuple[str, ...]:
    """In what the other is no build of the shipped overlay: a build may say itself what it took."""
    one, two = _load(shipped), _load(other)
    names = [
        field.name for field in dataclasses.fields(Manifest) if field.name not in BUILD_MAY_SAY
    ]
    differing = [n for n in names if getattr(one.manifest, n) != getattr(two.manifest, n)]
    return (*differing, *(() if one.registers == two.registers else ("register map",)))


def _load(path: Path) -> Overlay:
    text = read_text(path)
    manifest, map_name = parse_manifest(path, text)
    map_path = path.parent / "regmaps" / f"{map_name}.toml"
    if not map_path.is_file():
        map_path = _package_folder("regmaps") / f"{map_name}.toml"
    if not map_path.is_file():
        raise OverlayError(
            path,
            "register_map",
            found=repr(map_name),
            expected=f"{path.parent / 'regmaps' / f'{map_name}.toml'} or a shipped map",
        )
    map_text = read_text(map_path)
    registers = parse_register_map(map_path, map_text)
    return Overlay(manifest, registers, _sha256(text, map_text), path.parent)


def _sha256(manifest_text: str, map_text: str) -> str:
    """Of both texts; the NUL between them, which TOML forbids, keeps the border in the hash."""
    return hashlib.sha256(f"{manifest_text}\0{map_text}".encode()).hexdigest()


def _package_folder(name: str) -> Path:
    return Path(str(files("bacmac.overlays") / name))


def _register(table: Table, size_bytes: int) -> Register:
    name = table.text("name", r"[A-Z][A-Z0-9_]*", "an upper-case name")
    offset = table.integer("offset", 0, size_bytes - 4, multiple_of=4)
    access = table.text(
        "access", "read-only|read-write|write-only", "read-only, read-write or write-only"
    )
    reset = table.integer("reset", 0, 0xFFFFFFFF)
    description = table.line("description")
    fields: list[Field] = []
    for inner in table.tables("fields", required=False):
        field = _field(inner)
        _note_repeated(inner, "name", field.name, [f.name for f in fields])
        overlapped = [f.name for f in fields if f.mask & field.mask]
        if overlapped:
            inner.problem("lsb", field.lsb, f"bits that {overlapped[0]} does not hold")
        fields.append(field)
    return Register(name, offset, cast(Access, access), reset, description, tuple(fields))


def _field(table: Table) -> Field:
    name = table.text("name", r"[A-Z][A-Z0-9_]*", "an upper-case name")
    lsb = table.integer("lsb", 0, 31)
    width = table.integer("width", 1, 32)
    if lsb + width > 32:
        table.problem("width", width, f"at most {32 - lsb}, a register has 32 bits")
    return Field(name, lsb, width, table.line("description"))


def _name(top: Table, path: Path) -> str:
    """The text's own name, which must be its file's: a copy under another name is a mistake."""
    expected = f"the file's name, {path.stem!r}"
    name = top.text("name", _NAME, expected)
    if name and name != path.stem:
        top.problem("name", name, expected)
    return name


def _note_repeated(table: Table, key: str, value: object, earlier: Sequence[object]) -> None:
    if value != "" and value in earlier:
        table.problem(key, value, f"a {key} that no other has")


def _geometry(table: Table) -> Geometry:
    geometry = Geometry(
        inputs=table.integer("inputs", 1, 1024),
        outputs=table.integer("outputs", 1, 1024),
        pixel_tile=table.integer("pixel_tile", 1, 65536),
        group_inputs=table.integer("group_inputs", 1, 1024),
        group_outputs=table.integer("group_outputs", 1, 1024),
    )
    for key, group, lanes in (
        ("group_inputs", geometry.group_inputs, geometry.inputs),
        ("group_outputs", geometry.group_outputs, geometry.outputs),
    ):
        if group % lanes:
            table.problem(key, group, f"a multiple of {lanes}: part of a step cannot be skipped")
    return geometry


def _buffers(table: Table) -> Buffers:
    return Buffers(
        activation_bytes=table.integer("activation_bytes", 1024, 1 << 30),
        weight_bytes=table.integer("weight_bytes", 1024, 1 << 30),
        constant_bytes=table.integer("constant_bytes", 1024, 1 << 30),
        program_bytes=table.integer("program_bytes", 1024, 1 << 30),
        max_descriptors=table.integer("max_descriptors", 1, 65536),
    )


def _files(table: Table) -> Files:
    # a bare name: files lie beside the manifest, never where a path in it points
    return Files(
        bitstream=table.text("bitstream", r"[A-Za-z0-9_][\w.-]*\.bit", "a bare name ending .bit"),
        hwh=table.text("hwh", r"[A-Za-z0-9_][\w.-]*\.hwh", "a bare name ending .hwh"),
    )


def _resources(table: Table) -> tuple[str, dict[str, float]]:
    source = table.text(
        "source", r"(estimate|measured): \S.*", "'estimate: ...' or 'measured: ...'"
    )
    resources: dict[str, float] = {}
    for name in RESOURCES:
        if name in table.names():
            resources[name] = table.number(name, -1e3 if name == "slack_ns" else 0, 1e7)
    return source, resources
