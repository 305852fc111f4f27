"""`prepare`: clips become latents and embeddings, in the form of a shard.

Why the same clip gives the same bytes: what the VAE draws is drawn for the clip's id alone, so it does not matter in whose company a clip comes, and
doing it again changes nothing; which clips are new is the spool's business. Latents are raw draws of the posterior; scaling is left to training. What
can go wrong: a file that is no video or has another size, rate or length is refused, with the reason; the others go on.
"""

import hashlib
import json
import os

from . import events, exits, families, job as jobs, ranks, video
from .checkpoint import sync_folder
from .order import POSTERIOR, draw

SAMPLES_KEY = "samples"


class Encoder:
    """VAE and text encoders of a model."""

    def __init__(self, request, device):
        import torch

        self.family, self.shape, self.device = families.of(request.model.architecture), request.shape, device
        self.tokens = request.trainer.text_tokens or self.family.tokens
        dtype = ranks.dtype_of(request.trainer, device)
        self.pipe = families.load_pipeline(request.model, request.trainer, dtype, transformer=None).to(device)
        if self.family.name == "wan":
            # Its makers run this VAE in full precision.
            self.pipe.vae.to(torch.float32)
        if request.trainer.vae_tiling:
            self.pipe.vae.enable_tiling()

    def latent(self, clip, pictures):
        """A draw of the posterior, [channels, frames, height / 8, width / 8]."""
        import numpy
        import torch

        # [frames, height, width, 3] to [1, 3, frames, height, width], -1 to 1.
        pixels = torch.from_numpy(pictures).permute(3, 0, 1, 2)[None].to(self.device)
        pixels = (pixels.float() / 127.5 - 1).to(self.pipe.vae.dtype)
        posterior = self.pipe.vae.encode(pixels).latent_dist
        number = int.from_bytes(hashlib.sha256(clip.encode()).digest()[:8], "little")
        noise = draw(number, POSTERIOR, 0).standard_normal(posterior.mean.shape, dtype=numpy.float32)
        mean, std = posterior.mean.float().cpu(), posterior.std.float().cpu()
        return (mean + std * torch.from_numpy(noise))[0].to(torch.bfloat16)

    def text(self, caption):
        """`embed` of the valid tokens, `mask`, and `pooled` where the model has one."""
        import torch

        out = {}
        given = {"prompt": caption, "device": self.device, "max_sequence_length": self.tokens}
        if self.family.name == "hunyuan":
            embed, pooled, mask = self.pipe.encode_prompt(**given)[:3]
            out["pooled"] = pooled[0].cpu().to(torch.bfloat16)
        elif self.family.name == "mochi":
            embed, mask = self.pipe.encode_prompt(**given, do_classifier_free_guidance=False)[:2]
        else:
            embed = self.pipe.encode_prompt(**given, do_classifier_free_guidance=False)[0]
            # Rows behind the last token are zeros.
            mask = (embed != 0).any(-1)
        embed, mask = embed[0].cpu().to(torch.bfloat16), mask[0].cpu().long()
        valid = int(mask.sum())
        if valid == 0 or not bool(mask[:valid].all()):
            raise video.Refused("no_tokens", "its caption has no tokens, or they are not at the beginning")
        return {**out, "embed": embed[:valid].contiguous(), "mask": mask.contiguous()}

    def encode(self, clip):
        """All tensors of a clip."""
        import torch

        pictures = video.read(clip.path, self.shape)
        with torch.no_grad():
            tensors = {"latent": self.latent(clip.id, pictures).contiguous(), **self.text(clip.caption)}
        for name, tensor in tensors.items():
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                raise video.Refused("not_finite", f"`{name}` holds NaN or infinity")
        return tensors


def prepare(request_path):
    """The command `prepare`."""
    request = jobs.read_request(request_path)
    events.beat(request.trainer.heartbeat_seconds, request.trainer.stall_seconds)
    ranks.prepare_torch(request.trainer)
    device = ranks.device_of(request.trainer, 0)
    encoder = Encoder(request, device)
    infos, out = [], {}
    for clip in request.clips:
        if events.stop_requested():
            events.emit("stopped", step=0)
            return exits.STOPPED
        try:
            tensors = encoder.encode(clip)
        except video.Refused as why:
            events.emit("refused", sample=clip.id, code=why.code, message=why.message)
            continue
        out.update({f"{len(infos):05d}.{name}": tensor for name, tensor in tensors.items()})
        shape = request.shape
        infos.append({"id": clip.id, "caption": clip.caption, "frames": shape.frames, "height": shape.height, "width": shape.width, "fps": shape.fps})
        events.emit("encoded", sample=clip.id)
        events.progress()
    from safetensors.torch import save_file

    half = request.out.with_name(request.out.name + ".tmp")
    save_file(out, half, metadata={SAMPLES_KEY: json.dumps(infos)})
    sync_folder(half)
    os.replace(half, request.out)
    sync_folder(request.out.parent)
    events.emit("done", step=0)
    return exits.DONE
