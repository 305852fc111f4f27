//! Rows of every kind of column, and rows of megabytes.

use arrow::array::{
    Array as _, ArrayRef, BinaryArray, BooleanArray, FixedSizeListArray, Float32Array, Float64Array, Int32Array, ListArray,
    StructArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{Float32Type, Int64Type, TimeUnit};
use parquet::basic::Encoding;
use parquet::file::reader::{FileReader, SerializedFileReader};

use super::*;
use crate::commit::table_schema;

/// Two rows with a column of each kind that operators make, the second one null wherever it may be.
fn every_kind() -> RecordBatch {
    let bytes: ArrayRef = Arc::new(BinaryArray::from(vec![Some(&b"mp4"[..]), None]));
    let path: ArrayRef = Arc::new(StringArray::from(vec![Some("a.mp4"), None]));
    let fields = vec![Field::new("bytes", DataType::Binary, true), Field::new("path", DataType::Utf8, true)];
    let clip = StructArray::try_new(fields.into(), vec![bytes, path], Some(vec![true, false].into())).unwrap();
    let embedding = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>([Some(vec![Some(0.5), Some(-0.5)]), None], 2);
    let times = ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(0), Some(1_000_000)]), None]);
    let item = Arc::new(Field::new("item", embedding.data_type().clone(), true));
    let frames = ListArray::try_new(
        item,
        arrow::buffer::OffsetBuffer::from_lengths([1, 0]),
        Arc::new(embedding.slice(0, 1)),
        Some(vec![true, false].into()),
    );
    let made = TimestampMicrosecondArray::from(vec![Some(1_700_000_000_000_000), None]).with_timezone("UTC");
    let columns: Vec<(&str, ArrayRef, bool)> = vec![
        ("id", Arc::new(StringArray::from(vec!["a", "b"])), false),
        ("width", Arc::new(Int32Array::from(vec![Some(640), None])), true),
        ("start_us", Arc::new(Int64Array::from(vec![Some(1 << 40), None])), true),
        ("similarity", Arc::new(Float32Array::from(vec![Some(0.25), None])), true),
        ("fps", Arc::new(Float64Array::from(vec![Some(29.97), None])), true),
        ("has_audio", Arc::new(BooleanArray::from(vec![Some(true), None])), true),
        ("clip", Arc::new(clip), true),
        ("frame_times_us", Arc::new(times), true),
        ("embedding", Arc::new(embedding), true),
        ("frame_embeddings", Arc::new(frames.unwrap()), true),
        ("made", Arc::new(made), true),
    ];
    let fields: Vec<Field> =
        columns.iter().map(|(name, array, null)| Field::new(*name, array.data_type().clone(), *null)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.into_iter().map(|(_, array, _)| array).collect()).unwrap()
}

#[test]
fn every_kind_of_column_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    write_every_kind(dir.path().to_str().unwrap());
}

/// To look at the table with other programs.
#[test]
#[ignore = "writes to the folder or URL that CURETTE_TEST_TABLE names"]
fn every_kind_of_column_in_a_folder_of_your_choice() {
    write_every_kind(&std::env::var("CURETTE_TEST_TABLE").unwrap());
}

/// Version 1 holds four rows, version 3 and later ones (of another generation) one; version 20 has a checkpoint.
fn write_every_kind(folder: &str) {
    let batch = every_kind();
    let mut spec = spec(folder);
    spec.schema = batch.schema();
    let table = Table::open_or_create(&spec).unwrap();
    let mut writer = table.shard_writer(&attempt(1));
    writer.write(&batch).unwrap();
    writer.write(&batch).unwrap();
    table.commit(&stamp("p", 1), &set("0"), &[writer.finish().unwrap()]).unwrap();
    // Opening it again finds the same columns, though embeddings are no longer lists of fixed size.
    let again = Table::open_or_create(&spec).unwrap();
    let read: Vec<RecordBatch> = again.read_batches(None).unwrap().map(Result::unwrap).collect();
    assert_eq!(read.len(), 1);
    assert_eq!(read[0].num_rows(), 4);
    let schema = table_schema("clips", &batch.schema()).unwrap();
    assert_eq!(schema.field(10).data_type(), &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())));
    for (index, field) in schema.fields().iter().enumerate() {
        let written = arrow_cast::cast(batch.column(index), field.data_type()).unwrap();
        assert_eq!(&read[0].column(index).slice(2, 2), &written, "{}", field.name());
    }
    table.begin_generation(&stamp("q", 2)).unwrap();
    let mut writer = table.shard_writer(&attempt(2));
    writer.write(&batch.slice(0, 1)).unwrap();
    table.commit(&stamp("q", 2), &set("0"), &[writer.finish().unwrap()]).unwrap();
    // Until the log has been summed up: whoever opens the table now starts from there.
    (1..=17).for_each(|split| _ = table.commit(&stamp("q", 2), &set(&split.to_string()), &[]).unwrap());
    let again = Table::open_or_create(&spec).unwrap();
    assert_eq!(counts(&again), BTreeMap::from([("a".to_owned(), 1)]));
    let state = again.state().unwrap();
    assert_eq!((state.version, state.done), (20, set("0-17")));
}

#[test]
fn rows_of_megabytes_make_small_row_groups_and_pages() {
    const ROWS: usize = 24;
    const CLIP: usize = 700 << 10;
    let dir = tempfile::tempdir().unwrap();
    let mut spec = spec(dir.path().to_str().unwrap());
    spec.schema =
        Arc::new(Schema::new(vec![Field::new("id", DataType::Utf8, false), Field::new("clip", DataType::Binary, true)]));
    spec.row_group_bytes = 4 << 20;
    spec.target_shard_bytes = 8 << 20;
    let table = Table::open_or_create(&spec).unwrap();
    // Bytes that do not compress.
    let mut state = 1u64;
    let mut noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    });
    let clips: Vec<Vec<u8>> = (0..ROWS).map(|_| noise.by_ref().take(CLIP).collect()).collect();
    let ids = StringArray::from_iter_values((0..ROWS).map(|i| format!("clip-{i}")));
    let clips = BinaryArray::from_iter_values(&clips);
    let batch = RecordBatch::try_new(spec.schema.clone(), vec![Arc::new(ids), Arc::new(clips)]).unwrap();
    let mut writer = table.shard_writer(&attempt(1));
    writer.write(&batch).unwrap();
    assert!(writer.is_full());
    let shard = writer.finish().unwrap();
    let reader = SerializedFileReader::new(std::fs::File::open(dir.path().join(&shard.file)).unwrap()).unwrap();
    let groups = reader.metadata().row_groups();
    assert!(groups.len() >= 4, "{} row groups", groups.len());
    for group in groups {
        assert!(group.compressed_size() < 6 << 20, "{}", group.compressed_size());
        let [id, clip] = group.columns() else { panic!("two columns") };
        let dictionary = |encodings: Vec<Encoding>| encodings.contains(&Encoding::RLE_DICTIONARY);
        assert!(dictionary(id.encodings().collect()));
        assert!(!dictionary(clip.encodings().collect()));
        assert!(clip.statistics().is_none());
    }
    assert_eq!(groups.iter().map(|g| g.num_rows()).sum::<i64>(), ROWS as i64);
    for group in 0..groups.len() {
        let pages = reader.get_row_group(group).unwrap().get_column_page_reader(1).unwrap();
        assert!(pages.map(|page| page.unwrap().buffer().len()).all(|bytes| bytes < 3 << 20));
    }
}

#[test]
fn an_aborted_or_dropped_shard_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let table = open(dir.path());
    let mut aborted = table.shard_writer(&attempt(1));
    aborted.write(&rows(0)).unwrap();
    aborted.abort();
    let mut dropped = table.shard_writer(&attempt(1));
    dropped.write(&rows(0)).unwrap();
    drop(dropped);
    let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["_delta_log"]);
}
