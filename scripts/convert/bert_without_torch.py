#!/usr/bin/env python3
"""A small BERT sentence encoder (all-MiniLM-L6-v2) to ONNX with numpy and onnx alone: no torch, a minute less and several GB less than text_encoder.py.

    scripts/convert/bert_without_torch.py FOLDER all-minilm-l6-v2.onnx
    curette models add all-minilm-l6-v2 graph=all-minilm-l6-v2.onnx tokenizer=FOLDER/tokenizer.json

FOLDER has config.json and model.safetensors. The graph is written operator by operator as BERT defines it (embeddings, post-norm attention and GELU blocks), then
the mean over the mask and L2 normalisation. `operators/models/tests/minilm.rs` holds its vectors against those of sentence-transformers. What can
go wrong: another architecture than BERT with absolute positions and exact GELU is refused.
"""

import argparse
import hashlib
import json
import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
EXPECTED = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}


def safetensors(path):
    """Name -> float32 array."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    arrays = {}
    for name, entry in json.loads(data[8 : 8 + length]).items():
        if name == "__metadata__" or entry["dtype"] != "F32":
            continue
        start, end = entry["data_offsets"]
        arrays[name] = np.frombuffer(data[8 + length + start : 8 + length + end], dtype="<f4").reshape(entry["shape"])
    return arrays


class Graph:
    """Collects nodes and weights; every call gives the name of its result."""

    def __init__(self, weights):
        self.weights, self.nodes, self.constants = weights, [], []

    def constant(self, value, dtype):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def weight(self, name, transposed=False):
        array = self.weights[name]
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array.T) if transposed else array, name))
        return name

    def op(self, kind, *inputs, **attributes):
        name = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def dense(self, x, name):
        return self.op("Add", self.op("MatMul", x, self.weight(f"{name}.weight", transposed=True)), self.weight(f"{name}.bias"))

    def norm(self, x, name, epsilon):
        return self.op("LayerNormalization", x, self.weight(f"{name}.weight"), self.weight(f"{name}.bias"), axis=-1, epsilon=epsilon)

    def gelu(self, x):
        erf = self.op("Erf", self.op("Div", x, self.constant(2**0.5, np.float32)))
        half = self.op("Mul", x, self.constant(0.5, np.float32))
        return self.op("Mul", half, self.op("Add", erf, self.constant(1, np.float32)))


def build(config, weights):
    g = Graph(weights)
    width, heads, epsilon = config["hidden_size"], config["num_attention_heads"], config["layer_norm_eps"]
    floats = lambda value: g.constant(value, np.float32)
    longs = lambda value: g.constant(value, np.int64)

    # Embeddings: word, position, and type 0 everywhere.
    length = g.op("Slice", g.op("Shape", "input_ids"), longs([1]), longs([2]))
    positions = g.op("Slice", g.weight("embeddings.position_embeddings.weight"), longs([0]), length)
    x = g.op("Add", g.op("Gather", g.weight("embeddings.word_embeddings.weight"), "input_ids"), positions)
    x = g.op("Add", x, floats(weights["embeddings.token_type_embeddings.weight"][0]))
    x = g.norm(x, "embeddings.LayerNorm", epsilon)

    # Padding is never attended to.
    mask = g.op("Cast", "attention_mask", to=TensorProto.FLOAT)
    unseen = g.op("Mul", g.op("Sub", floats(1), g.op("Unsqueeze", mask, longs([1, 2]))), floats(np.finfo(np.float32).min))
    split, joined = longs([0, 0, heads, width // heads]), longs([0, 0, width])
    for layer in range(config["num_hidden_layers"]):
        name = f"encoder.layer.{layer}"
        part = lambda which, order: g.op("Transpose", g.op("Reshape", g.dense(x, f"{name}.attention.self.{which}"), split), perm=order)
        query, key, value = part("query", [0, 2, 1, 3]), part("key", [0, 2, 3, 1]), part("value", [0, 2, 1, 3])
        scores = g.op("Div", g.op("MatMul", query, key), floats((width // heads) ** 0.5))
        seen = g.op("MatMul", g.op("Softmax", g.op("Add", scores, unseen), axis=-1), value)
        seen = g.op("Reshape", g.op("Transpose", seen, perm=[0, 2, 1, 3]), joined)
        x = g.norm(g.op("Add", g.dense(seen, f"{name}.attention.output.dense"), x), f"{name}.attention.output.LayerNorm", epsilon)
        inner = g.gelu(g.dense(x, f"{name}.intermediate.dense"))
        x = g.norm(g.op("Add", g.dense(inner, f"{name}.output.dense"), x), f"{name}.output.LayerNorm", epsilon)

    # Mean over what the mask shows, then length 1.
    weight = g.op("Unsqueeze", mask, longs([2]))
    shown = g.op("Clip", g.op("ReduceSum", weight, longs([1]), keepdims=0), floats(1e-9))
    mean = g.op("Div", g.op("ReduceSum", g.op("Mul", x, weight), longs([1]), keepdims=0), shown)
    length = g.op("Clip", g.op("ReduceL2", mean, axes=[1], keepdims=1), floats(1e-12))
    g.nodes.append(helper.make_node("Div", [mean, length], ["embedding"]))

    tokens = [helper.make_tensor_value_info(n, TensorProto.INT64, ["batch", "seq"]) for n in ("input_ids", "attention_mask")]
    embedding = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", width])
    graph = helper.make_graph(g.nodes, "sentence-encoder", tokens, [embedding], g.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="curette")
    model.ir_version = 8
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    args = parser.parse_args()
    config = json.loads((args.folder / "config.json").read_text())
    for key, want in EXPECTED.items():
        if config.get(key, want) != want:
            raise SystemExit(f"{args.folder}/config.json: {key} is {config[key]!r}, this script can only {want!r}; use text_encoder.py")
    model = build(config, safetensors(args.folder / "model.safetensors"))
    onnx.checker.check_model(model)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_bytes(model.SerializeToString(deterministic=True))
    print(f"{hashlib.sha256(args.out.read_bytes()).hexdigest()}  {args.out}  {args.out.stat().st_size} bytes")


main()
