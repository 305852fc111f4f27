"""Libraries are imported once, and every run of the trainer is a fork of this process: an import takes ten seconds, a fork none.

One thread, since more only spin on busy cores. `test_command.py` starts the program as the supervisor does.
"""

import os
import pathlib
import sys

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import pytest
import support


@pytest.fixture(scope="session", autouse=True)
def libraries():
    import torch

    torch.set_num_threads(1)
    import diffusers
    import peft
    import transformers

    # Lazily loaded parts are loaded here, so that forks share them.
    for name in ("HunyuanVideoPipeline", "MochiPipeline", "WanPipeline", "AutoencoderKLHunyuanVideo", "AutoencoderKLMochi", "AutoencoderKLWan"):
        getattr(diffusers, name)
    return torch, diffusers, peft, transformers


@pytest.fixture(scope="session")
def weights(tmp_path_factory, libraries):
    """Folder of the tiny model of a family, with three clips; made by the command `tiny` when first asked for."""
    made = {}

    def of(architecture):
        if architecture not in made:
            out = tmp_path_factory.mktemp(f"tiny-{architecture}")
            process = support.Process(["tiny", "--architecture", architecture, "--out", str(out), "--clips", "3"], out / "tiny.log")
            assert process.end() == 0, process.log()
            made[architecture] = out
        return made[architecture]

    return of


@pytest.fixture
def world(tmp_path, weights):
    """Makes a `support.World` in a folder of its own."""
    count = 0

    def new(architecture="hunyuan", **settings):
        nonlocal count
        count += 1
        return support.World(tmp_path / f"world{count}", architecture, weights(architecture), **settings)

    return new
