"""Each ending: its code, its event, and that what follows it works."""

import json
import os
import shutil
import signal
import time

import pytest
import torch
from support import LIMIT, losses

STEPS = 24


def test_a_training_that_is_stopped_killed_and_starved_ends_with_the_bytes_of_an_undisturbed_one(world):
    settings = {"steps": STEPS, "micro_batch": 2, "checkpoint_every": 8, "samples": 16}
    start = {"min_samples": 4}
    whole = world("hunyuan", **settings)
    whole.job["trainer"]["start"] = start
    whole.done()
    torn = world("hunyuan", spool=False, **settings)
    torn.job["trainer"]["start"] = start
    torn.write_header()
    torn.write_shard(0)
    first = torn.start()
    first.wait("step", step=1)
    starved = first.wait("starved")
    assert starved["cursor"] == 4
    torn.write_shard(1)
    torn.write_shard(2)
    first.wait("fed")
    first.wait("step", step=3)
    first.kill()
    assert first.end() == 75
    (stopped,) = first.of("stopped")
    assert stopped["step"] == 3 and torn.checkpoint(3).is_dir() and len(first.of("starved")) <= 2
    second = torn.start()
    assert second.wait("resumed")["step"] == 3
    second.wait("starved")
    torn.write_shard(3)
    torn.seal()
    second.wait("step", step=13)
    second.kill(signal.SIGKILL)
    assert second.end() == -9 and not second.of("stopped")
    third = torn.done()
    assert third.of("resumed")[0]["step"] in (8, 16) and third.of("step")[-1]["step"] == STEPS
    a, b = whole.bytes_of(STEPS), torn.bytes_of(STEPS)
    assert len(a) == 3 and a == b
    # And once more: nothing is trained, all is said.
    again = torn.done()
    assert not again.of("step") and not again.of("checkpoint") and again.of("eval")


def test_nobody_listening_means_stop_and_save(world):
    w = world("hunyuan", steps=100_000, checkpoint_every=10**6)
    process = w.start()
    process.wait("step", step=2)
    # The reader goes away, as it does when the supervisor is killed.
    read = process.reading
    hole = os.open(os.devnull, os.O_RDONLY)
    os.dup2(hole, read)
    assert process.end() == 75
    (folder,) = w.out.iterdir()
    assert json.loads((folder / "meta.json").read_text())["step"] >= 2


def test_a_loss_that_is_not_finite_names_its_batch_which_can_be_skipped(world):
    w = world("hunyuan", spool=False, steps=2, samples=8)
    w.write_header()
    w.write_shard(0)
    # Finite numbers whose squares are not.
    w.write_shard(1, lambda number, tensors: {**tensors, "latent": torch.full_like(tensors["latent"], 3e38)} if number == 5 else tensors)
    w.seal()
    skipped, process = [], w.run()
    # The sample comes again in another pass, so a skipped batch may be followed by another.
    while process.code == 66 and len(skipped) < 4:
        (error,) = process.of("error")
        assert error["kind"] == "nan" and error["retryable"] and error["cursor"] % 4 == 0 and error["cursor"] not in skipped
        assert len(process.of("step")) < 2
        skipped.append(error["cursor"])
        process = w.run(skip_cursors=skipped)
    assert process.code == 0 and skipped
    assert all(event["cursor"] - 4 not in skipped for event in process.of("step"))


def test_a_shard_that_was_cut_short_and_a_sample_with_nan_are_left_out_one_by_one(world):
    w = world("hunyuan", spool=False, steps=6, samples=8, per_shard=1)
    w.write_header()
    for shard in range(8):
        nan = shard == 6
        w.write_shard(shard, lambda number, tensors, nan=nan: {**tensors, "latent": tensors["latent"] * float("nan")} if nan else tensors)
    w.seal()
    cut = w.spool / "000003.safetensors"
    cut.write_bytes(cut.read_bytes()[:-100])
    flipped = w.spool / "000001.safetensors"
    raw = bytearray(flipped.read_bytes())
    raw[-1] ^= 1
    flipped.write_bytes(raw)
    left_out, messages = [], {}
    for _ in range(4):
        process = w.run(quarantined=left_out)
        if process.code == 0:
            break
        assert process.code == 65
        (error,) = process.of("error")
        assert error["kind"] == "data" and error["sample"] not in left_out
        left_out.append(error["sample"])
        messages[error["sample"]] = error["message"]
    assert process.code == 0 and sorted(left_out) == ["clip1", "clip3", "clip6"]
    assert "its hash differs" in messages["clip1"] and "the manifest says" in messages["clip3"] and "NaN" in messages["clip6"]


def test_a_device_that_is_not_there(world):
    w = world("hunyuan")
    w.job["trainer"]["device"] = "cuda"
    process = w.run()
    (error,) = process.of("error")
    assert process.code == 69 and error["kind"] == "device" and "trainer.device is cuda, but rank 0 finds 0 devices" in error["message"]


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda w: w.job["model"].update(weights="/none"), "there is no folder /none"),
        (lambda w: w.job["data"].update(manifest_sha256="00"), "is not the spool of the job"),
        (lambda w: w.job["shape"].update(frames=17), "the job is of ('hunyuan', 17.0, 64.0, 64.0, 24.0)"),
        (lambda w: w.job["trainer"].update(target_modules=["to_nothing"]), "to_nothing"),
        (lambda w: shutil.rmtree(w.spool), "is no spool"),
        (lambda w: (w.spool / "manifest.jsonl").write_text("{}\n"), "manifest.jsonl:1 is damaged"),
        (lambda w: w.job.update(ranks=1, trainer={"strategy": "tp"}), 'trainer.strategy: "tp" is not one of "ddp", "fsdp2"'),
    ],
)
def test_what_no_restart_can_help(world, change, part):
    w = world("hunyuan")
    w.job = json.loads(json.dumps(w.job))
    change(w)
    process = w.run()
    (error,) = process.of("error")
    assert (process.code, error["kind"], error["retryable"]) == (78, "job", False) and part in error["message"], error


def test_who_waits_too_long_stops_to_be_resumed(world):
    w = world("hunyuan", spool=False)
    w.write_header()
    w.job["trainer"].update(start={"min_samples": 4}, max_wait_seconds=0.5)
    process = w.run()
    assert process.code == 75 and process.of("stopped")[0]["step"] == 0
    assert "max_wait_seconds" in process.of("warning")[0]["message"] and len(process.of("starved")) == 1


def test_a_damaged_checkpoint_is_passed_over_and_the_one_before_can_be_asked_for(world):
    w = world("hunyuan", steps=6, checkpoint_every=2, keep_last=2, keep_every=1000)
    w.done()
    good = w.bytes_of(6)
    assert sorted(f.name for f in w.out.iterdir()) == ["ckpt-000004", "ckpt-000006"]
    with open(w.checkpoint(6) / "state.safetensors", "r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(b"\0\1\2\3")
    process = w.done()
    assert "ckpt-000006 is damaged" in process.of("warning")[0]["message"] and process.of("resumed")[0]["step"] == 4
    assert w.bytes_of(6) == good
    before = w.done(previous_checkpoint=True)
    assert before.of("resumed")[0]["step"] == 4 and w.bytes_of(6) == good
    text = (w.spool / "manifest.jsonl").read_text()
    (w.spool / "manifest.jsonl").write_text(text.replace("clip0", "clipX"))
    w.job["data"]["manifest_sha256"] = ""
    changed = w.run()
    assert changed.code == 78 and "has changed since" in changed.of("error")[0]["message"]


def test_another_form_of_the_batch_gives_the_same_training(world):
    wide, narrow = world("hunyuan", steps=4), world("hunyuan", steps=4)
    a, b = wide.done(), narrow.done(micro_batch=1, accumulation=4)
    assert max(abs(x - y) for x, y in zip(losses(a), losses(b), strict=True)) < 1e-5


def test_a_request_to_stop_is_answered_quickly_and_the_process_is_gone(world):
    w = world("hunyuan", steps=100_000, checkpoint_every=10**6)
    process = w.start()
    process.wait("step", step=1)
    began = time.monotonic()
    process.kill()
    process.wait("stopped")
    said = time.monotonic() - began
    assert process.end() == 75
    gone = time.monotonic() - began
    print(f"stopped after {said:.2f} s, gone after {gone:.2f} s")
    assert gone - said < min(2.0, LIMIT), "the supervisor kills after two seconds"
