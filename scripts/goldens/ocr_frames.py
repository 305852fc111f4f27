"""Frames with known words for the OCR goldens and the OCR benchmark: the same pixels from the same versions of Pillow and the fonts.

Backgrounds look roughly like scans and scopes: gradients, soft blobs, a fan of echoes, grain. Words are burnt in as players and editors do it.
Fonts are DejaVu from matplotlib's wheel (installed without its dependencies, never imported).
"""

import importlib.metadata

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

LINES = [
    "The left ventricle fills during diastole",
    "Note the thickened wall of the gallbladder",
    "We now clip the cystic artery and the duct",
    "Polyp of 8 mm in the ascending colon",
    "Patient 42, follow-up after 6 months",
    "Blood flow towards the probe is shown in red",
    "Remove the specimen in a retrieval bag",
    "Watch the needle enter the vein",
    "T2 weighted image, axial plane",
    "Normal saline is injected under the lesion",
    "The retina shows no sign of bleeding",
    "Place the second port under direct vision",
    "Tissue is stained with eosin",
    "Fracture of the distal radius",
    "Always check the airway first",
    "Figure 3: comparison of both groups",
    "The valve opens and closes without leak",
    "Dark spaces hold cerebrospinal fluid",
    "Cut along the marked line",
    "Questions? Write to us below the video",
]
FONTS = ["DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSerif.ttf", "DejaVuSansMono.ttf", "DejaVuSans-Oblique.ttf"]


def font(index, size):
    name = FONTS[index % len(FONTS)]
    for file in importlib.metadata.files("matplotlib") or []:
        if file.name == name:
            return ImageFont.truetype(str(file.locate()), size)
    raise SystemExit(f"{name} not found: pip install --no-deps matplotlib")


def background(width, height, kind, seed, grain=4.0):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    x, y = x / width, y / height
    base = np.empty((height, width, 3), np.float32)
    tint = rng.uniform(0.4, 1.0, 3)
    if kind == 0:  # scan: dark, a bright oval
        d = ((x - 0.5) / 0.3) ** 2 + ((y - 0.45) / 0.4) ** 2
        base[:] = (30 + 120 * np.exp(-(d**2)))[..., None]
    elif kind == 1:  # scope: reddish, lit in the middle
        d = np.hypot(x - 0.5, y - 0.5)
        base[:] = (200 - 230 * d)[..., None] * np.array([1.0, 0.55, 0.45]) + 20
    elif kind == 2:  # fan of echoes
        angle, radius = np.arctan2(x - 0.5, y + 0.05), np.hypot(x - 0.5, y + 0.05)
        fan = (np.abs(angle) < 0.6) & (radius < 0.95)
        base[:] = np.where(fan, 60 + 50 * np.sin(radius * 40) * np.cos(angle * 9), 12)[..., None]
    else:  # a room: gradient
        base[:] = (60 + 120 * (0.6 * x + 0.4 * y))[..., None] * tint
    blobs = Image.new("RGB", (width, height))
    draw = ImageDraw.Draw(blobs)
    for _ in range(10):
        cx, cy, r = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0.03, 0.12) * width
        draw.ellipse([cx - r, cy - 0.7 * r, cx + r, cy + 0.7 * r], fill=tuple(int(v) for v in rng.integers(20, 120, 3)))
    base += 0.5 * np.asarray(blobs.filter(ImageFilter.GaussianBlur(width / 60)), np.float32)
    base += rng.normal(0, grain, base.shape)
    return Image.fromarray(np.clip(base, 0, 255).astype(np.uint8))


def burn(image, lines, style, font_index, size):
    """Burns lines in at the bottom, centred; the last one lowest."""
    draw, (width, height) = ImageDraw.Draw(image), image.size
    face = font(font_index, size)
    y = height - int(0.05 * height) - int(1.35 * size) * len(lines)
    for line in lines:
        box = draw.textbbox((0, 0), line, font=face)
        x = (width - (box[2] - box[0])) // 2
        if style == 0:  # outline
            draw.text((x, y), line, font=face, fill=(255, 255, 255), stroke_width=max(1, size // 12), stroke_fill=(0, 0, 0))
        elif style == 1:  # plate
            draw.rectangle([x - size // 3, y - size // 8, x + box[2] - box[0] + size // 3, y + int(1.25 * size)], fill=(20, 20, 20))
            draw.text((x, y), line, font=face, fill=(240, 240, 240))
        else:  # yellow
            draw.text((x, y), line, font=face, fill=(250, 220, 40), stroke_width=max(1, size // 14), stroke_fill=(10, 10, 10))
        y += int(1.35 * size)
    return image


def benchmark_frames():
    """48 frames: 24 of 854x480 and 24 of 1280x720, 20 of each with one or two lines, 4 without. Yields (name, image, words)."""
    for width, height in [(854, 480), (1280, 720)]:
        for i in range(24):
            image = background(width, height, i % 4, 1000 * height + i)
            words = []
            if i % 6 != 5:
                k = i - i // 6  # 0..19
                lines = [LINES[k % len(LINES)]] if k % 3 else [LINES[k % len(LINES)], LINES[(k + 7) % len(LINES)]]
                size = int(height * (0.045 + 0.004 * (k % 4)))
                burn(image, lines, k % 3, k, size)
                words = " ".join(lines).split()
            yield f"{height}p-{i:02d}.png", image, words
