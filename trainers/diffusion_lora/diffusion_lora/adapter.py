"""The adapter: low-rank matrices beside frozen layers, and the file that diffusers and PEFT load.

Why the settings go into the file: without them a loader assumes alpha = rank, and an adapter of alpha 32 and rank 8 comes out with another scale.
Why written by hand: the library writes the metadata in an order that changes from run to run, and equal adapters shall be equal files.
"""

import json
import struct

from .exits import Failure
from .families import TRANSFORMER

NAME = "default"
FILE = "pytorch_lora_weights.safetensors"
AVERAGE_FILE = "ema_lora_weights.safetensors"
METADATA_KEY = "lora_adapter_metadata"


def add(net, settings, trainer):
    """Puts an adapter beside the target layers, in float32, drawn from the seed; the rest is frozen."""
    import torch
    from peft import LoraConfig

    net.requires_grad_(False)
    torch.manual_seed(settings.seed)
    alpha = int(settings.alpha) if float(settings.alpha).is_integer() else settings.alpha
    config = LoraConfig(r=settings.rank, lora_alpha=alpha, init_lora_weights=True, target_modules=list(trainer.target_modules))
    try:
        net.add_adapter(config, adapter_name=NAME)
    except ValueError as error:
        raise Failure("job", f"trainer.target_modules: {error}") from error
    for parameter in net.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def trainable(net):
    """[(key, parameter)]: keys as they are in the file, less the prefix."""
    return [(name.replace(f".{NAME}.", "."), p) for name, p in net.named_parameters() if p.requires_grad]


def metadata(net):
    """The settings as text, the same for the same settings."""
    settings = net.peft_config[NAME].to_dict()

    def plain(value):
        if isinstance(value, (set, frozenset)):
            return sorted(value)
        if isinstance(value, dict):
            return {str(key): plain(v) for key, v in value.items()}
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, (list, tuple)):
            return [plain(v) for v in value]
        return getattr(value, "value", None) or str(value)

    return json.dumps({f"{TRANSFORMER}.{key}": plain(value) for key, value in settings.items()}, indent=2, sort_keys=True)


def encode(tensors, settings_text):
    """The bytes of the file."""
    from safetensors.torch import save

    named = {f"{TRANSFORMER}.{key}": tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    return with_metadata(save(named), {"format": "pt", METADATA_KEY: settings_text})


def with_metadata(plain, fields):
    """Puts metadata, sorted, into the header of a safetensors file that has none."""
    (size,) = struct.unpack("<Q", plain[:8])
    header = {"__metadata__": dict(sorted(fields.items())), **json.loads(plain[8 : 8 + size])}
    text = json.dumps(header, separators=(",", ":")).encode()
    # Numbers begin at a multiple of eight.
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + plain[8 + size :]


def load(net, folder, file, name):
    """Loads an adapter as any user of diffusers would."""
    if not (folder / file).is_file():
        raise Failure("job", f"there is no adapter {folder / file}")
    net.load_lora_adapter(str(folder), prefix=TRANSFORMER, weight_name=file, adapter_name=name)
    # An adapter whose names fit no layer would load without a word.
    if name not in getattr(net, "peft_config", {}):
        raise Failure("job", f"{folder / file} fits no layer of this model")
