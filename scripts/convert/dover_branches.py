#!/usr/bin/env python3
"""DOVER or DOVER-Mobile to two ONNX files, one per branch. DOVER's licence (S-Lab 1.0) forbids commercial use.

    git clone https://github.com/VQAssessment/DOVER     # and download the weights as its README says
    PYTHONPATH=DOVER scripts/convert/dover_branches.py --options DOVER/dover.yml --weights DOVER.pth --out DIR
    curette models add dover-technical graph=DIR/dover-technical.onnx --accept-licence
    curette models add dover-aesthetic graph=DIR/dover-aesthetic.onnx --accept-licence

DOVER-Mobile: `--options DOVER/dover-mobile.yml --weights DOVER-Mobile.pth --name dover-mobile`. Needs einops, timm and pyyaml too. Any other place
that holds the package `dover.models` does as well. This file must not be called dover.py: Python would take it for that package. The branches are
taken by name (`technical`, `aesthetic`), never by position: the repository's own scripts disagree about the order. `--random` makes up the weights,
to try the conversion.
"""

import argparse
import pathlib

import torch
import yaml

import common


class Branch(torch.nn.Module):
    """One backbone and its head; the score is the mean of the head's map."""

    def __init__(self, backbone, head):
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, views):
        return self.head(self.backbone(views)).flatten(1).mean(1)


def network(options):
    common.part_of("dover.models", "dover")
    from dover.models import DOVER

    # The repository downloads ImageNet's weights first; DOVER's replace every one of them.
    torch.hub.load_state_dict_from_url = lambda **_: {"model": {}}
    model = DOVER(**yaml.safe_load(options.read_text())["model"]["args"])
    for module in model.modules():
        # Saves memory in training; a trace has no use for it.
        if hasattr(module, "use_checkpoint"):
            module.use_checkpoint = False
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--options", type=pathlib.Path, required=True, help="dover.yml or dover-mobile.yml")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--weights", type=pathlib.Path)
    what.add_argument("--random", action="store_true")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--name", default="dover", choices=["dover", "dover-mobile"])
    args = parser.parse_args()
    torch.manual_seed(0)
    model = network(args.options).eval()
    if args.random:
        common.stir(model)
    else:
        model.load_state_dict(torch.load(args.weights, map_location="cpu", weights_only=True))
    files = []
    for name in ("technical", "aesthetic"):
        branch = Branch(getattr(model, f"{name}_backbone"), getattr(model, f"{name}_head")).eval()
        out = args.out / f"{args.name}-{name}.onnx"
        dynamic = {"views": {0: "batch"}, "quality": {0: "batch"}}
        common.export(branch, (torch.randn(1, 3, 32, 224, 224),), ["views"], ["quality"], dynamic, out)
        common.compare(branch, (torch.randn(2, 3, 32, 224, 224),), ["views"], out, 1e-4)
        files.append(out)
    common.tell(*files)


main()
