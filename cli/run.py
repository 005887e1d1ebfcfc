"""`bacmac run`: stream images through a device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np

from bacmac.cli.choices import (
    FILE,
    OUTPUT,
    accept_timing_option,
    batch_option,
    buffers_option,
    device_option,
    folders_option,
    images_option,
    limit_option,
    overlay_option,
    resolve_overlay,
    retry_option,
)
from bacmac.cli.normalization import normalization_options, resolve_normalization
from bacmac.cli.output import json_option, note, print_json, print_table, progress
from bacmac.cli.remote_command import DeviceCommand
from bacmac.host.device.batch import LayerCounters
from bacmac.host.device.registry import open_board
from bacmac.host.device.rtl.accelerator import Trace
from bacmac.host.errors import InputError
from bacmac.host.files import replace_atomically
from bacmac.host.importers.images import ImageSet, load_images
from bacmac.host.importers.registry import load_model
from bacmac.host.model.layers import Model
from bacmac.host.pack.file import read_packed
from bacmac.host.runtime.evaluate import Evaluation, evaluate, evaluate_float
from bacmac.host.runtime.golden import VERIFY, Verify
from bacmac.host.runtime.inputs import load_images_for
from bacmac.host.runtime.session import Session
from bacmac.host.runtime.throughput import PERCENTILE_METHOD, StreamSummary
from bacmac.overlays.marks import accepted_marks


def parse_window(context: click.Context, option: click.Parameter, text: str) -> tuple[int, int]:
    """Two whole numbers that ascend, as "0:5000"."""
    first, _, last = text.partition(":")
    if not (first.isdecimal() and last.isdecimal() and int(first) < int(last)):
        raise click.BadParameter(f"{text!r} is not FIRST:LAST, two cycles that ascend")
    return int(first), int(last)


def _fst(file: Path) -> Path:
    if file.suffix != ".fst":
        raise InputError("--trace", "file", found=str(file), expected="a name that ends in .fst")
    return file


@click.command(cls=DeviceCommand)
@click.argument("model", type=FILE)
@images_option
@limit_option
@overlay_option
@folders_option
@device_option
@batch_option
@buffers_option
@retry_option
@click.option(
    "--verify",
    type=click.Choice(VERIFY),
    default="sample",
    show_default=True,
    help="Images of each batch that are compared with the exact engine.",
)
@accept_timing_option
@normalization_options
@click.option(
    "--layer-list",
    type=FILE,
    metavar="JSON",
    help="Layer list of a MODEL that holds float weights alone.",
)
@click.option("--layers", is_flag=True, help="Also show what each layer did.")
@click.option("--trace", type=OUTPUT, help="Also record waveforms of `rtl:` (.fst).")
@click.option(
    "--trace-window",
    callback=parse_window,
    default="0:100000",
    show_default=True,
    metavar="FIRST:LAST",
    help="Cycles to record, counted from the first START; the last is not in it.",
)
@click.option("-o", "--output", type=OUTPUT, help="Also write classes and output values (.npz).")
@json_option
def run(
    model: Path,
    images: Path,
    limit: int | None,
    overlay: str | None,
    folders: tuple[Path, ...],
    device: str,
    batch: int | None,
    buffers: int,
    retry: bool,
    verify: Verify,
    accept_timing: bool,
    pixel_max: float | None,
    mean: str | None,
    std: str | None,
    layer_list: Path | None,
    layers: bool,
    trace: Path | None,
    trace_window: tuple[int, int],
    output: Path | None,
    as_json: bool,
) -> None:
    """Stream images through a device with the packed MODEL loaded.

    Of a MODEL that is not packed (any that `bacmac pack` reads) it tells the accuracy to
    measure a packed one by, computed on this machine; only then do --pixel-max, --mean and --std
    apply.
    """
    if layer_list is not None or model.suffix in (".onnx", ".tflite", ".json"):
        if trace is not None:
            raise InputError("--trace", "model", found=str(model), expected="a packed model")
        result, where = (
            _run_float(load_model(model, layer_list), images, limit, pixel_max, mean, std),
            None,
        )
    else:
        if (pixel_max, mean, std) != (None, None, None):
            raise InputError(
                "--pixel-max, --mean, --std",
                "model",
                found=f"the packed model {model}",
                expected="a float model",
                hint="the packed file remembers what it was packed with",
            )
        recorded = None if trace is None else Trace(_fst(trace), *trace_window)
        packed = read_packed(model).model
        image_set = load_images_for(packed, images, limit)
        chosen = resolve_overlay(packed, overlay, folders)
        marks = accepted_marks(chosen, accept_timing=accept_timing)
        board = open_board(device, tell=note, trace=recorded)
        try:
            session = Session(
                board,
                chosen,
                packed,
                batch_size=batch,
                buffers=buffers,
                retry=retry,
                verify=verify,
            )
            result, where = _run_packed(session, image_set, marks)
        finally:
            board.close()
    if output is not None:
        with replace_atomically(output) as temporary, temporary.open("wb") as handle:
            np.savez_compressed(handle, classes=result.classes, values=result.values)
    if as_json:
        print_json(_payload(result, where))
        return
    print_table(["quantity", "value"], _rows(result, where), prose=(1,))
    if layers and where is not None:
        _print_layers(where.layers)
    if output is not None:
        note(f"{output}: {result.n_images} rows of classes and values")
    if trace is not None:
        note(f"{trace}: waveforms of cycles {trace_window[0]} to {trace_window[1] - 1}")


@dataclass(frozen=True)
class _Where:
    """What a packed model ran on."""

    device: str
    overlay: str
    clock_hz: float
    marks: tuple[str, ...]
    layers: tuple[LayerCounters, ...]


def _run_float(
    model: Model,
    images: Path,
    limit: int | None,
    pixel_max: float | None,
    mean: str | None,
    std: str | None,
) -> Evaluation:
    image_set = load_images(images, shape=model.input_shape).first(limit)
    normalization = resolve_normalization(image_set, pixel_max, mean, std)
    with progress() as advance:
        return evaluate_float(model, image_set, normalization, advance)


def _run_packed(
    session: Session, image_set: ImageSet, marks: tuple[str, ...]
) -> tuple[Evaluation, _Where]:
    manifest = session.overlay.manifest
    with session, progress() as advance:
        result = evaluate(session, image_set, advance)
        layers = session.layer_counters()
    word = session.board.word
    return result, _Where(word, manifest.name, manifest.clock_hz, marks, layers)


def _payload(result: Evaluation, where: _Where | None) -> dict[str, object]:
    payload: dict[str, object] = {
        "provenance": result.provenance,
        "images": result.n_images,
        "correct": result.n_correct,
        "accuracy": result.accuracy,
        "accuracy_standard_error": result.accuracy_standard_error,
    }
    if where is None or result.work is None:
        return payload
    return {
        **payload,
        **asdict(where),
        "counters": asdict(result.work.counters),
        "busy_s": result.work.busy_s,
        "stream": {
            **asdict(result.work.stream),
            "percentile_method": PERCENTILE_METHOD,
            "clock": "real" if result.provenance == "board" else "virtual",
        },
    }


def _rows(result: Evaluation, where: _Where | None) -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = [("images", f"{result.n_images:,}")]
    if result.accuracy is not None and result.accuracy_standard_error is not None:
        rows.append(
            (
                "accuracy",
                (
                    f"{100 * result.accuracy:.2f} % +- {100 * result.accuracy_standard_error:.2f} "
                    f"(standard error; {result.n_correct} right)"
                ),
            )
        )
    if where is None or result.work is None:
        return [("device", "none: the float network, computed on this machine"), *rows]
    counters, busy_s = result.work.counters, result.work.busy_s
    executed = counters.products_done + counters.products_isolated
    slots = executed + counters.products_skipped
    busy = counters.busy_cycles / counters.cycles
    return [
        ("device", f"{where.device} ({_PROVENANCE[result.provenance]})"),
        ("overlay", where.overlay),
        *rows,
        ("cycles", f"{counters.cycles:,} ({counters.cycles / result.n_images:,.0f} an image)"),
        ("busy cycles", f"{counters.busy_cycles:,} ({busy:.1%})"),
        ("products done", f"{counters.products_done:,}"),
        ("slots held still", _share(counters.products_isolated, executed, "zero weights, edges")),
        ("slots skipped", _share(counters.products_skipped, slots, "empty groups: no cycle")),
        (
            "device time",
            (
                f"{busy_s:.4g} s at {where.clock_hz / 1e6:g} MHz, "
                f"{result.n_images / busy_s:,.0f} images/s"
            ),
        ),
        *_stream_rows(result.work.stream, result.provenance == "board"),
        *(("MARK", mark) for mark in where.marks),
    ]


def _stream_rows(stream: StreamSummary, is_real: bool) -> list[tuple[str, object]]:
    """How the batches went; time on an emulated board is that of its virtual clock."""
    latencies = (
        f"p50 {stream.latency_p50_s * 1e3:.4g} ms",
        f"p90 {stream.latency_p90_s * 1e3:.4g}",
        f"p99 {stream.latency_p99_s * 1e3:.4g}",
        f"max {stream.latency_max_s * 1e3:.4g}",
    )
    rows: list[tuple[str, object]] = [
        (
            "stream",
            (
                f"{stream.batches:,} batches in {stream.wall_s:.4g} s"
                f"{'' if is_real else ' (virtual)'}, {stream.images_per_s:,.0f} images/s"
            ),
        ),
        ("latency of a batch", ", ".join(latencies)),
        (
            "accelerator",
            (
                f"busy {stream.busy_share:.1%} of the stream, waiting for input "
                f"{stream.stall_in_share:.1%}, for output {stream.stall_out_share:.1%}"
            ),
        ),
        ("bytes moved", f"{stream.bytes_in:,} in, {stream.bytes_out:,} out"),
        ("equal to the exact engine", f"{stream.n_verified:,} images of {stream.images:,} checked"),
    ]
    rows += [("a batch was run twice", cause) for cause in stream.retries]
    return rows


def _share(count: int, of: int, what: str) -> str:
    return f"{count:,} ({count / of if of else 0:.1%}, {what})"


def _print_layers(layers: Sequence[LayerCounters]) -> None:
    print_table(
        ["layer", "cycles", "busy", "products", "held still", "skipped", "utilisation"],
        [
            (
                layer.name,
                f"{layer.cycles // layer.images:,}",
                f"{layer.busy_cycles / layer.cycles:.1%}",
                f"{layer.products_done // layer.images:,}",
                f"{layer.products_isolated // layer.images:,}",
                f"{layer.products_skipped // layer.images:,}",
                f"{layer.utilisation:.1%}",
            )
            for layer in layers
        ],
        numbers=(1, 2, 3, 4, 5, 6),
        title="one image, by the device's counters; utilisation: products of all that the array "
        "could do in these cycles",
    )


_PROVENANCE = {
    "board": "measured on a board",
    "rtl": "simulated RTL",
    "functional": "emulated: time is cycles over clock, not this machine's",
}
