"""`generate`: a video for each prompt, without the adapter and with it, from the same noise.

Videos lie in `base/` and `adapter/` under numbers, since a prompt is too long for a file name; `videos.jsonl` says which is which. A video that is
there is not made again, so the same command goes on after an interruption. What can go wrong: memory; `--offload` keeps only what is at work on the
device.
"""

import json
import pathlib

from . import adapter, events, exits, families, job as jobs, ranks, video
from .checkpoint import sync_folder, write

NAME = "curette"
LIST = "videos.jsonl"
# More prompts than this are a mistake.
MAX_PROMPTS = 100_000


def prompts_of(path, limit):
    """One prompt a line; empty lines are none."""
    try:
        lines = [line.strip() for line in pathlib.Path(path).read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise exits.Failure("job", f"cannot read the prompts {path}: {error}") from error
    prompts = [line for line in lines if line]
    if not prompts or len(prompts) > MAX_PROMPTS:
        raise exits.Failure("job", f"{path} holds {len(prompts)} prompts; one a line, 1 to {MAX_PROMPTS}")
    return prompts[:limit] if limit else prompts


def shifted(pipe, family, shift):
    """The sampler's shift, where the model's sampler has one: Mochi's follows a schedule of its own."""
    if family.name == "hunyuan":
        pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, shift=shift)
    elif family.name == "wan":
        key = "flow_shift" if "flow_shift" in pipe.scheduler.config else "shift"
        pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, **{key: shift})


def weights_of(folder, which):
    """The file of the adapter: `auto` takes the average if there is one."""
    average = (folder / adapter.AVERAGE_FILE).is_file()
    return adapter.AVERAGE_FILE if which == "ema" or (which == "auto" and average) else adapter.FILE


def generate(arguments):
    """The command `generate`."""
    job = jobs.read_job(arguments.job)
    events.name(run=job.run)
    events.beat(job.trainer.heartbeat_seconds, job.trainer.stall_seconds)
    prompts = prompts_of(arguments.prompts, arguments.limit)
    ranks.prepare_torch(job.trainer)
    device, family = ranks.device_of(job.trainer, 0), families.of(job.model.architecture)
    pipe = families.load_pipeline(job.model, job.trainer, ranks.dtype_of(job.trainer, device))
    pipe.set_progress_bar_config(disable=True)
    folder, out = pathlib.Path(arguments.adapter), pathlib.Path(arguments.out)
    file = weights_of(folder, arguments.weights)
    adapter.load(pipe.transformer, folder, file, NAME)
    shifted(pipe, family, job.settings.sample_shift)
    if job.trainer.vae_tiling:
        pipe.vae.enable_tiling()
    if arguments.offload and device.type == "cuda":
        pipe.enable_model_cpu_offload(gpu_id=device.index)
    else:
        pipe.to(device)
    steps, guidance = arguments.steps or family.sampling_steps, family.guidance if arguments.guidance is None else arguments.guidance
    rows, made = [], 0
    for kind in ("base", "adapter"):
        (out / kind).mkdir(parents=True, exist_ok=True)
    for number, prompt in enumerate(prompts):
        for kind in ("base", "adapter"):
            path = out / kind / f"{number:05d}.mp4"
            rows.append({"number": number, "prompt": prompt, "kind": kind, "file": f"{kind}/{path.name}", "seed": job.settings.seed + number})
            if path.exists():
                continue
            if events.stop_requested():
                events.emit("stopped", step=made)
                return exits.STOPPED
            (pipe.transformer.enable_adapters if kind == "adapter" else pipe.transformer.disable_adapters)()
            pictures = one(pipe, job, prompt, steps, guidance, job.settings.seed + number)
            video.write(path, pictures, job.shape.fps)
            made += 1
            events.emit("video", number=number, kind=kind, file=str(path))
            events.progress()
    settings = {"weights": file, "steps": steps, "guidance": guidance, "sample_shift": job.settings.sample_shift}
    text = "".join(json.dumps({**row, **settings}) + "\n" for row in rows)
    write(out / f"{LIST}.tmp", text.encode())
    (out / f"{LIST}.tmp").replace(out / LIST)
    sync_folder(out)
    events.emit("done", step=made)
    return exits.DONE


def one(pipe, job, prompt, steps, guidance, seed):
    """[frames, height, width, 3] of bytes. Noise is drawn on the CPU, so that it is the same on every device."""
    import numpy
    import torch

    def alive(_pipe, _step, _timestep, given):
        events.progress()
        return given

    answer = pipe(
        prompt=prompt, height=job.shape.height, width=job.shape.width, num_frames=job.shape.frames, num_inference_steps=steps,
        guidance_scale=guidance, generator=torch.Generator("cpu").manual_seed(seed % 2**63), output_type="np",
        callback_on_step_end=alive,
    )
    pictures = numpy.asarray(answer.frames[0])
    return numpy.rint(numpy.clip(pictures, 0, 1) * 255).astype(numpy.uint8)
