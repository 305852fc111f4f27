"""Several processes as one training: who we are, what all agree on, and how the model lies on the devices.

Why no launcher: the supervisor starts each rank itself and tells it by the variables that torch reads. `ddp` keeps a model on each device and reduces
the adapter's gradients alone; `fsdp2` deals the model out, block by block. What can go wrong: a rank that dies leaves the others in a collective, out
of which only the supervisor's kill helps; and ranks that decide differently would wait for each other for ever, so stopping is agreed on.
"""

import contextlib
import dataclasses
import datetime
import os
import typing

from . import events
from .exits import Failure

STARVED, READY, STOP = range(3)


@dataclasses.dataclass
class World:
    rank: int
    size: int
    device: typing.Any
    mesh: typing.Any = None

    @property
    def first(self):
        return self.rank == 0

    def agree(self, ready):
        """STOP if any rank was asked to stop, READY if all are ready."""
        stop = events.stop_requested()
        if self.size > 1:
            import torch
            import torch.distributed as dist

            flags = torch.tensor([int(stop), int(not ready)], dtype=torch.int32, device=self.device)
            dist.all_reduce(flags, dist.ReduceOp.MAX)
            stop, ready = bool(flags[0]), not bool(flags[1])
        return STOP if stop else READY if ready else STARVED

    def mean(self, value):
        """Mean of a number over all ranks."""
        return self.total(value) / self.size

    def total(self, value):
        """Sum of a tensor over all ranks."""
        if self.size > 1:
            import torch.distributed as dist

            value = value.detach().clone()
            dist.all_reduce(value)
        return value

    def barrier(self):
        if self.size > 1:
            import torch.distributed as dist

            dist.barrier()


def number(name, default):
    try:
        return int(os.environ.get(name, default))
    except ValueError as error:
        raise Failure("job", f"the variable {name} is no number: {os.environ[name]}") from error


def device_of(trainer, local_rank):
    """The device of this rank."""
    import torch

    wanted = trainer.device
    has = torch.cuda.is_available()
    if wanted == "cuda" and not (has and local_rank < torch.cuda.device_count()):
        raise Failure("device", f"trainer.device is cuda, but rank {local_rank} finds {torch.cuda.device_count() if has else 0} devices")
    if wanted == "cpu" or not has:
        return torch.device("cpu")
    device = torch.device("cuda", local_rank % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device


def dtype_of(trainer, device):
    """Type of the frozen model's numbers, and of computing."""
    import torch

    half = trainer.precision == "bf16" or (trainer.precision == "auto" and device.type == "cuda")
    return torch.bfloat16 if half else torch.float32


def prepare_torch(trainer):
    """Threads and exactness."""
    import torch

    if trainer.threads:
        torch.set_num_threads(trainer.threads)
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    if trainer.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)


def start(job):
    """Joins the other ranks."""
    rank, size, local_rank = number("RANK", 0), number("WORLD_SIZE", 1), number("LOCAL_RANK", 0)
    if size != job.ranks:
        raise Failure("job", f"the job is for {job.ranks} ranks, WORLD_SIZE is {size}")
    device = device_of(job.trainer, local_rank)
    world = World(rank, size, device)
    if size > 1 or job.trainer.strategy == "fsdp2":
        import torch.distributed as dist
        from torch.distributed.device_mesh import init_device_mesh

        os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
        os.environ.setdefault("MASTER_PORT", "29500")
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, rank=rank, world_size=size, timeout=datetime.timedelta(seconds=job.trainer.collective_seconds))
        world.mesh = init_device_mesh(device.type, (size,))
    return world


def deal_out(net, world, strategy):
    """What is called in training. The model itself is changed in place by `fsdp2`."""
    import torch

    if strategy == "fsdp2":
        from torch.distributed.fsdp import fully_shard

        for child in net.children():
            if isinstance(child, torch.nn.ModuleList):
                for block in child:
                    fully_shard(block, mesh=world.mesh)
        # Also the root's own parameters are dealt out again after each pass: a copy that stays whole would miss what is changed between passes.
        fully_shard(net, mesh=world.mesh, reshard_after_forward=True)
        return net
    net.to(world.device)
    if world.size == 1:
        return net
    ids = [world.device.index] if world.device.type == "cuda" else None
    return torch.nn.parallel.DistributedDataParallel(net, device_ids=ids, broadcast_buffers=False)


def accumulating(net, last):
    """Gradients travel with the last pass of a step alone, where the wrapper can hold them back."""
    return contextlib.nullcontext() if last or not hasattr(net, "no_sync") else net.no_sync()


def local(tensor):
    """The part of a tensor that lies here; the tensor itself if it is not dealt out."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def full(tensor):
    """The whole of a tensor that may be dealt out. All ranks must ask."""
    tensor = tensor.detach()
    return (tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor).cpu()


def put(parameter, value):
    """Fills a tensor, or our part of it, from a whole one. All ranks must do so."""
    import torch

    with torch.no_grad():
        value = value.to(device=local(parameter).device, dtype=parameter.dtype)
        if hasattr(parameter, "to_local"):
            from torch.distributed.tensor import distribute_tensor

            value = distribute_tensor(value, parameter.device_mesh, parameter.placements).to_local()
        local(parameter).copy_(value)
