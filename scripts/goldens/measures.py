"""Golden vectors of the quality measures: OpenCV's Laplacian, Sobel and phaseCorrelate, and numpy for the rest.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install numpy opencv-python-headless
    /tmp/venv/bin/python scripts/goldens/measures.py

Writes operators/tests/goldens/measures.json. Pictures are drawn by synthetic.py.
"""

import json
from pathlib import Path

import cv2
import numpy as np

from synthetic import case, draw

CASES = [
    case("plain", 160, 130),
    case("slow", 150, 140, zoom=3, shift=[2, -1]),
    case("noise", 97, 75, noise=120),
    case("dark", 64, 64, bright=0, bars=[0, 30, 0, 0]),
    case("bright", 70, 40, bright=180, noise=40),
    case("coarse", 136, 136, zoom=8, shift=[0, 0], noise=3),
    case("still", 80, 60, still=True, noise=50),
    case("smallest", 16, 16, noise=99),
    case("scope", 140, 100, round=True, shift=[-3, 4], noise=16),
]


def blocks(luma):
    """Wang, Sheikh and Bovik's features, by their formulas with counting from one."""
    x = luma.astype(float) * 255 / 219
    out = []
    for x in (x, x.T):
        m, n = x.shape
        d = x[:, 1:] - x[:, :-1]  # d[:, j - 1] is d(i, j)
        b = np.abs(d[:, [8 * j - 1 for j in range(1, n // 8)]]).mean()
        a = (8 / (m * (n - 1)) * np.abs(d).sum() - b) / 7
        z = (d[:, :-1] * d[:, 1:] < 0).sum() / (m * (n - 2))
        out.append((b, max(a, 0), z))
    b, a, z = (sum(v) / 2 for v in zip(*out))
    score = -245.8909 + 261.9373 * b ** -0.02398886 * a ** 0.01601664 * z ** 0.00642859 if min(a, b, z) > 0 else None
    return dict(boundary=b, inside=a, crossings=z, ratio=(b + 0.1) / (a + 0.1), quality=score)


def light(luma):
    level = np.clip((luma.astype(float) - 16) / 219, 0, 1)
    return dict(mean=level.mean(), contrast=level.std(), dark_share=(luma <= 18).mean(), bright_share=(luma >= 233).mean())


def square(luma):
    side = 2 ** int(np.log2(min(*luma.shape, 128)))
    y, x = (luma.shape[0] - side) // 2, (luma.shape[1] - side) // 2
    return luma[y:y + side, x:x + side].astype(float)


def shift(before, after):
    before, after = square(before), square(after)
    (dx, dy), response = cv2.phaseCorrelate(before, after, cv2.createHanningWindow(before.shape[::-1], cv2.CV_64F))
    return dict(dx=dx, dy=dy, response=response)


def main():
    out = []
    for c in CASES:
        lumas = [draw(c, i) for i in range(c["frames"])]
        frames = []
        for luma in lumas:
            gx, gy = cv2.Sobel(luma, cv2.CV_64F, 1, 0), cv2.Sobel(luma, cv2.CV_64F, 0, 1)
            frames.append(dict(laplacian=cv2.Laplacian(luma, cv2.CV_64F).var(), tenengrad=(gx * gx + gy * gy).mean(), light=light(luma), blocks=blocks(luma)))
        differences = [float(np.abs(a.astype(float) - b).mean() / 219) for a, b in zip(lumas, lumas[1:])]
        out.append(dict(case=c, frames=frames, shifts=[shift(a, b) for a, b in zip(lumas, lumas[1:])], differences=differences))
        print(c["name"], out[-1]["shifts"], differences)
    text = json.dumps(dict(made_with=f"OpenCV {cv2.__version__}, numpy {np.__version__}", drawn=out), separators=(",", ":")).replace('{"case"', '\n{"case"')
    Path(__file__).parents[2].joinpath("operators/tests/goldens/measures.json").write_text(text + "\n")


main()
