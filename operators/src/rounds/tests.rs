//! Tables in a store are read as those on a disk, and no more of them than is needed.

#![allow(clippy::print_stdout)]

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use curette_engine::operator::{Runtime, Source};

use crate::sources::files::tests::FakeS3;
use crate::testing;

/// `n` videos of `channels` channels, with a long text that nobody asks for, in row groups of 1,000.
fn table(n: usize, channels: usize, every: usize) -> Vec<u8> {
    let some = |text: &dyn Fn(usize) -> String| -> ArrayRef {
        Arc::new((0..n).step_by(every).map(|i| Some(text(i))).collect::<StringArray>())
    };
    let noise = |i: usize| (0..40).map(|k| format!("{}", blake3::hash(format!("{i} {k}").as_bytes()))).collect::<String>();
    let batch = RecordBatch::try_from_iter([
        ("id", some(&|i| format!("v{i:05}"))),
        ("channel_id", some(&|i| format!("UC{}", i % channels))),
        ("title", some(&|i| format!("title {i}"))),
        ("noise", some(&noise)),
    ])
    .unwrap();
    let properties = parquet::file::properties::WriterProperties::builder().set_max_row_group_row_count(Some(1000)).build();
    let mut bytes = Vec::new();
    let mut writer = parquet::arrow::ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

fn everything(source: &dyn Source) -> (Vec<String>, Vec<ArrayRef>) {
    let items = source.list().unwrap();
    source.settle().unwrap();
    let done = testing::with_task(|task| source.read(&items, task)).unwrap();
    (items.into_iter().map(|i| i.key).collect(), done.columns)
}

#[test]
fn a_bucket_is_expanded_as_a_disk_is_and_only_the_columns_that_are_asked_for_are_fetched() {
    let dir = tempfile::tempdir().unwrap();
    let bucket = FakeS3::start();
    let (catalogue, medical) = (table(4000, 97, 1), table(4000, 97, 131));
    let whole = catalogue.len();
    for (name, bytes) in [("crawls/all/a.parquet", &catalogue), ("found.parquet", &medical)] {
        bucket.put_bytes(name, bytes);
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    // Notes of another program do not count.
    bucket.put("crawls/all/_SUCCESS", "");
    bucket.put("crawls/all/_notes.parquet", "no Parquet");
    let toml = |place: &str, ledger: &str| {
        format!(
            "type = 'channel_expansion'\ncatalogue = '{place}/crawls/all'\nmedical = '{place}/found.parquet'\n\
             ledger = '{}'\ncolumns = {{ title = 'text' }}",
            dir.path().join(ledger).display()
        )
    };
    let Runtime::Source(on_disk) = testing::build(&toml(&dir.path().display().to_string(), "here")).unwrap() else { panic!() };
    let here = everything(&*on_disk);
    bucket.served();
    let there = everything(&*bucket.source_of(&toml("s3://corpus", "there")));
    let (bytes, requests) = bucket.served();
    assert!(here.0.len() > 500 && here.0.len() < 4000, "{}", here.0.len());
    assert_eq!(here, there);
    println!("{bytes} bytes of {whole} in {requests} requests");
    // Ids are read three times (what is new, where it stands, for the ledger), titles once.
    assert!(bytes * 2 < whole, "{bytes} of {whole} bytes were fetched");
    assert!(requests < 200, "{requests} requests");

    let e = bucket.source_of(&toml("s3://corpus/nowhere", "none")).list().unwrap_err().to_string();
    assert!(e.contains("`catalogue` s3://corpus/nowhere/crawls/all") && e.contains("neither a table nor a Parquet file"), "{e}");
}
