"""Whether an adapter does something: loaded in a fresh process, as any user of diffusers would load it, it must change what the model says.

What can go wrong: names that fit no layer, which load without a word and change nothing. Inputs are small and made up: any input shows a change.
"""

import pathlib

from . import adapter, events, exits, families, job as jobs, ranks
from .order import EVALUATION, draw

# Latent frames, height and width of the made-up input.
SIZES = (2, 8, 8)
SIGMA = 0.6
# Tokens of the made-up caption.
TOKENS = 8


def inputs(family, net, seed, device):
    """(x_t, sigma, text) for one made-up sample."""
    import numpy
    import torch

    generator = draw(seed, EVALUATION, 2**62)

    def normal(*sizes):
        return torch.from_numpy(generator.standard_normal(sizes, dtype=numpy.float32)).to(device)

    text = {"embed": normal(1, TOKENS, families.text_width(family, net)), "mask": torch.ones(1, TOKENS, dtype=torch.long, device=device)}
    if family.name == "hunyuan":
        text["pooled"] = normal(1, net.config.pooled_projection_dim)
    return normal(1, family.channels, *SIZES), torch.tensor([SIGMA], device=device), text


def change(net, family, given, dtype, guidance):
    """Largest difference that the active adapter makes."""
    import torch

    x_t, sigma, text = given
    with torch.no_grad(), torch.autocast(x_t.device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        net.enable_adapters()
        with_it = families.forward(family, net, x_t, sigma, text, guidance, dtype)
        net.disable_adapters()
        without = families.forward(family, net, x_t, sigma, text, guidance, dtype)
    return float((with_it.float() - without.float()).abs().max())


def verify(job_path, folder):
    """The command `verify`."""
    job = jobs.read_job(job_path)
    events.name(run=job.run)
    events.beat(job.trainer.heartbeat_seconds, job.trainer.stall_seconds)
    ranks.prepare_torch(job.trainer)
    device = ranks.device_of(job.trainer, 0)
    folder = pathlib.Path(folder)
    dtype, family = ranks.dtype_of(job.trainer, device), families.of(job.model.architecture)
    net = families.load_transformer(job.model, job.trainer, dtype).to(device).eval()
    guidance = families.guidance_of(family, net, job.settings.train_guidance)
    given = inputs(family, net, job.settings.seed, device)
    changes = {}
    for name, file in (("adapter", adapter.FILE), ("average", adapter.AVERAGE_FILE)):
        if name == "average" and not (folder / file).is_file():
            continue
        adapter.load(net, folder, file, name)
        net.set_adapters([name])
        changes[name] = change(net, family, given, dtype, guidance)
        if changes[name] != changes[name]:
            raise exits.Failure("nan", f"with {folder / file} the model answers NaN")
        events.progress()
    more = {"ema_max_change": changes["average"]} if "average" in changes else {}
    events.emit("verified", max_change=changes["adapter"], **more)
    events.emit("done", step=0)
    return exits.DONE
