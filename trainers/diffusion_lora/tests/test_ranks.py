"""Two ranks over gloo are one training."""

import shutil

import pytest
import torch
from diffusion_lora import adapter
from safetensors.torch import load_file
from support import losses

STEPS = 6


@pytest.fixture(scope="module")
def alone(tmp_path_factory, weights):
    from support import World

    w = World(tmp_path_factory.mktemp("alone") / "w", "hunyuan", weights("hunyuan"), steps=STEPS, checkpoint_every=3)
    return w, w.done()


def two(world, strategy):
    w = world("hunyuan", steps=STEPS, micro_batch=1, checkpoint_every=3)
    w.job["ranks"] = 2
    w.job["trainer"].update(strategy=strategy, gradient_checkpointing=strategy == "fsdp2", eval_samples=3)
    return w


@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_losses_are_those_of_one_rank(world, alone, strategy):
    one, process = alone
    w = two(world, strategy)
    together = w.done()
    worst = max(abs(a - b) for a, b in zip(losses(process), losses(together), strict=True))
    weights = [load_file(x.checkpoint(STEPS) / adapter.FILE) for x in (one, w)]
    apart = max(float((weights[0][key] - weights[1][key]).abs().max()) for key in weights[0])
    print(strategy, "losses differ by", worst, "adapters by", apart)
    assert worst < 1e-5 and apart < 2e-3
    assert together.of("plan")[0]["tensors"] == len(weights[1]) and together.of("plan")[0]["strategy"] == strategy
    assert together.of("eval")[0]["loss"] < together.of("eval")[0]["base_loss"]


def test_a_training_may_go_on_with_another_number_of_ranks(world, alone):
    one, process = alone
    w = two(world, "fsdp2")
    w.out.mkdir()
    shutil.copytree(one.checkpoint(3), w.checkpoint(3))
    together = w.done()
    assert together.of("resumed")[0]["step"] == 3
    assert max(abs(a - b) for a, b in zip(losses(process)[3:], losses(together), strict=True)) < 1e-5
    base = [x.of("eval")[0]["base_loss"] for x in (process, together)]
    assert all(torch.isfinite(torch.tensor(b)) for b in base)


def test_all_ranks_stop_together_when_one_is_asked_to(world):
    w = two(world, "ddp")
    w.job["settings"].update(steps=100_000, checkpoint_every=10**6)
    ranks = w.start_all()
    ranks[0].wait("step", step=2)
    # The signals never arrive together.
    ranks[1].kill()
    ranks[0].wait("stopped")
    assert [rank.end() for rank in ranks] == [75, 75]
    step = ranks[0].of("stopped")[0]["step"]
    assert w.checkpoint(step).is_dir() and [e["t"] for e in ranks[1].events] == ["hello", "(end)"]
