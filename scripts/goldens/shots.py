"""Golden vectors of shot boundaries: PySceneDetect's ContentDetector and AdaptiveDetector.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install scenedetect==0.7.2
    /tmp/venv/bin/pip uninstall -y opencv-python && /tmp/venv/bin/pip install opencv-python-headless==5.0.0.93
    /tmp/venv/bin/python scripts/goldens/shots.py [MEDIA_FOLDER [SAMPLE_FOLDER]]

Writes operators/tests/goldens/shots.json: `drawn` are pictures that Rust draws alike (synthetic.py), given to the detectors as they are: no decoder, no
scaling, so that every number must be equal. `media` and `sample` are real files and videos of the sample corpus, read, scaled and judged by PySceneDetect
alone. Broken and truncated files are left out, and those that this OpenCV cannot decode (AV1). A file is known by its size and the CRC-32 of its first
256 KiB, because another encoder may draw another corpus.
"""

import json
import random
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import scenedetect
from scenedetect import AdaptiveDetector, ContentDetector, FrameTimecode, SceneManager, open_video
from scenedetect.detector import FlashFilter, SceneDetector

from synthetic import case, draw

FPS = 25.0
WEIGHTS = ContentDetector.Components
DETECTORS = {
    "content": (ContentDetector, {}),
    "content_low": (ContentDetector, {"threshold": 12.0, "min_scene_len": 5}),
    "content_suppress": (ContentDetector, {"threshold": 12.0, "min_scene_len": 20, "filter_mode": FlashFilter.Mode.SUPPRESS}),
    "content_edges": (ContentDetector, {"weights": WEIGHTS(1.0, 0.5, 1.0, 0.2), "kernel_size": 5}),
    "content_luma": (ContentDetector, {"luma_only": True, "min_scene_len": 1}),
    "adaptive": (AdaptiveDetector, {}),
    "adaptive_wide": (AdaptiveDetector, {"adaptive_threshold": 2.0, "window_width": 4, "min_content_val": 6.0, "min_scene_len": 8}),
    "adaptive_luma": (AdaptiveDetector, {"luma_only": True, "min_content_val": 10.0}),
}
# Left out: no video in them, or not all of it; PySceneDetect stops somewhere in these, curette says so.
SKIPPED = ("broken-", "corrupt-", "audio-only", "vp8-dancer", "README", "SHA256SUMS")
# Components of every so-manieth frame are kept.
EVERY = 16
SAMPLE_VIDEOS = 8


class Metrics:
    """Stands for a StatsManager, which knows frames by their number: not unique where frames have times of their own."""

    def __init__(self):
        self.rows = []

    def set_metrics(self, _timecode, metrics):
        if "content_val" in metrics:
            self.rows.append(metrics)


class Recorder(SceneDetector):
    """A detector whose cuts are noted by the number of the frame."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.times, self.cuts = inner, [], []

    def process_frame(self, timecode, frame_img):
        self.times.append(timecode)
        found = self.inner.process_frame(timecode, frame_img)
        for cut in found:
            self.cuts.append(max(i for i, t in enumerate(self.times) if t == cut))
        return found

    @property
    def event_buffer_length(self):
        return self.inner.event_buffer_length


def recorders():
    made = {name: Recorder(kind(**options)) for name, (kind, options) in DETECTORS.items()}
    metrics = Metrics()
    made["content"].inner.stats_manager = metrics
    return made, metrics


def result(made, metrics):
    rows = metrics.rows
    component = lambda r: [round(float(r[k]), 5) for k in ("delta_hue", "delta_sat", "delta_lum", "delta_edges")]
    return {
        "frames": len(made["content"].times),
        # Of each frame but the first.
        "content_val": [round(float(r["content_val"]), 4) for r in rows],
        "components": {str(i + 1): component(r) for i, r in enumerate(rows) if i % EVERY == 0},
        "cuts": {name: r.cuts for name, r in made.items()},
    }


def drawn(name, shots, width, height):
    """Shots of drawn frames: three luma pictures are the three colours."""
    made, metrics = recorders()
    number, spec = 0, []
    for colours, frames in shots:
        cases = [case(name, width, height, **c) for c in colours]
        spec.append({"colours": cases, "frames": frames})
        for i in range(frames):
            picture = np.dstack([draw(c, i).reshape(height, width) for c in cases]).astype(np.uint8)
            for recorder in made.values():
                recorder.process_frame(FrameTimecode(number, FPS), picture)
            number += 1
    return {"name": name, "width": width, "height": height, "shots": spec, **result(made, metrics)}


def colour(seed, **more):
    return [{"seed": seed + k, "zoom": 3 + (seed + k) % 7, "noise": (seed * 7 + k) % 40, "bright": (seed * 31 + 40 * k) % 120, **more} for k in range(3)]


def drawings():
    draw_shots = random.Random(7)
    yield drawn("three shots", [(colour(1), 30), (colour(5), 24), (colour(9), 31)], 96, 64)
    yield drawn("flashes", [(colour(2), 20), (colour(12, bright=200), 1), (colour(2), 20), (colour(3), 3), (colour(4), 2), (colour(2), 30)], 80, 60)
    yield drawn("moving", [(colour(3, shift=[2, 1]), 25), (colour(8, shift=[5, 0]), 25)], 97, 61)
    yield drawn("still", [(colour(4, still=True, noise=0), 12), (colour(6, still=True, noise=0), 40)], 64, 48)
    many = [(colour(draw_shots.randrange(60)), draw_shots.randrange(1, 26)) for _ in range(14)]
    yield drawn("many", many, 72, 56)
    yield drawn("tall", [(colour(20), 17), (colour(33), 17)], 40, 130)


def video(path):
    made, metrics = recorders()
    stream = open_video(str(path))
    manager = SceneManager()
    for recorder in made.values():
        manager.add_detector(recorder)
        recorder.inner.stats_manager = metrics if recorder is made["content"] else None
    manager.detect_scenes(stream)
    return {
        "name": path.name,
        "bytes": path.stat().st_size,
        "crc32": zlib.crc32(path.read_bytes()[: 1 << 18]),
        "fps": round(float(stream.frame_rate), 6),
        **result(made, metrics),
    }


def videos(folder, keep):
    out = []
    for path in sorted(folder.iterdir()):
        if not path.is_file() or path.name.startswith(SKIPPED) or not keep(path):
            continue
        try:
            one = video(path)
        except Exception as error:
            print(f"left out: {path.name}: {error}", file=sys.stderr)
            continue
        if not one["frames"]:
            print(f"left out: {path.name}: no frame", file=sys.stderr)
            continue
        print(f"{path.name}: {one['frames']} frames, cuts {one['cuts']}", file=sys.stderr)
        out.append(one)
    return out


def main():
    folders = [Path(a) for a in sys.argv[1:]]
    golden = {
        "made_by": {"scenedetect": scenedetect.__version__, "opencv": cv2.__version__, "numpy": np.__version__},
        "fps": FPS,
        "drawn": list(drawings()),
        "media": videos(folders[0], lambda p: True) if folders else [],
        "sample": [],
    }
    if len(folders) > 1:
        ends = lambda p: p.suffix in (".mp4", ".mkv", ".webm", ".avi", ".mov", ".ts")
        golden["sample"] = videos(folders[1], ends)[:SAMPLE_VIDEOS]
    target = Path(__file__).resolve().parents[2] / "operators/tests/goldens/shots.json"
    parts = ",\n".join(f"{json.dumps(k)}: " + ("[\n" + ",\n".join(map(json.dumps, v)) + "\n]" if isinstance(v, list) else json.dumps(v)) for k, v in golden.items())
    target.write_text("{\n" + parts + "\n}\n")
    print(f"{target}: {len(golden['drawn'])} drawn, {len(golden['media'])} real, {len(golden['sample'])} of the sample", file=sys.stderr)


if __name__ == "__main__":
    main()
