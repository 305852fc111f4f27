"""Pictures out of a video file, and into one. The file formats are PyAV's (FFmpeg's) business."""

import fractions
import os

from .exits import Failure

# Largest difference of frame rates that is none.
FPS_TOLERANCE = 0.01
# x264's quality of evaluation videos: hardly to be told from the original.
CRF = "17"


class Refused(Exception):
    """A clip that cannot be encoded: a word for the reason, and details."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code, self.message = code, message


def library():
    try:
        import av
    except ImportError as error:
        raise Failure("job", f"PyAV is not installed in this Python ({error}): pip install av") from error
    return av


def read(path, shape):
    """The first `shape.frames` pictures, [frames, height, width, 3] of bytes. The clip must have the size and the rate of `shape`."""
    import numpy

    av = library()
    pictures = []
    try:
        with av.open(path) as container:
            if not container.streams.video:
                raise Refused("not_a_video", "it has no pictures")
            stream = container.streams.video[0]
            rate = stream.average_rate
            if rate is not None and abs(float(rate) - shape.fps) > FPS_TOLERANCE:
                raise Refused("other_fps", f"has {float(rate):.3f} frames per second, not {shape.fps}; `clip_cut` makes clips of one rate")
            for frame in container.decode(stream):
                if (frame.height, frame.width) != (shape.height, shape.width):
                    what = f"is {frame.width} x {frame.height} pixels, not {shape.width} x {shape.height}; `clip_cut` makes clips of one size"
                    raise Refused("other_size", what)
                pictures.append(frame.to_ndarray(format="rgb24"))
                if len(pictures) == shape.frames:
                    break
    except (av.error.FFmpegError, OSError, ValueError, EOFError) as error:
        raise Refused("not_a_video", str(error)) from error
    if len(pictures) < shape.frames:
        raise Refused("too_few_frames", f"has {len(pictures)} frames, {shape.frames} are trained on")
    return numpy.stack(pictures)


def write(path, pictures, fps):
    """Writes [frames, height, width, 3] of bytes as H.264; the file is there as a whole or not at all."""
    av = library()
    half = f"{path}.tmp"
    with av.open(half, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fractions.Fraction(fps).limit_denominator(1001))
        stream.height, stream.width = pictures.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": CRF, "threads": "1"}
        for picture in pictures:
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    os.replace(half, path)
