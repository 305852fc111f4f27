"""The spool: encoded clips in shards, and a manifest that may still grow.

Why tailed: training may begin while clips are still being encoded. Whole lines count; a last line without an end is still being written. What can go
wrong: a shard that is missing, cut short or changed. It is found by its hash when the first of its samples is needed, and named by that sample, so
that the supervisor can leave it out; a manifest or header that makes no sense is no sample's fault and ends the job.
"""

import collections
import hashlib
import json
import typing

from . import events
from .exits import Failure

MANIFEST = "manifest.jsonl"
HEADER = "spool.json"
# Shards that are kept open (they are mapped, not read whole).
OPEN_SHARDS = 8
# Bytes that are hashed at once.
PIECE_BYTES = 1 << 20
PIXELS_PER_LATENT = 8


class Shard(typing.NamedTuple):
    name: str
    bytes: int
    sha256: str
    first: int
    ids: typing.List[str]


class Spool:
    """A spool that is read. Samples are numbered in the order of the manifest."""

    def __init__(self, folder, architecture, shape):
        self.folder = folder
        self.shards, self.ids, self.places, self.sealed = [], [], {}, False
        self._shard_of = []
        self._offset, self._line, self._hash = 0, 0, hashlib.sha256()
        self._open, self._good = collections.OrderedDict(), set()
        self._check_header(architecture, shape)
        self.poll()

    def _check_header(self, architecture, shape):
        path = self.folder / HEADER
        try:
            header = json.loads(path.read_bytes())
            has = (header["architecture"], *(float(header["shape"][key]) for key in ("frames", "height", "width", "fps")))
        except OSError as error:
            raise Failure("job", f"{self.folder} is no spool: {HEADER}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise Failure("job", f"{path} is damaged: {error}") from error
        wanted = (architecture, *(float(shape[key]) for key in ("frames", "height", "width", "fps")))
        if has != wanted:
            raise Failure("job", f"{path} is of {has}, the job is of {wanted} (model, frames, height, width, fps); prepare a spool of that size")

    @property
    def samples(self):
        return len(self.ids)

    @property
    def whole_bytes(self):
        """Bytes of the manifest that have been taken over."""
        return self._offset

    def digest(self):
        """Hash of these bytes."""
        return self._hash.hexdigest()

    def prefix_digest(self, size):
        """Hash of the first bytes of the manifest, to compare with that of a checkpoint."""
        with open(self.folder / MANIFEST, "rb") as file:
            return hashlib.sha256(file.read(size)).hexdigest()

    def poll(self):
        """Takes over what has been added."""
        if self.sealed:
            return
        try:
            with open(self.folder / MANIFEST, "rb") as file:
                file.seek(self._offset)
                added = file.read()
        except FileNotFoundError:
            return
        whole = added[: added.rfind(b"\n") + 1]
        for line in whole.splitlines(keepends=True):
            self._line += 1
            self._take(line)
            self._hash.update(line)
            self._offset += len(line)

    def _take(self, line):
        where = f"{self.folder / MANIFEST}:{self._line}"
        try:
            value = json.loads(line)
            if self.sealed:
                raise Failure("job", f"{where} comes after the seal")
            if value.get("sealed"):
                self.sealed = True
                return
            shard = Shard(value["shard"], int(value["bytes"]), value["sha256"], len(self.ids), list(value["ids"]))
            if value["n"] != len(shard.ids):
                raise Failure("job", f"{where} contradicts itself: n is {value['n']}, it names {len(shard.ids)} clips")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Failure("job", f"{where} is damaged: {error}; remove the spool and prepare again") from error
        for clip in shard.ids:
            if clip in self.places:
                raise Failure("job", f"{where}: clip `{clip}` is in the manifest twice")
            self.places[clip] = len(self.ids)
            self.ids.append(clip)
            self._shard_of.append(len(self.shards))
        self.shards.append(shard)
        events.emit("shard_accepted", shard=shard.name, n=len(shard.ids), total=len(self.ids))

    def sample(self, index):
        """The tensors of a sample: `latent`, `embed`, `mask`, perhaps `pooled`."""
        shard = self.shards[self._shard_of[index]]
        clip, number = self.ids[index], index - shard.first
        try:
            file = self._file(shard)
            prefix = f"{number:05d}."
            return {name[len(prefix):]: file.get_tensor(name) for name in self._names(file, prefix)}
        except Failure as failure:
            failure.sample = failure.sample or clip
            raise
        except Exception as error:  # the library raises its own kinds
            raise Failure("data", f"{self.folder / shard.name}, clip `{clip}`: {error}", sample=clip) from error

    @staticmethod
    def _names(file, prefix):
        return [prefix + name for name in ("latent", "embed", "mask", "pooled") if prefix + name in file.keys()]

    def _file(self, shard):
        from safetensors import safe_open

        if shard.name in self._open:
            self._open.move_to_end(shard.name)
            return self._open[shard.name]
        path = self.folder / shard.name
        if shard.name not in self._good:
            self._check(path, shard)
            self._good.add(shard.name)
        file = safe_open(path, "pt")
        self._open[shard.name] = file
        while len(self._open) > OPEN_SHARDS:
            self._open.popitem(last=False)
        return file

    @staticmethod
    def _check(path, shard):
        try:
            has = path.stat().st_size
            if has != shard.bytes:
                raise Failure("data", f"{path} has {has} bytes, the manifest says {shard.bytes}")
            digest = hashlib.sha256()
            with open(path, "rb") as file:
                while piece := file.read(PIECE_BYTES):
                    digest.update(piece)
                    events.progress()
        except OSError as error:
            raise Failure("data", f"{path}: {error.strerror}") from error
        if digest.hexdigest() != shard.sha256:
            raise Failure("data", f"{path} is not the file that was written: its hash differs")


def check(tensors, clip, sizes):
    """A sample is what the model will ask for. `sizes` is the latent's [channels, frames, height, width]."""
    import torch

    def bad(what):
        return Failure("data", f"clip `{clip}`: {what}", sample=clip)

    for name in ("latent", "embed", "mask"):
        if name not in tensors:
            raise bad(f"it has no `{name}`")
    latent, embed, mask = tensors["latent"], tensors["embed"], tensors["mask"]
    if list(latent.shape) != list(sizes):
        raise bad(f"its latent is {list(latent.shape)}, {list(sizes)} is needed")
    if embed.dim() != 2 or mask.dim() != 1 or not 0 < embed.shape[0] <= mask.shape[0] or int(mask.sum()) != embed.shape[0]:
        raise bad(f"`embed` {list(embed.shape)} and `mask` {list(mask.shape)} with {int(mask.sum())} tokens do not fit together")
    if not bool(mask[: embed.shape[0]].all()):
        raise bad("its tokens are not at the beginning of `mask`")
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise bad(f"`{name}` holds NaN or infinity")
