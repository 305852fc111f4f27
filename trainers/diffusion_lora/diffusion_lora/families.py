"""What the model families do differently: classes, scale of latents, inputs, sign of the answer.

Why a table and four functions: everything else is the same for all. HunyuanVideo and Wan are told the timestep 1000 sigma and answer eps - x0; Mochi
is told 1000 (1 - sigma) and answers x0 - eps. What can go wrong: a folder of weights that is not there, or of another family; it is named.
"""

import inspect
import os
import typing

from .exits import Failure

TRANSFORMER = "transformer"


class Family(typing.NamedTuple):
    name: str
    transformer: str
    vae: str
    pipeline: str
    channels: int
    frames_per_latent: int
    # Longest caption, in tokens.
    tokens: int
    # Guidance and steps of evaluation videos, the defaults of the models' own pipelines.
    guidance: float
    sampling_steps: int


HUNYUAN = Family("hunyuan", "HunyuanVideoTransformer3DModel", "AutoencoderKLHunyuanVideo", "HunyuanVideoPipeline", 16, 4, 256, 6.0, 50)
MOCHI = Family("mochi", "MochiTransformer3DModel", "AutoencoderKLMochi", "MochiPipeline", 12, 6, 256, 4.5, 64)
WAN = Family("wan", "WanTransformer3DModel", "AutoencoderKLWan", "WanPipeline", 16, 4, 512, 5.0, 50)
FAMILIES = {"hunyuan": HUNYUAN, "mochi": MOCHI, "wan_1_3b": WAN, "wan_14b": WAN}


def of(architecture):
    return FAMILIES[architecture]


def latent_sizes(family, shape):
    """[channels, frames, height, width] of a latent."""
    return [family.channels, (shape.frames - 1) // family.frames_per_latent + 1, shape.height // 8, shape.width // 8]


def tokens(family, shape):
    """Video tokens: latents in patches of 2 x 2."""
    _, frames, height, width = latent_sizes(family, shape)
    return frames * (height // 2) * (width // 2)


def library(trainer):
    """diffusers, told to stay off the net unless the job allows it."""
    if not trainer.allow_download:
        os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import diffusers

    diffusers.utils.logging.disable_progress_bar()
    return diffusers


def _where(model):
    if os.path.isabs(model.weights) and not os.path.isdir(model.weights):
        raise Failure("job", f"model.weights: there is no folder {model.weights}")
    return {"revision": model.revision} if model.revision and not os.path.isdir(model.weights) else {}


def load_transformer(model, trainer, dtype):
    """The frozen model."""
    diffusers, family = library(trainer), of(model.architecture)
    where = _where(model)
    try:
        net = getattr(diffusers, family.transformer).from_pretrained(model.weights, subfolder=TRANSFORMER, torch_dtype=dtype, **where)
    except OSError as error:
        raise Failure("job", f"model.weights: {model.weights} holds no {family.transformer} (subfolder {TRANSFORMER}): {error}") from error
    if net.config.in_channels != family.channels:
        raise Failure("job", f"model.weights: {model.weights} has {net.config.in_channels} channels, {family.name} has {family.channels}")
    return net


def load_pipeline(model, trainer, dtype, **parts):
    """The whole pipeline, less the parts that are given as None."""
    diffusers, family = library(trainer), of(model.architecture)
    where = _where(model)
    try:
        return getattr(diffusers, family.pipeline).from_pretrained(model.weights, torch_dtype=dtype, **where, **parts)
    except OSError as error:
        raise Failure("job", f"model.weights: {model.weights} holds no {family.pipeline}: {error}") from error


class Scale:
    """Raw latents to what the model sees: z times a factor, or (z - mean) / std for each channel, as the VAE's configuration says."""

    def __init__(self, model, trainer):
        import torch

        diffusers, family = library(trainer), of(model.architecture)
        vae = getattr(diffusers, family.vae)
        config = {key: p.default for key, p in inspect.signature(vae.__init__).parameters.items()}
        try:
            config.update(vae.load_config(model.weights, subfolder="vae", **_where(model)))
        except OSError:
            # Weights without a VAE: the numbers of the release, which the library has as defaults.
            pass
        mean, std = config.get("latents_mean"), config.get("latents_std")
        column = (1, -1, 1, 1, 1)
        self.factor = float(config.get("scaling_factor") or 1.0) if family.name != "wan" else 1.0
        self.mean = torch.tensor(mean).view(column) if mean and family.name != "hunyuan" else torch.zeros(1).view(column)
        self.std = torch.tensor(std).view(column) if std and family.name != "hunyuan" else torch.ones(1).view(column)

    def __call__(self, raw):
        return (raw - self.mean) / self.std * self.factor

    def undo(self, scaled):
        return scaled / self.factor * self.std + self.mean


def forward(family, net, x_t, sigma, text, guidance, dtype):
    """What the model says about x_t."""
    inputs = {"hidden_states": x_t.to(dtype), "encoder_hidden_states": text["embed"].to(dtype), "return_dict": False}
    if family.name == "hunyuan":
        inputs.update(timestep=sigma * 1000.0, encoder_attention_mask=text["mask"], pooled_projections=text["pooled"].to(dtype))
        inputs["guidance"] = x_t.new_full((x_t.shape[0],), guidance * 1000.0, dtype=dtype) if guidance is not None else None
    elif family.name == "mochi":
        inputs.update(timestep=(1 - sigma) * 1000.0, encoder_attention_mask=text["mask"].bool())
    else:
        inputs.update(timestep=sigma * 1000.0)
    return net(**inputs)[0]


def target(family, x0, eps):
    """What it should say."""
    return x0 - eps if family.name == "mochi" else eps - x0


def guidance_of(family, net, scale):
    """Embedded guidance, where the model has one."""
    return scale if family.name == "hunyuan" and net.config.guidance_embeds else None


def text_width(family, net):
    config = net.config
    return config.text_dim if family.name == "wan" else config.text_embed_dim
