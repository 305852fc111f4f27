#!/usr/bin/env python3
"""AMT-S (frame interpolation) to one ONNX file: two frames in, the frame in the middle between them out. Its licence forbids commercial use.

    git clone https://github.com/MCG-NKU/AMT
    PYTHONPATH=AMT scripts/convert/amt.py amt-s.pth amt-s.onnx
    curette models add amt-s graph=amt-s.onnx --accept-licence

Instead of the clone, `pip install --no-deps vbench` does: VBench carries the same network. Sides must be multiples of 16 and at least 128: the
network compares places at an eighth of the size, on four levels. The time is fixed to 0.5. `--random` makes up the weights, to try the conversion.
"""

import importlib.util
import pathlib

import torch

import common


class Middle(torch.nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, before, after):
        # One time per row; the network itself would stretch a single one over height and width only.
        time = torch.full((before.shape[0], 1, 1, 1), 0.5)
        return self.net(before, after, time, scale_factor=1.0, eval=True)["imgt_pred"]


def network():
    if importlib.util.find_spec("networks") is not None:
        module = importlib.import_module("networks.AMT-S")
    else:
        module = common.part_of("vbench.third_party.amt.networks.AMT-S", "vbench")
    return module.Model(corr_radius=3, corr_lvls=4, num_flows=3)


def main():
    args = common.arguments(__doc__)
    net = network().eval()
    if args.random:
        common.stir(net)
    else:
        net.load_state_dict(torch.load(args.weights, map_location="cpu", weights_only=True)["state_dict"])
    middle = Middle(net)
    names = ["before", "after"]
    dynamic = {name: {0: "batch", 2: "height", 3: "width"} for name in [*names, "middle"]}
    common.export(middle, (torch.rand(1, 3, 128, 192), torch.rand(1, 3, 128, 192)), names, ["middle"], dynamic, args.out)
    for shape in ((2, 3, 128, 128), (1, 3, 256, 144), (3, 3, 160, 304)):
        common.compare(middle, (torch.rand(shape), torch.rand(shape)), names, args.out, 1e-4)
    common.tell(args.out)


main()
