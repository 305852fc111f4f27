#!/usr/bin/env python3
"""Randomly corrupted copies of videos, the same ones for the same seed.

    scripts/fuzz.py OUT COUNT SEED VIDEO...

Writes OUT/NNNN-VIDEO: bits flipped, bytes overwritten, a piece cut out, zeroed, doubled or cut off at the end; the first half of the files is damaged anywhere, the
second half behind the first kilobyte, so that the container is still known. Needs nothing but Python.
"""

import random
import sys
from pathlib import Path


def spoil(data, draw, least):
    data = bytearray(data)
    place = lambda: draw.randrange(min(least, len(data) - 1), len(data))
    kind = draw.choice(["flip", "flip", "flip", "write", "write", "cut", "zero", "double", "end"])
    if kind == "flip":
        for _ in range(draw.choice([1, 3, 10, 100, 1000])):
            data[place()] ^= 1 << draw.randrange(8)
    elif kind == "write":
        for _ in range(draw.choice([1, 5, 20])):
            at, size = place(), draw.choice([1, 4, 16, 256])
            data[at:at + size] = draw.randbytes(len(data[at:at + size]))
    else:
        at, size = place(), draw.choice([1, 7, 100, 4096, 65536])
        piece = data[at:at + size]
        if kind == "cut":
            del data[at:at + size]
        elif kind == "zero":
            data[at:at + size] = bytes(len(piece))
        elif kind == "double":
            data[at:at] = piece
        else:
            del data[at:]
    return bytes(data)


def main():
    out, count, seed, videos = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), [Path(v) for v in sys.argv[4:]]
    out.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        draw = random.Random(seed * 1_000_003 + i)
        video = videos[i % len(videos)]
        (out / f"{i:04}-{video.name}").write_bytes(spoil(video.read_bytes(), draw, 1 if i < count // 2 else 1024))


main()
