#!/usr/bin/env python3
"""OCR against RapidOCR (same PP-OCRv4 models, same ONNX Runtime, one thread each): CPU time per frame, words found, false words.

    benches/ocr.py [--rounds 3] [--work out/bench-ocr]

Makes its own Python environment below the work folder, draws 48 frames with known words, builds the example `read_pictures` of the crate curette-ocr
alone (release), then lets both read the frames in alternating runs. The least CPU time of a run counts: other jobs only add.
Exits 1 when a goal is missed.
"""

import argparse
import collections
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PINS = ["rapidocr-onnxruntime==1.4.4", "onnxruntime==1.32.0", "pillow==13.0.0"]
FONTS = "matplotlib==3.10.7"  # for its fonts: never imported
RUNS = [  # name, who, detector size
    ("RapidOCR min 736 (its default)", "rapid", "min736"),
    ("curette-ocr min 736", "ours", "min736"),
    ("RapidOCR made to use max 640", "rapid", "max640"),
    ("curette-ocr max 640", "ours", "max640"),
    ("curette-ocr max 960", "ours", "max960"),
]
GOALS = {"same size": 1.25, "at 640": 3.3, "recall": 0.97, "false words": 0}


def environment(work):
    """Re-executes this script inside an environment of its own."""
    python = work / "venv/bin/python"
    if Path(sys.prefix) == (work / "venv").resolve():
        return
    if not (work / "venv/.made").exists():
        subprocess.run([sys.executable, "-m", "venv", work / "venv"], check=True)
        pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        subprocess.run([*pip, *PINS], check=True)
        subprocess.run([*pip, "--no-deps", FONTS], check=True)
        (work / "venv/.made").write_text("\n".join([*PINS, FONTS]))
    os.execv(python, [str(python), *sys.argv])


def rapid(folder, size):
    import cv2
    from rapidocr_onnxruntime import RapidOCR
    from rapidocr_onnxruntime.ch_ppocr_det.utils import DetPreProcess

    cv2.setNumThreads(1)
    engine = RapidOCR(det_limit_type=size[:3], det_limit_side_len=int(size[3:]), use_cls=False, intra_op_num_threads=1, inter_op_num_threads=1)
    # With `max` RapidOCR chooses 960, 1500 or 2000 itself, whatever it is told.
    prepare = DetPreProcess(int(size[3:]), size[:3])
    engine.text_det.get_preprocess = lambda longest: prepare
    files = sorted(Path(folder).glob("*.png"))
    images = [cv2.imread(str(f)) for f in files]
    engine(images[0])
    started = time.process_time()
    results = [engine(image)[0] for image in images]
    seconds = time.process_time() - started
    for file, result in zip(files, results):
        print(json.dumps({"file": file.name, "texts": [line[1] for line in result or []]}))
    print(json.dumps({"frames": len(files), "cpu_seconds": seconds}))


def words(texts):
    return collections.Counter(w for t in texts for w in re.findall(r"[a-z0-9]+", t.lower()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=ROOT / "out/bench-ocr")
    parser.add_argument("--rapid", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rapid:
        return rapid(*options.rapid)
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    environment(work)

    sys.path.insert(0, str(ROOT / "scripts/goldens"))
    import ocr_frames
    import onnxruntime
    import rapidocr_onnxruntime

    frames = work / "frames"
    frames.mkdir(exist_ok=True)
    truth = {}
    for name, image, said in ocr_frames.benchmark_frames():
        image.save(frames / name)
        truth[name] = words([" ".join(said)])
    models = Path(rapidocr_onnxruntime.__file__).parent / "models"
    (library,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*")
    example = ["cargo", "build", "--quiet", "--release", "--manifest-path", ROOT / "operators/ocr/Cargo.toml", "--example", "read_pictures", "--target-dir", ROOT / "target/leaf"]
    subprocess.run(example, check=True)
    ours = [ROOT / "target/leaf/release/examples/read_pictures", models / "ch_PP-OCRv4_det_infer.onnx", models / "ch_PP-OCRv4_rec_infer.onnx", library, frames]

    best, found = {}, {}
    for round_ in range(options.rounds):
        for name, who, size in RUNS:
            command = [sys.executable, __file__, "--rapid", frames, size] if who == "rapid" else [*ours, size]
            lines = [json.loads(line) for line in subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()]
            time_ms = lines.pop()["cpu_seconds"] / len(truth) * 1000
            best[name] = min(best.get(name, time_ms), time_ms)
            found[name] = {line["file"]: words(line["texts"]) for line in lines}
            print(f"round {round_ + 1}: {name}: {time_ms:.1f} cpu-ms/frame (load {os.getloadavg()[0]:.1f})", flush=True)

    print("\n| | cpu-ms/frame | word recall 480p / 720p | false words on 8 frames without text |\n|---|---|---|---|")
    recalls, false = {}, {}
    for name, _, _ in RUNS:
        def recall(prefix, name=name):
            wanted = {f: t for f, t in truth.items() if f.startswith(prefix)}
            return sum((t & found[name][f]).total() for f, t in wanted.items()) / sum(t.total() for t in wanted.values())

        recalls[name] = [recall("480p"), recall("720p")]
        false[name] = sum(found[name][f].total() for f, t in truth.items() if not t)
        print(f"| {name} | {best[name]:.1f} | {recalls[name][0]:.3f} / {recalls[name][1]:.3f} | {false[name]} |")
    rival, same, small = RUNS[0][0], RUNS[1][0], RUNS[3][0]
    results = {
        "same size": best[rival] / best[same],
        "at 640": best[rival] / best[small],
        "recall": min(recalls[small]),
        "false words": false[small],
    }
    missed = 0
    for goal, value in results.items():
        good = value <= GOALS[goal] if goal == "false words" else value >= GOALS[goal]
        missed += not good
        print(f"{goal}: {value:.3f} (goal {GOALS[goal]}){'' if good else ' MISSED'}")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
