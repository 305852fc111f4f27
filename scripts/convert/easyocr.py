#!/usr/bin/env python3
"""EasyOCR's detector CRAFT and its second-generation recognisers to ONNX, for `subtitles`.

    /tmp/convert/bin/pip install --no-deps easyocr==1.7.2 opencv-python-headless scikit-image shapely pyclipper python-bidi imageio lazy_loader tifffile
    /tmp/convert/bin/pip install scipy pyyaml
    scripts/convert/easyocr.py craft craft_mlt_25k.pth easyocr-craft.onnx
    scripts/convert/easyocr.py english_g2 english_g2.pth easyocr-english-g2.onnx        # writes easyocr-english-g2.yaml, its characters, beside it
    curette models add easyocr-craft graph=easyocr-craft.onnx
    curette models add easyocr-english-g2 graph=easyocr-english-g2.onnx dictionary=easyocr-english-g2.yaml

The weights are the `.pth` files that EasyOCR keeps in ~/.EasyOCR/model, or that are in the zip files of its releases on GitHub (`easyocr/config.py` has the
addresses); their MD5 is compared with EasyOCR's own. The architecture comes from the package. Other recognisers of the second generation (latin_g2,
cyrillic_g2, ...) convert alike; give each a manifest of its own. `--random` in place of the weights makes them up, to try the conversion.

The recogniser's graph ends before the softmax, as the network does. Its pooling over rows is written as a mean, which is the same and has a graph.
"""

import argparse
import hashlib
import pathlib
import sys

import torch

sys.path = [p for p in sys.path if pathlib.Path(p or ".").resolve() != pathlib.Path(__file__).resolve().parent] + [str(pathlib.Path(__file__).resolve().parent)]

import common  # noqa: E402
from easyocr.config import detection_models, recognition_models  # noqa: E402
from easyocr.craft import CRAFT  # noqa: E402
from easyocr.model.vgg_model import Model  # noqa: E402

# easyocr.Reader gives the second generation these.
SHAPE = dict(input_channel=1, output_channel=256, hidden_size=256)


class Detector(torch.nn.Module):
    def __init__(self, craft):
        super().__init__()
        self.craft = craft

    def forward(self, pictures):
        return self.craft(pictures)[0]


class RowMean(torch.nn.Module):
    def forward(self, x):
        return x.mean(dim=3, keepdim=True)


class Recogniser(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model
        self.model.AdaptiveAvgPool = RowMean()

    def forward(self, strips):
        return self.model(strips, None)


def weights(path, known):
    """A state dict whose file is the one that EasyOCR knows, without the prefix of its training."""
    digest = hashlib.md5(path.read_bytes()).hexdigest()
    if digest != known["md5sum"]:
        raise SystemExit(f"{path}: MD5 {digest}, but {known['filename']} of EasyOCR has {known['md5sum']}: it is another file, or damaged")
    state = torch.load(path, map_location="cpu", weights_only=True)
    return {name.removeprefix("module."): value for name, value in state.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--random", action="store_true")
    parser.add_argument("model", choices=["craft", *sorted(recognition_models["gen2"])])
    parser.add_argument("weights", type=pathlib.Path, nargs="?")
    parser.add_argument("out", type=pathlib.Path)
    args = parser.parse_args()
    if not args.random and args.weights is None:
        parser.error("give the .pth file, or --random")
    torch.manual_seed(0)
    files = [args.out]
    if args.model == "craft":
        craft = CRAFT(pretrained=False)
        if args.random:
            # So that the maps of made-up weights cross the thresholds here and there.
            last = craft.conv_cls[-1]
            torch.nn.init.normal_(last.weight, std=30.0)
            torch.nn.init.constant_(last.bias, 0.3)
        else:
            craft.load_state_dict(weights(args.weights, detection_models["craft"]))
        module, names, outputs = Detector(craft).eval(), ["input"], ["output"]
        dynamic = {"input": {0: "batch", 2: "height", 3: "width"}, "output": {0: "batch", 1: "rows", 2: "columns"}}
        first, more = torch.randn(1, 3, 96, 128), torch.randn(2, 3, 160, 96)
    else:
        known = recognition_models["gen2"][args.model]
        model = Model(num_class=1 + len(known["characters"]), **SHAPE)
        if not args.random:
            model.load_state_dict(weights(args.weights, known))
        module, names, outputs = Recogniser(model).eval(), ["input"], ["output"]
        dynamic = {"input": {0: "batch", 3: "width"}, "output": {0: "batch", 1: "steps"}}
        first, more = torch.randn(2, 1, 64, 192), torch.randn(3, 1, 64, 320)
        # The adaptive pooling that the mean stands for.
        with torch.no_grad():
            features = model.FeatureExtraction(more).permute(0, 3, 1, 2)
            pooled = torch.nn.AdaptiveAvgPool2d((None, 1))(features)
            assert (pooled - RowMean()(features)).abs().max() < 1e-5
        characters = args.out.with_suffix(".yaml")
        quoted = known["characters"].replace("'", "''")
        characters.write_text(f"# {args.model} of EasyOCR\ncharacter_list: '{quoted}'\n", encoding="utf-8")
        files.append(characters)
    common.export(module, (first,), names, outputs, dynamic, args.out)
    common.compare(module, (more,), names, args.out, 1e-4 if not args.random or args.model != "craft" else 1e-2)
    common.tell(*files)


main()
