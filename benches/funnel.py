#!/usr/bin/env python3
"""Dictionary and channel expansion over a catalogue: curette against Polars and DuckDB, in turn, on the same Parquet shards and terms.

    benches/funnel.py [--records 25000000] [--rounds 1] [--duckdb-records 200000] [--scaling] [--work out/bench-metadata]

The job: records whose title or description has a term are medical; a channel qualifies with at least 3 medical videos that are at least 30 % of all its
videos; the result lists the videos of those channels and all medical ones, with id and title. curette runs two pipelines, one behind the other: the
dictionary (whole words, lists of hits, a record of each row that is dropped, everything committed) and the expansion (with its ledger). Polars does both
lazily with `str.contains_any`, which finds terms inside words too, and writes Parquet. DuckDB matches the terms as one regular expression with word
boundaries; since that is far slower, it gets a smaller catalogue, and all three run on that one first.

Each row is one process (two for curette) from start to end; peak is the larger resident size. `--scaling` runs curette alone with 1 worker, 2 workers, and
2 processes of 1 worker, in turn. On a machine with other work the load says what the times are worth.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import metadata  # noqa: E402

metadata.PINS = ["polars==2.1.0", "duckdb==1.4.2"]
ROOT = metadata.ROOT

EXPANSION = """
[pipeline]
name = "expansion"
output = "{output}/expansion"
split_max_items = 100000

[step.expanded]
type = "channel_expansion"
catalogue = "{catalogue}"
medical = "{output}/medical/videos"
min_videos = 3
min_share = 0.3
columns = {{ title = "text" }}

[step.videos]
type = "parquet"
inputs = ["expanded"]
columns = ["video_id", "title"]
"""

POLARS = """
import json, sys
import polars as pl
catalogue, out = sys.argv[1], sys.argv[2]
terms = open(catalogue + "/terms.txt").read().split("\\n")[:-1]
def has(column):
    return pl.col(column).str.contains_any(terms, ascii_case_insensitive=True)
rows = pl.scan_parquet(catalogue + "/records-*.parquet")
medical = rows.filter(has("title") | has("description")).select("id", "title", "channel_id").collect()
counts = rows.group_by("channel_id").agg(pl.len().alias("all")).join(
    medical.lazy().group_by("channel_id").agg(pl.len().alias("medical")), on="channel_id")
channels = counts.filter((pl.col("medical") >= 3) & (pl.col("medical") >= 0.3 * pl.col("all"))).select("channel_id").collect()
listed = rows.select("id", "title", "channel_id").join(channels.lazy(), on="channel_id", how="semi").select("id", "title").collect()
pl.concat([listed, medical.select("id", "title")]).unique("id").write_parquet(out)
print(json.dumps({"medical": medical.height, "listed": pl.scan_parquet(out).select(pl.len()).collect().item()}))
"""

DUCKDB = """
import json, re, sys
import duckdb
catalogue, out, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
terms = open(catalogue + "/terms.txt").read().split("\\n")[:-1]
pattern = "(?i)\\\\b(" + "|".join(re.escape(term) for term in terms) + ")\\\\b"
db = duckdb.connect()
db.execute(f"set threads = {threads}")
db.execute("set variable pattern = ?", [pattern])
db.execute(f"create view records as from read_parquet('{catalogue}/records-*.parquet')")
matches = lambda column: f"regexp_matches({column}, '" + pattern.replace("'", "''") + "')"
db.execute(f"create table medical as select id, title, channel_id from records where {matches('title')} or {matches('description')}")
db.execute('''create table channels as select channel_id from (select channel_id, count(*) n from records group by 1)
    join (select channel_id, count(*) m from medical group by 1) using (channel_id) where m >= 3 and m >= 0.3 * n''')
db.execute(f'''copy (select id, any_value(title) as title from (select id, title from records semi join channels using (channel_id)
    union all select id, title from medical) group by id) to '{out}' (format parquet)''')
print(json.dumps({"medical": db.sql("select count(*) from medical").fetchone()[0], "listed": db.sql(f"select count(*) from '{out}'").fetchone()[0]}))
"""


def run_curette(binary, folder, work, workers, processes=1):
    output = work / "curette-funnel"
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    texts = [metadata.PIPELINE.format(output=output / "medical", catalogue=folder), EXPANSION.format(output=output, catalogue=folder)]
    done = {"wall": 0, "cpu": 0, "peak": 0, "parts": []}
    for number, text in enumerate(texts):
        pipeline = output / f"{number}.toml"
        pipeline.write_text(text)
        command = [binary, "run", str(pipeline), "--quiet", "-w", str(workers)] + (["--processes", str(processes)] if processes > 1 else [])
        part = metadata.measure(command, {})
        done["parts"].append(part["wall"])
        done = {**done, "wall": done["wall"] + part["wall"], "cpu": done["cpu"] + part["cpu"], "peak": max(done["peak"], part["peak"])}
    return {**done, "medical": rows(output / "medical/videos"), "listed": rows(output / "expansion/videos")}


def rows(table):
    """Rows of a Delta table of one version, by the numbers in its log."""
    total = 0
    for entry in sorted((table / "_delta_log").glob("*.json")):
        for line in entry.read_text().splitlines():
            add = json.loads(line).get("add")
            total += json.loads(add["stats"])["numRecords"] if add else 0
    return total


def compare(args, work, python, binary, records, names, rounds):
    folder, facts = metadata.catalogue(work, records)
    out = work / "peer.parquet"

    def peer(script):
        env = {"POLARS_MAX_THREADS": str(args.threads)}
        done = metadata.measure([python, "-c", script, str(folder), str(out), str(args.threads)], env)
        return {**done, **json.loads(done["out"].strip().splitlines()[-1])}  # behind what a progress bar has drawn

    runners = {"curette": lambda: run_curette(binary, folder, work, args.threads), "Polars": lambda: peer(POLARS), "DuckDB": lambda: peer(DUCKDB)}
    results = table(facts, {name: runners[name] for name in names}, rounds)
    for name in names[1:]:
        print(f"curette is {results[name]['wall'] / results['curette']['wall']:.2f} times as fast as {name} by wall, "
              f"{results[name]['cpu'] / results['curette']['cpu']:.2f} by CPU (medians)\n", flush=True)


def table(facts, runners, rounds):
    print(f"{facts['records']} records of {facts['mean_bytes']} bytes, {facts['medical']} medical\n")
    print("| run | by | load before | wall, s | CPU, s | records/s | MB/s | peak, MiB | medical | listed |")
    print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
    results = {name: [] for name in runners}
    for number in range(rounds):
        for name in list(runners) if number % 2 == 0 else reversed(list(runners)):
            load = os.getloadavg()[0]
            done = runners[name]()
            results[name].append(done)
            rate = facts["records"] / done["wall"]
            wall = f"{done['wall']:.1f}" + (" (" + " + ".join(f"{part:.1f}" for part in done["parts"]) + ")" if "parts" in done else "")
            cells = [number + 1, name, f"{load:.1f}", wall, f"{done['cpu']:.1f}", f"{rate:,.0f}", f"{rate * facts['mean_bytes'] / 1e6:.0f}"]
            cells += [f"{done['peak']:.0f}", done["medical"], done["listed"]]
            print("| " + " | ".join(map(str, cells)) + " |", flush=True)
    print()
    return {name: {key: statistics.median(d[key] for d in done) for key in ["wall", "cpu", "peak"]} for name, done in results.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=25_000_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--duckdb-records", type=int, default=200_000, help="0: without DuckDB")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--scaling", action="store_true")
    parser.add_argument("--work", type=Path, default=ROOT / "out/bench-metadata")
    args = parser.parse_args()
    work = args.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    binary = os.environ.get("CURETTE", str(ROOT / "target/release/curette"))
    if args.scaling:
        folder, facts = metadata.catalogue(work, args.records)
        run = lambda workers, processes=1: run_curette(binary, folder, work, workers, processes)
        ways = {"1 worker": lambda: run(1), "2 workers": lambda: run(2), "2 processes": lambda: run(1, 2)}
        results = table(facts, ways, args.rounds)
        one, two, apart = (results[name]["wall"] for name in ways)
        print(f"2 workers: {one / two:.2f} times as fast as 1; 2 processes take {apart / two:.2f} times as long as 2 workers (medians)")
        return
    python = metadata.environment(work)
    if args.duckdb_records:
        compare(args, work, python, binary, args.duckdb_records, ["curette", "Polars", "DuckDB"], 1)
    compare(args, work, python, binary, args.records, ["curette", "Polars"], args.rounds)


if __name__ == "__main__":
    main()
