"""The program as the supervisor starts it: a process of its own."""

import json
import pathlib
import subprocess
import sys
import time

HOME = pathlib.Path(__file__).resolve().parent.parent


def start(*arguments):
    return subprocess.run([sys.executable, "-m", "diffusion_lora", *arguments], cwd=HOME, capture_output=True, text=True, timeout=240, check=False)


def test_a_bad_job_is_told_before_anything_is_loaded(tmp_path):
    path = tmp_path / "job.json"
    path.write_text('{"version": 1, "settings": {"rank": 0}}')
    began = time.monotonic()
    process = start("train", "--job", str(path))
    events = [json.loads(line) for line in process.stdout.splitlines()]
    assert process.returncode == 78 and [event["t"] for event in events] == ["hello", "error"]
    assert events[0]["proto"] == 1 and events[1]["kind"] == "job" and "settings.rank: 0 is not from 1 to 1024" in events[1]["message"]
    assert "error: job:" in process.stderr and time.monotonic() - began < 20
    path.write_text("{")
    assert "is no JSON" in start("train", "--job", str(path)).stdout


def test_words_on_the_command_line_that_make_no_sense(tmp_path):
    process = start("fly")
    assert process.returncode == 2 and "invalid choice" in process.stderr and process.stdout == ""
    assert start("--help").stdout.startswith("usage: diffusion_lora")
