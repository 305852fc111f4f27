"""The loss on a fixed grid of samples, noise levels and noise, with the adapter and without.

Why: the loss of a training step mostly shows which noise levels were drawn. This one is comparable between steps and settings. Forward passes are
dealt out over the ranks; without the adapter means with B matrices of zeros, which needs no switch in any library.
"""

import contextlib

from . import events, families, ranks
from .order import EVALUATION, draw

LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)


@contextlib.contextmanager
def without_adapter(named):
    """B matrices are zero inside."""
    kept = [(p, ranks.local(p.detach()).clone()) for key, p in named if "lora_B" in key]
    try:
        for parameter, _ in kept:
            ranks.local(parameter.detach()).zero_()
        yield
    finally:
        for parameter, value in kept:
            ranks.local(parameter.detach()).copy_(value)


def grid(run):
    """Mean loss over the grid. Every rank must call it."""
    import numpy
    import torch

    chosen = [index for index in range(run.spool.samples) if index not in run.left_out][: run.job.trainer.eval_samples]
    cells = [(index, sigma) for index in chosen for sigma in LEVELS]
    total = torch.zeros((), dtype=torch.float64)
    # With a model that is dealt out, every rank must make as many passes: the last ones are repeated and do not count.
    for turn in range(-(-len(cells) // run.world.size)):
        place = turn * run.world.size + run.world.rank
        index, sigma = cells[place % len(cells)]
        x0, text = run.feed.inputs([index])
        generator = draw(run.job.settings.seed, EVALUATION, index * len(LEVELS) + LEVELS.index(sigma))
        eps = torch.from_numpy(generator.standard_normal(x0.shape, dtype=numpy.float32)).to(run.world.device)
        loss = run.loss(run.net, x0, eps, torch.tensor([sigma], device=run.world.device), text)
        if place < len(cells):
            total += float(loss)
        events.progress()
    return float(run.world.total(total.to(run.world.device))) / len(cells)


def evaluate(run):
    """Says the loss with the adapter, without it, and with its average."""
    import torch

    with torch.no_grad():
        loss = grid(run)
        with without_adapter(run.named):
            base = grid(run)
        more = {}
        if run.average is not None:
            run.average.swap()
            try:
                more["ema_loss"] = grid(run)
            finally:
                run.average.swap()
    events.emit("eval", step=run.step, loss=loss, base_loss=base, **more)
    return loss, base
