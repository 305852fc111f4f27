"""Reads the tables of a finished run with four independent readers and checks that they agree and that the rows are sane.

    .cache/venv/bin/python tests/readers/read_tables.py out/quickstart
    .cache/venv/bin/python tests/readers/read_tables.py --self-test

deltalake and Polars follow the Delta log; DuckDB and datasets read the plain Parquet files of the folder. That all four see the same rows
proves that the log is right, that no orphan shard is left, and that types are ones that others understand. Every finding is listed
before the script ends with 1; 2 means that it was called wrongly or that a table is missing.

The self-test makes a small correct output, checks it, then breaks it in one way after the other: each must be found.
"""

import argparse
import os
import sys
import tempfile
import urllib.parse
from collections import Counter
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing here may ask the network
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")

import blake3
import datasets
import deltalake
import duckdb
import polars
import pyarrow as pa
import pyarrow.types as pt

# The columns that every table must have, never null. Other columns are free.
REQUIRED = {
    "clips": ["clip_id", "video_id", "start_us", "end_us"],
    "rejects": ["item_id", "step", "operator", "code", "message"],
    "errors": ["item_id", "step", "operator", "code", "message"],
    "stages": ["step", "rows_in", "passed", "rejected", "errors"],
}


# --- the four readers: each gives a pyarrow table ---------------------------------------------------------------------


def read_deltalake(folder):
    return deltalake.DeltaTable(str(folder)).to_pyarrow_table()


def read_polars(folder):
    return polars.read_delta(str(folder)).to_arrow()


def read_duckdb(folder):
    with duckdb.connect() as connection:
        return connection.sql(f"from read_parquet('{quote(folder)}/*.parquet')").to_arrow_table()


def quote(path):
    return str(path).replace("'", "''")


def read_datasets(folder):
    with tempfile.TemporaryDirectory() as cache:
        files = sorted(str(file) for file in folder.glob("*.parquet"))
        rows = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=cache)
        if "clip" in rows.column_names and isinstance(rows.features["clip"], dict):
            # What a training script does; decoding itself needs torchcodec and is not part of this test.
            rows = rows.cast_column("clip", datasets.Video(decode=False))
            if len(rows):
                rows[0]["clip"]
        return rows.data.table.combine_chunks()


READERS = {"deltalake": read_deltalake, "polars": read_polars, "duckdb": read_duckdb, "datasets": read_datasets}


# --- checks: each gives a list of sentences, empty when all is well ---------------------------------------------------


def comparable(table):
    """The multiset of rows over all text, integer and boolean columns: readers may differ in how they name other types."""
    kinds = (pt.is_string, pt.is_large_string, pt.is_string_view, pt.is_integer, pt.is_boolean)
    names = sorted(field.name for field in table.schema if any(kind(field.type) for kind in kinds))
    return names, Counter(zip(*(table.column(name).to_pylist() for name in names)))


def check_agreement(name, tables):
    found = []
    (first, reference), *others = tables.items()
    names, rows = comparable(reference)
    for reader, table in others:
        if set(table.column_names) != set(reference.column_names):
            differing = sorted(set(table.column_names) ^ set(reference.column_names))
            found.append(f"{name}: {reader} and {first} see different columns: {differing}")
            continue
        their_names, their_rows = comparable(table)
        if their_names != names:
            found.append(f"{name}: {reader} and {first} see different types in {sorted(set(names) ^ set(their_names))}")
        elif their_rows != rows:
            missing, extra = rows - their_rows, their_rows - rows
            found.append(
                f"{name}: {reader} sees {table.num_rows} rows, {first} {reference.num_rows}: {missing.total()} missing, {extra.total()} extra; "
                f"for example {next(iter(missing or extra))} over {names}"
            )
    return found


def check_files(name, folder):
    """Plain readers see every file of the folder, so the folder must hold exactly what the log says."""
    listed = {Path(urllib.parse.unquote(uri)).name for uri in deltalake.DeltaTable(str(folder)).file_uris()}
    present = {file.name for file in folder.glob("*.parquet")}
    return [f"{name}: the log names {file}, but it is not in the folder" for file in sorted(listed - present)] + [
        f"{name}: {file} is in the folder, but not in the log (an orphan)" for file in sorted(present - listed)
    ]


def check_required(name, table):
    found = []
    for column in REQUIRED[name]:
        if column not in table.column_names:
            found.append(f"{name}: no column {column}; there are {table.column_names}")
        elif nulls := table.column(column).null_count:
            found.append(f"{name}: {nulls} nulls in {column}")
    return found


def check_clips(table, root):
    found = []
    for clip_id, count in Counter(table.column("clip_id").to_pylist()).items():
        if count > 1:
            found.append(f"clips: clip_id {clip_id} occurs {count} times")
    columns = [name for name in ("clip_id", "start_us", "end_us", "clip", "clip_uri", "clip_bytes", "clip_blake3") if name in table.column_names]
    for row in table.select(columns).to_pylist():
        found += [f"clips: {row['clip_id']}: {sentence}" for sentence in check_clip(row, root)]
    return found


def check_clip(row, root):
    if not (row["start_us"] >= 0 and row["end_us"] > row["start_us"]):
        yield f"span {row['start_us']}..{row['end_us']} us is not sane"
    data = clip_data(row, root)
    if data is None:
        if "clip_bytes" in row:
            yield "there are neither bytes nor a readable file of the clip"
        return
    if data[4:8] != b"ftyp":
        yield f"the clip does not start as an mp4 file does, but with {data[:12]!r}"
    if row.get("clip_bytes") is not None and row["clip_bytes"] != len(data):
        yield f"clip_bytes says {row['clip_bytes']}, the clip has {len(data)} bytes"
    if row.get("clip_blake3") is not None and row["clip_blake3"] != blake3.blake3(data).hexdigest():
        yield "clip_blake3 is not the hash of the clip"


def clip_data(row, root):
    """The clip, from the row itself or from the local file that it names; None for remote ones too."""
    clip = row.get("clip") or {}
    if clip.get("bytes") is not None:
        return clip["bytes"]
    for reference in (row.get("clip_uri"), clip.get("path")):
        if reference and (reference.startswith("file://") or "://" not in reference):
            file = root / urllib.parse.unquote(reference.removeprefix("file://"))
            if file.is_file():
                return file.read_bytes()
    return None


def check_stages(tables):
    """in = passed + rejected + errors at each step, and the sums are what the other tables hold."""
    found = []
    sums = Counter()
    for row in tables["stages"].to_pylist():
        if row["rows_in"] != row["passed"] + row["rejected"] + row["errors"]:
            counts = " + ".join(str(row[key]) for key in ("passed", "rejected", "errors"))
            found.append(f"stages: step {row['step']}: {row['rows_in']} in, but {counts} out (passed + rejected + errors)")
        sums.update(rejected=row["rejected"], errors=row["errors"])
    errors = tables["errors"]
    # A row that went on in spite of an error is recorded, but it was not dropped.
    kept = sum(bool(value) for value in errors.column("kept").to_pylist()) if "kept" in errors.column_names else 0
    for key, rows in (("rejected", tables["rejects"].num_rows), ("errors", errors.num_rows - kept)):
        if sums[key] != rows:
            found.append(f"stages: {sums[key]} {key} in all, but the table has {rows} such rows")
    return found


def check_output(root, report=print):
    """All findings about one output folder."""
    root = Path(root).resolve()
    if missing := [name for name in REQUIRED if not (root / name / "_delta_log").is_dir()]:
        raise SystemExit(f"read_tables: error: {root} has no table {', '.join(missing)} (a folder with _delta_log); was the run finished?")
    found, good = [], {}
    for name in REQUIRED:
        folder = root / name
        files = any(folder.glob("*.parquet"))
        # A table without rows has no file that a plain reader could take its columns from.
        readers = READERS if files else {key: READERS[key] for key in ("deltalake", "polars")}
        tables = {}
        for reader, read in readers.items():
            try:
                tables[reader] = read(folder)
            except Exception as error:  # whatever a reader says is the finding
                found.append(f"{name}: {reader} cannot read it: {type(error).__name__}: {error}")
        found += check_files(name, folder)
        if tables:
            found += check_agreement(name, tables)
            table = next(iter(tables.values()))
            problems = check_required(name, table)
            found += problems
            if not problems:
                good[name] = table
            report(f"{name}: {table.num_rows} rows, {table.num_columns} columns, read by {', '.join(tables)}")
    if "clips" in good:
        found += check_clips(good["clips"], root)
    if {"stages", "rejects", "errors"} <= good.keys():
        found += check_stages(good)
    return found


# --- self-test --------------------------------------------------------------------------------------------------------

MP4 = b"\x00\x00\x00\x18ftypisom" + bytes(64)


def sample(root, clips=None, stages=None, rejects=2):
    """A small output as a run makes it, in two commits per table."""

    def clip(index, **changes):
        row = {"clip_id": f"a.mp4#{index}-{index + 1}", "video_id": "a.mp4", "start_us": index, "end_us": index + 1, "score": 0.5}
        row |= {"clip": {"bytes": MP4, "path": f"{index}.mp4"}, "clip_bytes": len(MP4), "clip_blake3": blake3.blake3(MP4).hexdigest()}
        return row | changes

    def dropped(index, **changes):
        return {"item_id": f"b{index}.mp4", "step": "probe", "operator": "probe", "code": "no_index", "message": "no moov box"} | changes

    rows = {
        "clips": [clip(index, **(clips or {}) if index == 3 else {}) for index in range(4)],
        "rejects": [dropped(index) for index in range(rejects)],
        "errors": [dropped(0, kept=False), dropped(1, kept=True)],
        "stages": [{"step": "probe", "rows_in": 7, "passed": 4, "rejected": 2, "errors": 1} | (stages or {})],
    }
    for name, items in rows.items():
        for part in (items[: len(items) // 2], items[len(items) // 2 :]):
            if part:
                deltalake.write_deltalake(str(root / name), pa.Table.from_pylist(part), mode="append")


def orphan(root):
    file = next((root / "clips").glob("*.parquet"))
    (file.parent / "orphan.parquet").write_bytes(file.read_bytes())


def lost_file(root):
    next((root / "rejects").glob("*.parquet")).unlink()


# What is done to the output, and a part of the sentence that must be found; None: nothing is found.
CASES = {
    "a correct output": ({}, None, None),
    "a table without rows": ({"rejects": 0, "stages": {"rejected": 0, "passed": 6}}, lambda root: empty_rejects(root), None),
    "a clip twice": ({"clips": {"clip_id": "a.mp4#0-1"}}, None, "clip_id a.mp4#0-1 occurs 2 times"),
    "a span that ends before it starts": ({"clips": {"end_us": 1}}, None, "span 3..1 us is not sane"),
    "a missing id": ({"clips": {"video_id": None}}, None, "1 nulls in video_id"),
    "a clip that is no mp4": ({"clips": {"clip": {"bytes": b"not a video!" + bytes(64), "path": "3"}}}, None, "does not start as an mp4"),
    "a wrong size": ({"clips": {"clip_bytes": 5}}, None, "clip_bytes says 5"),
    "a wrong hash": ({"clips": {"clip_blake3": "00"}}, None, "clip_blake3 is not the hash"),
    "a clip without data": ({"clips": {"clip": None}}, None, "neither bytes nor a readable file"),
    "counts that do not add up": ({"stages": {"passed": 5}}, None, "step probe: 7 in, but 5 + 2 + 1 out"),
    "a reject without a row": ({"rejects": 1}, None, "2 rejected in all, but the table has 1"),
    "an orphan shard": ({}, orphan, "orphan.parquet is in the folder, but not in the log"),
    "a lost shard": ({}, lost_file, "but it is not in the folder"),
}


def empty_rejects(root):
    schema = pa.schema([(name, pa.string()) for name in REQUIRED["rejects"]])
    deltalake.DeltaTable.create(str(root / "rejects"), schema)


def self_test():
    failed = 0
    for title, (changes, damage, expected) in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            sample(root, **changes)
            if damage:
                damage(root)
            found = check_output(root, report=lambda line: None)
        if expected is None and found or expected is not None and not any(expected in sentence for sentence in found):
            failed += 1
            print(f"FAILED {title}: expected {expected or 'nothing'}, found {found or 'nothing'}", file=sys.stderr)
    print(f"read_tables self-test: {len(CASES) - failed} cases passed, {failed} failed")
    return failed


def main():
    parser = argparse.ArgumentParser(description="Reads the tables of a finished run with deltalake, Polars, DuckDB and datasets.")
    parser.add_argument("output", nargs="?", help="output folder of a run, for example out/quickstart")
    parser.add_argument("--self-test", action="store_true", help="check this script on tables that it makes")
    arguments = parser.parse_args()
    datasets.disable_progress_bars()
    if arguments.self_test:
        return 1 if self_test() else 0
    if not arguments.output:
        parser.error("name the output folder of a run, or --self-test")
    found = check_output(arguments.output)
    for sentence in found:
        print(f"FAILED {sentence}", file=sys.stderr)
    if not found:
        print("all readers agree")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
