"""`python -m diffusion_lora COMMAND`: `train`, `verify` and `prepare` are the supervisor's; `generate` and `tiny` are for people.

An exception becomes an `error` event and a code here, and nowhere else. What can go wrong before anything is imported (a missing file, a wrong value)
is told within a tenth of a second.
"""

import argparse
import sys
import traceback

from . import events, exits, ranks


def parser():
    top = argparse.ArgumentParser(prog="diffusion_lora", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = top.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train, or go on from the newest checkpoint")
    train.add_argument("--job", required=True)
    train.add_argument("--attempt", help="what this start is told besides the job")
    verify = commands.add_parser("verify", help="load an adapter and say how much it changes the output")
    verify.add_argument("--job", required=True)
    verify.add_argument("--adapter", required=True, help="folder of the adapter")
    prepare = commands.add_parser("prepare", help="encode clips")
    prepare.add_argument("--request", required=True)
    generate = commands.add_parser("generate", help="make a video for each prompt, without the adapter and with it")
    generate.add_argument("--job", required=True, help="says which model, size, shift and seed")
    generate.add_argument("--adapter", required=True, help="folder of the adapter")
    generate.add_argument("--prompts", required=True, help="file, one prompt a line")
    generate.add_argument("--out", required=True)
    generate.add_argument("--weights", choices=("auto", "raw", "ema"), default="auto", help="auto: the average if there is one")
    generate.add_argument("--steps", type=int, help="sampling steps; the model's own number if not given")
    generate.add_argument("--guidance", type=float, help="the model's own number if not given")
    generate.add_argument("--limit", type=int, help="only the first prompts")
    generate.add_argument("--offload", action="store_true", help="keep only what is at work on the device")
    tiny = commands.add_parser("tiny", help="write a tiny random model of the true architecture, for tests")
    tiny.add_argument("--architecture", choices=("hunyuan", "mochi", "wan_1_3b", "wan_14b"), required=True)
    tiny.add_argument("--out", required=True)
    tiny.add_argument("--clips", type=int, default=0, help="also so many clips, in clips/")
    tiny.add_argument("--frames", type=int, default=0, help="of a clip")
    tiny.add_argument("--size", type=int, default=32, help="height and width of a clip")
    return top


def run(arguments):
    # Imported here: a mistake in a file is told before torch is there.
    if arguments.command == "train":
        from .train import train

        return train(arguments.job, arguments.attempt)
    if arguments.command == "verify":
        from .verify import verify

        return verify(arguments.job, arguments.adapter)
    if arguments.command == "prepare":
        from .prepare import prepare

        return prepare(arguments.request)
    if arguments.command == "generate":
        from .generate import generate

        return generate(arguments)
    from .tiny import tiny

    return tiny(arguments)


def main(argv=None):
    arguments = parser().parse_args(argv)
    try:
        events.start(speaks=ranks.number("RANK", 0) == 0)
        code = run(arguments)
    except BaseException as error:  # also what is no Exception: the last word must be said
        if not isinstance(error, exits.Failure):
            traceback.print_exc()
        failure = exits.of_exception(error)
        print(f"error: {failure.kind}: {failure.message}", file=sys.stderr)
        events.emit("error", **failure.fields())
        code = failure.code
    events.end(code)


if __name__ == "__main__":
    main()
