"""Golden vectors of DOVER's views and scales, written with numpy after the description in operators/src/quality/dover_views.rs.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install numpy
    /tmp/venv/bin/python scripts/goldens/dover.py

Writes operators/tests/goldens/dover.json.
"""

import json
import math
import zlib
from pathlib import Path

import numpy as np

M64 = 2**64 - 1
CLIPS = [("surgery.mp4#0-8000000", 250, 1280, 720), ("a", 31, 854, 480), ("échographie#1-2", 96, 320, 240), ("x", 1000, 224, 400), ("", 1, 100, 60),
         ("tall#5-9", 193, 406, 720), ("hd", 2400, 1920, 1080)]


def choice(clip_id, k, n):
    h = 0xCBF29CE484222325
    for b in clip_id.encode():
        h = (h ^ b) * 0x100000001B3 & M64
    z = h + (k + 1) * 0x9E3779B97F4A7C15 & M64
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & M64
    z = (z ^ z >> 27) * 0x94D049BB133111EB & M64
    return (z ^ z >> 31) * max(n, 0) >> 64


def drawn(width, height, t):
    y, x, c = np.mgrid[:height, :width, :3]
    return (x * (3 + c) + y * (7 - c) + x * y // 16 + t * 11).astype(np.uint8)


def interpolate(picture, out_height, out_width, step_y, step_x):
    """torch.nn.functional.interpolate(mode="bilinear", align_corners=False) in double precision, rounded as torch.round does."""
    h, w, _ = picture.shape
    ys, xs = (np.maximum((np.arange(n) + 0.5) * s - 0.5, 0) for n, s in ((out_height, step_y), (out_width, step_x)))
    y0, x0 = np.minimum(ys.astype(int), h - 1), np.minimum(xs.astype(int), w - 1)
    y1, x1 = np.minimum(y0 + 1, h - 1), np.minimum(x0 + 1, w - 1)
    v, u = (ys - y0)[:, None, None], (xs - x0)[None, :, None]
    p = picture.astype(float)
    upper = p[y0][:, x0] * (1 - u) + p[y0][:, x1] * u
    lower = p[y1][:, x0] * (1 - u) + p[y1][:, x1] * u
    return np.rint(upper * (1 - v) + lower * v).astype(np.uint8)


def technical(clip_id, segment, picture):
    h, w, _ = picture.shape
    short = min(h, w)
    if short < 224:
        picture = interpolate(picture, h * 224 // short, w * 224 // short, short / 224, short / 224)
        h, w, _ = picture.shape
    out = np.zeros((224, 224, 3), np.uint8)
    for i in range(7):
        for j in range(7):
            k = 35 + 2 * (segment * 49 + i * 7 + j)
            y = min(h // 7 * i, h - 32) + choice(clip_id, k, h // 7 - 32)
            x = min(w // 7 * j, w - 32) + choice(clip_id, k + 1, w // 7 - 32)
            out[32 * i:32 * i + 32, 32 * j:32 * j + 32] = picture[y:y + 32, x:x + 32]
    return out


def main():
    clips = []
    for clip_id, n, width, height in CLIPS:
        third, part = n // 3, n // 32
        starts = [third * i + choice(clip_id, i, third - 64) for i in range(3)]
        picture = drawn(width, height, 5)
        patches = [technical(clip_id, s, picture) for s in range(3)]
        whole = interpolate(picture, 224, 224, height / 224, width / 224)
        tensor = np.stack([whole, patches[1]]).astype(np.float32)
        tensor = ((tensor - np.float32([123.675, 116.28, 103.53])) / np.float32([58.395, 57.12, 57.375])).transpose(3, 0, 1, 2).ravel()
        at = [0, 1, 223, 50175, 50176, 100351, 100352, 123456, 250000, 301055]
        clips.append(dict(id=clip_id, frames=n, width=width, height=height, technical_frames=[[(s + 2 * i) % n for i in range(32)] for s in starts],
                          aesthetic_frames=[part * i + choice(clip_id, 3 + i, part - 2) if part else i * n // 32 for i in range(32)],
                          technical_crc32=[zlib.crc32(p.tobytes()) for p in patches], aesthetic_crc32=zlib.crc32(whole.tobytes()),
                          tensor={str(i): float(tensor[i]) for i in at}))
    scores = []
    for constants, (t, a) in dict(upstream=((0.1107, 0.07355), (-0.08285, 0.03774)), corrected=((-0.08285, 0.03774), (0.1107, 0.07355))).items():
        for technical_raw, aesthetic_raw in [(-0.079, 0.148), (-0.31, -0.33), (0.008, 0.35), (0.0, 0.0)]:
            tz, az = (technical_raw - t[0]) / t[1], (aesthetic_raw - a[0]) / a[1]
            x = 0.6104 * tz + 0.3896 * az
            s = lambda v: 1 / (1 + math.exp(-v))
            scores.append(dict(constants=constants, technical_raw=technical_raw, aesthetic_raw=aesthetic_raw, technical_z=tz, aesthetic_z=az, technical=s(tz),
                               aesthetic=s(az), logit=x, overall=s(x)))
    text = json.dumps(dict(made_with=f"numpy {np.__version__}", clips=clips, scores=scores), separators=(",", ":"), ensure_ascii=False).replace('{"id"', '\n{"id"')
    Path(__file__).parents[2].joinpath("operators/tests/goldens/dover.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
