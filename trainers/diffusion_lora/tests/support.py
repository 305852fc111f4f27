"""Runs of the trainer, and the spools and jobs that they need, written as curette writes them."""

import hashlib
import json
import os
import signal
import socket
import sys
import threading
import time
import traceback

# Longest wait for anything, in seconds: machines may be busy.
LIMIT = 240
SHAPES = {"hunyuan": (5, 64, 64), "mochi": (7, 64, 64), "wan_1_3b": (5, 64, 64)}
CAPTION_TOKENS = 16


class Process:
    """A run of the trainer: a fork whose standard output is read line by line. Every line must be an event."""

    def __init__(self, arguments, log, env=(), cwd=None):
        self.log_path, self.events, self.code = log, [], None
        self._changed = threading.Condition()
        reading, writing = os.pipe()
        self.reading = reading
        self.pid = os.fork()
        if self.pid == 0:
            self._child(arguments, log, dict(env), cwd, reading, writing)
        os.close(writing)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @staticmethod
    def _child(arguments, log, env, cwd, reading, writing):
        try:
            os.close(reading)
            os.dup2(writing, 1)
            os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
            # pytest has others in their place.
            sys.stdout, sys.stderr = (open(number, "w", buffering=1, closefd=False) for number in (1, 2))
            os.environ.update(env)
            if cwd is not None:
                os.chdir(cwd)
            from diffusion_lora.__main__ import main

            main([str(a) for a in arguments])
        except BaseException:
            os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(99)

    def _read(self):
        with os.fdopen(self.reading, "r", encoding="utf-8") as lines:
            for line in lines:
                with self._changed:
                    self.events.append(self._event(line))
                    self._changed.notify_all()
        with self._changed:
            self.events.append({"t": "(end)"})
            self._changed.notify_all()

    @staticmethod
    def _event(line):
        try:
            return json.loads(line)
        except ValueError:
            return {"t": "(no event)", "line": line}

    def of(self, kind):
        return [event for event in self.events if event["t"] == kind]

    def wait(self, what, **fields):
        """Waits for an event with these fields."""
        deadline = time.monotonic() + LIMIT

        def found():
            return [e for e in self.events if e["t"] == what and all(e.get(key) == value for key, value in fields.items())]

        with self._changed:
            while not found():
                assert not self.of("(end)") and time.monotonic() < deadline, f"no {what} {fields}: {self.events[-3:]} {self.log()}"
                self._changed.wait(1)
            return found()[0]

    def kill(self, number=signal.SIGTERM):
        os.kill(self.pid, number)

    def end(self):
        """The exit code, or the signal as a negative number."""
        deadline = time.monotonic() + LIMIT
        while self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > deadline:
                self.kill(signal.SIGKILL)
                raise AssertionError(f"it did not end: {self.events[-3:]} {self.log()}")
            else:
                time.sleep(0.01)
        self._reader.join(LIMIT)
        assert not self.of("(no event)"), self.of("(no event)")
        return self.code

    def log(self):
        return self.log_path.read_text(errors="replace")[-3000:] if self.log_path.exists() else ""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class World:
    """A spool, a job and their folder."""

    def __init__(self, folder, architecture, weights, samples=8, per_shard=4, spool=True, **settings):
        self.folder, self.architecture = folder, architecture
        self.spool, self.out = folder / "spool", folder / "run"
        folder.mkdir()
        self.attempts = 0
        frames, height, width = SHAPES[architecture]
        self.shape = {"frames": frames, "height": height, "width": width, "fps": 24.0}
        self.samples, self.per_shard = samples, per_shard
        self.job = {
            "version": 1,
            "model": {"architecture": architecture, "weights": str(weights), "revision": ""},
            "data": {"spool": str(self.spool), "manifest_sha256": "", "samples": samples, "table": "clips", "table_version": 1},
            "shape": self.shape,
            "settings": {
                "rank": 8, "alpha": 16.0, "steps": 6, "learning_rate": 0.01, "weight_decay": 0.01, "max_grad_norm": 1.0, "global_batch": 4,
                "micro_batch": 4, "train_shift": 7.0, "sample_shift": 7.0, "noise_levels": "uniform", "train_guidance": 1.0, "caption_dropout": 0.0,
                "ema": {"decay": 0.999, "start_step": 0, "warmup": True}, "checkpoint_every": 100, "keep_last": 3, "keep_every": 5000, "seed": 1024,
                **settings,
            },
            "ranks": 1,
            "out": str(self.out),
            "trainer": {"threads": 1, "eval_samples": 2, "heartbeat_seconds": 0.2},
        }
        if spool:
            self.write_header()
            for shard in range(samples // per_shard):
                self.write_shard(shard)
            self.seal()

    # The spool.

    def write_header(self):
        self.spool.mkdir()
        header = {"architecture": self.architecture, "encoder": "test", "shape": self.shape}
        (self.spool / "spool.json").write_text(json.dumps(header))

    def tensors(self, number):
        """Latents with something to learn: a mean of its own for each channel of each sample, and noise. As raw as a VAE would give them."""
        import torch
        from diffusion_lora import families
        from diffusion_lora.job import Table

        family = families.of(self.architecture)
        sizes = families.latent_sizes(family, Table(self.shape))
        g = torch.Generator().manual_seed(1000 + number)
        x0 = torch.randn(sizes[0], 1, 1, 1, generator=g) + 0.3 * torch.randn(sizes, generator=g)
        scale = families.Scale(Table(self.job["model"], revision=None), Table(allow_download=False))
        valid = 4 + number % (CAPTION_TOKENS - 4)
        out = {
            "latent": scale.undo(x0[None])[0].to(torch.bfloat16),
            "embed": torch.randn(valid, 64, generator=g).to(torch.bfloat16),
            "mask": (torch.arange(CAPTION_TOKENS) < valid).long(),
        }
        if family.name == "hunyuan":
            out["pooled"] = torch.randn(32, generator=g).to(torch.bfloat16)
        return out

    def write_shard(self, shard, change=lambda number, tensors: tensors):
        from safetensors.torch import save

        numbers = range(shard * self.per_shard, (shard + 1) * self.per_shard)
        data = {}
        for place, number in enumerate(numbers):
            for name, tensor in change(number, self.tensors(number)).items():
                data[f"{place:05d}.{name}"] = tensor.contiguous()
        raw = save(data, metadata={"samples": "[]"})
        name = f"{shard:06d}.safetensors"
        (self.spool / name).write_bytes(raw)
        ids = [f"clip{n}" for n in numbers]
        self.append({"shard": name, "n": self.per_shard, "bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest(), "ids": ids})

    def append(self, line):
        with open(self.spool / "manifest.jsonl", "a") as manifest:
            manifest.write(json.dumps(line) + "\n")

    def seal(self):
        self.append({"sealed": True})
        self.job["data"]["manifest_sha256"] = hashlib.sha256((self.spool / "manifest.jsonl").read_bytes()).hexdigest()

    # Runs.

    def write_job(self):
        (self.folder / "job.json").write_text(json.dumps(self.job, indent=2))

    def start(self, rank=0, port=0, **order):
        """Starts one rank."""
        settings, ranks = self.job["settings"], self.job["ranks"]
        self.write_job()
        if rank == 0:
            self.attempts += 1
        whole = {
            "attempt": self.attempts, "previous_checkpoint": False, "micro_batch": settings["micro_batch"],
            "accumulation": settings["global_batch"] // (settings["micro_batch"] * ranks), "quarantined": [], "skip_cursors": [], **order,
        }
        path = self.folder / f"attempt{self.attempts}.json"
        path.write_text(json.dumps(whole))
        env = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        arguments = ["train", "--job", "job.json", "--attempt", path]
        return Process(arguments, self.folder / f"rank{rank}.log", env, self.folder)

    def start_all(self, **order):
        port = free_port()
        return [self.start(rank, port, **order) for rank in range(self.job["ranks"])]

    def run(self, **order):
        """Runs all ranks to the end; the first one's process."""
        processes = self.start_all(**order)
        codes = [process.end() for process in processes]
        assert len(set(codes)) == 1, (codes, [p.log() for p in processes])
        return processes[0]

    def done(self, **order):
        """Runs to the end, which must be a good one."""
        process = self.run(**order)
        assert process.code == 0 and process.of("done"), (process.events[-3:], process.log())
        return process

    def checkpoint(self, step):
        return self.out / f"ckpt-{step:06d}"

    def bytes_of(self, step):
        names = ["state.safetensors", "pytorch_lora_weights.safetensors", "ema_lora_weights.safetensors"]
        return {name: (self.checkpoint(step) / name).read_bytes() for name in names if (self.checkpoint(step) / name).exists()}


def losses(process):
    return [event["loss"] for event in process.of("step")]
