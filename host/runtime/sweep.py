"""A sweep: which points there are, and each made once, whatever interrupts it.

A finished point is a small file named by its key, written whole or not at all, in one folder. So
an interrupted sweep that is called again makes what is missing, a longer one reuses what is there,
and points made elsewhere can be copied in. Each process makes one point and ends: memory is that
of as many points as run at a time.
"""

from __future__ import annotations

import json
import multiprocessing
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from itertools import product
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import UnionType
from typing import get_args, get_origin, get_type_hints

from bacmac.host.arith.schemes import SCHEMES
from bacmac.host.errors import BacmacError, InputError, OutputError
from bacmac.host.files import remove_parts, write_text
from bacmac.host.pack.compress import CompressOptions
from bacmac.host.runtime.score import Progress
from bacmac.host.runtime.sweep_point import Option, PointSpec, SweepPoint, run_point

SCHEMA = "bacmac.sweep-point"
SCHEMA_VERSION = 1
MAX_POINTS = 10_000
MAX_POINT_BYTES = 16 << 20
"""Of one stored point; a million test images take a quarter of a megabyte."""

Done = Callable[[SweepPoint, int, int], None]
"""Called with a point, how many are there now, and of how many."""


def grid(axes: Mapping[str, Sequence[Option]]) -> tuple[dict[str, Option], ...]:
    """Every combination of options, each once, in the order of the axes.

    What makes no difference is left out: how to prune, where nothing is; a share, where a
    structure N:M is one already; and where a budget chooses the schemes all but the first of a
    kind.

    Args:
        axes: values by field of `CompressOptions`.

    Raises:
        InputError: there are too many.
    """
    n_points = 1
    for values in axes.values():
        n_points *= len(values)
    if n_points > MAX_POINTS:
        raise InputError(
            "sweep", "points", found=f"{n_points:,}", expected=f"{MAX_POINTS:,} at most"
        )
    found: list[dict[str, Option]] = []
    for values in product(*axes.values()):
        options = dict(zip(axes, values, strict=True))
        idle: tuple[str, ...] = ()
        if ":" in str(options.get("structure")):
            idle = ("sparsity",)
        elif not options.get("sparsity") and not options.get("group_sparsity"):
            idle = ("pruning", "scope", "structure")
        options = {name: value for name, value in options.items() if name not in idle}
        if options.get("budget") and "scheme" in options:
            kind = _kind(options["scheme"])
            options["scheme"] = next(s for s in axes["scheme"] if _kind(s) == kind)
        if options not in found:
            found.append(options)
    return tuple(found)


def _kind(scheme: Option) -> Option:
    return SCHEMES[scheme].kind if isinstance(scheme, str) and scheme in SCHEMES else scheme


def parse_option(name: str, text: str) -> Option:
    """A value of a field of `CompressOptions` from its text.

    Args:
        name: of the field; `-` is read as `_`.
        text: a word, a number, on or off, or none where the field may be None.

    Raises:
        InputError: there is no such field, it holds more than one value, or the text is none.
    """
    kinds = option_kinds()
    field = name.replace("-", "_")
    if field not in kinds:
        raise InputError(
            "options", name, found="no such option", expected=f"one of {', '.join(kinds)}"
        )
    known: dict[str, Option] = {"on": True, "off": False} if bool in kinds[field] else {}
    if type(None) in kinds[field]:
        known["none"] = None
    if text in known:
        return known[text]
    for kind in (int, float, str):
        if kind in kinds[field]:
            try:
                return kind(text)
            except ValueError as error:
                what = "a whole number" if kind is int else "a number"
                raise InputError("options", name, found=repr(text), expected=what) from error
    raise InputError("options", name, found=repr(text), expected=" or ".join(known))


def option_kinds() -> dict[str, tuple[type, ...]]:
    """Of each field of `CompressOptions` that holds one plain value, of which types it may be."""
    hints = get_type_hints(CompressOptions)
    plain = {str, int, float, bool, type(None)}
    kinds = {}
    for field in fields(CompressOptions):
        hint = hints[field.name]
        kinds[field.name] = get_args(hint) if get_origin(hint) is UnionType else (hint,)
    kinds["budget"] = (str, type(None))  # its text; `compress_options` reads it
    return {name: found for name, found in kinds.items() if plain.issuperset(found)}


class PointStore:
    """The points of one folder.

    Args:
        folder: made where it is missing.
        keep: leave the packed models there too, below `packed/`.

    Raises:
        OutputError: the folder cannot be made.
    """

    def __init__(self, folder: Path, *, keep: bool = False) -> None:
        self._points, self._packed = folder / "points", folder / "packed" if keep else None
        for path in filter(None, (self._points, self._packed)):
            try:
                path.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise OutputError(path, error.strerror or str(error)) from error

    def packed_path(self, spec: PointSpec) -> Path | None:
        """Where a specification's packed model is left, if it is."""
        if self._packed is None or spec.options is None:
            return None
        return self._packed / f"{spec.key[:16]}.safetensors"

    def read(self, spec: PointSpec) -> SweepPoint | None:
        """The point if it is there; None where it is missing, damaged, or of another schema."""
        path, packed = self._path(spec), self.packed_path(spec)
        try:
            if path.stat().st_size > MAX_POINT_BYTES:
                return None
            document = json.loads(path.read_text(encoding="utf-8"))
            if (document["schema"], document["schema_version"]) != (SCHEMA, SCHEMA_VERSION):
                return None
            point = SweepPoint.from_json(document["point"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        if point.key != spec.key:
            return None
        if packed is not None and not point.refused and not packed.is_file():
            return None
        return point

    def write(self, spec: PointSpec, point: SweepPoint) -> None:
        """Store a point with its specification.

        Raises:
            OutputError: it cannot be written.
        """
        document = {
            "schema": SCHEMA,
            "schema_version": SCHEMA_VERSION,
            "spec": spec.to_json(),
            "point": point.to_json(),
        }
        write_text(self._path(spec), json.dumps(document, indent=1, allow_nan=False) + "\n")

    def clear(self, spec: PointSpec) -> None:
        """Remove what a process that was ended in the middle of writing a point has left."""
        for path in filter(None, (self._path(spec), self.packed_path(spec))):
            remove_parts(path)

    def _path(self, spec: PointSpec) -> Path:
        return self._points / f"{spec.key[:32]}.json"


def run_sweep(
    specs: Sequence[PointSpec],
    store: PointStore,
    *,
    jobs: int = 1,
    done: Done | None = None,
    progress: Progress | None = None,
) -> tuple[SweepPoint, ...]:
    """Make the points that the store does not have, and return all in order.

    Whatever ends it, Ctrl-C included, leaves every finished point in the store.

    Args:
        specs: what to make.
        store: where points are kept.
        jobs: how many processes at a time; 1 works in this one.
        done: called for every point, those that were there first.
        progress: called with a stage of a point, where one process works.

    Raises:
        InputError: a file cannot be read or has changed; a process was ended from outside.
        OutputError: the store cannot be written.
    """
    found = {spec.key: point for spec in specs if (point := store.read(spec)) is not None}
    n_points = len({spec.key for spec in specs})
    for count, point in enumerate(found.values(), 1):
        if done is not None:
            done(point, count, n_points)
    missing = list({spec.key: spec for spec in specs if spec.key not in found}.values())

    def finish(spec: PointSpec) -> None:
        point = store.read(spec)
        if point is None:
            raise OutputError(store.packed_path(spec) or spec.key, "it was there and is gone")
        found[spec.key] = point
        if done is not None:
            done(point, len(found), n_points)

    if jobs == 1 or len(missing) < 2:
        for spec in missing:
            store.write(spec, run_point(spec, keep=store.packed_path(spec), progress=progress))
            finish(spec)
    else:
        _run_processes(missing, store, jobs, finish)
    return tuple(found[spec.key] for spec in specs)


@dataclass(frozen=True)
class _Running:
    """A process that makes a point, and where it says what was wrong."""

    spec: PointSpec
    process: BaseProcess
    said: Connection


def _run_processes(
    specs: Sequence[PointSpec],
    store: PointStore,
    jobs: int,
    finish: Callable[[PointSpec], None],
) -> None:
    """Each point in a process of its own, `jobs` at a time; none outlives this call."""
    waiting = list(reversed(specs))
    running: list[_Running] = []
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                running.append(_start(waiting.pop(), store))
            wait([one.process.sentinel for one in running])
            for one in [one for one in running if not one.process.is_alive()]:
                _check_end(one)
                running.remove(one)
                finish(one.spec)
    finally:
        for one in running:
            one.process.terminate()
        for one in running:
            one.process.join()
            store.clear(one.spec)


def _start(spec: PointSpec, store: PointStore) -> _Running:
    context = multiprocessing.get_context("spawn")
    said, say = context.Pipe(duplex=False)
    process = context.Process(target=_make, args=(spec, store, say))
    with _interrupts_held():
        process.start()
    say.close()
    return _Running(spec, process, said)


def _make(spec: PointSpec, store: PointStore, say: Connection) -> None:
    """What a process does: its point, written by itself."""
    # asked to end, it leaves no temporary files behind
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        store.write(spec, run_point(spec, keep=store.packed_path(spec)))
    except BacmacError as error:
        say.send(str(error))


def _check_end(one: _Running) -> None:
    one.process.join()
    try:
        message = str(one.said.recv())
    except EOFError:  # it ended without a word
        message = ""
    if message:
        raise BacmacError(message)
    code = one.process.exitcode
    if code is not None and code < 0:
        raise InputError(
            "sweep",
            f"point {one.spec.options}",
            found=f"its process was ended by signal {-code}",
            expected="to make the point",
            hint="where memory is short, fewer --jobs need less; finished points are kept",
        )
    if code:
        raise RuntimeError(f"the process of point {one.spec.options} ended with status {code}")


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """What is started here never sees Ctrl-C, which a terminal sends to every process."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
