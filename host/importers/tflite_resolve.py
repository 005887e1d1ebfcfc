"""From a TFLite file to its steps: which operators are needed, in which order, and where it ends.

Shapes are followed from the input on; what a file declares of computed tensors is not trusted
(a converter that keeps the batch open declares placeholders).
"""

from __future__ import annotations

import numpy as np

from bacmac.host.errors import ModelFileError
from bacmac.host.importers.lowering import RefusedError
from bacmac.host.importers.tflite_file import OPTIONS, TfliteGraph, TfliteOperator
from bacmac.host.importers.tflite_ops import INPUTS, READERS
from bacmac.host.importers.tflite_reading import Progress, Reading
from bacmac.host.importers.tflite_shapes import folded, input_axes
from bacmac.host.importers.tflite_steps import Convolve, Network

_SOFTMAX = ("SOFTMAX", "LOG_SOFTMAX")
_AFTER_SOFTMAX = ("DEQUANTIZE", "QUANTIZE", "RESHAPE", "SQUEEZE")
_FOLDED = ("SHAPE", "PACK", "CAST")


def resolve(graph: TfliteGraph) -> Network:
    """The steps of a file's network; a Softmax at its end is left out and noted.

    Raises:
        ModelFileError: naming the operator or tensor that cannot be read.
    """
    progress = Progress(graph)
    notes: list[str] = []
    output = graph.output
    try:
        operators = _needed(graph)
        softmax = next((each for each in operators if each.code in _SOFTMAX), None)
        if softmax is not None:
            operators = _before(operators, Reading(progress, softmax))
            output = softmax.inputs[0]
            notes.append(f"{softmax.code} at the end left out: the values before it are given")
        axes = input_axes(graph, operators)
        progress.put(graph.input, axes)
    except RefusedError as error:
        raise _told(graph, "graph", error) from error
    for operator in operators:
        reading = Reading(progress, operator)
        try:
            _read(reading)
        except RefusedError as error:
            raise _told(graph, reading.label, error) from error
    if not progress.steps or output not in progress.axes:
        raise _told(graph, "output", RefusedError("nothing computed of the image", "a network"))
    if any(
        isinstance(step, Convolve) and step.levels.dtype == np.int16 and not step.multiplier.size
        for step in progress.steps
    ):
        notes.append("the file has integers for weights only: these are kept")
    return Network(
        graph.file.stem,
        graph.input,
        axes.sides,
        output,
        tuple(progress.steps),
        progress.quantization,
        tuple(notes),
    )


def _needed(graph: TfliteGraph) -> list[TfliteOperator]:
    """The operators that the output depends on, in the file's order."""
    writers: dict[int, TfliteOperator] = {}
    for operator in graph.operators:
        (output,) = operator.outputs
        tensor = graph.tensor(output)
        if output in writers or output == graph.input or tensor.data is not None:
            raise RefusedError(f"{tensor.label} written twice", "once")
        writers[output] = operator
    found: set[int] = set()
    pending = [graph.output]
    while pending:
        writer = writers.get(pending.pop())
        if writer is not None and writer.index not in found:
            found.add(writer.index)
            pending.extend(writer.inputs)
    return [each for each in graph.operators if each.index in found]


def _before(operators: list[TfliteOperator], softmax: Reading) -> list[TfliteOperator]:
    """The operators without a Softmax that ends the network, and what only stores its output."""
    behind = {softmax.y}
    kept = []
    for operator in operators:
        if operator is softmax.operator:
            continue
        if not behind.intersection(operator.inputs):
            kept.append(operator)
            continue
        if operator.code not in _AFTER_SOFTMAX:
            raise RefusedError(f"{softmax.label} inside the network", "a Softmax at its end only")
        behind.add(operator.outputs[0])
    if not kept or not softmax.operator.inputs:
        raise RefusedError("a network of a Softmax alone", "a network")
    return kept


def _read(reading: Reading) -> None:
    """Make the step of one operator."""
    operator, progress = reading.operator, reading.progress
    of_shape = bool(operator.inputs) and operator.inputs[0] in progress.folded
    if operator.code in _FOLDED or of_shape:
        value = folded(progress.graph, operator, progress.axes, progress.folded)
        progress.folded[reading.y] = value
        return
    source = operator.inputs[0] if operator.code == "DEQUANTIZE" and operator.inputs else -1
    if source >= 0 and reading.tensor(source).data is not None:  # weights that floats go with
        progress.dequantized[reading.y] = source
        return
    if operator.code not in READERS:
        hint = "read are " + ", ".join(sorted(READERS))
        raise RefusedError(f"operator {operator.code}", "a supported one", hint)
    wanted = OPTIONS.get(operator.code, 0)
    if operator.options is not None and wanted and operator.options_type != wanted:
        raise RefusedError(f"options of kind {operator.options_type}", f"kind {wanted}")
    least = INPUTS.get(operator.code, 1)
    if len(operator.inputs) < least:
        raise RefusedError(f"{len(operator.inputs)} inputs", f"{least} or more")
    READERS[operator.code](reading)


def _told(graph: TfliteGraph, field: str, error: RefusedError) -> ModelFileError:
    return ModelFileError(
        graph.file, field, found=error.found, expected=error.expected, hint=error.hint
    )
