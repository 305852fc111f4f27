"""Clips to latents and embeddings, prompts to videos, with the whole pipelines of the three families."""

import json

import pytest
import torch
from safetensors import safe_open
from support import Process, World

SIZE = {"hunyuan": 5, "mochi": 7, "wan_1_3b": 5}


def request(folder, architecture, weights, clips, **shape):
    value = {
        "version": 1,
        "model": {"architecture": architecture, "weights": str(weights), "revision": ""},
        "shape": {"frames": SIZE[architecture], "height": 32, "width": 32, "fps": 24.0, **shape},
        "clips": [{"id": id, "path": str(path), "caption": caption, "facts": {}} for id, path, caption in clips],
        "out": str(folder / "answer.safetensors"),
        "trainer": {"threads": 1, "heartbeat_seconds": 0.2},
    }
    path = folder / "request.json"
    path.write_text(json.dumps(value))
    process = Process(["prepare", "--request", path], folder / "prepare.log")
    process.end()
    return process, folder / "answer.safetensors"


def read(path):
    with safe_open(path, "pt") as file:
        infos = json.loads(file.metadata()["samples"])
        return infos, {name: file.get_tensor(name) for name in file.keys()}


@pytest.mark.parametrize("architecture", list(SIZE))
def test_clips_become_samples_that_depend_on_nothing_else(tmp_path, weights, architecture):
    folder = weights(architecture)
    clips = [(f"clip{n}", folder / "clips" / f"clip{n}.mp4", f"the video shows number {n}") for n in range(3)]
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video at all")
    process, answer = request(tmp_path, architecture, folder, [clips[0], ("bad", broken, "x"), ("gone", tmp_path / "none.mp4", "x"), *clips[1:]])
    assert process.code == 0 and process.of("done"), process.log()
    refused = {event["sample"]: event["code"] for event in process.of("refused")}
    assert refused == {"bad": "not_a_video", "gone": "not_a_video"}
    infos, tensors = read(answer)
    assert [info["id"] for info in infos] == ["clip0", "clip1", "clip2"] and infos[1]["frames"] == SIZE[architecture]
    channels = 12 if architecture == "mochi" else 16
    longest = 512 if architecture == "wan_1_3b" else 256
    assert list(tensors["00000.latent"].shape) == [channels, 2, 4, 4]
    assert list(tensors["00000.mask"].shape) == [longest] and int(tensors["00000.mask"].sum()) == tensors["00000.embed"].shape[0] > 0
    assert ("00000.pooled" in tensors) == (architecture == "hunyuan")
    assert {t.dtype for name, t in tensors.items() if "mask" not in name} == {torch.bfloat16}
    assert not torch.equal(tensors["00000.latent"], tensors["00001.latent"])
    # Alone it is the same, and so it is a second time.
    for _ in range(2):
        process, answer = request(tmp_path, architecture, folder, [clips[1]])
        _, alone = read(answer)
        for name in [name[6:] for name in tensors if name.startswith("00001.")]:
            assert torch.equal(alone[f"00000.{name}"], tensors[f"00001.{name}"]), name


def test_clips_that_do_not_fit_are_refused_with_the_reason(tmp_path, weights):
    folder = weights("hunyuan")
    clip = [("clip0", folder / "clips" / "clip0.mp4", "x")]
    for shape, code in (({"frames": 9}, "too_few_frames"), ({"height": 48}, "other_size"), ({"fps": 25.0}, "other_fps")):
        process, answer = request(tmp_path, "hunyuan", folder, clip, **shape)
        (refused,) = process.of("refused")
        assert (process.code, refused["code"]) == (0, code) and read(answer) == ([], {})
    broken = tmp_path / "request.json"
    broken.write_text('{"version": 1, "clips": [{"id": 3}]}')
    process = Process(["prepare", "--request", broken], tmp_path / "log")
    assert process.end() == 78 and "clips.0.path: is no text" in process.of("error")[0]["message"]


@pytest.mark.parametrize("architecture", list(SIZE))
def test_prompts_become_videos_with_and_without_the_adapter_and_are_not_made_twice(tmp_path, weights, architecture):
    w = World(tmp_path / "w", architecture, weights(architecture), steps=4)
    w.done()
    w.job["shape"] = {"frames": SIZE[architecture], "height": 32, "width": 32, "fps": 24.0}
    w.write_job()
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("The short video shows a hand\n\nThe short video shows a heart\n")
    out = tmp_path / "videos"
    arguments = ["generate", "--job", w.folder / "job.json", "--adapter", w.checkpoint(4), "--prompts", prompts, "--out", out, "--steps", "3"]
    process = Process([*arguments, "--limit", "1"], tmp_path / "log")
    assert process.end() == 0 and len(process.of("video")) == 2, process.log()
    base = (out / "base" / "00000.mp4").read_bytes()
    assert base != (out / "adapter" / "00000.mp4").read_bytes()
    process = Process(arguments, tmp_path / "log")
    assert process.end() == 0 and [event["number"] for event in process.of("video")] == [1, 1]
    rows = [json.loads(line) for line in (out / "videos.jsonl").read_text().splitlines()]
    assert len(rows) == 4 and rows[3]["prompt"].endswith("heart") and rows[0]["weights"] == "ema_lora_weights.safetensors"
    assert (out / "base" / "00000.mp4").read_bytes() == base
    from diffusion_lora import video
    from diffusion_lora.job import Table

    pictures = video.read(str(out / "adapter" / "00001.mp4"), Table(w.job["shape"]))
    assert pictures.shape == (SIZE[architecture], 32, 32, 3)
