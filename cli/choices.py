"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

from bacmac.host.compile.array_work import Array, array_of
from bacmac.host.compile.choose import choose_overlay
from bacmac.host.manifest.overlay import Overlay
from bacmac.host.model.quantized import QuantizedModel
from bacmac.host.runtime.session import MAX_BUFFERS
from bacmac.overlays.registry import list_overlays, load_overlay


class OutputPath(click.Path):
    """A path that a command writes; of `--device ssh://` the result is fetched to it."""


class OverlayWord(click.types.StringParamType):
    """The name of an overlay, or the path of its manifest."""

    @staticmethod
    def is_path(word: str) -> bool:
        """Whether the word is a path, as `load_overlay` tells them apart."""
        return "/" in word or word.endswith(".toml")


FILE = click.Path(path_type=Path)
"""A path that a command reads; of `--device ssh://` the file is sent."""
OUTPUT = OutputPath(path_type=Path)
OVERLAY = OverlayWord()

images_option = click.option(
    "--images", required=True, type=FILE, help="Image set (.npz with `images`, perhaps `labels`)."
)
limit_option = click.option(
    "--limit", type=click.IntRange(1), help="Use only the first so many images."
)
device_option = click.option(
    "--device",
    default="functional:",
    show_default=True,
    help="Device word; ssh://user@board[:port][/WORD] runs the command there.",
)
batch_option = click.option(
    "--batch", type=click.IntRange(1), help="Images a batch [default: what the buffers hold]."
)
buffers_option = click.option(
    "--buffers",
    type=click.IntRange(1, MAX_BUFFERS),
    default=2,
    show_default=True,
    help="Batches that are prepared or run at a time.",
)
retry_option = click.option(
    "--retry", is_flag=True, help="Run a batch that fails once more; the result says so."
)
accept_timing_option = click.option(
    "--accept-timing",
    is_flag=True,
    help="Use an overlay that is not known to meet timing; every result is marked.",
)
rails_option = click.option(
    "--rails",
    "rails_word",
    default="emulated:",
    show_default=True,
    help="Rails word: emulated:, emulated:1s-cache, emulated:coarse, hwmon:, hwmon:/path, "
    "hwmon:board=NAME[:/path].",
)
rail_option = click.option(
    "--rail", "names", multiple=True, help="Only this rail; may be given several times."
)
overlay_option = click.option(
    "--overlay",
    type=OVERLAY,
    help="Overlay name or manifest [default: the first that can run the model].",
)
folders_option = click.option(
    "--overlay-folder",
    "folders",
    multiple=True,
    type=FILE,
    help="Where else overlays are looked for; may be given several times.",
)

arrays_option = click.option(
    "--overlay",
    "overlays",
    multiple=True,
    help="Overlay whose array the work is counted for; may be given several times  [default: all; "
    "each network on the narrowest that executes it].",
)
layer_list_option = click.option(
    "--layer-list",
    "layers",
    type=FILE,
    metavar="JSON",
    help="Layer list of a file that holds weights alone.",
)


def resolve_arrays(names: tuple[str, ...], folders: tuple[Path, ...]) -> tuple[Array, ...]:
    """The arrays of the overlays that were named, or of all known ones."""
    if names:
        return tuple(array_of(load_overlay(name, folders)) for name in names)
    return tuple(array_of(overlay) for overlay in list_overlays(folders))


def resolve_overlay(
    model: QuantizedModel,
    name: str | None,
    folders: tuple[Path, ...],
    product: str | None = None,
) -> Overlay:
    """The overlay that was named, or the first of the known ones that can run the model."""
    if name is not None:
        return load_overlay(name, folders)
    return choose_overlay(model, list_overlays(folders), product=product)
