"""Draw docs/figures/timeline.svg: when the blocks of three layers pass through the accelerator.

The times are those of `bacmac.host.compile.work.layer_blocks`, to which the RTL is equal:

    python docs/figures/draw_timeline.py        (needs the extra `report`)
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt

from bacmac.host.compile.work import DRAIN, HEAD_CYCLES, layer_blocks

HEAD = HEAD_CYCLES + 4  # a descriptor is four words of 16 bytes
LAYERS = (
    ("3x3 convolution, 16 to 16 channels, 128 of its pixels: the array never waits", (9,), 128, 1),
    ("1x1, 16 to 48 channels, with a residual: bound by the write-back", (1, 1, 1), 128, 2),
    ("dense, 256 to 32: bound by the loading of weights", (16, 16), 1, 1),
)
"""Title, entries of each block, pixels, cycles of a pixel in the write-back."""
ARRAY, WRITE, HEAD_COLOUR = ("#1f6f8b", "#63a7bd"), ("#c8553d", "#e39c8b"), "#d9d9d9"


def main() -> None:
    """Write the figure beside this file."""
    mpl.rcParams.update({"font.size": 9, "svg.hashsalt": "bacmac", "svg.fonttype": "none"})
    figure, axes = plt.subplots(len(LAYERS), 1, figsize=(8, 5.2), layout="constrained")
    for axis, (title, per_block, pixels, step) in zip(axes, LAYERS, strict=True):
        blocks = list(
            layer_blocks(
                per_block, pixels, 64, head=HEAD, load_cycles=8, step=step, residual=step == 2
            )
        )
        axis.broken_barh([(0, HEAD)], (0.55, 0.4), color=HEAD_COLOUR)
        if blocks[-1].write_end < 20 * HEAD:
            axis.text(HEAD / 2, 0.75, "HEAD", ha="center", va="center", fontsize=7)
        for number, block in enumerate(blocks):
            spans = (
                (block.issued, block.issue_end, 0.55, ARRAY),
                (block.written, block.write_end, 0.05, WRITE),
            )
            for start, end, low, colours in spans:
                axis.broken_barh([(start, end - start)], (low, 0.4), color=colours[number % 2])
                if end - start > 12:
                    axis.text((start + end) / 2, low + 0.2, str(number), ha="center",
                              va="center", color="white", fontsize=7)  # fmt: skip
        end = blocks[-1].write_end
        axis.broken_barh([(end, DRAIN)], (0.05, 0.4), color=HEAD_COLOUR)
        axis.set_title(f"{title} ({end + DRAIN} cycles)", loc="left", fontsize=9)
        axis.set_yticks([0.25, 0.75], ["write-back", "array"])
        axis.set_xlim(0, end + DRAIN)
        axis.set_ylim(0, 1)
        for side in ("top", "right", "left"):
            axis.spines[side].set_visible(False)
        axis.tick_params(axis="y", length=0)
    axes[-1].set_xlabel("cycles since the layer's start; numbers and shades tell the blocks apart")
    output = Path(__file__).with_name("timeline.svg")
    figure.savefig(output, metadata={"Date": None})


if __name__ == "__main__":
    main()
