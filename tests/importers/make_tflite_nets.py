"""Make the small TFLite networks of tests/importers/tflite, and what LiteRT gives for them.

Run by hand, in an environment with TensorFlow and LiteRT (neither is needed by the tests):

    pip install tensorflow-cpu ai-edge-litert
    python tests/importers/make_tflite_nets.py tests/importers/tflite

Each network has random weights and is quantized on random images. `NAME.npz` holds `input`, as the
file takes it (uint8, int8 or float32), `output` of the tensor before a Softmax, and of every
computed tensor its number and the CRC-32 of its bytes over all images: by LiteRT's reference
kernels, so that an executor can be compared bit by bit.
"""

from __future__ import annotations

import copy
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

SEED = 7
N_IMAGES = 4


class Weights:
    """Random weights by a seed."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def __call__(self, *shape: int) -> Any:
        spread = 1.4 / np.sqrt(np.prod(shape[:-1]))
        return tf.constant(self.rng.normal(0, spread, shape).astype("f"))

    def bias(self, count: int) -> Any:
        return tf.constant(self.rng.normal(0, 0.2, count).astype("f"))


def residual(w: Weights) -> Callable[[Any], Any]:
    """Convolutions and depthwise ones with SAME padding, ReLU6, an addition, a mean, a dense."""
    k1, k2, k3, k4 = w(3, 3, 3, 8), w(3, 3, 8, 1), w(1, 1, 8, 8), w(8, 10)
    b1, b2, b3, b4 = w.bias(8), w.bias(8), w.bias(8), w.bias(10)

    def call(x: Any) -> Any:
        a = tf.nn.relu6(tf.nn.conv2d(x, k1, 2, "SAME") + b1)
        d = tf.nn.relu(tf.nn.depthwise_conv2d(a, k2, [1, 1, 1, 1], "SAME") + b2)
        s = tf.nn.relu(a + tf.nn.conv2d(d, k3, 1, "VALID") + b3)
        m = tf.reduce_mean(tf.nn.max_pool2d(s, 3, 2, "SAME"), [1, 2])
        return tf.matmul(m, k4) + b4

    return call


def wide(w: Weights) -> Callable[[Any], Any]:
    """Weights of the 1024 values that the converter wants before it quantizes them alone."""
    k1, k2, k3, b1 = w(3, 3, 3, 40), w(3, 3, 40, 8), w(8 * 3 * 3, 20), w.bias(40)

    def call(x: Any) -> Any:
        a = tf.nn.relu(tf.nn.conv2d(x, k1, 2, "SAME") + b1)
        b = tf.nn.relu(tf.nn.conv2d(a, k2, 2, "SAME"))
        return tf.matmul(tf.reshape(b, [-1, 8 * 3 * 3]), k3)

    return call


def paths(w: Weights) -> Callable[[Any], Any]:
    """Explicit padding, an option-A shortcut, grouped weights, an average pool, a flatten."""
    k1, k2, k3, k4 = w(3, 3, 3, 8), w(3, 3, 8, 12), w(3, 3, 6, 12), w(2 * 2 * 12, 5)
    b1, b4 = w.bias(8), w.bias(5)

    def call(x: Any) -> Any:
        a = tf.nn.relu(
            tf.nn.conv2d(tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]), k1, 1, "VALID") + b1
        )
        padded = tf.pad(a, [[0, 0], [0, 1], [0, 1], [0, 0]])
        c = tf.nn.conv2d(padded, k2, 2, "VALID")
        short = tf.pad(a[:, ::2, ::2, :], [[0, 0], [0, 0], [0, 0], [2, 2]])
        s = tf.nn.relu(c + short)
        g = tf.nn.relu(tf.nn.conv2d(s, k3, 1, "SAME"))
        p = tf.nn.avg_pool2d(g, 3, 3, "VALID")
        return tf.matmul(tf.reshape(p, [-1, 2 * 2 * 12]), k4) + b4

    return call


def constants(w: Weights, padding: str) -> Callable[[Any], Any]:
    """An average pool (over the edge, if SAME), constants to multiply by and add, a lone ReLU."""
    k1, gain, shift, bias = w(3, 3, 3, 6), w(1, 6), w.bias(6), w.bias(6)
    less = w.bias(6)

    def call(x: Any) -> Any:
        a = tf.nn.conv2d(x, k1, 1, "SAME") + bias
        p = tf.nn.avg_pool2d(a, 3, 2, padding)
        q = tf.nn.relu(tf.pad(p * gain, [[0, 0], [1, 0], [0, 1], [0, 0]])) + shift
        return tf.reduce_mean(q - less, [1, 2], keepdims=True)

    return call


def channels_first(w: Weights) -> Callable[[Any], Any]:
    """Images and the last flatten channels first, as exporters from PyTorch write them."""
    k1, k2, b1 = w(3, 3, 3, 6), w(6 * 4 * 4, 7), w.bias(6)

    def call(x: Any) -> Any:
        a = tf.nn.relu(tf.nn.conv2d(tf.transpose(x, [0, 2, 3, 1]), k1, 3, "SAME") + b1)
        return tf.matmul(tf.reshape(tf.transpose(a, [0, 3, 1, 2]), [-1, 6 * 4 * 4]), k2)

    return call


def no_channel(w: Weights) -> Callable[[Any], Any]:
    """Images without a channel axis; a dense layer behind rows and columns that differ."""
    k1, k2, k3, b2 = w(3, 3, 1, 4), w(5 * 3 * 4, 16), w(16, 4), w.bias(16)

    def call(x: Any) -> Any:
        a = tf.nn.relu(tf.nn.conv2d(tf.expand_dims(x, -1), k1, 2, "VALID"))
        f = tf.nn.relu(tf.matmul(tf.reshape(a, [-1, 5 * 3 * 4]), k2) + b2)
        return tf.nn.softmax(tf.matmul(f, k3))

    return call


def moves(w: Weights) -> Callable[[Any], Any]:
    """Rare forms: clamps of their own, padding by a constant, axes of one side kept."""
    k1, k2, k3, k4 = w(3, 3, 3, 8), w(1, 1, 8, 6), w(2, 2, 6, 4), w(4, 6)
    b1, b3 = w.bias(8), w.bias(4)

    def call(x: Any) -> Any:
        a = tf.nn.relu(tf.nn.conv2d(x, k1, 2, "SAME") + b1)
        p = tf.nn.max_pool2d(tf.pad(a, [[0, 0], [1, 0], [1, 0], [0, 0]]), 3, 2, "VALID")
        g = tf.pad(tf.nn.conv2d(p, k2, 1, "VALID"), [[0, 0], [0, 1], [0, 0], [0, 0]])
        i = tf.nn.relu6(tf.nn.max_pool2d(g, [2, 1], 1, "VALID"))
        c = tf.clip_by_value(tf.nn.conv2d(i, k3, 1, "SAME") + b3, -1.0, 1.0)
        m = tf.reduce_mean(c, [1, 2], keepdims=True)
        return tf.expand_dims(tf.matmul(tf.squeeze(m, [1, 2]), k4), 1)

    return call


def keras_net() -> Any:
    """A Keras model with an open batch, BatchNormalization, Flatten and Softmax."""
    tf.keras.utils.set_random_seed(SEED)
    layers = tf.keras.layers
    inputs = tf.keras.Input((12, 12, 3), name="image")
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name="first")(inputs)
    x = layers.ReLU()(layers.BatchNormalization(name="bn")(x))
    y = layers.DepthwiseConv2D(3, strides=2, padding="same", depth_multiplier=2, name="deep")(x)
    y = layers.ReLU(max_value=6.0)(y)
    y = layers.AveragePooling2D(2)(layers.ZeroPadding2D(((1, 1), (1, 1)))(y))
    y = layers.Flatten()(y)
    return tf.keras.Model(inputs, layers.Dense(10, activation="softmax", name="classes")(y))


def converted(
    made: Any,
    shape: tuple[int, ...],
    *,
    kind: str = "float32",
    per_channel: bool = True,
    new_quantizer: bool = True,
    how: str = "integers",
) -> bytes:
    """A network by the converter: all "integers", "float32", "float16", or "dynamic" range."""
    rng = np.random.default_rng(SEED)
    images = rng.normal(0, 1, (32, 1, *shape)).astype("f")
    if isinstance(made, tf.keras.Model):
        converter = tf.lite.TFLiteConverter.from_keras_model(made)
    else:
        function = tf.function(made).get_concrete_function(tf.TensorSpec((1, *shape), tf.float32))
        converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
    if how == "float32":
        return bytes(converter.convert())
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if how == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if how != "integers":
        return bytes(converter.convert())
    converter.representative_dataset = lambda: ([image] for image in images)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.dtypes.as_dtype(kind)
    converter._experimental_disable_per_channel = not per_channel
    converter.experimental_new_quantizer = new_quantizer
    return bytes(converter.convert())


def packed(model: Any) -> bytes:
    """A model as bytes, by the schema package's own builder."""
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def as_uint8(data: bytes) -> bytes:
    """The same network as TensorFlow 1 wrote it: UINT8 everywhere, a weight's zero point 128."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
    for tensor in model.subgraphs[0].tensors:
        if tensor.type != schema.TensorType.INT8:
            continue
        tensor.type = schema.TensorType.UINT8
        tensor.quantization.zeroPoint = [int(z) + 128 for z in tensor.quantization.zeroPoint]
        buffer = model.buffers[tensor.buffer]
        if buffer.data is not None and len(buffer.data):
            codes = np.asarray(buffer.data, np.uint8).view(np.int8).astype(np.int16)
            buffer.data = (codes + 128).astype(np.uint8)
    return packed(model)


def as_int4(data: bytes) -> bytes:
    """The same network with the weights of its convolutions as INT4, two in a byte."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
    graph = model.subgraphs[0]
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex].builtinCode
        if code != schema.BuiltinOperator.CONV_2D:
            continue
        tensor = graph.tensors[operator.inputs[1]]
        buffer = model.buffers[tensor.buffer]
        codes = np.asarray(buffer.data, np.uint8).view(np.int8)
        four = np.clip(np.rint(codes / 18.2), -7, 7).astype(np.int8).view(np.uint8) & 15
        four = np.append(four, np.zeros(len(four) % 2, np.uint8))
        buffer.data = four[0::2] | four[1::2] << 4
        tensor.type = schema.TensorType.INT4
        tensor.quantization.scale = [float(s) * 18.2 for s in tensor.quantization.scale]
    return packed(model)


def vectors(data: bytes, seed: int) -> dict[str, Any]:
    """Input, output before a Softmax, and checksums of all computed tensors."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
    graph = model.subgraphs[0]
    codes = [max(c.builtinCode, c.deprecatedBuiltinCode) for c in model.operatorCodes]
    output = graph.outputs[0]
    for operator in graph.operators:
        if codes[operator.opcodeIndex] == schema.BuiltinOperator.SOFTMAX:
            output = operator.inputs[0]
    interpreter = Interpreter(
        model_content=data,
        experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    given = interpreter.get_input_details()[0]
    rng = np.random.default_rng(seed)
    shape = (N_IMAGES, *given["shape"][1:])
    images = rng.normal(0, 1, shape).astype("f")
    if given["dtype"] != np.float32:
        low = np.iinfo(given["dtype"]).min
        images = (rng.integers(0, 256, shape) + low).astype(given["dtype"])
    computed = [operator.outputs[0] for operator in graph.operators]
    sums = dict.fromkeys(computed, 0)
    outputs = []
    for image in images:
        interpreter.set_tensor(given["index"], image[None])
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(output)[0])
        for tensor in computed:
            sums[tensor] = zlib.crc32(interpreter.get_tensor(tensor).tobytes(), sums[tensor])
    return {
        "input": images,
        "output": np.array(outputs),
        "tensors": np.array(computed, np.int32),
        "crc32": np.array([sums[each] for each in computed], np.uint32),
    }


def networks() -> dict[str, bytes]:
    """All networks by name."""
    square, tall = (12, 12, 3), (3, 12, 12)
    keras = keras_net()
    made = {
        "residual": converted(residual(Weights(1)), square),
        "residual_per_tensor": converted(residual(Weights(2)), square, per_channel=False),
        "residual_int8_io": converted(residual(Weights(3)), square, kind="int8"),
        "residual_uint8_io": converted(residual(Weights(4)), square, kind="uint8"),
        "paths": converted(paths(Weights(5)), square),
        "edges": converted(constants(Weights(6), "SAME"), square),
        "constants": converted(constants(Weights(10), "VALID"), square),
        "channels_first": converted(channels_first(Weights(7)), tall),
        "no_channel": converted(no_channel(Weights(8)), (11, 7)),
        "moves": converted(moves(Weights(9)), square),
        "keras": converted(keras, square),
        "keras_float32": converted(keras, square, how="float32"),
        "constants_float16": converted(constants(Weights(11), "VALID"), square, how="float16"),
        "wide_dynamic": converted(wide(Weights(12)), square, how="dynamic"),
        "keras_old_quantizer": converted(keras, square, new_quantizer=False),
    }
    per_tensor = copy.copy(made["residual_per_tensor"])
    made["residual_uint8"] = as_uint8(per_tensor)
    made["paths_int4"] = as_int4(made["paths"])
    return made


def main(folder: Path) -> None:
    """Write all networks and vectors."""
    for number, (name, data) in enumerate(networks().items()):
        (folder / f"{name}.tflite").write_bytes(data)
        np.savez_compressed(folder / f"{name}.npz", **vectors(data, number))
        sys.stdout.write(f"{name}: {len(data)} bytes\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
