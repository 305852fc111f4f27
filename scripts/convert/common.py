"""What the conversion scripts share: quantisation, comparison, and the line that pins the result.

    python3 -m venv /tmp/convert && /tmp/convert/bin/pip install torch transformers timm safetensors onnx onnxruntime numpy

Tried with torch 2.15, transformers 5.24, timm 1.0.31, onnx 1.23, onnxruntime 1.32. The exporter is the older one (TorchScript) for every model: its
graphs run everywhere.
"""

import argparse
import hashlib
import importlib
import importlib.util
import pathlib
import sys
import types

import numpy as np
import onnx
import onnxruntime
import torch

OPSET = 17


def arguments(doc):
    """`[--random] [WEIGHTS] OUT`, one of the first two; the seed is set, so that made-up weights are the same at every run."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--random", action="store_true", help="make up the weights of the true architecture")
    parser.add_argument("weights", type=pathlib.Path, nargs="?")
    parser.add_argument("out", type=pathlib.Path)
    args = parser.parse_args()
    if not args.random and args.weights is None:
        parser.error("give the file of weights, or --random")
    torch.manual_seed(0)
    return args


def export(module, inputs, names, outputs, dynamic, out):
    """Writes the graph of `module` and compares it with torch on `inputs`."""
    module.eval()
    out.parent.mkdir(parents=True, exist_ok=True)
    with torch.no_grad():
        torch.onnx.export(module, inputs, str(out), input_names=names, output_names=outputs, dynamic_axes=dynamic,
                          opset_version=OPSET, dynamo=False, do_constant_folding=True)
        settle(out, outputs, module(*inputs), dynamic)
    compare(module, inputs, names, out, 1e-4)


def settle(out, outputs, result, dynamic):
    """Writes the fixed sizes of the outputs into the file. The exporter loses them behind a normalisation, and then a manifest's contract could not
    tell an encoder of 768 values from one of 512."""
    model = onnx.load(str(out))
    results = [result] if torch.is_tensor(result) else result
    for port, name, value in zip(model.graph.output, outputs, results):
        assert port.name == name
        for axis, dim in enumerate(port.type.tensor_type.shape.dim):
            if axis not in dynamic.get(name, {}):
                dim.dim_value = value.shape[axis]
    onnx.save(model, str(out))


def compare(module, inputs, names, out, limit, origin="torch"):
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        want = module(*inputs).numpy()
    got = session.run(None, {n: i.numpy() for n, i in zip(names, inputs)})[0]
    difference = float(np.abs(got - want).max())
    print(f"{out}: largest difference to {origin} {difference:.1e} at {tuple(inputs[0].shape)}, values to {np.abs(want).max():.2g}")
    if not difference <= limit:
        raise SystemExit(f"{out}: the graph does not compute what {origin} computes")


def quantise(out):
    """Per-channel dynamic int8 of the matrix products, beside the original. Per tensor is as fast and much less exact (cosine 0.93 instead of 0.99);
    tables of embeddings stay as they are, because they cost no time."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    small = out.with_name(out.stem + "-int8.onnx")
    quantize_dynamic(str(out), str(small), per_channel=True, weight_type=QuantType.QInt8,
                     op_types_to_quantize=["MatMul", "Gemm"])
    return small


def similarity(module_out, small, feeds):
    session = onnxruntime.InferenceSession(str(small), providers=["CPUExecutionProvider"])
    got = session.run(None, feeds)[0]
    cos = (got * module_out).sum(1) / np.linalg.norm(got, axis=1) / np.linalg.norm(module_out, axis=1)
    print(f"{small}: smallest cosine to f32 {cos.min():.4f}")


def part_of(module, *bare):
    """Imports `module` without running the `__init__` of the packages in `bare`: those import all that their package can do, and a conversion needs
    one network of it. `pip install --no-deps` of such a package is then enough."""
    for name in bare:
        spec = importlib.util.find_spec(name)
        if spec is None:
            raise SystemExit(f"the package {name} is not installed: pip install --no-deps {name.split('.')[0]}")
        package = types.ModuleType(name)
        package.__path__, package.__spec__ = list(spec.submodule_search_locations), spec
        sys.modules[name] = package
    return importlib.import_module(module)


def stir(module):
    """For made-up weights: noise on every parameter that its initialisation left constant (zero biases, layer scales of 1e-6). As they are, such
    layers do next to nothing, and a graph that computes them wrongly would pass the comparison."""
    with torch.no_grad():
        for value in module.parameters():
            if value.numel() > 1 and bool((value == value.flatten()[0]).all()):
                value.add_(torch.randn_like(value) * 0.1)


def tell(*files):
    for file in map(pathlib.Path, files):
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        print(f"{digest}  {file}  {file.stat().st_size} bytes")
