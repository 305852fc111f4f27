#!/usr/bin/env python3
"""What Pillow makes of pictures full of hard edges on the way to CLIP's 224x224: hashes for operators/models/tests/preprocessing.rs.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install 'pillow<13' numpy
    /tmp/venv/bin/python scripts/goldens/clip_preprocess.py > operators/models/tests/golden/clip_preprocess.json

The pictures come from integer formulas that the test has as well, so only a hash of each result is kept. Edges from 0 to 255 in every pixel or two are the
worst case: each pass overshoots and is cut to 0..255, so the order of the passes shows. Pillow 13 turned that order round for pictures whose height shrinks
by much more than their width (python-pillow/Pillow#9549); CLIP was trained with the order of before, which torchvision has too, hence `pillow<13`.
"""

import hashlib
import json
import sys

import numpy as np
import PIL
from PIL import Image

EDGE = 224
SIZES = [(200, 200), (97, 131), (224, 300), (231, 987), (300, 1000), (467, 957), (640, 360), (719, 403), (1411, 700), (1000, 1411)]


def mixed(n):
    """A number of 32 bits that looks like chance."""
    n = n.astype(np.uint32)
    n = (n ^ (n >> 16)) * np.uint32(0x7FEB352D)
    n = (n ^ (n >> 15)) * np.uint32(0x846CA68B)
    return n ^ (n >> 16)


def picture(kind, width, height):
    y, x, c = np.mgrid[0:height, 0:width, 0:3]
    bits = {
        "checks": (x + 7 * c) // (3 + c) + y // (5 - c),
        "noise": mixed((y * width + x) * 3 + c),
        "blocks": mixed((y // 9) * 1000 + x // 7 + 500_000 * c) | (y % 31 == 0) | (x % 29 == 0),
    }[kind]
    return ((bits & 1) * 255).astype(np.uint8)


def crop(pixels):
    image = Image.fromarray(pixels)
    width, height = image.size
    stretched = EDGE * max(width, height) // min(width, height)
    size = (EDGE, stretched) if width <= height else (stretched, EDGE)
    left, top = (size[0] - EDGE) // 2, (size[1] - EDGE) // 2
    return image.resize(size, Image.Resampling.BICUBIC).crop((left, top, left + EDGE, top + EDGE))


def main():
    if int(PIL.__version__.split(".")[0]) >= 13:
        sys.exit(f"Pillow {PIL.__version__} has another order of passes; install 'pillow<13'")
    goldens = []
    for kind in ["checks", "noise", "blocks"]:
        for width, height in SIZES:
            pixels = picture(kind, width, height)
            sha256 = lambda values: hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()
            goldens.append({"kind": kind, "width": width, "height": height, "picture": sha256(pixels), "crop": sha256(np.asarray(crop(pixels)))})
    lines = ",\n".join(json.dumps(g) for g in goldens)
    print(f'{{"pillow": "{PIL.__version__}", "goldens": [\n{lines}\n]}}')


if __name__ == "__main__":
    main()
