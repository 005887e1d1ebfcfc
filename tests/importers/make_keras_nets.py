"""Make tests/importers/onnx/keras_*: networks converted from Keras and QKeras, with vectors.

Run where TensorFlow 2.14, tf2onnx 1.16, QKeras 0.9, qonnx 0.4 and onnx 1.15 are installed, in this
folder: `python make_keras_nets.py`. Weights are random: only the files' form matters. The vectors
of keras_nhwc are Keras's; those of keras_qonnx are computed by qonnx's executor (the converter
drops some of QKeras's quantizers). Images are stored channels first.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import qkeras
import tensorflow as tf
import tf2onnx
from qonnx.converters import from_keras
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.util.cleanup import cleanup_model

FOLDER = Path(__file__).parent / "onnx"
L = tf.keras.layers
_Images = npt.NDArray[np.float32]


def floats() -> tf.keras.Model:
    """Depthwise, residual, padding, a flatten of channels that come last, BatchNorm after it."""
    source = L.Input((12, 12, 3))
    x = L.Rescaling(1 / 127.5, -1.0)(source)
    x = L.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(x)
    x = L.ReLU(6.0)(L.BatchNormalization()(x))
    y = L.DepthwiseConv2D(3, padding="same")(x)
    x = L.ReLU()(L.Add()([x, L.BatchNormalization()(y)]))
    x = L.MaxPool2D()(L.Conv2D(4, 3)(L.ZeroPadding2D(1)(x)))
    x = L.BatchNormalization()(L.Flatten()(x))
    model = tf.keras.Model(source, L.Dense(4, activation="softmax")(x))
    generator = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, L.BatchNormalization):
            shape = layer.get_weights()[0].shape
            gain, spread = generator.uniform(0.5, 1.5, shape), generator.uniform(0.5, 2, shape)
            shift, mean = generator.normal(0, 0.3, shape), generator.normal(0, 0.3, shape)
            layer.set_weights([gain, shift, mean, spread])
    return model


def quantized() -> tf.keras.Model:
    """Weights of 4, 3, 2 and 1 bits, biases of 8, activations of 4 and 6."""
    bias = qkeras.quantized_bits(8, 2, 1, alpha=1)
    spread = tf.keras.initializers.RandomUniform(-0.5, 0.5)
    source = L.Input((8, 8, 3), name="input")
    x = qkeras.QConv2D(
        8, 3, padding="same", kernel_quantizer=qkeras.quantized_bits(4, 0, 1, alpha=1),
        bias_quantizer=bias, bias_initializer=spread,
    )(source)  # fmt: skip
    x = L.MaxPooling2D(2)(qkeras.QActivation(qkeras.quantized_relu(4, 2))(x))
    x = qkeras.QConv2D(
        8, 3, strides=2, kernel_quantizer=qkeras.quantized_bits(3, 0, 1, alpha=1),
        bias_quantizer=bias, bias_initializer=spread,
    )(x)  # fmt: skip
    x = L.Flatten()(L.ReLU()(x))
    x = qkeras.QDense(
        6, kernel_quantizer=qkeras.ternary(alpha=1, threshold=0.5), bias_quantizer=bias
    )(x)
    x = qkeras.QActivation(qkeras.quantized_relu(6, 2))(x)
    x = qkeras.QDense(5, kernel_quantizer=qkeras.binary(alpha=1), use_bias=False)(x)
    return tf.keras.Model(source, x)


def executed(path: Path, images: _Images) -> _Images:
    """Outputs (N, classes) of channels-last images by qonnx's executor, one at a time."""
    model = ModelWrapper(str(path))
    model.set_tensor_shape(model.graph.input[0].name, [1, *images.shape[1:]])
    model = cleanup_model(model)
    source, output = model.graph.input[0].name, model.graph.output[0].name
    results = [execute_onnx(model, {source: image[None]})[output] for image in images]
    return np.concatenate(results)


def main() -> None:
    tf.random.set_seed(3)
    FOLDER.mkdir(exist_ok=True)
    generator = np.random.default_rng(1)
    images = generator.uniform(0, 255, (8, 12, 12, 3)).astype(np.float32)
    model = floats()
    signature = (tf.TensorSpec((None, 12, 12, 3), tf.float32, name="input"),)
    tf2onnx.convert.from_keras(
        model, input_signature=signature, opset=13, output_path=str(FOLDER / "keras_nhwc.onnx")
    )
    small = generator.normal(size=(8, 8, 8, 3)).astype(np.float32)
    path = FOLDER / "keras_qonnx.onnx"
    onnx.save(from_keras(quantized(), "net", opset=13)[0], str(path))
    np.savez_compressed(
        FOLDER / "keras_vectors.npz",
        nhwc_input=images.transpose(0, 3, 1, 2),
        keras_nhwc=model.predict(images, verbose=0),
        qonnx_input=small.transpose(0, 3, 1, 2),
        keras_qonnx=executed(path, small),
    )


if __name__ == "__main__":
    main()
