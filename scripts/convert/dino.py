#!/usr/bin/env python3
"""DINO ViT-B/16 to one ONNX file that takes pictures of any size and gives the class token.

    scripts/convert/dino.py dino_vitbase16_pretrain.pth dino-vitb16.onnx
    curette models add dino-vitb16 graph=dino-vitb16.onnx

The weights are those that torch.hub's `dino_vitb16` of facebookresearch/dino loads. Needs timm, whose ViT-B/16 has the same layers under the same
names. timm's own interpolation of the position embeddings is another one (antialiased), so this script does what DINO does: bicubic, without
antialias, to the number of patches plus 0.1. `--random` makes up the weights, to try the conversion.
"""

import pathlib

import torch
from timm.layers import set_fused_attn
from timm.models.vision_transformer import VisionTransformer

import common

PATCH = 16
# Patches on one side of the square that the weights were trained with (224 pixels).
GRID = 14


def bicubic(count, scale):
    """The matrix [count, GRID] that resamples GRID values to `count` by cubic convolution (a = -0.75, edges repeated), as torch does without
    antialias. Written as a matrix because then its size can depend on the picture inside a graph."""
    a = -0.75
    place = (torch.arange(count).float() + 0.5) / scale - 0.5
    first = torch.floor(place)
    offset = (place - first).unsqueeze(1)
    matrix = torch.zeros(1, GRID)
    for tap in range(-1, 3):
        far = (offset - tap).abs()
        near = ((a + 2) * far - (a + 3)) * far * far + 1
        tail = ((far - 5) * far + 8) * far * a - 4 * a
        weight = torch.where(far <= 1, near, tail)
        cell = (first + tap).clamp(0, GRID - 1).unsqueeze(1)
        matrix = matrix + weight * (cell == torch.arange(GRID)).float()
    return matrix


class Encoder(torch.nn.Module):
    def __init__(self, vit):
        super().__init__()
        self.vit = vit

    def positions(self, pixels):
        """Position embeddings [1, 1 + patches, width] for the size of `pixels`."""
        size = torch.onnx.operators.shape_as_tensor(pixels)[2:]
        patches = size // PATCH
        # DINO leaves the embeddings as they are for squares of the trained size; there its 0.1 would blur them.
        trained = (size[0] == size[1]) & (patches[0] == GRID)
        extra = torch.where(trained, 0.0, 0.1)
        scale = (patches.float() + extra) / GRID
        cls, grid = self.vit.pos_embed[:, :1], self.vit.pos_embed[0, 1:].reshape(GRID, GRID, -1)
        rows = torch.einsum("ya,abc->ybc", bicubic(patches[0], scale[0]), grid)
        cells = torch.einsum("xb,ybc->yxc", bicubic(patches[1], scale[1]), rows)
        return torch.cat([cls, cells.flatten(0, 1).unsqueeze(0)], dim=1)

    def forward(self, pixel_values):
        patches = self.vit.patch_embed.proj(pixel_values).flatten(2).transpose(1, 2)
        cls = self.vit.cls_token.expand(patches.shape[0], -1, -1)
        tokens = torch.cat([cls, patches], dim=1) + self.positions(pixel_values)
        for block in self.vit.blocks:
            tokens = block(tokens)
        return self.vit.norm(tokens)[:, 0]


def check_positions(encoder, height, width):
    """Compares our interpolation with torch's, called as DINO calls it."""
    rows, columns = height // PATCH, width // PATCH
    grid = encoder.vit.pos_embed[:, 1:].reshape(1, GRID, GRID, -1).permute(0, 3, 1, 2)
    if (rows, columns, height) != (GRID, GRID, width):
        grid = torch.nn.functional.interpolate(grid, scale_factor=((rows + 0.1) / GRID, (columns + 0.1) / GRID), mode="bicubic")
    got = encoder.positions(torch.zeros(1, 3, height, width))[:, 1:]
    difference = float((got - grid.flatten(2).transpose(1, 2)).detach().abs().max())
    print(f"position embeddings at {width}x{height}: largest difference to DINO's {difference:.1e}")
    if not difference <= 1e-5:
        raise SystemExit("the position embeddings are not DINO's")


def main():
    args = common.arguments(__doc__)
    set_fused_attn(False)
    vit = VisionTransformer(patch_size=PATCH, num_classes=0, norm_layer=torch.nn.LayerNorm)
    for module in vit.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = 1e-6
    if args.random:
        common.stir(vit)
        torch.nn.init.normal_(vit.pos_embed, std=0.2)
    else:
        vit.load_state_dict(torch.load(args.weights, map_location="cpu", weights_only=True))
    encoder = Encoder(vit).eval()
    for size in ((224, 224), (224, 398), (398, 224), (224, 230), (448, 448)):
        check_positions(encoder, *size)
    names, dynamic = ["pixel_values"], {"pixel_values": {0: "batch", 2: "height", 3: "width"}, "features": {0: "batch"}}
    common.export(encoder, (torch.randn(1, 3, 224, 398),), names, ["features"], dynamic, args.out)
    for shape in ((2, 3, 224, 224), (1, 3, 298, 224), (3, 3, 240, 240)):
        common.compare(encoder, (torch.randn(shape),), names, args.out, 1e-4)
    common.tell(args.out)


main()
