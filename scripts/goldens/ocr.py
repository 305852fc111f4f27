#!/usr/bin/env python3
"""Goldens of the crate curette-ocr, made by RapidOCR 1.4.4 (rapidocr-onnxruntime on PyPI, its own PP-OCRv4 models).

    python3 -m venv /tmp/golden && /tmp/golden/bin/pip install rapidocr-onnxruntime==1.4.4 onnxruntime==1.32.0 pillow==13.0.0
    /tmp/golden/bin/pip install --no-deps matplotlib==3.10.7
    /tmp/golden/bin/python scripts/goldens/ocr.py        # writes operators/ocr/tests/golden/

Step by step, so that a difference shows where it comes from: resized picture, map to boxes, box to strip, probabilities to text; then whole pictures.
"""

import json
import math
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageOps
from rapidocr_onnxruntime import RapidOCR
from rapidocr_onnxruntime.ch_ppocr_det.utils import DBPostProcess, DetPreProcess
from rapidocr_onnxruntime.ch_ppocr_rec.utils import CTCLabelDecode

from ocr_frames import LINES, background, burn, font

OUT = Path(__file__).resolve().parents[2] / "operators/ocr/tests/golden"


def engine(limit_type, side):
    return RapidOCR(det_limit_type=limit_type, det_limit_side_len=side, use_cls=False, intra_op_num_threads=1, inter_op_num_threads=1)


def pictures():
    """Small ones: a subtitle, two lines, a label at each side, tilted text, upright text, none."""
    size = (480, 272)
    plain = lambda kind, seed: ImageOps.posterize(background(*size, kind, seed, 0.0), 4)  # compresses well
    yield "subtitle", burn(plain(0, 1), [LINES[0]], 0, 0, 18)
    yield "two-lines", burn(plain(1, 2), [LINES[3], LINES[13]], 1, 2, 20)
    labels = plain(2, 3)
    draw = ImageDraw.Draw(labels)
    for at, text in [((14, 12), "HR 72 bpm"), ((370, 14), "Depth 16 cm"), ((18, 240), "Apical view"), ((360, 238), "12 May 2021")]:
        draw.text(at, text, font=font(1, 15), fill=(235, 235, 235))
    yield "labels", labels
    tilted = Image.new("L", (420, 60))
    ImageDraw.Draw(tilted).text((10, 8), "Blood flow is shown in red", font=font(1, 26), fill=255)
    tilted = tilted.rotate(11, expand=True, resample=Image.Resampling.BICUBIC)
    page = plain(3, 4)
    page.paste(Image.new("RGB", tilted.size, (250, 250, 250)), (20, 60), tilted)
    yield "tilted", page
    upright = Image.new("L", (230, 40))
    ImageDraw.Draw(upright).text((10, 4), "ventricle wall", font=font(1, 24), fill=255)
    upright = upright.rotate(-90, expand=True)  # reads from top to bottom
    page = plain(0, 5)
    page.paste(Image.new("RGB", upright.size, (250, 250, 250)), (40, 20), upright)
    yield "upright", page
    yield "none", plain(1, 6)


def bars():
    """A map with bars of text at several angles, some faint, some small, two that touch."""
    image = np.zeros((192, 320), np.uint8)
    for (x, y), (w, h), angle, level in [
        ((80, 30), (110, 14), 0, 230), ((230, 40), (120, 12), 9, 200), ((70, 90), (90, 16), -17, 240), ((200, 110), (60, 60), 45, 150),
        ((290, 120), (12, 90), 3, 220), ((60, 160), (80, 12), 0, 90), ((150, 160), (2, 2), 0, 255), ((200, 170), (40, 8), 0, 250), ((222, 176), (30, 8), 0, 250),
    ]:
        corners = cv2.boxPoints(((x, y), (w, h), angle))
        cv2.fillPoly(image, [np.round(corners).astype(np.int32)], level)
    return cv2.GaussianBlur(image, (5, 5), 1.0)


def save(image, name):
    Image.fromarray(image).save(OUT / name, optimize=True)


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    ocr = engine("max", 640)
    post = DBPostProcess(thresh=0.3, box_thresh=0.5, unclip_ratio=1.6, use_dilation=True)
    golden = {"made_by": "rapidocr-onnxruntime 1.4.4", "maps": [], "strips": [], "ctc": [], "pictures": []}
    images = dict(pictures())

    rgb = np.asarray(images["labels"])
    resized = DetPreProcess(limit_side_len=352, limit_type="max").resize(rgb)
    save(np.ascontiguousarray(resized), "resized.png")

    subtitle_map = ocr.text_det.infer(DetPreProcess(640, "max")(np.asarray(images["tilted"])[..., ::-1]))[0][0, 0]
    for name, values in [("bars", bars()), ("tilted", np.round(subtitle_map * 255).astype(np.uint8))]:
        save(values, f"map-{name}.png")
        found, scores = post(values[None, None].astype(np.float32) / 255, values.shape)
        golden["maps"].append({"file": f"map-{name}.png", "boxes": found.tolist(), "scores": [float(s) for s in scores]})

    tilted = np.asarray(images["tilted"])
    for name, corners in [
        ("subtitle", [[60, 236], [420, 236], [420, 262], [60, 262]]),
        ("tilted", [[24, 150], [424, 60], [433, 100], [33, 190]]),
        ("upright", [[40, 24], [82, 24], [82, 248], [40, 248]]),
    ]:
        crop = ocr.get_crop_img_list(np.ascontiguousarray(np.asarray(images[name])[..., ::-1]), np.array([corners], np.float32))[0]
        h, w = crop.shape[:2]
        strip = cv2.resize(crop, (math.ceil(48 * w / h), 48))
        save(np.ascontiguousarray(strip[..., ::-1]), f"strip-{name}.png")
        golden["strips"].append({"picture": f"{name}.png", "file": f"strip-{name}.png", "corners": corners})

    rng = np.random.default_rng(7)
    keys = list("abcdeé漢-9")
    decoder = CTCLabelDecode(character=list(keys))
    for _ in range(6):
        logits = rng.normal(0, 2.5, (1, 24, len(keys) + 2)).astype(np.float32)
        logits[..., 0] += 1.5
        p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        p = np.round(p, 5).astype(np.float32)
        text, score = decoder(p)[0][:2]
        golden["ctc"].append({"keys": "\n".join(keys), "probabilities": p[0].tolist(), "text": text, "score": float(score)})

    for name, image in images.items():
        image.save(OUT / f"{name}.png", optimize=True)
        result, _ = ocr(np.ascontiguousarray(np.asarray(image)[..., ::-1]))
        lines = [{"corners": corners, "text": text, "score": float(score)} for corners, text, score in result or []]
        golden["pictures"].append({"file": f"{name}.png", "lines": lines})
        print(name, [(line["text"], round(line["score"], 3)) for line in lines])
    (OUT / "golden.json").write_text(json.dumps(golden, ensure_ascii=False, default=float) + "\n")


if __name__ == "__main__":
    main()
