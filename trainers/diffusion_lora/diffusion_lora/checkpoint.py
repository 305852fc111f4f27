"""Checkpoints: all that a training needs to go on as if nothing had happened.

A checkpoint is a folder `ckpt-STEP`: `state.safetensors` (weights, both moments of Adam, the average, random state), the adapter as diffusers
loads it, the averaged one where there is one, and `meta.json` with the hashes of the others. It is written aside, synced and renamed, so that it is
there as a whole or not at all. Tensors are whole ones, so that a training may go on with another number of ranks. What can go wrong: a damaged file;
it is found by its hash, and the checkpoint before is taken. A manifest whose beginning has changed is another training, and is refused.
"""

import hashlib
import json
import os
import re
import shutil
import time

from . import adapter, events, ranks
from .exits import Failure

STATE = "state.safetensors"
META = "meta.json"
VERSION = 1
MOMENTS = {"m": "exp_avg", "v": "exp_avg_sq"}


def write(path, data):
    """Writes and syncs a file."""
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder):
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def there(out):
    """[(step, folder)] of whole checkpoints, oldest first."""
    found = []
    for entry in out.iterdir() if out.is_dir() else ():
        name = re.fullmatch(r"ckpt-(\d+)", entry.name)
        if name and (entry / META).is_file():
            found.append((int(name[1]), entry))
    return sorted(found)


def to_remove(steps, keep_last, keep_every):
    """Steps whose checkpoints go: all but the newest and those that are kept for ever. `steps` is sorted."""
    return [step for step in steps[:-keep_last] if step % keep_every]


def gather(named, optimizer, average):
    """All tensors, whole, on the CPU. Every rank must ask; the first one keeps them."""
    tensors = {}
    for number, (key, parameter) in enumerate(named):
        tensors[f"p.{key}"] = ranks.full(parameter)
        state = optimizer.state.get(parameter, {})
        for short, name in MOMENTS.items():
            moment = ranks.full(state[name]) if name in state else tensors[f"p.{key}"].new_zeros(tensors[f"p.{key}"].shape)
            tensors[f"{short}.{key}"] = moment
        if average is not None:
            tensors[f"ema.{key}"] = ranks.full(average.values[number])
    return tensors


def save(run):
    """Writes a checkpoint of a run (see `train.Run`) and removes those that are too old. Every rank must call it."""
    tensors = gather(run.named, run.optimizer, run.average)
    if not run.world.first:
        run.world.barrier()
        return
    import torch
    from safetensors.torch import save_file

    began = time.monotonic()
    out = run.job.out
    out.mkdir(parents=True, exist_ok=True)
    folder = out / f"ckpt-{run.step:06d}"
    half = out / f"{folder.name}.tmp"
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir()
    tensors["rng.torch"] = torch.get_rng_state()
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, half / STATE)
    settings_text = adapter.metadata(run.net)
    write(half / adapter.FILE, adapter.encode(_part(tensors, "p."), settings_text))
    if run.average is not None:
        write(half / adapter.AVERAGE_FILE, adapter.encode(_part(tensors, "ema."), settings_text))
    files = {file.name: {"bytes": file.stat().st_size, "sha256": digest(file)} for file in sorted(half.iterdir())}
    for file in half.iterdir():
        sync_folder(file)  # also good for a file
    manifest = {"bytes": run.spool.whole_bytes, "sha256": run.spool.digest(), "samples": run.spool.samples}
    meta = {"version": VERSION, "step": run.step, "cursor": run.cursor, "seed": run.job.settings.seed, "files": files}
    meta.update(manifest=manifest, versions=run.versions)
    text = json.dumps(meta, indent=2, sort_keys=True).encode() + b"\n"
    write(half / META, text)
    sync_folder(half)
    shutil.rmtree(folder, ignore_errors=True)
    os.rename(half, folder)
    sync_folder(out)
    size = sum(f["bytes"] for f in files.values())
    took = round((time.monotonic() - began) * 1000)
    events.emit("checkpoint", step=run.step, dir=folder.name, sha256=hashlib.sha256(text).hexdigest(), bytes=size, ms=took)
    all_there = dict(there(out))
    for step in to_remove(sorted(all_there), run.job.settings.keep_last, run.job.settings.keep_every):
        shutil.rmtree(all_there[step], ignore_errors=True)
    run.world.barrier()


def _part(tensors, prefix):
    return {name[len(prefix):]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def whole(folder):
    """What `meta.json` says, if all files are those that were written; else why not."""
    try:
        meta = json.loads((folder / META).read_bytes())
        for name, file in meta["files"].items():
            if digest(folder / name) != file["sha256"]:
                return None, f"{name} has changed"
        return meta, None
    except (OSError, ValueError, KeyError, TypeError) as error:
        return None, str(error)


def find(out, previous, first_rank, barrier):
    """The checkpoint to go on from: its folder and meta, or None. The first rank removes damaged ones, and the newest if the one before is wanted."""
    if first_rank:
        found = there(out)
        if previous and len(found) > 1:
            shutil.rmtree(found.pop()[1])
        for _, folder in reversed(found):
            meta, why = whole(folder)
            if meta is not None:
                break
            events.warn(f"checkpoint {folder.name} is damaged ({why}) and is removed")
            shutil.rmtree(folder)
    barrier()
    found = there(out)
    if not found:
        return None
    folder = found[-1][1]
    return folder, json.loads((folder / META).read_bytes())


def resume(run, previous):
    """Takes over the newest whole checkpoint, if there is one. Every rank must call it."""
    found = find(run.job.out, previous, run.world.first, run.world.barrier)
    if found is None:
        return
    import torch
    from safetensors.torch import load_file

    folder, meta = found
    manifest = meta["manifest"]
    if run.spool.prefix_digest(manifest["bytes"]) != manifest["sha256"]:
        raise Failure("job", f"{run.job.data.spool} has changed since {folder} was written; train it in another folder")
    tensors = load_file(folder / STATE)
    for number, (key, parameter) in enumerate(run.named):
        names = [f"p.{key}", f"m.{key}", f"v.{key}"] + ([f"ema.{key}"] if run.average is not None else [])
        if any(name not in tensors or tensors[name].shape != parameter.shape for name in names):
            raise Failure("job", f"{folder} is of another adapter: `{key}` is not in it with these sizes; train in another folder")
        ranks.put(parameter, tensors[f"p.{key}"])
        if run.average is not None:
            ranks.put(run.average.values[number], tensors[f"ema.{key}"])
        if meta["step"] > 0:
            state = {name: torch.zeros_like(parameter.detach()) for name in MOMENTS.values()}
            for short, name in MOMENTS.items():
                ranks.put(state[name], tensors[f"{short}.{key}"])
            run.optimizer.state[parameter] = {"step": torch.tensor(float(meta["step"])), **state}
    torch.set_rng_state(tensors["rng.torch"])
    run.step, run.cursor = meta["step"], meta["cursor"]
    events.emit("resumed", step=run.step, cursor=run.cursor)
