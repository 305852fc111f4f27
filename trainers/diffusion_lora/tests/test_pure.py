"""What is decided without a model: order, noise, averages, files, mistakes."""

import json
import math
import pathlib

import numpy
import pytest
from diffusion_lora import adapter, average, checkpoint, exits, job, noise, order


class Grid:
    """A generator whose numbers are the middles of 1,000 equal parts."""

    def __init__(self):
        self.number = 0

    def random(self):
        self.number += 1
        return (self.number - 0.5) / 1000


@pytest.mark.parametrize(("shift", "mean"), [(1.0, 0.5005), (7.0, 0.7888)])
def test_noise_levels_of_both_readings_of_the_paper(shift, mean):
    grid = Grid()
    levels = [noise.level(grid, "uniform", shift, 1000) for _ in range(1000)]
    assert abs(numpy.mean(levels) - mean) < 5e-5
    assert max(levels) == 1.0 and min(levels) == pytest.approx(noise.shifted(0.001, shift))
    grid = Grid()
    whole = numpy.mean([noise.level(grid, "uniform", 7.0, 0) for _ in range(1000)])
    assert abs(whole - 7 / 6 * (1 - math.log(7) / 6)) < 1e-4


def test_logit_normal_levels_are_drawn_around_the_middle():
    generator = order.draw(3, order.NOISE, 0)
    levels = [noise.level(generator, "logit_normal", 1.0, 0) for _ in range(4000)]
    assert abs(numpy.mean(levels) - 0.5) < 0.02 and 0.15 < numpy.std(levels) < 0.25


def test_what_is_drawn_depends_on_the_cursor_alone():
    settings = job.Table(seed=5, noise_levels="uniform", train_shift=7.0, caption_dropout=0.25)
    one = noise.of_sample(settings, 1000, 17, (2, 3))
    noise.of_sample(settings, 1000, 16, (2, 3))
    again, other = noise.of_sample(settings, 1000, 17, (2, 3)), noise.of_sample(settings, 1000, 18, (2, 3))
    assert one[0] == again[0] and (one[1] == again[1]).all() and not (one[1] == other[1]).any()
    dropped = sum(noise.of_sample(settings, 1000, cursor, (1,))[2] for cursor in range(2000))
    assert abs(dropped / 2000 - 0.25) < 0.04


def test_each_pass_takes_every_sample_once_in_an_order_of_its_own():
    taken = [order.Order(1, in_order=False).at(cursor, 20, True, set()) for cursor in range(60)]
    passes = [taken[at : at + 20] for at in (0, 20, 40)]
    assert all(sorted(one) == list(range(20)) for one in passes)
    assert passes[0] != passes[1] != passes[2] != list(range(20))
    assert taken != [order.Order(2, in_order=False).at(cursor, 20, True, set()) for cursor in range(60)]


def test_leaving_a_sample_out_moves_no_other():
    whole = order.Order(1, in_order=False)
    before = [whole.at(cursor, 10, True, set()) for cursor in range(30)]
    after = [whole.at(cursor, 10, True, {4}) for cursor in range(30)]
    assert 4 not in after and all(a == b for a, b in zip(after, before) if b != 4)
    assert whole.at(0, 2, True, {0, 1}) is None


def test_a_growing_spool_changes_nothing_but_the_time():
    """Oracle: the order once all is there. Whatever is known earlier must agree with it."""
    growing = order.Order(9, in_order=True)
    final = [growing.at(cursor, 12, True, {3, 11}) for cursor in range(36)]
    assert final[:12] == [0, 1, 2, 4, 4, 5, 6, 7, 8, 9, 10, 0]
    for count in range(13):
        known = [growing.at(cursor, count, False, {3, 11}) for cursor in range(36)]
        assert all(now is None or now == then for now, then in zip(known, final))
        assert sum(now is not None for now in known) >= count - 2, "all but a place whose sample is left out is known"
    assert order.Order(9, in_order=False).at(0, 12, False, set()) is None


def test_the_average_warms_up():
    settings = job.Table(decay=0.999, start_step=0, warmup=True)
    assert average.decay_at(settings, 1) == 2 / 11 and average.decay_at(settings, 10**6) == 0.999
    cold = job.Table(decay=0.999, start_step=10, warmup=False)
    assert [average.decay_at(cold, step) for step in (10, 11)] == [0.0, 0.999]


def test_old_checkpoints_go_and_milestones_stay():
    assert checkpoint.to_remove([10, 20, 30, 40, 50], 2, 20) == [10, 30]
    assert checkpoint.to_remove([10, 20], 3, 100) == []


def test_metadata_are_in_the_same_order_whatever_happens():
    plain = (2).to_bytes(8, "little") + b"{}"
    one = adapter.with_metadata(plain, {"b": "2", "a": "1"})
    assert one == adapter.with_metadata(plain, {"a": "1", "b": "2"})
    size = int.from_bytes(one[:8], "little")
    assert size % 8 == 0 and json.loads(one[8 : 8 + size]) == {"__metadata__": {"a": "1", "b": "2"}}


def test_exceptions_of_libraries_have_codes():
    def of(error):
        failure = exits.of_exception(error)
        return failure.kind, failure.code

    class OutOfMemoryError(RuntimeError):
        pass

    assert of(OutOfMemoryError("CUDA")) == ("memory", 69)
    assert of(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 5 bytes")) == ("memory", 69)
    assert of(RuntimeError("Found no NVIDIA driver on your system")) == ("device", 69)
    assert of(RuntimeError("shapes do not match")) == ("crash", 70)
    assert of(ModuleNotFoundError("No module named torch")) == ("job", 78)
    assert of(exits.Failure("data", "x", sample="c")) == ("data", 65)
    assert exits.Failure("job", "x").fields() == {"kind": "job", "message": "x", "retryable": False}


def whole_job(tmp_path):
    settings = {
        "rank": 8, "alpha": 16.0, "steps": 6, "learning_rate": 0.01, "weight_decay": 0.01, "max_grad_norm": 1.0, "global_batch": 4, "micro_batch": 2,
        "train_shift": 7.0, "sample_shift": 7.0, "noise_levels": "uniform", "train_guidance": 1.0, "caption_dropout": 0.0, "ema": {"decay": 0.999},
        "checkpoint_every": 100, "keep_last": 3, "keep_every": 5000, "seed": 1024,
    }
    value = {
        "version": 1, "model": {"architecture": "hunyuan", "weights": "w"}, "data": {"spool": "s", "samples": 4}, "settings": settings,
        "shape": {"frames": 13, "height": 96, "width": 96, "fps": 24}, "ranks": 2, "out": "run",
    }
    path = tmp_path / "job.json"
    path.write_text(json.dumps(value))
    return path, value


def test_a_job_is_read_with_its_defaults(tmp_path):
    path, _ = whole_job(tmp_path)
    read = job.read_job(path)
    assert read.settings.ema == {"decay": 0.999, "start_step": 0, "warmup": True} and read.settings.alpha == 16.0
    assert read.trainer.noise_table == 1000 and read.out == pathlib.Path("run") and read.model.revision is None
    assert job.read_order(None, read).accumulation == 1


def test_all_mistakes_of_a_job_are_told_at_once(tmp_path):
    path, value = whole_job(tmp_path)
    value["settings"].update(rank=0, steps=True, learning_rate="fast", noise_levels="pink", ema={"decay": 2})
    del value["settings"]["seed"]
    value["model"]["architecture"] = "sora"
    value["ranks"] = 3
    value["trainer"] = {"presicion": "bf16", "device": "tpu", "start": {"min": 3}}
    path.write_text(json.dumps(value))
    with pytest.raises(exits.Failure) as caught:
        job.read_job(path)
    assert caught.value.kind == "job"
    for part in (
        "settings.rank: 0 is not from 1 to 1024", "settings.steps: true is no whole number", 'settings.learning_rate: "fast" is no number',
        "settings.seed: is missing", "settings.noise_levels", "settings.ema.decay: 2 is not from 0.0 to 0.999999",
        'model.architecture: "sora" is not one of hunyuan', "trainer.presicion: is not known; did you mean `precision`?",
        'trainer.device: "tpu" is not one of "auto", "cpu", "cuda"', "trainer.start", "4 is not a multiple of micro_batch 2 x 3 ranks",
    ):
        assert part in caught.value.message, (part, caught.value.message)


def test_an_order_that_contradicts_the_job_is_refused(tmp_path):
    path, _ = whole_job(tmp_path)
    read = job.read_job(path)
    order_path = tmp_path / "attempt.json"
    order_path.write_text(json.dumps({"attempt": 1, "micro_batch": 2, "accumulation": 2, "quarantined": ["a"], "skip_cursors": []}))
    with pytest.raises(exits.Failure, match="micro_batch x accumulation x ranks is 8, the job's global_batch is 4"):
        job.read_order(order_path, read)
    with pytest.raises(exits.Failure, match="cannot read .*none.json: No such file"):
        job.read_job(tmp_path / "none.json")
