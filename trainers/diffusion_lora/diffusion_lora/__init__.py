"""Trains LoRA adapters of HunyuanVideo, Mochi and Wan on a spool of encoded clips, under curette's supervision.

Why a program of its own: it is Python and CUDA, which crash, hang and run out of memory; curette starts it, listens to it, and starts it again. It
speaks that protocol and nothing else: commands and files in, JSON lines out, a code at the end.

| file | does |
|---|---|
| `__main__` | commands, and what an exception means for the exit code |
| `events`, `exits` | what is said, when it is time to stop, how it ends |
| `job` | `job.json`, the order of one attempt, the request of `prepare`: read and checked |
| `spool`, `order`, `noise` | samples, which one comes when, what is drawn for it: functions of the cursor alone |
| `families` | what the three model families do differently |
| `adapter`, `average`, `checkpoint` | the low-rank matrices, their average, and how all of it is saved |
| `ranks` | several processes as one: DDP, FSDP2 |
| `train`, `evaluate`, `verify` | a training, its loss on a fixed grid, and whether its adapter loads |
| `prepare`, `video`, `generate` | clips to latents and embeddings; prompts to videos |
| `tiny` | random models of the true architectures, small enough for a test |
"""

__version__ = "0.1.0"
