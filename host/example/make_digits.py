"""Train the example network on scikit-learn's handwritten digits and write every file beside it.

Run by hand, from anywhere, where the extra `example` is installed:

    python host/example/make_digits.py

The layer list LAYERS is the network: the torch model is built from it, and both written forms
(`digits_cnn.json` + `.npz`, `digits_cnn.onnx`) are that list with the trained weights. Everything
random is seeded and torch runs on one thread, so one machine with one torch gives the same bytes
twice; another processor may round a sum differently and land on slightly different weights.

Data: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning
Repository, 1998 (CC BY 4.0), its test part as `sklearn.datasets.load_digits` ships it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from torch import nn

from bacmac.host.files import replace_atomically, write_bytes, write_text

HERE = Path(__file__).resolve().parent
NAME = "digits_cnn"
INPUT_SHAPE = [1, 8, 8]
PIXEL_MAX = 16.0
SEED = 2024
N_TEST = 500
N_CALIBRATION = 256
EPOCHS = 60
BATCH_SIZE = 64
EPSILON = 1e-5


def batchnorm(name: str) -> dict[str, Any]:
    """A batch normalization entry of the layer list, its arrays named as torch names them."""
    return {
        "name": name,
        "op": "batchnorm",
        "scale": f"{name}.weight",
        "shift": f"{name}.bias",
        "mean": f"{name}.running_mean",
        "variance": f"{name}.running_var",
        "epsilon": EPSILON,
    }


def conv(name: str) -> dict[str, Any]:
    """A 3x3 convolution entry without a bias: a batch normalization follows."""
    return {"name": name, "op": "conv", "weight": f"{name}.weight", "padding": 1}


LAYERS: list[dict[str, Any]] = [
    conv("conv1"),
    batchnorm("bn1"),
    {"name": "relu1", "op": "relu"},
    conv("block.conv1"),
    batchnorm("block.bn1"),
    {"name": "block.relu1", "op": "relu"},
    conv("block.conv2"),
    batchnorm("block.bn2"),
    {"name": "block.add", "op": "add", "with": "relu1"},
    {"name": "block.relu2", "op": "relu"},
    {"name": "pool", "op": "maxpool", "kernel": 2, "stride": 2},
    conv("conv2"),
    batchnorm("bn2"),
    {"name": "relu2", "op": "relu"},
    {"name": "gap", "op": "globalavgpool"},
    {"name": "flatten", "op": "flatten"},
    {"name": "fc", "op": "dense", "weight": "fc.weight", "bias": "fc.bias"},
]
CHANNELS = {"conv1": (1, 16), "block.conv1": (16, 16), "block.conv2": (16, 16), "conv2": (16, 32)}
FEATURES = {"fc": (32, 10)}


def build_modules() -> Any:
    """The torch modules that hold weights, keyed by layer name ('.' is not allowed in a key)."""
    modules: dict[str, Any] = {}
    c_out = 0
    for layer in LAYERS:
        name = layer["name"]
        if layer["op"] == "conv":
            c_in, c_out = CHANNELS[name]
            modules[key(name)] = nn.Conv2d(c_in, c_out, 3, padding=1, bias=False)
        elif layer["op"] == "batchnorm":
            modules[key(name)] = nn.BatchNorm2d(c_out, eps=EPSILON)
        elif layer["op"] == "dense":
            modules[key(name)] = nn.Linear(*FEATURES[name])
    return nn.ModuleDict(modules)


def key(name: str) -> str:
    """A layer name as a key of torch's ModuleDict."""
    return name.replace(".", "_")


def run(modules: Any, x: Any) -> Any:
    """Logits (N, 10) of a batch (N, 1, 8, 8)."""
    tensors: dict[str, Any] = {}
    for layer in LAYERS:
        name, op = layer["name"], layer["op"]
        if op in ("conv", "batchnorm", "dense"):
            x = modules[key(name)](x)
        elif op == "relu":
            x = torch.relu(x)
        elif op == "add":
            x = x + tensors[layer["with"]]
        elif op == "maxpool":
            x = nn.functional.max_pool2d(x, layer["kernel"], layer["stride"])
        elif op == "globalavgpool":
            x = x.mean((2, 3), keepdim=True)
        else:
            x = x.flatten(1)
        tensors[name] = x
    return x


def train(pixels: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64]) -> Any:
    """Modules trained on pixels (N, 8, 8), 0 to 16, each epoch shifted by up to one pixel."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    modules = build_modules()
    x = torch.from_numpy(pixels[:, None].astype(np.float32) / PIXEL_MAX)
    y = torch.from_numpy(labels)
    optimizer = torch.optim.AdamW(modules.parameters(), lr=1e-2, weight_decay=1e-2)
    steps = EPOCHS * (len(x) // BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    modules.train()
    for _ in range(EPOCHS):
        order = torch.randperm(len(x))
        for start in range(0, len(x) - BATCH_SIZE + 1, BATCH_SIZE):
            batch = order[start : start + BATCH_SIZE]
            dy, dx = torch.randint(0, 3, (2,)).tolist()
            shifted = nn.functional.pad(x[batch], (1, 1, 1, 1))[:, :, dy : dy + 8, dx : dx + 8]
            loss = nn.functional.cross_entropy(run(modules, shifted), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    modules.eval()
    return modules


def weights_of(modules: Any) -> dict[str, npt.NDArray[np.float32]]:
    """Every array that the layer list names, float32."""
    arrays: dict[str, npt.NDArray[np.float32]] = {}
    for layer in LAYERS:
        if key(layer["name"]) not in modules:
            continue
        for name, tensor in modules[key(layer["name"])].state_dict().items():
            if name != "num_batches_tracked":
                arrays[f"{layer['name']}.{name}"] = tensor.numpy()
    return arrays


def onnx_form(arrays: dict[str, npt.NDArray[np.float32]]) -> bytes:
    """The network as an ONNX model, opset 13, its BatchNormalization kept, batch symbolic."""
    nodes = []
    previous = "input"
    for layer in LAYERS:
        name, op = layer["name"], layer["op"]
        attributes: dict[str, Any] = {}
        inputs = [previous]
        if op == "conv":
            kind, attributes = "Conv", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
            inputs.append(layer["weight"])
        elif op == "batchnorm":
            kind, attributes = "BatchNormalization", {"epsilon": EPSILON}
            inputs += [layer[part] for part in ("scale", "shift", "mean", "variance")]
        elif op == "maxpool":
            kind, attributes = "MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2]}
        elif op == "dense":
            kind, attributes = "Gemm", {"transB": 1}
            inputs += [layer["weight"], layer["bias"]]
        elif op == "add":
            kind = "Add"
            inputs.append(layer["with"])
        else:
            kind = {"relu": "Relu", "globalavgpool": "GlobalAveragePool", "flatten": "Flatten"}[op]
        previous = "logits" if layer is LAYERS[-1] else name
        nodes.append(helper.make_node(kind, inputs, [previous], name=name, **attributes))
    graph = helper.make_graph(
        nodes,
        NAME,
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", *INPUT_SHAPE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 10])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 13)], producer_name="bacmac make_digits.py"
    )
    model.ir_version = 7  # every runtime of the last years reads it
    onnx.checker.check_model(model)
    serialized: bytes = model.SerializeToString(deterministic=True)
    return serialized


def write_arrays(file: str, **arrays: npt.NDArray[Any]) -> None:
    """One compressed .npz beside this script."""
    with replace_atomically(HERE / file) as temporary, temporary.open("wb") as handle:
        np.savez_compressed(handle, **arrays)  # type: ignore[arg-type]


README = """\
# The shipped example

A small convolutional network that reads handwritten digits, and images to calibrate and to test
it: what `make demo` runs. `make_digits.py` makes every file here (extra `example`); this one too.

| file | what |
|---|---|
| `digits_cnn.onnx` | the float network, opset 13, BatchNormalization kept, batch symbolic |
| `digits_cnn.json`, `digits_cnn.npz` | the same network as a layer list (`docs/models.md`) |
| `digits_calibration.npz` | {n_calibration} of the training images |
| `digits_test.npz` | {n_test} held-back images, in neither training nor calibration |

Network: conv 16@3x3, a residual block of two conv 16@3x3, max-pool 2, conv 32@3x3, global average
pool, dense 10; ReLU and BatchNormalization throughout; {parameters:,} parameters with those of
BatchNormalization. Input: float32 (N, 1, 8, 8) = pixel / 16.

Float accuracy on `digits_test.npz`: **{accuracy:.1f} %** ({correct} of {n_test}).

Image sets: `images` uint8 (N, 8, 8), 0 to 16; `labels` int64 (N,); `pixel_max` 16; `index` int64
(N,), the image's place in `sklearn.datasets.load_digits`. The split is
`numpy.random.default_rng({seed}).permutation(1797)`: the last {n_test} are the test images, the
first {n_train} were trained on, and of those the first {n_calibration} are the calibration images.

Origin of the images: E. Alpaydin and C. Kaynak, *Optical Recognition of Handwritten Digits*, UCI
Machine Learning Repository, 1998 (doi 10.24432/C50P49), licence CC BY 4.0; its test part, as
scikit-learn ships it; split into two files, otherwise unchanged. The network and its weights are
this project's own, under its licence.

Remaking gives the same bytes on the same processor with the same torch (these: torch
{torch_version}); elsewhere sums may round differently, and the accuracy above may move by a few
tenths.
"""


def main() -> None:
    """Train, then write the five data files and the README."""
    digits = load_digits()
    pixels, labels = digits.images.astype(np.uint8), digits.target.astype(np.int64)
    order = np.random.default_rng(SEED).permutation(len(pixels))
    trained, test = order[:-N_TEST], order[-N_TEST:]
    modules = train(pixels[trained], labels[trained])
    with torch.no_grad():
        x = torch.from_numpy(pixels[test][:, None].astype(np.float32) / PIXEL_MAX)
        correct = int((run(modules, x).argmax(1).numpy() == labels[test]).sum())
    arrays = weights_of(modules)

    for file, index in (("calibration", trained[:N_CALIBRATION]), ("test", test)):
        write_arrays(
            f"digits_{file}.npz",
            images=pixels[index],
            labels=labels[index],
            pixel_max=np.float64(PIXEL_MAX),
            index=index,
        )
    write_arrays(f"{NAME}.npz", **arrays)
    header = {"format": "bacmac-layers", "version": 1, "name": NAME, "input_shape": INPUT_SHAPE}
    layers = ",\n".join(f"    {json.dumps(layer)}" for layer in LAYERS)
    fields = [f'  "{field}": {json.dumps(value)}' for field, value in header.items()]
    fields += [f'  "weights": "{NAME}.npz"', f'  "layers": [\n{layers}\n  ]']
    write_text(HERE / f"{NAME}.json", "{\n" + ",\n".join(fields) + "\n}\n")
    write_bytes(HERE / f"{NAME}.onnx", onnx_form(arrays))
    write_text(
        HERE / "README.md",
        README.format(
            n_calibration=N_CALIBRATION,
            n_test=N_TEST,
            n_train=len(trained),
            parameters=sum(array.size for array in arrays.values()),
            accuracy=100 * correct / N_TEST,
            correct=correct,
            seed=SEED,
            torch_version=torch.__version__.split("+")[0],
        ),
    )


if __name__ == "__main__":
    main()
