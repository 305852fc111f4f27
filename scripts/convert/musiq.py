#!/usr/bin/env python3
"""MUSIQ trained on SPAQ to one ONNX file that takes a picture of any size and gives one score. Its licence forbids commercial use.

    pip install requests && pip install --no-deps pyiqa
    scripts/convert/musiq.py musiq_spaq_ckpt-358bb6af.pth musiq-spaq.onnx
    curette models add musiq-spaq graph=musiq-spaq.onnx --accept-licence

The weights are those that IQA-PyTorch (pyiqa) publishes and VBench uses; the network is pyiqa's. pyiqa cuts a picture into the patches of three
scales with Python numbers, which a graph would freeze; here the same is computed from the picture's size inside the graph. pyiqa also fills up the
token lists of the scales 224 and 384 and masks what it filled in; those tokens weigh nothing, so here they do not exist. The result is compared with
pyiqa's own. `--random` makes up the weights, to try the conversion.
"""

import pathlib

import torch

import common

PATCH = 32
# Longer sides in pixels; the third scale is the picture as it comes.
SCALES = (224, 384)
# Side of the table of position embeddings.
GRID = 10


def hashed(count):
    """Which of GRID embeddings each of `count` patches gets: nearest neighbour, in f32 as torch computes it."""
    step = float(GRID) / count.float()
    return torch.floor(torch.arange(count).float() * step).long().clamp(max=GRID - 1)


class Quality(torch.nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def resized(self, image, size, longer):
        # In f64 and half to even, as Python rounds.
        sides = torch.round(size.double() * (float(longer) / size.max().double())).long()
        return torch.nn.functional.interpolate(image, size=(sides[0], sides[1]), mode="bicubic", align_corners=False), sides

    def tokens(self, image, size, scale):
        """Tokens [batch, patches, width] of one scale."""
        net, encoder = self.net, self.net.transformer_encoder
        counts = (size + (PATCH - 1)) // PATCH
        missing = counts * PATCH - size
        before = missing // 2
        after = missing - before
        image = torch.nn.functional.pad(image, (before[1], after[1], before[0], after[0]))
        batch = image.shape[0]
        patches = image.reshape(batch, 3, counts[0], PATCH, counts[1], PATCH).permute(0, 2, 4, 1, 3, 5).reshape(-1, 3, PATCH, PATCH)
        features = net.block1(net.root_pool(net.gn_root(net.conv_root(patches))))
        tokens = net.embedding(features.permute(0, 2, 3, 1).flatten(1)).reshape(batch, counts[0] * counts[1], -1)
        places = (hashed(counts[0]).unsqueeze(1) * GRID + hashed(counts[1])).flatten()
        return tokens + encoder.posembed_input.position_emb[0][places] + encoder.scaleembed_input.scale_emb[scale]

    def forward(self, image):
        image = (image - 0.5) * 2
        size = torch.onnx.operators.shape_as_tensor(image)[2:]
        parts = [self.tokens(*self.resized(image, size, longer), scale) for scale, longer in enumerate(SCALES)]
        parts.append(self.tokens(image, size, len(SCALES)))
        encoder = self.net.transformer_encoder
        tokens = torch.cat([encoder.cls.expand(image.shape[0], -1, -1), *parts], dim=1)
        for block in encoder.transformer.values():
            tokens = block(tokens, None)
        return self.net.head(encoder.encoder_norm(tokens[:, 0]))[:, 0]


class Original(torch.nn.Module):
    """pyiqa's own way through the same network."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, image):
        return self.net(image)[:, 0]


def main():
    args = common.arguments(__doc__)
    pyiqa = common.part_of("pyiqa.archs.musiq_arch", "pyiqa", "pyiqa.utils", "pyiqa.data", "pyiqa.archs")
    net = pyiqa.MUSIQ(pretrained=False, spatial_pos_grid_size=GRID, patch_size=PATCH, longer_side_lengths=list(SCALES)).eval()
    if args.random:
        common.stir(net)
        # As large as the patches' own values, or a wrong place would hardly change the score.
        torch.nn.init.normal_(net.transformer_encoder.posembed_input.position_emb)
        torch.nn.init.normal_(net.transformer_encoder.scaleembed_input.scale_emb)
    else:
        state = torch.load(args.weights, map_location="cpu", weights_only=True)
        net.load_state_dict({name.removeprefix("module."): value for name, value in state.items()})
    names, dynamic = ["image"], {"image": {0: "batch", 2: "height", 3: "width"}, "score": {0: "batch"}}
    common.export(Quality(net), (torch.rand(1, 3, 288, 512),), names, ["score"], dynamic, args.out)
    for shape in ((1, 3, 288, 512), (2, 3, 512, 512), (1, 3, 512, 219), (3, 3, 90, 161), (1, 3, 720, 1280)):
        common.compare(Original(net), (torch.rand(shape),), names, args.out, 1e-4, "pyiqa")
    common.tell(args.out)


main()
