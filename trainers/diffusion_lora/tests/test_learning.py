"""That it learns, in all three families, and that what it saves is what it learned."""

import json

import pytest
import torch
from diffusion_lora import adapter, families, job as jobs, order, ranks, train, verify
from safetensors import safe_open
from safetensors.torch import load_file
from support import Process, losses

FAMILIES = ["hunyuan", "mochi", "wan_1_3b"]
# Three of four: what 50 steps must leave of the loss on the fixed grid.
SHARE = 0.75


@pytest.mark.parametrize("architecture", FAMILIES)
def test_fifty_steps_reduce_the_loss_on_the_fixed_grid_and_the_adapter_loads(world, architecture):
    shift = 1.0 if architecture == "mochi" else 7.0
    w = world(architecture, steps=50, rank=32, alpha=32.0, train_shift=shift)
    w.job["trainer"]["eval_samples"] = 8
    process = w.done()
    (said,) = process.of("eval")
    print(architecture, "grid", said["base_loss"], "->", said["loss"], "average", said["ema_loss"], "steps", losses(process)[0], losses(process)[-1])
    assert said["loss"] <= SHARE * said["base_loss"]
    assert said["ema_loss"] < said["base_loss"]
    (plan,) = process.of("plan")
    folder = w.checkpoint(50)
    tensors = load_file(folder / adapter.FILE)
    assert plan["tensors"] == len(tensors) and plan["params"] == sum(t.numel() for t in tensors.values())
    assert all(bool(t.any()) for name, t in tensors.items() if "lora_B" in name)
    assert process.of("heartbeat") and process.of("env")[0]["torch"] == torch.__version__
    # As a user loads it, and as it was in training.
    loaded, trained = model(w), model(w)
    adapter.load(loaded, folder, adapter.FILE, "curette")
    adapter.add(trained, jobs.Table(w.job["settings"]), jobs.read_job(w.folder / "job.json").trainer)
    state = load_file(folder / "state.safetensors")
    for key, parameter in adapter.trainable(trained):
        ranks.put(parameter, state[f"p.{key}"])
    family = families.of(architecture)
    given = verify.inputs(family, loaded, 1, torch.device("cpu"))
    with torch.no_grad():
        guidance = families.guidance_of(family, loaded, 1.0)
        outputs = [families.forward(family, net, *given, guidance, torch.float32) for net in (loaded, trained, model(w))]
    assert float((outputs[0] - outputs[1]).abs().max()) == 0.0
    assert float((outputs[0] - outputs[2]).abs().max()) > 0.01


def model(w):
    return families.load_transformer(jobs.Table(w.job["model"], revision=None), jobs.Table(allow_download=False), torch.float32).eval()


def test_an_adapter_of_another_alpha_keeps_its_scale_and_names_its_layers(world):
    w = world("hunyuan", rank=8, alpha=32.0, steps=5)
    process = w.done()
    folder = w.checkpoint(5)
    with safe_open(folder / adapter.FILE, "pt") as file:
        settings = json.loads(file.metadata()[adapter.METADATA_KEY])
        keys = set(file.keys())
    assert (settings["transformer.r"], settings["transformer.lora_alpha"]) == (8, 32)
    assert "transformer.single_transformer_blocks.1.attn.to_q.lora_A.weight" in keys
    assert "transformer.context_embedder.token_refiner.refiner_blocks.0.attn.to_out.0.lora_B.weight" in keys
    assert not any("single_transformer_blocks" in key and "to_out" in key or "add_" in key for key in keys)
    # In a fresh process it changes the output as much as here.
    verified = Process(["verify", "--job", w.folder / "job.json", "--adapter", folder], w.folder / "verify.log")
    assert verified.end() == 0, verified.log()
    said = verified.of("verified")[0]
    loaded = model(w)
    adapter.load(loaded, folder, adapter.FILE, "x")
    family = families.of("hunyuan")
    change = verify.change(loaded, family, verify.inputs(family, loaded, 1024, torch.device("cpu")), torch.float32, 1.0)
    assert said["max_change"] == pytest.approx(change, abs=1e-6) and said["max_change"] > 0 and said["ema_max_change"] > 0
    wrong = model(w)
    wrong.load_lora_adapter(load_file(folder / adapter.FILE), prefix="transformer", adapter_name="x")
    other = verify.change(wrong, family, verify.inputs(family, wrong, 1024, torch.device("cpu")), torch.float32, 1.0)
    assert abs(other - change) > 1e-4, "without its metadata it has another scale, so these matter"
    assert process.of("done")


@pytest.mark.parametrize("architecture", FAMILIES)
def test_every_b_matrix_gets_a_gradient_also_with_recomputation_and_nothing_frozen_does(world, architecture):
    w = world(architecture)
    gradients = []
    for recompute in (False, True):
        w.job["trainer"]["gradient_checkpointing"] = recompute
        w.write_job()
        job = jobs.read_job(w.folder / "job.json")
        run = train.Run(job, jobs.read_order(None, job), ranks.World(0, 1, torch.device("cpu")), {})
        x0, eps, sigma, text = run.feed.batch(range(4))
        run.loss(run.called, x0, eps, sigma, text).backward()
        trained = dict(run.named)
        assert all(bool(p.grad.any()) for key, p in trained.items() if "lora_B" in key)
        assert all(p.grad is None for p in run.net.parameters() if not p.requires_grad)
        gradients.append({key: p.grad for key, p in trained.items()})
    assert all(torch.equal(gradients[0][key], gradients[1][key]) for key in gradients[0])


def test_half_precision_learns_too_and_keeps_the_adapter_in_full(world):
    w = world("hunyuan", steps=8, train_shift=1.0, ema=None, caption_dropout=0.5, noise_levels="logit_normal")
    w.job["trainer"].update(precision="bf16", gradient_checkpointing=True, noise_table=0)
    process = w.done()
    (said,) = process.of("eval")
    assert said["loss"] < said["base_loss"] and "ema_loss" not in said
    tensors = load_file(w.checkpoint(8) / adapter.FILE)
    assert all(t.dtype == torch.float32 for t in tensors.values())
    assert not (w.checkpoint(8) / adapter.AVERAGE_FILE).exists()


def test_the_average_is_the_one_of_its_formula(world):
    """Oracle: the weights of each step, averaged by hand."""
    w = world("hunyuan", steps=4, checkpoint_every=1, keep_last=5)
    w.done()
    states = [load_file(w.checkpoint(step) / "state.safetensors") for step in range(1, 5)]
    key = next(name[2:] for name in states[0] if name.startswith("p.") and "lora_B" in name)
    # B begins as zeros.
    by_hand = torch.zeros_like(states[0][f"p.{key}"])
    for step, state in enumerate(states, 1):
        keep = (1 + step) / (10 + step)
        by_hand = keep * by_hand + (1 - keep) * state[f"p.{key}"]
        assert torch.allclose(by_hand, state[f"ema.{key}"], atol=1e-7)
    saved = load_file(w.checkpoint(4) / adapter.AVERAGE_FILE)
    assert torch.equal(saved[f"transformer.{key}"], states[-1][f"ema.{key}"])


def test_a_step_is_the_one_of_the_formulas(world):
    """Oracle: the first step by hand, with torch's own AdamW and nothing of the loop."""
    w = world("mochi", steps=1, global_batch=2, micro_batch=1, train_shift=1.0)
    process = w.done()
    job = jobs.read_job(w.folder / "job.json")
    net, family = model(w), families.MOCHI
    adapter.add(net, job.settings, job.trainer)
    optimizer = torch.optim.AdamW([p for _, p in adapter.trainable(net)], lr=0.01, weight_decay=0.01)
    scale = families.Scale(job.model, job.trainer)
    taken = [order.Order(1024, in_order=False).at(cursor, 8, True, set()) for cursor in range(2)]
    total = 0.0
    for cursor, number in enumerate(taken):
        tensors = w.tensors(number)
        generator = order.draw(1024, order.NOISE, cursor)
        sigma = (1000 - int(generator.random() * 1000)) / 1000
        generator.random()
        eps = torch.from_numpy(generator.standard_normal(tensors["latent"].shape, dtype="float32"))
        x0 = scale(tensors["latent"].float()[None])[0]
        embed = torch.zeros(16, 64)
        embed[: tensors["embed"].shape[0]] = tensors["embed"].float()
        said = net(
            hidden_states=((1 - sigma) * x0 + sigma * eps)[None], timestep=torch.tensor([1000 * (1 - sigma)]), encoder_hidden_states=embed[None],
            encoder_attention_mask=tensors["mask"][None].bool(), return_dict=False,
        )[0]
        loss = ((said[0] - (x0 - eps)) ** 2).mean() / 2
        loss.backward()
        total += loss.item()
    assert losses(process)[0] == pytest.approx(total, rel=1e-5)
    torch.nn.utils.clip_grad_norm_([p for _, p in adapter.trainable(net)], 1.0)
    optimizer.step()
    state = load_file(w.checkpoint(1) / "state.safetensors")
    worst = max(float((p.detach() - state[f"p.{key}"]).abs().max()) for key, p in adapter.trainable(net))
    # A first step of Adam is +-lr wherever a gradient is not zero; rounding may flip the smallest.
    assert worst < 2.1e-2
    different = sum(int(((p.detach() - state[f"p.{key}"]).abs() > 1e-4).sum()) for key, p in adapter.trainable(net))
    assert different < 0.001 * sum(p.numel() for _, p in adapter.trainable(net))
    assert torch.isfinite(torch.tensor(total))
