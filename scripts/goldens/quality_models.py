"""Tiny ONNX graphs with the contracts of CLIP, LAION's head and DOVER's two branches (random weights), and golden scores of them.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install numpy 'pillow<13' onnx onnxruntime safetensors
    /tmp/venv/bin/python scripts/goldens/quality_models.py

Writes the files of operators/tests/goldens/quality-models and operators/tests/goldens/quality_models.json. Pictures go through Pillow as CLIP's reference does it.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from safetensors.numpy import save_file

import dover

GOLDENS = Path(__file__).parents[2] / "operators/tests/goldens"
MODELS = GOLDENS / "quality-models"
RNG = np.random.default_rng(7)


def weights(name, *shape, scale=0.5):
    return numpy_helper.from_array((RNG.standard_normal(shape) * scale).astype(np.float32), name)


def save(name, nodes, inputs, outputs, initializers):
    graph = helper.make_graph(nodes, name, [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs],
                              [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    MODELS.mkdir(parents=True, exist_ok=True)
    onnx.save(model, MODELS / f"{name}.onnx")


def convolution(name, axes, source, shape, outputs, output, output_shape):
    """Average over 8x8 (by 2 in time), one convolution, a ReLU, the mean of everything, a linear layer."""
    pool, kernel = ([8] * 2, [2] * 2) if axes == 2 else ([2, 8, 8], [2, 2, 2])
    nodes = [
        helper.make_node("AveragePool", [source], ["pooled"], kernel_shape=pool, strides=pool),
        helper.make_node("Conv", ["pooled", "filters"], ["convolved"], kernel_shape=kernel, strides=kernel),
        helper.make_node("Relu", ["convolved"], ["positive"]),
        helper.make_node("GlobalAveragePool", ["positive"], ["means"]),
        helper.make_node("Flatten", ["means"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight", "bias"], ["answer"]),
    ]
    nodes.append(helper.make_node("Identity", ["answer"], [output]) if len(output_shape) == 2 else
                 helper.make_node("Reshape", ["answer", "minus_one"], [output]))
    initializers = [weights("filters", 4, 3, *kernel), weights("weight", 4, outputs), weights("bias", outputs, scale=0.05)]
    if len(output_shape) == 1:
        initializers.append(numpy_helper.from_array(np.array([-1], np.int64), "minus_one"))
    save(name, nodes, [(source, shape)], [(output, output_shape)], initializers)


def head(name, width, encoder_sha256):
    """A head of kind `regression` in curette's format."""
    weight, bias = (RNG.standard_normal((1, width)) * 2).astype(np.float32), np.float32([5.2])
    save_file({"weight": weight, "bias": bias}, str(MODELS / f"{name}.safetensors"), metadata={
        "format": "curette-head/2", "kind": "regression", "encoder": "clip", "encoder_sha256": encoder_sha256, "dim": str(width),
        "l2_normalised": "true", "classes": "[]"})
    return weight[0].astype(float), float(bias[0])


def run(name, values):
    session = onnxruntime.InferenceSession(MODELS / f"{name}.onnx", providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: values.astype(np.float32)})[0]


def clip_input(picture):
    """Shortest edge to 224 with Pillow's bicubic, centre crop, CLIP's mean and deviation."""
    h, w, _ = picture.shape
    size = (224, 224 * h // w) if w <= h else (224 * w // h, 224)
    image = Image.fromarray(picture).resize(size, Image.BICUBIC)
    left, top = (size[0] - 224) // 2, (size[1] - 224) // 2
    x = np.asarray(image.crop((left, top, left + 224, top + 224))).astype(np.float32) / 255
    return ((x - np.float32([0.48145466, 0.4578275, 0.40821073])) / np.float32([0.26862954, 0.26130258, 0.27577711])).transpose(2, 0, 1)


def aesthetic(weight, bias, width, height, frames):
    vectors = run("clip", np.stack([clip_input(dover.drawn(width, height, t)) for t in range(frames)])).astype(float)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-300)
    return dict(width=width, height=height, frames=frames, scores=(vectors @ weight + bias).tolist())


def view(pictures):
    x = (np.stack(pictures).astype(np.float32) - np.float32([123.675, 116.28, 103.53])) / np.float32([58.395, 57.12, 57.375])
    return x.transpose(3, 0, 1, 2)[None]


def technical(clip_id, frames, width, height):
    third, part = frames // 3, frames // 32
    starts = [third * i + dover.choice(clip_id, i, third - 64) for i in range(3)]
    grids = [view([dover.technical(clip_id, s, dover.drawn(width, height, (start + 2 * i) % frames)) for i in range(32)]) for s, start in enumerate(starts)]
    whole = [part * i + dover.choice(clip_id, 3 + i, part - 2) if part else i * frames // 32 for i in range(32)]
    scaled = view([dover.interpolate(dover.drawn(width, height, t), 224, 224, height / 224, width / 224) for t in whole])
    return dict(id=clip_id, frames=frames, width=width, height=height, technical_raw=float(run("dover-technical", np.concatenate(grids)).mean()),
                aesthetic_raw=float(run("dover-aesthetic", scaled)[0]))


def main():
    convolution("clip", 2, "pixel_values", ["batch", 3, 224, 224], 8, "image_embeds", ["batch", 8])
    sha256 = hashlib.sha256((MODELS / "clip.onnx").read_bytes()).hexdigest()
    weight, bias = head("head", 8, sha256)
    head("narrow-head", 5, sha256)
    head("foreign-head", 8, "0" * 64)
    for name in ("dover-technical", "dover-aesthetic"):
        convolution(name, 3, "view", ["batch", 3, 32, 224, 224], 1, "score", ["batch"])
    out = dict(made_with=f"onnxruntime {onnxruntime.__version__}, Pillow {Image.__version__}, numpy {np.__version__}",
               aesthetic=[aesthetic(weight, bias, *size) for size in [(320, 240, 3), (240, 426, 2), (224, 224, 2), (101, 77, 2), (1000, 333, 2)]],
               technical=[technical(*clip) for clip in [("surgery.mp4#0-8000000", 240, 320, 240), ("x", 40, 250, 430), ("short", 5, 100, 90)]])
    for one in out["aesthetic"] + out["technical"]:
        print(one)
    (GOLDENS / "quality_models.json").write_text(json.dumps(out, separators=(",", ":")) + "\n")


main()
