"""Commands with a device: as typed, or, for `--device ssh://...`, as the board is to run them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from bacmac.cli.choices import OutputPath, OverlayWord
from bacmac.host.errors import InputError, OutputError

DEFAULT_WORDS = {"device": "pynq:", "rails_word": "hwmon:"}
"""Options that may say ssh://, by the name of their parameter, and what they mean on a board."""

OVERLAY_SUFFIXES = (".toml", ".bit", ".hwh", ".rpt", ".sha256")
"""Files of an overlay's folder that go to the board with it."""

SCHEME = "ssh://"


@dataclass(frozen=True)
class Plan:
    """A command for a board.

    The board gives a job its own copy of the part of this machine's file system that the command
    names: a file's place there is its absolute path here, below a folder of the job.

    Attributes:
        address: ssh://user@board[:port]/WORD, the word always said.
        words: the command line after `bacmac`; paths relative to `cwd`.
        cwd: this process's folder; the job's is the same place in its copy.
        inputs: files to send, and their place.
        folders: folders that exist here and must there: those that outputs are written to.
        outputs: what the command may write: a file, `OUTPUT.something`, or a folder's content.
    """

    address: str
    words: tuple[str, ...]
    cwd: str
    inputs: tuple[tuple[Path, str], ...]
    folders: tuple[str, ...]
    outputs: tuple[str, ...]


class DeviceCommand(click.Command):
    """A command whose device, or rails, may be a board's at the other end of `ssh`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep the words as they were typed, before click converts them."""
        ctx.meta[__name__] = tuple(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run here, or there."""
        addresses = [str(ctx.params.get(name)) for name in DEFAULT_WORDS]
        if not any(address.startswith(SCHEME) for address in addresses):
            return super().invoke(ctx)
        from bacmac.cli.remote_run import run_remotely  # only who has a board needs it

        raise SystemExit(run_remotely(make_plan(ctx, ctx.meta[__name__])))


def make_plan(context: click.Context, typed: Sequence[str]) -> Plan:
    """Say what the board must do for the words that were typed here.

    Raises:
        InputError: an input is not here, or two boards are named.
        OutputError: an output could not be written here afterwards.
    """
    values, _, order = context.command.make_parser(context).parse_args(list(typed))
    options: list[str] = []
    positional: list[str] = []
    inputs: dict[str, Path] = {}
    addresses: list[str] = []
    for parameter in dict.fromkeys(order):
        given = values[parameter.name]
        words = [given] if isinstance(given, str) else given
        if not isinstance(words, list | tuple):
            if isinstance(parameter, click.Option):  # a flag: of --yes/--no, the one that was meant
                options.append(parameter.opts[-1] if given else parameter.secondary_opts[-1])
            continue
        for word in words:
            if parameter.name in DEFAULT_WORDS and word.startswith(SCHEME):
                board, _, rest = word[len(SCHEME) :].partition("/")
                word = rest or DEFAULT_WORDS[parameter.name]
                addresses.append(f"{SCHEME}{board}/{word}")
            elif isinstance(parameter.type, OverlayWord) and OverlayWord.is_path(word):
                inputs |= _overlay_files(Path(word).parent)
                word = os.path.relpath(word)
            elif isinstance(parameter.type, OutputPath):
                word = os.path.relpath(word)
            elif isinstance(parameter.type, click.Path):
                inputs |= _input_files(Path(word), parameter)
                word = os.path.relpath(word)
            if isinstance(parameter, click.Option):
                options += [parameter.opts[-1], word]
            else:
                positional.append(word)
    boards = {address.split("/")[2] for address in addresses}
    if len(boards) != 1:
        raise InputError(
            "--device, --rails", "board", found=" and ".join(sorted(boards)), expected="one board"
        )
    outputs = tuple(_outputs(context))
    return Plan(
        address=addresses[0],
        words=(*_command_words(context), *options, *(["--", *positional] if positional else [])),
        cwd=str(Path.cwd()),
        inputs=tuple((path, place) for place, path in inputs.items()),
        folders=tuple(dict.fromkeys(str(Path(output).parent) for output in outputs)),
        outputs=outputs,
    )


def _place(path: str | Path) -> str:
    """The absolute path, by its words alone: a link stays the link that was named."""
    return os.path.normpath(Path.cwd() / path)


def _command_words(context: click.Context) -> list[str]:
    """The names of the command, "power record", without that of the program."""
    names: list[str] = []
    while context.parent is not None:
        names.insert(0, str(context.info_name))
        context = context.parent
    return names


def _input_files(path: Path, parameter: click.Parameter) -> dict[str, Path]:
    """The files that an input stands for, by their place."""
    if path.is_dir():
        return _overlay_files(path)
    if not path.is_file():
        raise InputError(
            path,
            parameter.opts[-1],
            found="no such file on this machine",
            expected="a file to send to the board",
        )
    files = (path, *_weights_of(path))
    return {_place(file): file for file in files}


def _weights_of(path: Path) -> tuple[Path, ...]:
    """The file beside a layer list that it names (docs/models.md); other files have none."""
    if path.suffix.lower() != ".json":
        return ()
    try:
        name = json.loads(path.read_bytes())["weights"]
        weights = path.parent / Path(name).name
    except (ValueError, LookupError, TypeError):
        return ()  # the command itself has the right words for it
    return (weights,) if weights.is_file() else ()


def _overlay_files(folder: Path) -> dict[str, Path]:
    """Manifests, register maps and built files in a folder of overlays; nothing else of it."""
    found = [
        path
        for part, suffixes in ((folder, OVERLAY_SUFFIXES), (folder / "regmaps", (".toml",)))
        if part.is_dir()
        for path in sorted(part.iterdir())
        if path.suffix in suffixes and path.is_file()
    ]
    return {_place(path): path for path in found}


def _outputs(context: click.Context) -> Iterable[str]:
    """Absolute paths that the command may write here; checked now, not after the work is done."""
    for parameter in context.command.params:
        value = context.params.get(str(parameter.name))
        if not isinstance(parameter.type, OutputPath) or value is None:
            continue
        path = Path(_place(value))
        if not path.parent.is_dir():
            raise OutputError(path, "there is no such folder")
        if not os.access(path.parent, os.W_OK):
            raise OutputError(path, "its folder is read-only")
        yield str(path)
