#!/usr/bin/env python3
"""Goldens of the EasyOCR half of the crate curette-ocr, made by EasyOCR 1.7.2's own functions.

    /tmp/golden/bin/pip install torch torchvision onnx scipy pyyaml
    /tmp/golden/bin/pip install --no-deps easyocr==1.7.2 opencv-python-headless scikit-image shapely pyclipper python-bidi imageio lazy_loader tifffile
    /tmp/golden/bin/python scripts/goldens/easyocr.py        # writes operators/ocr/tests/golden/easyocr/

Step by step: maps to words, words to lines, boxes to strips, logits to text. Then whole pictures, with two tiny networks of the true shapes in place of the
real ones, whose weights are not on PyPI: `craft-tiny.onnx` sees bright pixels, `rec-tiny.onnx` has random weights. Both run here in torch, behind
`easyocr.Reader.readtext`, and in the test on ONNX Runtime.
"""

import json
import sys
from pathlib import Path

# This script has the name of the package.
sys.path = [p for p in sys.path if Path(p or ".").resolve() != Path(__file__).resolve().parent]

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402

import easyocr  # noqa: E402
from easyocr import detection, utils  # noqa: E402
from easyocr.config import recognition_models  # noqa: E402
from easyocr.craft_utils import getDetBoxes  # noqa: E402
from easyocr.recognition import AlignCollate, recognizer_predict  # noqa: E402

OUT = Path(__file__).resolve().parents[2] / "operators/ocr/tests/golden/easyocr"
CHARACTERS = recognition_models["gen2"]["english_g2"]["characters"]


def save(image, name):
    Image.fromarray(image).save(OUT / name, optimize=True)


def score_maps(seed, angle):
    """Words of character blobs on tilted lines, with affinity between; some faint, some small, some at the edge."""
    rng = np.random.default_rng(seed)
    height, width = 160, 240
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
    maps = np.zeros((2, height, width), np.float32)

    def blob(plane, x, y, rx, ry, peak):
        maps[plane] = np.maximum(maps[plane], peak * np.exp(-0.5 * (((xs - x) / rx) ** 2 + ((ys - y) / ry) ** 2)))

    for line in range(4):
        x, y = rng.uniform(-4, 30), 20 + 38 * line
        size, peak = rng.uniform(2.0, 5.0), rng.choice([0.65, 0.85, 0.98])
        for _ in range(rng.integers(2, 5)):
            for letter in range(rng.integers(1, 7)):
                dx, dy = x * np.cos(angle), y + x * np.sin(angle)
                blob(0, dx, dy, size * rng.uniform(0.7, 1.1), size, peak * rng.uniform(0.9, 1.0))
                if letter:
                    blob(1, dx - 1.4 * size * np.cos(angle), dy - 1.4 * size * np.sin(angle), size * 0.9, size * 0.6, peak)
                x += 2.8 * size
            x += 3.5 * size
    noise = rng.random((height, width)) > 0.9985
    maps[0][noise] = 0.9
    return np.round(np.clip(maps, 0, 1) * 255).astype(np.uint8)


def words():
    for name, seed, angle in [("flat", 1, 0.0), ("falling", 2, 0.21), ("rising", 3, -0.4)]:
        maps = score_maps(seed, angle)
        save(maps[0], f"region-{name}.png")
        save(maps[1], f"affinity-{name}.png")
        region, affinity = maps.astype(np.float32) / np.float32(255)
        boxes, _, _ = getDetBoxes(region, affinity, 0.7, 0.4, 0.4)
        yield {"region": f"region-{name}.png", "affinity": f"affinity-{name}.png", "words": np.array(boxes, float).tolist()}


def groups():
    rng = np.random.default_rng(5)
    for case in range(40):
        polys = []
        for _ in range(rng.integers(0, 14)):
            x, y = rng.integers(-5, 400), rng.integers(-5, 60 if case % 2 else 300)
            w, h = rng.integers(4, 90), rng.integers(6, 40)
            tilt = int(rng.choice([0, 0, 0, 1, 2, -2, 12, -15]))
            polys.append(np.array([x, y, x + w, y + tilt, x + w - tilt // 3, y + tilt + h, x - tilt // 3, y + h], np.int32))
        flat, free = utils.group_text_box(polys, 0.1, 0.5, 0.5, 0.5, 0.1, True)
        # As Reader.detect does.
        flat = [b for b in flat if max(b[1] - b[0], b[3] - b[2]) > 20]
        free = [b for b in free if max(utils.diff([c[0] for c in b]), utils.diff([c[1] for c in b])) > 20]
        yield {"boxes": [p.reshape(4, 2).tolist() for p in polys], "upright": np.array(flat, int).reshape(-1, 4).tolist(),
               "tilted": np.array(free, float).reshape(-1, 4, 2).tolist()}


def strips():
    """From labels.png: what the recogniser is given, for upright boxes (left, right, top, bottom) that are wide, high, and beyond the edge."""
    path = OUT.parent / "labels.png"
    grey = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2GRAY)
    save(grey, "grey.png")
    faint = grey // 4 + 80
    for name, box in [("wide", [8, 120, 6, 34]), ("high", [372, 388, 8, 62]), ("edge", [350, 500, -4, 30]), ("square", [20, 61, 230, 270])]:
        for kind, picture, target in [("plain", grey, 0.0), ("strong", grey, 0.5), ("faint", faint, 0.5)]:
            ((_, crop),), width = utils.get_image_list([box], [], picture, 64)
            tensor = AlignCollate(64, int(width), True, target)([Image.fromarray(crop)])[0, 0]
            save(np.round((tensor.numpy() * 0.5 + 0.5) * 255).astype(np.uint8), f"strip-{name}-{kind}.png")
        x0, x1, y0, y1 = max(0, box[0]), min(box[1], grey.shape[1]), max(0, box[2]), min(box[3], grey.shape[0])
        yield {"name": name, "box": [x0, x1, y0, y1]}


def texts():
    rng = np.random.default_rng(9)
    characters = "0123456789 ab€"
    converter = utils.CTCLabelConverter(characters)
    for _ in range(8):
        logits = rng.normal(0, 3.0, (1, int(rng.integers(1, 30)), len(characters) + 1)).astype(np.float32)
        logits[..., 0] += 2.0
        logits = np.round(logits, 3)

        class Fixed(torch.nn.Module):
            def forward(self, image, text):
                return torch.from_numpy(logits)

        (text, score), = recognizer_predict(Fixed(), converter, [torch.zeros(1, 1, 64, 64)], 10, [], {})
        yield {"characters": characters, "logits": logits[0].tolist(), "text": text, "score": float(score)}


class TinyCraft(torch.nn.Module):
    """Bright pixels are text; what is between bright pixels of a row is affinity."""

    def forward(self, x):
        mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
        std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
        grey = (x * std + mean).mean(1, keepdim=True)
        region = torch.nn.functional.avg_pool2d(grey, 2).mul(2.5).sub(1.2).clamp(0.0, 1.0)
        affinity = torch.nn.functional.max_pool2d(region, (1, 7), stride=1, padding=(0, 3))
        return torch.cat([region, affinity], 1).permute(0, 2, 3, 1)


class TinyRecogniser(torch.nn.Module):
    """A step for each 8 columns, with random weights."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(4)
        self.cut = torch.nn.Conv2d(1, 12, (64, 8), stride=(64, 8))
        self.read = torch.nn.Conv1d(12, 1 + len(CHARACTERS), 1)
        for p in self.parameters():
            p.data = torch.randn(p.shape, generator=generator) * (0.06 if p.dim() == 4 else 3.0)
        self.read.bias.data[0] = 4.0

    def forward(self, x):
        return self.read(torch.relu(self.cut(x)).squeeze(2)).permute(0, 2, 1)


def export(module, shape, axes, name):
    torch.onnx.export(module, (torch.zeros(shape),), str(OUT / name), input_names=["input"], output_names=["output"],
                      dynamic_axes=axes, opset_version=17, dynamo=False)


def pages():
    craft, recogniser = TinyCraft().eval(), TinyRecogniser().eval()
    export(craft, (1, 3, 64, 96), {"input": {0: "batch", 2: "height", 3: "width"}, "output": {0: "batch", 1: "rows", 2: "columns"}}, "craft-tiny.onnx")
    export(recogniser, (1, 1, 64, 128), {"input": {0: "batch", 3: "width"}, "output": {0: "batch", 1: "steps"}}, "rec-tiny.onnx")
    quoted = CHARACTERS.replace("'", "''")
    (OUT / "english.yaml").write_text(f"character_list: '{quoted}'\n", encoding="utf-8")

    reader = easyocr.Reader(["en"], gpu=False, detector=False, recognizer=False, download_enabled=False, verbose=False)
    reader.get_textbox = detection.get_textbox
    reader.detector = lambda x: (craft(x), None)
    reader.converter = utils.CTCLabelConverter(CHARACTERS)

    class WithText(torch.nn.Module):
        def forward(self, image, text):
            return recogniser(image)

    reader.recognizer = WithText()
    for name in ["subtitle", "two-lines", "labels", "upright", "none"]:
        for canvas in [2560, 320]:
            result = reader.readtext(str(OUT.parent / f"{name}.png"), canvas_size=canvas)
            lines = [{"corners": np.array(c, float).tolist(), "text": t, "score": float(s)} for c, t, s in result]
            print(name, canvas, [(line["text"], round(line["score"], 3)) for line in lines])
            yield {"file": f"{name}.png", "canvas": canvas, "lines": lines}


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    golden = {"made_by": "easyocr 1.7.2", "words": list(words()), "groups": list(groups()), "strips": list(strips()), "texts": list(texts()),
              "pages": list(pages())}
    (OUT / "golden.json").write_text(json.dumps(golden, ensure_ascii=False, default=float) + "\n")


main()
