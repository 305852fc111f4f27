"""Golden vectors of black borders: OpenCV's Canny and HoughLinesP, ffmpeg's cropdetect.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install numpy opencv-python-headless
    /tmp/venv/bin/python scripts/goldens/borders.py [MEDIA_FOLDER [SAMPLE_FOLDER]]

Writes operators/tests/goldens/borders.json: for drawn pictures edges, lines and widths of every frame; for real files (decoded by ffmpeg, where the
folder is there) widths by frame and by file. Needs `ffmpeg` and `ffprobe` on the path. The rule that turns lines into widths is written here a second time, after
its description, not after the Rust code.
"""

import json
import math
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np

from synthetic import case, draw

LIMIT = 24
CASES = [
    case("plain", 160, 120),
    case("letterbox", 160, 120, bars=[0, 0, 16, 15]),
    case("pillarbox", 176, 96, bars=[30, 22, 0, 0]),
    case("all four", 150, 130, bars=[9, 12, 8, 21], noise=20),
    case("noisy", 160, 120, bars=[0, 0, 14, 14], noise=110, bright=40),
    case("noisy bars", 128, 128, bars=[0, 20, 0, 0], dark_noise=12),
    case("grey bars", 128, 96, bars=[0, 0, 12, 12], dark=30),
    case("thin bars", 200, 150, bars=[3, 0, 0, 4], noise=9),
    case("one side", 96, 160, bars=[0, 0, 0, 41], noise=30),
    case("scope", 200, 150, round=True, noise=10),
    case("scope in bars", 240, 150, round=True, bars=[45, 45, 0, 0], noise=10),
    case("dim", 160, 120, bars=[0, 0, 20, 20], bright=0, noise=14),
    case("smooth", 160, 120, bars=[0, 0, 20, 20], zoom=9, bright=90),
    case("tiny", 9, 7, bars=[2, 0, 0, 0]),
    case("odd", 97, 61, bars=[5, 6, 7, 8], noise=64),
    case("dark all over", 64, 48, bars=[64, 0, 0, 0], dark_noise=5),
]


def lines(edges):
    """HoughLinesP for vertical lines alone; a line is the edge pixels of two neighbouring columns."""
    height = edges.shape[0]
    either = edges.copy()
    either[:, :-1] |= edges[:, 1:]
    votes = max(1, round(0.5 * height))
    found = cv2.HoughLinesP(either, 1, math.pi, votes, None, round(0.8 * height), round(0.02 * height))
    return sorted([int(x0), min(int(y0), int(y1)), max(int(y0), int(y1))] for x0, y0, _, y1 in np.reshape([] if found is None else found, (-1, 4)))


def widths(luma, found):
    """The widest dark strip at the left that ends at a line of the outer 30 %, and at the right."""
    def at_left(luma, positions):
        height, width = luma.shape
        least = max(4, math.ceil(0.01 * width))
        means = luma.mean(axis=0)
        for x in sorted(positions, reverse=True):
            if x >= int(0.3 * width):
                continue
            n = 0
            for c in range(max(0, x - 1), min(x + 3, width)):
                if means[c] > LIMIT:
                    break
                n = c + 1
            if n >= least and luma[:, :n].mean() <= LIMIT:
                return n
        return 0
    width = luma.shape[1]
    # Mirrored, a line of the columns x and x + 1 is one of width - 2 - x and width - 1 - x.
    return [at_left(luma, [x for x, _, _ in found]), at_left(luma[:, ::-1], [width - 2 - x for x, _, _ in found])]


def by_lines(luma):
    edges = cv2.Canny(luma, 50, 150)
    vertical, horizontal = lines(edges), lines(np.ascontiguousarray(edges.T))
    sides = widths(luma, vertical) + widths(np.ascontiguousarray(luma.T), horizontal)
    return dict(edges=int((edges > 0).sum()), edges_crc32=zlib.crc32((edges > 0).astype(np.uint8).tobytes()), vertical=vertical, horizontal=horizontal,
                borders=sides)


def persistent(frames, lumas):
    lit = [f["borders"] for f, luma in zip(frames, lumas) if (luma.mean(axis=1) >= LIMIT + 1).any()]
    if not lit:
        return None
    out = []
    for side in zip(*lit):
        median = sorted(side)[len(side) // 2]
        out.append(median if sum(abs(s - median) <= 2 for s in side) >= 0.8 * len(side) else 0)
    return out


def cropdetect(lumas):
    """ffmpeg's own box over all frames, before it rounds."""
    height, width = lumas[0].shape
    told = subprocess.run(
        ["ffmpeg", "-v", "error", "-f", "rawvideo", "-pix_fmt", "gray", "-s", f"{width}x{height}", "-i", "-", "-vf",
         f"cropdetect=limit={LIMIT}:round=2:skip=0:reset=0,metadata=print:file=-", "-f", "null", "-"],
        input=b"".join(luma.tobytes() for luma in lumas), capture_output=True, check=True).stdout.decode()
    box = {}
    for line in told.splitlines():
        key, _, value = line.partition("=")
        if key.startswith("lavfi.cropdetect."):
            box[key.rsplit(".", 1)[1]] = int(float(value))
    if box["x2"] < box["x1"] or box["y2"] < box["y1"]:
        return None  # dark all over
    return [box["x1"], width - 1 - box["x2"], box["y1"], height - 1 - box["y2"]]


def real(path):
    """Eight uniform frames as RGB, their luma by the formula of the Rust side."""
    probe = subprocess.run(["ffprobe", "-v", "error", "-select_streams", "v:0", "-show_entries", "stream=width,height", "-of", "csv=p=0", path],
                           capture_output=True, check=True).stdout.decode()
    width, height = (int(v) for v in probe.strip().split(",")[:2])
    raw = subprocess.run(["ffmpeg", "-v", "error", "-noautorotate", "-i", path, "-map", "0:v:0", "-vsync", "0", "-f", "rawvideo", "-sws_flags",
                          "accurate_rnd+full_chroma_int", "-pix_fmt", "rgb24", "-"], capture_output=True, check=True).stdout
    frames = np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)
    lumas = []
    for k in range(8):
        r, g, b = (frames[k * (len(frames) - 1) // 7][..., c].astype(np.int32) for c in range(3))
        lumas.append((16 + ((66 * r + 129 * g + 25 * b + 128) >> 8)).astype(np.uint8))
    return len(frames), lumas


def main():
    out = dict(made_with=f"OpenCV {cv2.__version__}, " + subprocess.run(["ffmpeg", "-version"], capture_output=True).stdout.decode().split(" Copyright")[0],
               drawn=[], files=[])
    for c in CASES:
        lumas = [draw(c, i) for i in range(c["frames"])]
        frames = [by_lines(luma) for luma in lumas]
        out["drawn"].append(dict(case=c, luma_crc32=[zlib.crc32(luma.tobytes()) for luma in lumas], frames=frames, canny_hough=persistent(frames, lumas),
                                 cropdetect=cropdetect(lumas)))
    folders = [("media", sys.argv[1], ["letterbox-480p.mp4", "nature-butterfly-720p.mp4", "surgery-laparoscopy-720p.mp4", "ultrasound-cardiac-240p.mp4",
                                       "mri-brain-slices-288p.mp4", "bunny-480p.mp4", "multishot-720p.mp4", "car-432p.mp4"])] if len(sys.argv) > 1 else []
    if len(sys.argv) > 2:
        whole = [p.name for p in sorted(Path(sys.argv[2]).glob("*.mp4")) if not p.name.startswith(("broken", "audio", "endoscopy-rotated"))]
        folders.append(("sample", sys.argv[2], whole))
    for folder, path, names in folders:
        for name in names:
            count, lumas = real(str(Path(path) / name))
            frames = [by_lines(luma) for luma in lumas]
            out["files"].append(dict(folder=folder, name=name, frames=count, edges=[f["edges"] for f in frames], by_frame=[f["borders"] for f in frames],
                                     canny_hough=persistent(frames, lumas), cropdetect=cropdetect(lumas)))
            print(name, out["files"][-1]["canny_hough"], out["files"][-1]["cropdetect"])
    lines_ = json.dumps(out, separators=(",", ":")).replace('{"case"', '\n{"case"').replace('{"folder"', '\n{"folder"')
    Path(__file__).parents[2].joinpath("operators/tests/goldens/borders.json").write_text(lines_ + "\n")


main()
