"""Labelled embeddings from the formula of operators/heads/src/synthetic.rs, for heads.py here and for benches/heads.py."""

import numpy as np

ROWS, DIM = 4000, 768


def unit(index):
    with np.errstate(over="ignore"):
        z = (index + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(40)).astype(np.float64) / 2**23 - 1.0


def samples(rows=ROWS, dim=DIM):
    at = unit(np.arange(rows * (dim + 1), dtype=np.uint64).reshape(rows, dim + 1))
    signal = sum(at[:, k] / (1 << (k // 2)) for k in range(8))
    return (at[:, :dim] / 16).astype(np.float32), signal + at[:, dim] > 0
