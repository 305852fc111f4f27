"""A training: model, adapter, optimiser, and the loop over steps.

Each step is one sentence: take the samples at the cursor, mix them with noise, ask the model, step. What is taken and drawn depends on the cursor
alone, so that the number of ranks, the form of the batch and restarts change nothing but rounding. What can go wrong is an `exits.Failure`: a bad
sample, a loss that is not finite, memory, a job that makes no sense. A request to stop ends the step, saves, and says so.
"""

import resource
import time

from . import adapter, checkpoint, evaluate, events, exits, families, job as jobs, noise, order, ranks, spool as spools
from .average import Average

# Adam's numbers; the paper's.
BETAS, EPS = (0.9, 0.999), 1e-8
# How often a spool that has nothing new is looked at.
POLL_SECONDS = 0.2


class Feed:
    """Batches for the device."""

    def __init__(self, run):
        self.run = run
        self.sizes = families.latent_sizes(run.family, run.job.shape)
        self.scale = families.Scale(run.job.model, run.job.trainer)

    def inputs(self, indices, empty=()):
        """Scaled latents and text of samples. Captions at the places `empty` are left empty: one token of zeros."""
        import torch

        latents, embeds, masks, pooled = [], [], [], []
        for place, index in enumerate(indices):
            clip = self.run.spool.ids[index]
            tensors = self.run.spool.sample(index)
            spools.check(tensors, clip, self.sizes)
            embed, mask = tensors["embed"].float(), tensors["mask"].long()
            if embed.shape[1] != self.run.text_width:
                raise exits.Failure("data", f"clip `{clip}`: text of width {embed.shape[1]}, the model takes {self.run.text_width}", sample=clip)
            if "pooled" not in tensors and self.run.family.name == "hunyuan":
                raise exits.Failure("data", f"clip `{clip}`: it has no `pooled`", sample=clip)
            whole = embed.new_zeros(mask.shape[0], embed.shape[1])
            vector = tensors.get("pooled", embed[0]).float()
            if place in empty:
                mask, vector = torch.zeros_like(mask).index_fill(0, torch.tensor(0), 1), torch.zeros_like(vector)
            else:
                whole[: embed.shape[0]] = embed
            latents.append(tensors["latent"].float())
            embeds.append(whole)
            masks.append(mask)
            pooled.append(vector)
        device = self.run.world.device
        text = {"embed": torch.stack(embeds), "mask": torch.stack(masks), "pooled": torch.stack(pooled)}
        return self.scale(torch.stack(latents)).to(device), {key: value.to(device) for key, value in text.items()}

    def batch(self, cursors):
        """(x0, eps, sigma, text) for these places in the data."""
        import torch

        run = self.run
        drawn = [noise.of_sample(run.job.settings, run.job.trainer.noise_table, cursor, self.sizes) for cursor in cursors]
        indices = [run.index_at(cursor) for cursor in cursors]
        x0, text = self.inputs(indices, {place for place, (_, _, empty) in enumerate(drawn) if empty})
        eps = torch.stack([torch.from_numpy(eps) for _, eps, _ in drawn]).to(run.world.device)
        sigma = torch.tensor([sigma for sigma, _, _ in drawn], dtype=torch.float32, device=run.world.device)
        return x0, eps, sigma, text


class Run:
    """All that belongs to a running training."""

    def __init__(self, job, order_of_attempt, world, versions):
        import torch

        self.job, self.world, self.versions = job, world, versions
        self.micro, self.accumulation = order_of_attempt.micro_batch, order_of_attempt.accumulation
        self.skip = set(order_of_attempt.skip_cursors)
        self.family = families.of(job.model.architecture)
        self.step = self.cursor = 0
        self.spool = spools.Spool(job.data.spool, job.model.architecture, job.shape)
        self.quarantined = set(order_of_attempt.quarantined)
        self.left_out = set()
        self.order = order.Order(job.settings.seed, in_order=job.trainer.start != "sealed")
        self.dtype = ranks.dtype_of(job.trainer, world.device)
        self.net = families.load_transformer(job.model, job.trainer, self.dtype)
        # Several ranks must agree on it, which they do before the first step.
        if world.size == 1 and events.stop_requested():
            raise exits.Stop
        adapter.add(self.net, job.settings, job.trainer)
        recompute = job.trainer.gradient_checkpointing
        if recompute is True or (recompute == "auto" and world.device.type == "cuda"):
            self.net.enable_gradient_checkpointing()
        self.text_width = families.text_width(self.family, self.net)
        self.guidance = families.guidance_of(self.family, self.net, job.settings.train_guidance)
        self.net.train()
        self.called = ranks.deal_out(self.net, world, job.trainer.strategy)
        self.named = adapter.trainable(self.net)
        self.parameters = [parameter for _, parameter in self.named]
        settings = job.settings
        self.optimizer = torch.optim.AdamW(self.parameters, lr=settings.learning_rate, betas=BETAS, eps=EPS, weight_decay=settings.weight_decay)
        self.average = Average(settings.ema, self.parameters) if settings.ema is not None else None
        self.feed = Feed(self)

    def plan(self):
        """Says what will be trained."""
        parameters = sum(parameter.numel() for parameter in self.parameters)
        base = sum(parameter.numel() for parameter in self.net.parameters()) - parameters
        events.emit(
            "plan", tensors=len(self.named), params=parameters, base_params=base, tokens=families.tokens(self.family, self.job.shape),
            steps=self.job.settings.steps, samples=self.spool.samples, device=str(self.world.device), dtype=str(self.dtype).removeprefix("torch."),
            strategy=self.job.trainer.strategy if self.world.size > 1 else "single", mem=memory_mb(self.world.device),
        )

    def notice(self):
        """Takes over what the spool has gained."""
        self.spool.poll()
        self.left_out = {self.spool.places[clip] for clip in self.quarantined if clip in self.spool.places}
        if self.spool.sealed and len(self.left_out) >= self.spool.samples:
            what = f"{self.spool.samples} in all, {len(self.left_out)} left out"
            raise exits.Failure("job", f"{self.job.data.spool} holds no sample that may be used: {what}")

    def index_at(self, cursor):
        return self.order.at(cursor, self.spool.samples, self.spool.sealed, self.left_out)

    def has_batch(self):
        size = self.micro * self.accumulation * self.world.size
        return all(self.index_at(cursor) is not None for cursor in range(self.cursor, self.cursor + size))

    def wait(self, ready):
        """Waits until `ready`, on all ranks. False if it is time to stop."""
        since, starved = time.monotonic(), False
        while True:
            said = self.world.agree(ready())
            if said == ranks.READY:
                if starved:
                    events.emit("fed", cursor=self.cursor)
                return True
            late = time.monotonic() - since > self.job.trainer.max_wait_seconds
            if said == ranks.STOP:
                return False
            if late:
                events.warn(f"no new samples for {self.job.trainer.max_wait_seconds:.0f} s (trainer.max_wait_seconds): stopping, to be resumed")
                # Seen by all ranks when they agree the next time.
                events.request_stop()
            elif not starved:
                starved = True
                events.emit("starved", cursor=self.cursor)
            time.sleep(POLL_SECONDS)
            events.progress()
            self.notice()

    def may_begin(self):
        start = self.job.trainer.start
        return self.spool.sealed or (start != "sealed" and self.spool.samples >= start["min_samples"])

    def check_data(self):
        """A sealed spool is the one that the job is about."""
        data = self.job.data
        if self.job.trainer.start != "sealed":
            return
        if data.manifest_sha256 and data.manifest_sha256 != self.spool.digest():
            what = f"its manifest has hash {self.spool.digest()}, not {data.manifest_sha256}"
            raise exits.Failure("job", f"{data.spool} is not the spool of the job: {what}")

    def loss(self, net, x0, eps, sigma, text):
        """Mean square of what the model says less what it should say."""
        import torch

        autocast = torch.autocast(self.world.device.type, dtype=torch.bfloat16, enabled=self.dtype == torch.bfloat16)
        with autocast:
            said = families.forward(self.family, net, noise.mix(x0, eps, sigma), sigma, text, self.guidance, self.dtype)
        return ((said.float() - families.target(self.family, x0, eps)) ** 2).mean()

    def one_step(self):
        """Forward, backward, step. The cursor is past the batch already."""
        import torch

        began, size = time.monotonic(), self.micro * self.accumulation * self.world.size
        first = self.cursor - size
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.world.device)
        for turn in range(self.accumulation):
            mine = first + (turn * self.world.size + self.world.rank) * self.micro
            x0, eps, sigma, text = self.feed.batch(range(mine, mine + self.micro))
            with ranks.accumulating(self.called, last=turn == self.accumulation - 1):
                loss = self.loss(self.called, x0, eps, sigma, text) / self.accumulation
                loss.backward()
            total += loss.detach()
            events.progress()
        mean = float(self.world.mean(total))
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.job.settings.max_grad_norm)
        norm = float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)
        if not (abs(mean) < float("inf") and norm < float("inf")):
            raise exits.Failure("nan", f"step {self.step + 1}: loss {mean}, norm of gradients {norm}", cursor=first)
        self.optimizer.step()
        self.step += 1
        if self.average is not None:
            with torch.no_grad():
                self.average.update(self.step)
        events.emit(
            "step", step=self.step, loss=mean, grad_norm=norm, lr=self.job.settings.learning_rate, cursor=self.cursor, samples=size,
            ms=round((time.monotonic() - began) * 1000, 1), mem=memory_mb(self.world.device),
        )

    def go(self):
        """Steps until the end, or until somebody wants us to stop. True if the end is reached."""
        settings, size = self.job.settings, self.micro * self.accumulation * self.world.size
        if not self.wait(self.may_begin):
            return False
        self.check_data()
        saved = self.step
        while self.step < settings.steps:
            if not self.wait(self.has_batch):
                if self.step > saved:
                    checkpoint.save(self)
                return False
            at, self.cursor = self.cursor, self.cursor + size
            if at in self.skip:
                continue
            self.one_step()
            every = self.job.trainer.eval_every
            if every and self.step % every == 0 and self.step < settings.steps:
                evaluate.evaluate(self)
            if self.step % settings.checkpoint_every == 0 and self.step < settings.steps:
                checkpoint.save(self)
                saved = self.step
        evaluate.evaluate(self)
        if self.step > saved:
            checkpoint.save(self)
        return True


def memory_mb(device):
    """Largest memory so far: of the device, or of the process."""
    if device.type == "cuda":
        import torch

        return round(torch.cuda.max_memory_allocated(device) / 1e6)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)


def versions_of(world):
    """What decides the adapter besides job and data. No time, no place: these enter the name of what is published."""
    import platform

    import diffusers
    import numpy
    import peft
    import safetensors
    import torch
    import transformers

    from . import __version__

    modules = {m.__name__: m.__version__ for m in (torch, diffusers, peft, transformers, safetensors, numpy)}
    return {"trainer": f"diffusion_lora {__version__}", "python": platform.python_version(), **modules, "device": world.device.type}


def train(job_path, order_path):
    """The command `train`."""
    job = jobs.read_job(job_path)
    attempt = jobs.read_order(order_path, job)
    events.name(run=job.run, attempt=attempt.attempt)
    events.beat(job.trainer.heartbeat_seconds, job.trainer.stall_seconds)
    ranks.prepare_torch(job.trainer)
    world = ranks.start(job)
    families.library(job.trainer)
    versions = versions_of(world)
    events.emit("env", **versions, world_size=world.size)
    run = None
    try:
        run = Run(job, attempt, world, versions)
        run.notice()
        checkpoint.resume(run, attempt.previous_checkpoint)
        run.plan()
        finished = run.go()
    except exits.Stop:
        finished = False
    step = run.step if run is not None else 0
    if not finished:
        events.emit("stopped", step=step)
        return exits.STOPPED
    # The first rank speaks when all are done, and keeps the meeting place open until then.
    world.barrier()
    events.emit("done", step=step)
    return exits.DONE
