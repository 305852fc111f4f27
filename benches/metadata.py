#!/usr/bin/env python3
"""The dictionary over a catalogue: curette against Polars, in turn, on the same Parquet shards and terms.

    benches/metadata.py [--records 1000000] [--rounds 3] [--threads 2] [--work out/bench-metadata]

Makes its own Python environment and the catalogue (`cargo bench --bench catalogue`) below the work folder and takes target/release/curette
(CURETTE names another). Both read title and description, keep what has a term, and write ids, titles and channels as Parquet. curette's terms are
whole words, with a list of hits for each row that is kept and a record of each that is dropped; Polars' `str.contains_any` finds terms anywhere, also
inside words, and records nothing: its rows are more, which is counted. "end to end" is a process from start to end, "stage" the dictionary alone: in
Polars the expression over columns in memory, in curette the summed time of the step's tasks divided by the threads. MB are bytes of text. Prints one
row per run and the medians; on a machine with other work the load says what they are worth.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PINS = ["polars==2.1.0"]

PIPELINE = """
[pipeline]
name = "bench"
output = "{output}"
split_max_cost_bytes = 134217728

[step.records]
type = "metadata"
path = "{catalogue}/records-*.parquet"

[step.medical]
type = "keyword_filter"
inputs = ["records"]
dictionary = "{catalogue}/terms.txt"
fields = ["title", "description"]

[step.videos]
type = "parquet"
inputs = ["medical"]
columns = ["video_id", "title", "channel_id", "keyword_hits", "keyword_hit_places"]
"""

POLARS = """
import json, sys, time
import polars as pl
catalogue, out, stage = sys.argv[1], sys.argv[2], sys.argv[3] == "stage"
terms = open(catalogue + "/terms.txt").read().split("\\n")[:-1]
def has(column):
    return pl.col(column).str.contains_any(terms, ascii_case_insensitive=True)
wanted = has("title") | has("description")
rows = pl.scan_parquet(catalogue + "/records-*.parquet").select("id", "title", "description", "channel_id")
if stage:
    frame = rows.select("title", "description").collect()
    began = time.perf_counter()
    kept = frame.select(wanted.alias("kept"))["kept"].sum()
    print(json.dumps({"seconds": time.perf_counter() - began, "kept": kept}))
else:
    rows.filter(wanted).select("id", "title", "channel_id").sink_parquet(out)
    print(json.dumps({"kept": pl.scan_parquet(out).select(pl.len()).collect().item()}))
"""


def environment(work):
    """A Python with Polars below the work folder."""
    python = work / "venv/bin/python"
    made = work / "venv/.made"
    if not made.exists() or made.read_text() != "\n".join(PINS):
        subprocess.run([sys.executable, "-m", "venv", "--clear", work / "venv"], check=True)
        subprocess.run([python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", *PINS], check=True)
        made.write_text("\n".join(PINS))
    return python


def catalogue(work, records):
    """The shards and what they hold."""
    folder = work / f"catalogue-{records}"
    facts = folder / "facts.json"
    if not facts.exists():
        shutil.rmtree(folder, ignore_errors=True)
        command = ["cargo", "bench", "--quiet", "--bench", "catalogue", "--", str(folder), str(records)]
        done = subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        facts.write_text(done.stdout.strip().splitlines()[-1])
    return folder, json.loads(facts.read_text())


def measure(command, env):
    """Wall and processor seconds, peak resident MiB and stdout of a process."""
    began = time.perf_counter()
    process = subprocess.Popen(command, env={**os.environ, **env}, stdout=subprocess.PIPE, text=True)
    out = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{command[0]} ended with {process.returncode}")
    wall = time.perf_counter() - began
    return {"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "peak": usage.ru_maxrss / 1024, "out": out}


def run_curette(binary, folder, work, threads):
    output, metrics = work / "curette", work / "metrics.txt"
    shutil.rmtree(output, ignore_errors=True)
    pipeline = work / "pipeline.toml"
    pipeline.write_text(PIPELINE.format(output=output, catalogue=folder))
    done = measure([binary, "run", str(pipeline), "--quiet", "-w", str(threads), "--metrics-file", str(metrics)], {})
    value = {}
    for line in metrics.read_text().splitlines():
        name, _, number = line.rpartition(" ")
        value[name] = float(number) if name and not line.startswith("#") else None
    done["stage"] = value['curette_step_job_seconds_sum{step="medical"}'] / threads
    done["kept"] = int(value['curette_step_rows_out_total{step="medical"}'])
    return done


def run_polars(python, folder, work, threads):
    env = {"POLARS_MAX_THREADS": str(threads)}
    out = work / "polars.parquet"
    done = measure([python, "-c", POLARS, str(folder), str(out), "whole"], env)
    stage = json.loads(measure([python, "-c", POLARS, str(folder), str(out), "stage"], env)["out"])
    return {**done, "stage": stage["seconds"], "kept": json.loads(done["out"])["kept"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", type=Path, default=ROOT / "out/bench-metadata")
    args = parser.parse_args()
    work = args.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    python = environment(work)
    folder, facts = catalogue(work, args.records)
    binary = os.environ.get("CURETTE", str(ROOT / "target/release/curette"))
    runners = {"curette": lambda: run_curette(binary, folder, work, args.threads), "Polars": lambda: run_polars(python, folder, work, args.threads)}
    results = {name: [] for name in runners}
    print(f"{facts['records']} records of {facts['mean_bytes']} bytes, {facts['medical']} medical, {args.threads} threads")
    print("| run | by | load before | wall, s | CPU, s | records/s | MB/s | stage, records/s | peak, MiB | kept |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for number in range(args.rounds):
        for name in list(runners) if number % 2 == 0 else reversed(list(runners)):
            load = os.getloadavg()[0]
            done = runners[name]()
            results[name].append(done)
            rate = facts["records"] / done["wall"]
            cells = [number + 1, name, f"{load:.1f}", f"{done['wall']:.2f}", f"{done['cpu']:.2f}", f"{rate:,.0f}"]
            cells += [f"{rate * facts['mean_bytes'] / 1e6:.0f}", f"{facts['records'] / done['stage']:,.0f}", f"{done['peak']:.0f}", done["kept"]]
            print("| " + " | ".join(map(str, cells)) + " |", flush=True)
    median = {name: {key: statistics.median(d[key] for d in done) for key in ["wall", "cpu", "stage", "peak"]} for name, done in results.items()}
    ours, theirs = median["curette"], median["Polars"]
    for key, what in [("wall", "end to end, by wall time"), ("cpu", "end to end, by CPU time"), ("stage", "dictionary stage")]:
        print(f"{what}: curette is {theirs[key] / ours[key]:.2f} times as fast as Polars (medians)")


if __name__ == "__main__":
    main()
