"""Pictures that Python and Rust draw alike, so that golden vectors need no stored pixels.

The twin is `operators/src/pixels/goldens/synthetic.rs`: integers only, one xorshift32 step per pixel in raster order.
"""

import numpy as np


def draw(case, frame):
    """Frame number `frame` of a case: uint8 luma of `height` rows and `width` columns."""
    w, h = case["width"], case["height"]
    left, right, top, bottom = case["bars"]
    noise, dark, dark_noise = case["noise"], case["dark"], case["dark_noise"]
    zoom, shift, still = case["zoom"], case["shift"], case["still"]
    step = 0 if still else frame
    state = (case["seed"] * 2654435761 + (0 if still else frame) * 40503 + 1) & 0xFFFFFFFF or 1
    dx, dy = (shift[0] * step, shift[1] * step)
    rx, ry = (w - left - right) // 2, (h - top - bottom) // 2
    cx, cy = left + rx, top + ry
    out = np.zeros((h, w), np.uint8)
    for y in range(h):
        for x in range(w):
            state ^= (state << 13) & 0xFFFFFFFF
            state ^= state >> 17
            state ^= (state << 5) & 0xFFFFFFFF
            lit = left <= x < w - right and top <= y < h - bottom
            if lit and case["round"]:
                lit = ((x - cx) * ry) ** 2 + ((y - cy) * rx) ** 2 <= (rx * ry) ** 2
            if lit:
                u, v = (x + dx + 10000) // zoom, (y + dy + 10000) // zoom
                value = case["bright"] + abs((3 * u + 2 * v) % 120 - 60) + abs((5 * v - u + 60000) % 64 - 32)
                value += state % noise if noise else 0
            else:
                value = dark + (state % dark_noise if dark_noise else 0)
            out[y, x] = min(value, 255)
    return out


def case(name, width, height, **changes):
    """A case with every field that the twin reads."""
    base = dict(name=name, width=width, height=height, seed=len(name) * 7 + width, bars=[0, 0, 0, 0], round=False, bright=60, noise=0,
                dark=16, dark_noise=0, zoom=1, shift=[5, 3], still=False, frames=3)
    assert set(changes) <= set(base), changes
    return base | changes
