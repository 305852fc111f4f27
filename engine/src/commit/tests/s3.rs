//! The same protocol over the S3 protocol.

use super::*;
use crate::commit::Outcome;

/// For any S3 endpoint: `AWS_ENDPOINT_URL=http://127.0.0.1:5000 AWS_ALLOW_HTTP=true AWS_ACCESS_KEY_ID=.. AWS_SECRET_ACCESS_KEY=.. AWS_REGION=us-east-1
/// CURETTE_TEST_S3=s3://bucket/new-folder cargo nextest run -p curette-engine --run-ignored only s3`
#[test]
#[ignore = "needs an S3 endpoint (AWS_* variables) and an unused folder in CURETTE_TEST_S3"]
fn commits_conflicts_and_orphans() {
    let mut spec = spec(&std::env::var("CURETTE_TEST_S3").unwrap());
    // More than one part of an upload, and bytes that do not compress.
    spec.schema =
        Arc::new(Schema::new(vec![Field::new("id", DataType::Utf8, false), Field::new("clip", DataType::Binary, true)]));
    let mut state = 1u64;
    let mut noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    });
    let clips: Vec<Vec<u8>> = (0..20).map(|_| noise.by_ref().take(1 << 20).collect()).collect();
    let ids = StringArray::from_iter_values((0..20).map(|i| format!("clip-{i}")));
    let batch = RecordBatch::try_new(
        spec.schema.clone(),
        vec![Arc::new(ids), Arc::new(arrow::array::BinaryArray::from_iter_values(&clips))],
    )
    .unwrap();
    let table = Table::open_or_create(&spec).unwrap();
    let write = |number| {
        let mut writer = table.shard_writer(&attempt(number));
        writer.write(&batch).unwrap();
        writer.finish().unwrap()
    };
    let (first, lost) = (write(1), write(2));
    assert!(first.bytes > 20 << 20);
    assert_eq!(table.commit(&stamp("p", 1), &set("0"), &[first]).unwrap(), Outcome::Committed { version: 1 });
    let other = Table::open_or_create(&spec).unwrap();
    assert_eq!(other.commit(&stamp("p", 1), &set("0"), &[lost]).unwrap(), Outcome::AlreadyDone);
    std::thread::scope(|scope| {
        for table in [&table, &other] {
            scope.spawn(move || {
                (1..12).for_each(|split| _ = table.commit(&stamp("p", 1), &set(&split.to_string()), &[]).unwrap())
            });
        }
    });
    assert_eq!(table.state().unwrap().done, set("0-11"));
    assert_eq!(table.state().unwrap().version, 12);
    let mut aborted = table.shard_writer(&attempt(3));
    aborted.write(&batch).unwrap();
    aborted.abort();
    assert_eq!(table.collect_orphans().unwrap().files, 1);
    assert_eq!(counts(&table).len(), 20);
    assert_eq!(table.begin_generation(&stamp("q", 2)).unwrap(), Outcome::Committed { version: 13 });
    assert!(counts(&table).is_empty());
}
