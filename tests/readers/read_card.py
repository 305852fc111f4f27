"""Reads a dataset card as its readers do: mlcroissant by croissant.json, datasets by README.md; both must see the rows that the files hold."""

import json
import sys
from pathlib import Path

import datasets
import mlcroissant
import pyarrow.parquet as parquet


def main(folder: Path) -> None:
    document = folder / "croissant.json"
    description = json.loads(document.read_text())
    files = [item["contentUrl"] for item in description["distribution"] if item["@type"] == "cr:FileObject"]
    tables = [parquet.read_table(folder / name) for name in files]
    rows = sum(table.num_rows for table in tables)
    columns = tables[0].column_names

    # Raises on errors; warnings are shown.
    croissant = mlcroissant.Dataset(jsonld=str(document))
    warnings = sorted(croissant.metadata.ctx.issues.warnings)
    for warning in warnings:
        print("mlcroissant warns:", warning)
    record_set = description["recordSet"][0]["@id"]
    ids = [field["@id"] for field in description["recordSet"][0]["field"]]
    records = list(croissant.records(record_set=record_set))
    assert len(records) == rows, f"mlcroissant reads {len(records)} rows, the files have {rows}"
    assert set(records[0]) == set(ids), set(records[0]) ^ set(ids)
    key = next(name for name in ("clip_id", "video_id") if name in columns)
    of_files = sorted(value for table in tables for value in table.column(key).to_pylist())
    found = sorted(record[f"{record_set}/{key}"].decode() for record in records)
    assert found == of_files, "mlcroissant reads other rows"

    loaded = datasets.load_dataset(str(folder), split="train")
    assert loaded.num_rows == rows, f"datasets loads {loaded.num_rows} rows, the files have {rows}"
    assert loaded.column_names == columns, (loaded.column_names, columns)
    assert sorted(loaded[key]) == of_files, "datasets loads other rows"
    if "clip" in columns:
        assert isinstance(loaded.features["clip"], datasets.Video), loaded.features["clip"]
    print(f"{folder.name}: {rows} rows by mlcroissant {mlcroissant.__version__} ({len(ids)} fields, {len(warnings)} warnings) and datasets {datasets.__version__}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
