"""`job.json`, the order of one attempt, and the request of `prepare`: read, checked, and with every value resolved.

Why checked again, after the sink has checked them: files are edited by hand, and a wrong value found here costs a second, later hours. What can go
wrong: a file that is missing, no JSON, of another version, or has senseless values: all mistakes are told at once, with their place.
"""

import dataclasses
import difflib
import hashlib
import json
import pathlib
import typing

from .exits import Failure

VERSION = 1
ARCHITECTURES = ("hunyuan", "mochi", "wan_1_3b", "wan_14b")

# Key to type, lowest, highest. The ranges are those of the sink.
NUMBERS = {
    "settings.rank": (int, 1, 1024),
    "settings.alpha": (float, 1e-3, 1e5),
    "settings.steps": (int, 1, 10**9),
    "settings.learning_rate": (float, 1e-9, 1.0),
    "settings.weight_decay": (float, 0.0, 1.0),
    "settings.max_grad_norm": (float, 1e-6, 1e6),
    "settings.global_batch": (int, 1, 65_536),
    "settings.micro_batch": (int, 1, 1024),
    "settings.train_shift": (float, 0.1, 100.0),
    "settings.sample_shift": (float, 0.1, 100.0),
    "settings.train_guidance": (float, 0.0, 100.0),
    "settings.caption_dropout": (float, 0.0, 1.0),
    "settings.checkpoint_every": (int, 1, 10**9),
    "settings.keep_last": (int, 2, 1000),
    "settings.keep_every": (int, 1, 10**9),
    "settings.seed": (int, 0, 2**64 - 1),
    "shape.frames": (int, 1, 10_000),
    "shape.height": (int, 16, 10_000),
    "shape.width": (int, 16, 10_000),
    "shape.fps": (float, 1.0, 240.0),
    "ranks": (int, 1, 4096),
    "data.samples": (int, 0, 10**12),
}
EMA = {"settings.ema.decay": (float, 0.0, 0.999_999), "settings.ema.start_step": (int, 0, 10**9)}
TEXTS = ("data.spool", "out")

# The job's `trainer` table: key to default and check. README.md says what they mean.
TRAINER = {
    "device": ("auto", ("auto", "cpu", "cuda")),
    "precision": ("auto", ("auto", "fp32", "bf16")),
    "strategy": ("ddp", ("ddp", "fsdp2")),
    "gradient_checkpointing": ("auto", ("auto", True, False)),
    "threads": (0, (int, 0, 1024)),
    "start": ("sealed", None),
    "noise_table": (1000, (int, 0, 10**6)),
    "eval_samples": (8, (int, 1, 1000)),
    "eval_every": (0, (int, 0, 10**9)),
    "heartbeat_seconds": (10.0, (float, 0.05, 100.0)),
    "stall_seconds": (1800.0, (float, 1.0, 86_400.0)),
    "max_wait_seconds": (86_400.0, (float, 0.1, 10_000_000.0)),
    "collective_seconds": (1800.0, (float, 1.0, 86_400.0)),
    "deterministic": (False, (True, False)),
    "allow_download": (False, (True, False)),
    "target_modules": (["to_k", "to_q", "to_v", "to_out.0"], None),
    "vae_tiling": (True, (True, False)),
    "text_tokens": (0, (int, 0, 4096)),
}


@dataclasses.dataclass
class Order:
    """What one start of the processes is told besides the job."""

    attempt: int = 1
    previous_checkpoint: bool = False
    micro_batch: int = 1
    accumulation: int = 1
    quarantined: typing.List[str] = dataclasses.field(default_factory=list)
    skip_cursors: typing.List[int] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Job:
    """A training. `settings`, `shape`, `model`, `data` are as in the file; `trainer` has all its keys."""

    model: typing.Any
    settings: typing.Any
    shape: typing.Any
    data: typing.Any
    trainer: typing.Any
    ranks: int
    out: pathlib.Path
    run: str


class Table(dict):
    """A dictionary whose keys are attributes."""

    __getattr__ = dict.__getitem__


def _read(path):
    path = pathlib.Path(path)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise Failure("job", f"cannot read {path}: {error.strerror}") from error
    try:
        value = json.loads(raw)
    except ValueError as error:
        raise Failure("job", f"{path} is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise Failure("job", f"{path}: expected a table, found {type(value).__name__}")
    if value.get("version", VERSION) != VERSION:
        raise Failure("job", f"{path} is of version {value['version']}, this trainer knows {VERSION}; install a trainer that fits")
    return value, raw


class Mistakes:
    """Collects them, to tell all at once."""

    def __init__(self, path):
        self.path, self.found = path, []

    def add(self, key, what):
        self.found.append(f"{key}: {what}")

    def number(self, value, key, kind, low, high):
        """The number, or a mistake. A whole number is fine where a float is wanted, not the other way round; true is no number."""
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not (whole or (kind is float and isinstance(value, float))):
            self.add(key, f"{json.dumps(value)} is no {'whole number' if kind is int else 'number'}")
            return low
        if not low <= value <= high:
            self.add(key, f"{value} is not from {low} to {high}")
            return low
        return kind(value)

    def end(self):
        if self.found:
            raise Failure("job", f"{self.path}: " + "; ".join(self.found))


_MISSING = object()


def _at(value, key):
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            return _MISSING
        value = value[part]
    return value


def _numbers(value, wanted, mistakes):
    out = {}
    for key, (kind, low, high) in wanted.items():
        has = _at(value, key)
        if has is _MISSING:
            mistakes.add(key, "is missing")
            out[key] = low
        else:
            out[key] = mistakes.number(has, key, kind, low, high)
    return out


def _section(numbers, name, **more):
    begin = name + "."
    return Table({key[len(begin):]: value for key, value in numbers.items() if key.startswith(begin)}, **more)


def _model(value, mistakes):
    architecture = _at(value, "model.architecture")
    if architecture not in ARCHITECTURES:
        shown = "is missing" if architecture is _MISSING else f"{json.dumps(architecture)} is not one of {', '.join(ARCHITECTURES)}"
        mistakes.add("model.architecture", shown)
    weights = _at(value, "model.weights")
    if not isinstance(weights, str) or not weights:
        mistakes.add("model.weights", "names no folder")
    revision = _at(value, "model.revision")
    return Table(architecture=architecture, weights=weights, revision=revision if isinstance(revision, str) and revision else None)


def trainer_table(value, mistakes):
    """The `trainer` table with all keys; unknown ones are mistakes, with the nearest known."""
    value = {} if value is _MISSING else value
    if not isinstance(value, dict):
        mistakes.add("trainer", "is no table")
        value = {}
    out = Table()
    for key, (default, check) in TRAINER.items():
        has = value.get(key, default)
        if check is not None and check[0] in (int, float):
            has = mistakes.number(has, f"trainer.{key}", *check)
        elif check is not None and not any(type(has) is type(c) and has == c for c in check):
            mistakes.add(f"trainer.{key}", f"{json.dumps(has)} is not one of {', '.join(json.dumps(c) for c in check)}")
        out[key] = has
    start = out.start
    if isinstance(start, dict) and set(start) == {"min_samples"}:
        mistakes.number(start["min_samples"], "trainer.start.min_samples", int, 1, 10**12)
    elif start != "sealed":
        mistakes.add("trainer.start", f'{json.dumps(start)} is neither "sealed" nor {{"min_samples": N}}')
    targets = out.target_modules
    if not isinstance(targets, list) or not targets or not all(isinstance(t, str) and t for t in targets):
        mistakes.add("trainer.target_modules", "is no list of names of layers")
    for key in sorted(set(value) - set(TRAINER)):
        near = difflib.get_close_matches(key, TRAINER, 1)
        mistakes.add(f"trainer.{key}", "is not known" + (f"; did you mean `{near[0]}`?" if near else ""))
    return out


def read_job(path):
    """Reads `job.json`."""
    value, raw = _read(path)
    mistakes = Mistakes(path)
    if "version" not in value:
        mistakes.add("version", "is missing")
    numbers = _numbers(value, NUMBERS, mistakes)
    model = _model(value, mistakes)
    for key in TEXTS:
        text = _at(value, key)
        if not isinstance(text, str) or not text:
            mistakes.add(key, "is missing" if text is _MISSING else "is no text")
    levels = _at(value, "settings.noise_levels")
    if levels not in ("uniform", "logit_normal"):
        mistakes.add("settings.noise_levels", "is neither uniform nor logit_normal")
    ema = _at(value, "settings.ema")
    average = None
    if ema is not _MISSING and ema is not None:
        with_defaults = {"settings": {"ema": {"start_step": 0, **ema}}} if isinstance(ema, dict) else {}
        average = _section(_numbers(with_defaults, EMA, mistakes), "settings.ema", warmup=bool(with_defaults and ema.get("warmup", True)))
    trainer = trainer_table(_at(value, "trainer"), mistakes)
    settings = _section(numbers, "settings", noise_levels=levels, ema=average)
    at_once = settings.micro_batch * numbers["ranks"]
    if settings.global_batch % at_once:
        what = f"{settings.global_batch} is not a multiple of micro_batch {settings.micro_batch} x {numbers['ranks']} ranks"
        mistakes.add("settings.global_batch", what)
    digest = _at(value, "data.manifest_sha256")
    mistakes.end()
    spool, digest = pathlib.Path(value["data"]["spool"]), digest if isinstance(digest, str) else ""
    data = Table(spool=spool, samples=numbers["data.samples"], manifest_sha256=digest)
    run = hashlib.sha256(raw).hexdigest()[:16]
    return Job(model, settings, _section(numbers, "shape"), data, trainer, numbers["ranks"], pathlib.Path(value["out"]), run)


def read_order(path, job):
    """Reads the order of an attempt. Without a file, the batch is dealt out as the job says."""
    if path is None:
        return Order(micro_batch=job.settings.micro_batch, accumulation=job.settings.global_batch // (job.settings.micro_batch * job.ranks))
    value, _ = _read(path)
    mistakes = Mistakes(path)
    ranges = {"attempt": (int, 1, 2**32), "micro_batch": (int, 1, 1024), "accumulation": (int, 1, 65_536)}
    numbers = _numbers(value, ranges, mistakes)
    ids, cursors = value.get("quarantined", []), value.get("skip_cursors", [])
    if not (isinstance(ids, list) and all(isinstance(i, str) for i in ids)):
        mistakes.add("quarantined", "is no list of ids")
    if not (isinstance(cursors, list) and all(type(c) is int for c in cursors)):
        mistakes.add("skip_cursors", "is no list of whole numbers")
    batch = numbers["micro_batch"] * numbers["accumulation"] * job.ranks
    if batch != job.settings.global_batch:
        mistakes.add("accumulation", f"micro_batch x accumulation x ranks is {batch}, the job's global_batch is {job.settings.global_batch}")
    mistakes.end()
    previous = value.get("previous_checkpoint", False) is True
    return Order(numbers["attempt"], previous, numbers["micro_batch"], numbers["accumulation"], ids, cursors)


def read_request(path):
    """Reads the request of `prepare`: model, shape, trainer, clips, out."""
    value, _ = _read(path)
    mistakes = Mistakes(path)
    shape = _section(_numbers(value, {k: v for k, v in NUMBERS.items() if k.startswith("shape.")}, mistakes), "shape")
    model = _model(value, mistakes)
    trainer = trainer_table(_at(value, "trainer"), mistakes)
    clips = value.get("clips")
    if not isinstance(clips, list):
        mistakes.add("clips", "is no list")
        clips = []
    for number, clip in enumerate(clips):
        for key in ("id", "path", "caption"):
            if not isinstance(_at(clip, key), str):
                mistakes.add(f"clips.{number}.{key}", "is no text")
    if not isinstance(value.get("out"), str):
        mistakes.add("out", "is no text")
    mistakes.end()
    clips = [Table(id=clip["id"], path=clip["path"], caption=clip["caption"]) for clip in clips]
    return Table(model=model, shape=shape, trainer=trainer, clips=clips, out=pathlib.Path(value["out"]))
