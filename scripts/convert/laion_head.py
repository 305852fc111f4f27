#!/usr/bin/env python3
"""LAION's aesthetic predictor as published (a pickled state dict) to safetensors, from which curette makes a head.

    scripts/convert/laion_head.py sac+logos+ava1-l14-linearMSE.pth layers.safetensors
    curette head import-laion layers.safetensors --encoder clip-vit-l14@sha256:HEX --out laion-aesthetic.safetensors
    curette models add laion-aesthetic head=laion-aesthetic.safetensors

HEX is the SHA-256 of the encoder's ONNX file. The five linear layers (768-1024-128-64-16-1) become one there, since nothing stands between them.
`--random` makes up the weights, to try the conversion.
"""

import argparse
import pathlib

import numpy as np
from safetensors.numpy import save_file

WIDTHS = [768, 1024, 128, 64, 16, 1]
# Dropout takes the numbers between.
LAYERS = [0, 2, 4, 6, 7]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--random", action="store_true")
    parser.add_argument("weights", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    args = parser.parse_args()
    if args.random:
        rng = np.random.default_rng(0)
        state = {}
        for number, a, b in zip(LAYERS, WIDTHS, WIDTHS[1:]):
            state[f"layers.{number}.weight"] = (rng.standard_normal((b, a)) / a**0.5).astype(np.float32)
            state[f"layers.{number}.bias"] = rng.standard_normal(b).astype(np.float32)
    else:
        import torch

        state = {name: tensor.numpy() for name, tensor in torch.load(args.weights, map_location="cpu", weights_only=True).items()}
    shapes = [value.shape for name, value in state.items() if name.endswith(".weight")]
    if sorted(shapes) != sorted((b, a) for a, b in zip(WIDTHS, WIDTHS[1:])):
        raise SystemExit(f"{args.weights}: the layers are {shapes}, expected widths {WIDTHS}")
    save_file(state, str(args.out))


main()
