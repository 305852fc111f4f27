#!/usr/bin/env python3
"""A BERT-like sentence encoder (all-MiniLM-L6-v2, snowflake-arctic-embed-m) to one ONNX file with pooling and normalising inside.

    scripts/convert/text_encoder.py --pooling mean FOLDER all-minilm-l6-v2.onnx
    scripts/convert/text_encoder.py --pooling cls  FOLDER arctic-embed-m.onnx
    curette models add arctic-embed-m graph=arctic-embed-m.onnx tokenizer=FOLDER/tokenizer.json

FOLDER is the model's folder as downloaded (config.json, model.safetensors). `--int8` writes a per-channel int8 copy too
(all-minilm-l6-v2-int8.onnx). It is another model, with heads of its own; all-minilm-l6-v2-int8 has a built-in manifest, for arctic-embed-m write one
with `[run] precision = "int8"`. `--random` takes config.json alone and made-up weights, to try the conversion.
"""

import argparse
import pathlib

import torch
from transformers import AutoConfig, AutoModel

import common


class Encoder(torch.nn.Module):
    def __init__(self, bert, pooling):
        super().__init__()
        self.bert, self.pooling = bert, pooling

    def forward(self, input_ids, attention_mask):
        states = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        if self.pooling == "cls":
            pooled = states[:, 0]
        else:
            mask = attention_mask.unsqueeze(-1).to(states.dtype)
            pooled = (states * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
        return torch.nn.functional.normalize(pooled, p=2, dim=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pooling", choices=["mean", "cls"], required=True)
    parser.add_argument("--int8", action="store_true")
    parser.add_argument("--random", action="store_true")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    args = parser.parse_args()
    torch.manual_seed(0)
    if args.random:
        config = AutoConfig.from_pretrained(args.folder)
        config._attn_implementation = "eager"
        bert = AutoModel.from_config(config)
    else:
        bert = AutoModel.from_pretrained(args.folder, attn_implementation="eager", local_files_only=True)
    encoder = Encoder(bert, args.pooling).eval()
    ids = torch.randint(5, bert.config.vocab_size, (2, 9))
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    names = ["input_ids", "attention_mask"]
    dynamic = {n: {0: "batch", 1: "seq"} for n in names} | {"embedding": {0: "batch"}}
    common.export(encoder, (ids, mask), names, ["embedding"], dynamic, args.out)
    # Another shape than the traced one: nothing of it may be baked in.
    longer = torch.randint(5, bert.config.vocab_size, (3, 40))
    common.compare(encoder, (longer, torch.ones_like(longer)), names, args.out, 1e-4)
    files = [args.out]
    if args.int8:
        files.append(common.quantise(args.out))
        with torch.no_grad():
            want = encoder(longer, torch.ones_like(longer)).numpy()
        common.similarity(want, files[-1], {"input_ids": longer.numpy(), "attention_mask": torch.ones_like(longer).numpy()})
    common.tell(*files)


main()
