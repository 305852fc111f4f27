#!/usr/bin/env python3
"""LAION's aesthetic predictor to a linear head in safetensors.

    scripts/convert/laion_head.py sac+logos+ava1-l14-linearMSE.pth clip-vit-l14.onnx laion-aesthetic.safetensors
    curette models add laion-aesthetic head=laion-aesthetic.safetensors

The predictor is five linear layers (768-1024-128-64-16-1) with nothing between them at inference, so it is one vector and one bias: multiplied out in
float64 and compared on 1,000 random unit vectors. The head names the encoder that its input must come from by the SHA-256 of its ONNX file.
`--random` makes up the weights, to try the conversion.
"""

import argparse
import hashlib
import pathlib

import numpy as np
from safetensors.numpy import save_file

WIDTHS = [768, 1024, 128, 64, 16, 1]


def layers(path):
    import torch

    state = torch.load(path, map_location="cpu", weights_only=True)
    weights = [state[k].numpy().astype(np.float64) for k in sorted((k for k in state if k.endswith("weight")), key=lambda k: int(k.split(".")[1]))]
    biases = [state[k].numpy().astype(np.float64) for k in sorted((k for k in state if k.endswith("bias")), key=lambda k: int(k.split(".")[1]))]
    return weights, biases


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--random", action="store_true")
    parser.add_argument("weights", type=pathlib.Path)
    parser.add_argument("encoder", type=pathlib.Path, help="the ONNX file of clip-vit-l14")
    parser.add_argument("out", type=pathlib.Path)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    if args.random:
        weights = [rng.standard_normal((b, a)) / a**0.5 for a, b in zip(WIDTHS, WIDTHS[1:])]
        biases = [rng.standard_normal(b) for b in WIDTHS[1:]]
    else:
        weights, biases = layers(args.weights)
    if [w.shape[1] for w in weights] + [weights[-1].shape[0]] != WIDTHS:
        raise SystemExit(f"{args.weights}: the layers are {[w.shape for w in weights]}, expected {WIDTHS}")
    vector, bias = np.eye(WIDTHS[0]), np.zeros(WIDTHS[0])
    for w, b in zip(weights, biases):
        vector, bias = w @ vector, w @ bias + b
    x = rng.standard_normal((1000, WIDTHS[0])).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    y = x.astype(np.float64)
    for w, b in zip(weights, biases):
        y = y @ w.T + b
    difference = float(np.abs(x @ vector.T.astype(np.float32) + bias.astype(np.float32) - y).max())
    print(f"{args.out}: largest difference to the five layers {difference:.1e}")
    if not difference <= 1e-4:
        raise SystemExit(f"{args.out}: the head does not compute what the layers compute")
    metadata = {
        "kind": "regression", "encoder": "clip-vit-l14", "encoder_sha256": hashlib.sha256(args.encoder.read_bytes()).hexdigest(),
        "l2_normalised": "true", "made_by": "scripts/convert/laion_head.py",
    }
    save_file({"weight": vector.astype(np.float32), "bias": bias.astype(np.float32)}, str(args.out), metadata=metadata)


main()
