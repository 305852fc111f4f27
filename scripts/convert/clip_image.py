#!/usr/bin/env python3
"""CLIP's image encoder (ViT-B/32, ViT-L/14) to one ONNX file that gives L2-normalised embeddings.

    scripts/convert/clip_image.py FOLDER clip-vit-b32.onnx
    curette models add clip-vit-b32 graph=clip-vit-b32.onnx

FOLDER is the model's folder as downloaded from openai/clip-vit-base-patch32 or openai/clip-vit-large-patch14. `--int8` writes a per-channel int8
copy too, clip-vit-b32-int8.onnx. It is another model, with a manifest and heads of its own: `curette models add clip-vit-b32-int8 graph=...`. `--random b32|l14` makes up the weights of that
architecture instead, to try the conversion.
"""

import argparse
import pathlib

import torch
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

import common

ARCHITECTURES = {
    "b32": dict(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, patch_size=32, projection_dim=512),
    "l14": dict(hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, patch_size=14, projection_dim=768),
}


class Encoder(torch.nn.Module):
    def __init__(self, clip):
        super().__init__()
        self.clip = clip

    def forward(self, pixel_values):
        return torch.nn.functional.normalize(self.clip(pixel_values=pixel_values).image_embeds, p=2, dim=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--int8", action="store_true")
    parser.add_argument("--random", choices=sorted(ARCHITECTURES))
    parser.add_argument("folder", type=pathlib.Path, nargs="?")
    parser.add_argument("out", type=pathlib.Path)
    args = parser.parse_args()
    torch.manual_seed(0)
    if args.random:
        config = CLIPVisionConfig(image_size=224, hidden_act="quick_gelu", **ARCHITECTURES[args.random])
        config._attn_implementation = "eager"
        clip = CLIPVisionModelWithProjection(config)
    elif args.folder is None:
        parser.error("give the model's folder, or --random")
    else:
        clip = CLIPVisionModelWithProjection.from_pretrained(args.folder, attn_implementation="eager", local_files_only=True)
        # OpenAI's weights were trained with it; another activation would give plausible, wrong numbers.
        if clip.config.hidden_act != "quick_gelu":
            raise SystemExit(f"{args.folder}: hidden_act is {clip.config.hidden_act}, OpenAI's weights need quick_gelu")
    encoder = Encoder(clip).eval()
    images = torch.randn(2, 3, 224, 224)
    dynamic = {"pixel_values": {0: "batch"}, "image_embeds": {0: "batch"}}
    common.export(encoder, (images,), ["pixel_values"], ["image_embeds"], dynamic, args.out)
    more = torch.randn(3, 3, 224, 224)
    common.compare(encoder, (more,), ["pixel_values"], args.out, 1e-4)
    files = [args.out]
    if args.int8:
        files.append(common.quantise(args.out))
        with torch.no_grad():
            common.similarity(encoder(more).numpy(), files[-1], {"pixel_values": more.numpy()})
    common.tell(*files)


main()
