"""From the float example to integers: accuracy, tables, provenance."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bacmac.host.arith.engine import Engine
from bacmac.host.arith.network import ConvOp
from bacmac.host.arith.reference import run_reference
from bacmac.host.errors import InputError, MismatchError
from bacmac.host.importers.images import ImageSet, load_images
from bacmac.host.importers.registry import load_model
from bacmac.host.model.forward import forward
from bacmac.host.model.inputs import input_codes, normalized
from bacmac.host.model.layers import INPUT, Conv, Model, Normalization
from bacmac.host.model.quantized import QuantizedModel
from bacmac.host.pack.compress import CompressOptions, compress
from bacmac.host.pack.summary import summarize


@pytest.fixture(scope="module")
def digits(example_dir: Path) -> tuple[Model, ImageSet, ImageSet]:
    return (
        load_model(example_dir / "digits_cnn.json"),
        load_images(example_dir / "digits_calibration.npz"),
        load_images(example_dir / "digits_test.npz"),
    )


def accuracy(quantized: QuantizedModel, test: ImageSet) -> float:
    codes = input_codes(test.images, quantized.normalization, quantized.input_format)
    logits = Engine(quantized.network).run(codes) * quantized.logit_scale[:, None, None]
    return float(np.mean(logits.reshape(len(codes), -1).argmax(1) == test.labels))


@pytest.mark.parametrize(
    "options",
    [
        CompressOptions("uniform-8", rounding="nearest"),
        CompressOptions("uniform-8"),
        CompressOptions("pot-4"),
        CompressOptions("pot-4", first_last="uniform-8"),
        CompressOptions("pot-4", rounding="nearest", bias_correction=True),
    ],
    ids=str,
)
def test_the_digits_network_stays_within_a_point_of_float(
    digits: tuple[Model, ImageSet, ImageSet], options: CompressOptions
) -> None:
    model, calibration, test = digits
    logits = forward(model, normalized(test.images, test.normalization or Normalization()))
    float_accuracy = float(np.mean(logits.reshape(len(logits), -1).argmax(1) == test.labels))

    quantized = compress(model, calibration, options)

    assert accuracy(quantized, test) >= float_accuracy - 0.01


def test_a_pruned_network_with_zeros_keeps_its_accuracy(
    real_data: Path | None, digits: tuple[Model, ImageSet, ImageSet]
) -> None:
    """LeNet-5 on 500 MNIST images where the data are, else the example."""
    model, calibration, test = digits
    if real_data is not None:
        model = load_model(real_data / "lenet5_mnist_float.onnx")
        calibration = load_images(real_data / "mnist_train_first10000.npz")
        test = load_images(real_data / "mnist_test_10000.npz")
    test = replace(test, images=test.images[:500], labels=test.labels[:500])
    options = CompressOptions(sparsity=0.3, calibration_images=128, bias_correction=True)
    logits = forward(model, normalized(test.images, test.normalization or Normalization()))
    float_accuracy = float(np.mean(logits.reshape(len(logits), -1).argmax(1) == test.labels))

    quantized = compress(model, calibration, options)

    assert accuracy(quantized, test) >= float_accuracy - 0.01


@pytest.mark.parametrize("pruning", ["magnitude", "pot-aware"])
def test_half_the_weights_between_the_ends_cost_the_digits_network_little(
    digits: tuple[Model, ImageSet, ImageSet], pruning: str
) -> None:
    model, calibration, test = digits
    options = CompressOptions(sparsity=0.5, pruning=pruning, first_last="uniform-8")

    quantized = compress(model, calibration, options)

    assert accuracy(quantized, test) >= 0.96
    for layer in quantized.layers[1:-1]:
        if layer.has_weights:
            assert layer.sparsity >= 0.5 - 1 / layer.op.levels.size


def test_half_the_weights_of_every_layer_cost_the_digits_network_little(
    digits: tuple[Model, ImageSet, ImageSet],
) -> None:
    model, calibration, test = digits
    options = CompressOptions(sparsity=0.5)

    found, magnitude = (
        compress(model, calibration, replace(options, pruning=pruning))
        for pruning in ("compensated", "magnitude")
    )

    assert found.provenance["bias_correction"] is True
    assert accuracy(found, test) >= 0.96
    assert accuracy(found, test) > accuracy(magnitude, test)


def test_left_to_itself_the_tool_keeps_the_outputs_nearer_the_float_networks(
    digits: tuple[Model, ImageSet, ImageSet],
) -> None:
    model, calibration, _ = digits
    options = CompressOptions("pot-3", rounding="nearest", calibration_images=128)
    held_back = calibration.images[128:256]
    floats = forward(model, normalized(held_back, calibration.normalization or Normalization()))

    def error(choice: bool | None) -> float:
        quantized = compress(model, calibration, replace(options, bias_correction=choice))
        codes = input_codes(held_back, quantized.normalization, quantized.input_format)
        outputs = run_reference(quantized.network, codes) * quantized.logit_scale[:, None, None]
        return float(np.mean((outputs - floats) ** 2))

    assert error(None) == min(error(False), error(True))


def test_the_input_of_the_example_is_stored_without_loss(
    digits: tuple[Model, ImageSet, ImageSet],
) -> None:
    model, calibration, _ = digits

    quantized = compress(model, calibration, CompressOptions(rounding="nearest"))

    assert quantized.normalization.pixel_max == 16
    codes = input_codes(calibration.images, quantized.normalization, quantized.input_format)
    values = normalized(calibration.images, quantized.normalization)
    assert np.allclose(codes * quantized.input_format.scale, values, atol=1e-6)


def test_the_options_normalization_comes_before_the_image_sets(
    digits: tuple[Model, ImageSet, ImageSet],
) -> None:
    model, calibration, _ = digits
    wanted = Normalization(16.0, (0.5,), (0.5,))
    bare = replace(calibration, normalization=None)

    options = CompressOptions(rounding="nearest", normalization=wanted)

    assert compress(model, calibration, options).normalization == wanted
    assert compress(model, bare, CompressOptions(rounding="nearest")).normalization == (
        Normalization()
    )


def test_first_and_last_are_exceptions_from_pruning_unless_named(
    digits: tuple[Model, ImageSet, ImageSet],
) -> None:
    model, calibration, _ = digits
    names = [layer.name for layer in model.layers]
    options = CompressOptions(
        first_last="uniform-8",
        sparsity=0.5,
        sparsities={names[-1]: 0.25},
        scope="global",
        rounding="nearest",
    )

    layers = summarize(compress(model, calibration, options))

    weighted = [layer for layer in layers if layer.n_weights]
    assert weighted[0].sparsity < 0.1
    assert weighted[-2].name == names[-1]
    assert 0.25 <= weighted[-2].sparsity < 0.4


def test_the_summary_adds_up(digits: tuple[Model, ImageSet, ImageSet]) -> None:
    model, calibration, _ = digits
    quantized = compress(model, calibration, CompressOptions(first_last="uniform-8", sparsity=0.3))

    *layers, total = summarize(quantized)

    assert [layer.name for layer in layers] == [layer.name for layer in model.layers]
    assert total.name == "total"
    assert total.scheme == "mixed"
    levels = [
        layer.op.levels
        for layer in quantized.layers
        if isinstance(layer.op, ConvOp) and not layer.structural
    ]
    assert total.n_weights == sum(array.size for array in levels)
    assert total.n_zeros == sum(int((array == 0).sum()) for array in levels)
    assert 4 < total.bits_per_weight < 8
    first = layers[0]
    assert (first.scheme, first.op, first.bits_per_weight) == ("uniform-8", "conv", 8.0)
    assert first.macs == first.n_weights * 8 * 8
    assert layers[-1].op == "dense"
    assert all(set(layer.levels_used) <= {0, *(s << k for k in range(7) for s in (1, -1))}
               for layer in layers if layer.scheme == "pot-4")  # fmt: skip
    errors = [layer.relative_squared_error * layer.n_weights for layer in layers]
    assert total.relative_squared_error == pytest.approx(sum(errors) / total.n_weights)


def test_provenance_is_plain_json_and_names_its_sources(
    digits: tuple[Model, ImageSet, ImageSet],
) -> None:
    model, calibration, _ = digits
    options = CompressOptions(
        rounding="nearest", schemes={"conv1": "pot-3"}, normalization=Normalization(16.0)
    )

    said = compress(model, calibration, options).provenance

    assert json.loads(json.dumps(said)) == said
    assert said["source_sha256"] == model.source_sha256
    assert said["calibration"] == {
        "source": calibration.source,
        "sha256": calibration.sha256,
        "images": 256,
    }
    assert said["options"]["schemes"] == {"conv1": "pot-3"}


def test_only_the_images_asked_for_are_used_and_progress_is_told(
    digits: tuple[Model, ImageSet, ImageSet],
) -> None:
    model, calibration, _ = digits
    heard: list[tuple[str, int, int]] = []

    quantized = compress(
        model,
        calibration,
        CompressOptions(calibration_images=40),
        progress=lambda *words: heard.append(words),
    )

    assert quantized.provenance["calibration"]["images"] == 40
    assert heard[0] == ("calibrate", 32, 40)
    assert heard[-1] == ("quantize, biases", len(model.layers), len(model.layers))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"scheme": "pot-9"}, "scheme: found 'pot-9'; expected one of uniform-8"),
        ({"first_last": "int8"}, "first_last: found 'int8'"),
        ({"schemes": {"conv1": "x"}}, r"schemes\['conv1'\]: found 'x'"),
        ({"sparsity": 1.0}, "sparsity: found 1.0; expected 0 to below 1"),
        ({"sparsity": float("nan")}, "sparsity: found nan"),
        ({"sparsities": {"conv1": -1.0}}, r"sparsities\['conv1'\]: found -1.0"),
        (
            {"pruning": "random"},
            "pruning: found 'random'; expected one of compensated, magnitude, pot-aware",
        ),
        ({"scope": "all"}, "scope: found 'all'"),
        ({"rounding": "up"}, "rounding: found 'up'"),
        ({"activation_bits": 9}, "activation_bits: found 9; expected 2 to 8"),
        ({"activation_bits_table": {"conv1": 1}}, r"activation_bits_table\['conv1'\]: found 1"),
        ({"calibration_images": 0}, "calibration_images: found 0"),
    ],
)
def test_an_option_out_of_range_is_refused(words: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        CompressOptions(**words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"schemes": {"nose": "pot-4"}}, r"schemes\['nose'\].*conv1"),
        ({"sparsities": {"nose": 0.5}}, r"layer 'nose'.*conv1"),
        ({"activation_bits_table": {"nose": 4}}, r"\['nose'\].*conv1"),
        ({"normalization": Normalization(16.0, (0.1, 0.2))}, "mean: found 2 values"),
    ],
)
def test_an_option_that_does_not_fit_the_model_is_refused(
    digits: tuple[Model, ImageSet, ImageSet], words: dict[str, object], message: str
) -> None:
    model, calibration, _ = digits

    with pytest.raises(InputError, match=message):
        compress(model, calibration, CompressOptions(**words))


def test_images_of_another_shape_are_refused(digits: tuple[Model, ImageSet, ImageSet]) -> None:
    model, calibration, _ = digits
    wrong = replace(calibration, images=np.zeros((4, 3, 8, 8), np.uint8))

    with pytest.raises(MismatchError, match=r"4 images of \(3, 8, 8\)"):
        compress(model, wrong, CompressOptions())


@pytest.mark.parametrize(
    ("kernel", "stride", "said"), [(8, 1, "a kernel of 8x8"), (3, 5, r"stride \(5, 5\)")]
)
def test_what_no_accelerator_runs_is_refused_before_any_work(
    kernel: int, stride: int, said: str
) -> None:
    layer = Conv(
        "wide",
        INPUT,
        np.ones((2, 1, kernel, kernel), np.float32),
        np.zeros(2, np.float32),
        (stride, stride),
    )
    model = Model("net", (1, 12, 12), (layer,), source="net.onnx")
    images = ImageSet(np.zeros((4, 1, 12, 12), np.uint8), None, None, "x.npz", "")

    with pytest.raises(InputError, match=rf"net.onnx: layer 'wide': found {said}"):
        compress(model, images, CompressOptions())
