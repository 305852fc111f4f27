#!/usr/bin/env python3
"""DOVER or DOVER-Mobile to two ONNX files, one per branch. DOVER's licence (S-Lab 1.0) forbids commercial use.

    git clone https://github.com/VQAssessment/DOVER && cd DOVER     # and download the weights as its README says
    PYTHONPATH=. python /path/to/scripts/convert/dover.py --options dover.yml --weights DOVER.pth --out DIR
    curette models add dover-technical graph=DIR/dover-technical.onnx --accept-licence
    curette models add dover-aesthetic graph=DIR/dover-aesthetic.onnx --accept-licence

Needs torch, einops, timm, pyyaml and what the repository imports. Not run by curette's tests: neither the repository nor the weights are on PyPI.
The branches are taken by name (`technical`, `aesthetic`), never by position: the repository's own scripts disagree about the order.
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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--options", type=pathlib.Path, required=True, help="dover.yml or dover-mobile.yml")
    parser.add_argument("--weights", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--name", default="dover", choices=["dover", "dover-mobile"])
    args = parser.parse_args()
    from dover.models import DOVER

    options = yaml.safe_load(args.options.read_text())
    model = DOVER(**options["model"]["args"]).eval()
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
