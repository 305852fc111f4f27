//! Folders, spreadsheets and the types of other writers.

use std::path::Path;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Field;
use curette_engine::commit::{PlanStamp, SplitSet, Table, TableSpec};

use super::cast::{integer_lists, lists_of_vectors, need_text, vectors};
use super::*;
use crate::frames::vectors::Vectors;

/// What a pipeline writes: an output table with these rows in one committed file.
pub(crate) fn commit(folder: &Path, rows: &RecordBatch, generation: u64) {
    let spec = TableSpec {
        name: "clips".into(),
        location: folder.to_str().unwrap().into(),
        schema: rows.schema(),
        target_shard_bytes: 1 << 20,
        row_group_bytes: 1 << 20,
        zstd_level: 3,
        dictionary_columns: vec![],
        page_rows: None,
    };
    let table = Table::open_or_create(&spec).unwrap();
    let stamp = PlanStamp { plan_hash: "plan".into(), generation };
    if generation > 0 {
        table.begin_generation(&stamp).unwrap();
    }
    let mut writer = table.shard_writer(&format!("01JD{generation:022}"));
    writer.write(rows).unwrap();
    let shard = writer.finish().unwrap();
    table.commit(&stamp, &SplitSet::below(1), &[shard]).unwrap();
    // What a killed attempt leaves.
    let mut lost = table.shard_writer(&format!("01JE{generation:022}"));
    lost.write(rows).unwrap();
    lost.finish().unwrap();
}

fn rows(ids: &[&str]) -> RecordBatch {
    let numbers = Int64Array::from_iter_values(0..ids.len() as i64);
    let texts = || Arc::new(StringArray::from(ids.to_vec())) as ArrayRef;
    RecordBatch::try_from_iter([("id", texts()), ("n", Arc::new(numbers) as ArrayRef), ("other", texts())]).unwrap()
}

/// All ids, and that no column comes that was not asked for.
fn ids(path: &Path) -> Result<Vec<String>, String> {
    let table = OpenTable::open(path)?;
    let mut out = Vec::new();
    for batch in table.batches(&["id", "not there"], 2)? {
        let batch = batch?;
        assert!(batch.num_columns() == 1 && batch.num_rows() <= 2);
        let column = need_text(&batch, "id")?;
        out.extend((0..batch.num_rows()).map(|row| column.value(row).to_owned()));
    }
    Ok(out)
}

#[test]
fn an_output_table_has_the_rows_that_its_log_says() {
    let dir = tempfile::tempdir().unwrap();
    let (output, clips) = (dir.path().join("out"), dir.path().join("out/clips"));
    std::fs::create_dir_all(&clips).unwrap();
    commit(&clips, &rows(&["old", "older"]), 0);
    assert_eq!(ids(&clips).unwrap(), ["old", "older"]);
    commit(&clips, &rows(&["a", "b", "c"]), 1);
    let files = std::fs::read_dir(&clips).unwrap().filter(|e| e.as_ref().unwrap().path().is_file()).count();
    assert_eq!(files, 4, "two of them are of the killed attempts, one is of the older version");
    assert_eq!(ids(&clips).unwrap(), ["a", "b", "c"]);
    let relative = OpenTable::open(&clips).unwrap();
    assert!(relative.has("n") && !relative.has("m") && relative.need("m").is_err());
    let said = ids(&output).unwrap_err();
    assert_eq!(said, "is a folder of tables, not a table; give one of those in it: clips");
    let empty = dir.path().join("empty");
    std::fs::create_dir_all(&empty).unwrap();
    assert!(ids(&empty).unwrap_err().starts_with("is a folder without a table"));
    assert!(ids(&dir.path().join("none.parquet")).unwrap_err().contains("No such file"));
}

#[test]
fn folders_of_files_and_spreadsheets_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    };
    write("split/split-00000001.jsonl", "{\"id\":\"b\",\"wide\":[1,2]}\n");
    write("split/_plan.json", "{}");
    let folder = write("split/split-00000000.jsonl", "{\"id\":\"a\"}\n{\"id\":\"aa\"}\n");
    assert_eq!(ids(folder.parent().unwrap()).unwrap(), ["a", "aa", "b"]);
    for text in ["id,n\n007,1\n-x,2\n", "\u{feff}id;n\r\n007;1\r\n-x;2\r\n", "n\tid\n1\t007\n2\t-x\n"] {
        assert_eq!(ids(&write("t.csv", text)).unwrap(), ["007", "-x"], "{text:?}");
    }
    assert_eq!(ids(&write("t.csv", "")).unwrap(), [""; 0]);
    assert_eq!(ids(&write("u/b.csv", "id\nx\n,,\n")).unwrap_err().lines().count(), 1);
    write("u/a.jsonl", "no json\n");
    assert!(ids(&dir.path().join("u")).unwrap_err().starts_with("a.jsonl: "));
}

fn list(item: DataType) -> Arc<Field> {
    Arc::new(Field::new_list_field(item, true))
}

#[test]
fn types_of_other_writers_are_the_same_columns() {
    let row = DataType::FixedSizeList(list(DataType::Float32), 2);
    let flat = arrow::array::FixedSizeListArray::from_iter_primitive::<arrow::datatypes::Float32Type, _, _>(
        vec![Some(vec![Some(1.0), Some(2.0)]), None, Some(vec![Some(3.0), Some(4.0)])],
        2,
    );
    let flat: ArrayRef = Arc::new(flat);
    let double = DataType::Float64;
    for to in [
        row.clone(),
        DataType::List(list(DataType::Float32)),
        DataType::LargeList(list(double.clone())),
        DataType::FixedSizeList(list(double.clone()), 2),
        DataType::List(list(DataType::Float16)),
    ] {
        let got = vectors(&arrow_cast::cast(&flat, &to).unwrap()).unwrap();
        assert!(got.is_null(1), "{to}");
        assert_eq!(got.value(2).as_primitive::<arrow::datatypes::Float32Type>().values(), &[3.0, 4.0], "{to}");
    }
    let text: ArrayRef = Arc::new(StringArray::from(vec!["1", "2", "3"]));
    assert!(vectors(&text).is_none(), "a text is no vector of one number");
    assert!(lists_of_vectors(&flat).is_none() && lists_of_vectors(&text).is_none());

    let offsets = arrow::buffer::OffsetBuffer::new(vec![0, 1, 3].into());
    let nested: ArrayRef = Arc::new(arrow::array::ListArray::new(list(row.clone()), offsets, flat, None));
    for to in [
        DataType::List(list(row)),
        DataType::LargeList(list(DataType::LargeList(list(double.clone())))),
        DataType::LargeList(list(DataType::FixedSizeList(list(double), 2))),
    ] {
        let cast = lists_of_vectors(&arrow_cast::cast(&nested, &to).unwrap()).unwrap();
        let view = Vectors::of(&cast).unwrap().row(1).unwrap();
        assert_eq!((view.len(), view.get(1)), (2, Ok(&[3.0f32, 4.0][..])), "{to}");
        assert!(view.get(0).is_err(), "{to}");
    }

    let times: ArrayRef =
        Arc::new(arrow::array::ListArray::from_iter_primitive::<arrow::datatypes::Int64Type, _, _>([Some([Some(5)])]));
    for to in [DataType::LargeList(list(DataType::Int64)), DataType::LargeList(list(DataType::UInt32))] {
        let cast = integer_lists(&arrow_cast::cast(&times, &to).unwrap()).unwrap();
        assert_eq!(cast.value(0).as_primitive::<arrow::datatypes::Int64Type>().values(), &[5]);
    }
    for to in [
        DataType::LargeUtf8,
        DataType::Utf8View,
        DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
        DataType::Int64,
    ] {
        let column = arrow_cast::cast(&text, &to).unwrap();
        let batch = RecordBatch::try_from_iter([("id", column)]).unwrap();
        assert_eq!(need_text(&batch, "id").unwrap().value(1), "2", "{to}");
    }
}
