"""How a command ends: a code, and the `error` event that goes with it.

Why codes and words: the supervisor believes the word first and the code second, and decides by them whether to leave a sample out, skip a batch, make
batches smaller, try again, or give up. What can go wrong: a library raises what we do not know; that is `crash`, and trying again may help.
"""

import sys

DONE = 0
DATA = 65
NOT_FINITE = 66
RESOURCES = 69
CRASH = 70
STOPPED = 75
JOB = 78

CODES = {"data": DATA, "nan": NOT_FINITE, "memory": RESOURCES, "device": RESOURCES, "job": JOB, "crash": CRASH}
# Starting the same again cannot help; all others may.
FINAL = {"job"}

MEMORY_WORDS = ("out of memory", "can't allocate memory", "cannot allocate memory", "failed to allocate")
DEVICE_WORDS = ("no cuda-capable device", "no cuda gpus are available", "found no nvidia driver", "cuda driver version is insufficient")


class Failure(Exception):
    """Ends the command. `kind` is a key of `CODES`."""

    def __init__(self, kind, message, sample=None, cursor=None):
        super().__init__(message)
        self.kind, self.message, self.sample, self.cursor = kind, message, sample, cursor

    @property
    def code(self):
        return CODES[self.kind]

    def fields(self):
        """The `error` event."""
        fields = {"kind": self.kind, "message": self.message, "retryable": self.kind not in FINAL}
        if self.sample is not None:
            fields["sample"] = self.sample
        if self.cursor is not None:
            fields["cursor"] = self.cursor
        return fields


class Stop(Exception):
    """Somebody asked us to stop, at a place where nothing is half done."""


def of_exception(error):
    """What an exception of a library means."""
    if isinstance(error, Failure):
        return error
    text = f"{type(error).__name__}: {error}"
    words = text.lower()
    if isinstance(error, ImportError):
        return Failure("job", f"{text}: install what trainers/diffusion_lora needs into {sys.executable}")
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or any(w in words for w in MEMORY_WORDS):
        return Failure("memory", text)
    if any(w in words for w in DEVICE_WORDS):
        return Failure("device", text)
    return Failure("crash", text)
