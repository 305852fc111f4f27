"""What the trainer says: one JSON object a line, on what was its standard output when it started.

Why moved: libraries print. The real standard output is kept under another number, and number 1 then points at standard error, so that nothing but
events comes on the wire. What can go wrong: nobody listens any more; that means "stop and save", as SIGTERM does. Heartbeats come from a thread, but
only while the main thread gets on, so that a hang is seen as one.
"""

import json
import math
import os
import signal
import sys
import threading
import time

PROTOCOL = 1
# A longer message is cut: a line must stay below the reader's limit of a megabyte.
LONGEST_MESSAGE = 4000

_lock = threading.Lock()
_file = None
_sequence = 0
_common = {}
_stop = threading.Event()
_progress = time.monotonic()
_heart = None


def start(speaks=True):
    """Takes standard output over and says hello. `speaks` is false for ranks other than the first: these say errors only."""
    global _file, _common
    _file = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)
    _common = {"speaks": speaks}
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: _stop.set())
    emit("hello", proto=PROTOCOL, pid=os.getpid())


def name(**fields):
    """Fields of all events from now on: `run`, `attempt`."""
    _common.update(fields)


def emit(what, **fields):
    """Says something. Of ranks that do not speak, errors alone are said."""
    global _sequence
    if _file is None or not (_common.get("speaks") or what in ("hello", "error")):
        return
    with _lock:
        _sequence += 1
        line = {"v": 1, "seq": _sequence, "t": what, "ts": round(time.time(), 3)}
        line.update((key, value) for key, value in _common.items() if key != "speaks")
        line.update((key, _plain(value)) for key, value in fields.items())
        try:
            _file.write(json.dumps(line, allow_nan=False) + "\n")
            _file.flush()
        except (BrokenPipeError, ValueError, OSError) as error:
            if not _stop.is_set():
                print(f"nobody listens any more ({error}): stopping", file=sys.stderr)
            _stop.set()


def _plain(value):
    """JSON has no form for numbers that are not finite."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, str) and len(value) > LONGEST_MESSAGE:
        return value[:LONGEST_MESSAGE] + "..."
    return value


def warn(message):
    print(f"warning: {message}", file=sys.stderr)
    emit("warning", message=message)


def stop_requested():
    return _stop.is_set()


def request_stop():
    """As if SIGTERM had come."""
    _stop.set()


def progress():
    """The main thread has got on."""
    global _progress
    _progress = time.monotonic()


def beat(every_seconds, stall_seconds):
    """Heartbeats from now on, as long as the main thread has got on within `stall_seconds`."""
    global _heart
    progress()

    def run():
        while True:
            time.sleep(every_seconds)
            if time.monotonic() - _progress < stall_seconds:
                emit("heartbeat")

    if _heart is None:
        _heart = threading.Thread(target=run, daemon=True, name="heartbeat")
        _heart.start()


def end(code):
    """Ends the process at once: taking an interpreter with torch down takes seconds, in which it would be killed."""
    for stream in (_file, sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            pass
    os._exit(code)
