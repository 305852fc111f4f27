//! Tests of the spool.

use proptest::prelude::*;

use super::*;

pub(crate) fn header() -> Header {
    let shape = Shape { frames: 5, height: 16, width: 32, fps: 24.0 };
    Header { architecture: Architecture::Hunyuan, encoder: "test".into(), shape }
}

pub(crate) fn sample(id: &str, seed: u8) -> Sample {
    let tensor = |dtype, shape: &[usize], size: usize| OwnedTensor {
        dtype,
        shape: shape.to_vec(),
        bytes: (0..shape.iter().product::<usize>() * size).map(|i| (i as u8).wrapping_mul(7).wrapping_add(seed)).collect(),
    };
    let mask: Vec<u8> = [1_i64, 1, 1, 0].iter().flat_map(|v| v.to_le_bytes()).collect();
    let tensors = BTreeMap::from([
        ("latent".to_owned(), tensor(Dtype::BF16, &[16, 2, 2, 4], 2)),
        ("embed".to_owned(), tensor(Dtype::BF16, &[3, 8], 2)),
        ("mask".to_owned(), OwnedTensor { dtype: Dtype::I64, shape: vec![4], bytes: mask }),
        ("pooled".to_owned(), tensor(Dtype::BF16, &[6], 2)),
    ]);
    let info = SampleInfo { id: id.into(), caption: format!("a caption of {id}"), frames: 5, height: 16, width: 32, fps: 24.0 };
    Sample { info, tensors }
}

#[test]
fn what_is_written_is_read_and_a_second_writer_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = SpoolWriter::open(folder.path(), &header()).unwrap();
    writer.add(&[sample("a", 1), sample("b", 2)]).unwrap();
    writer.refuse(vec![Refusal { id: "bad".into(), code: "broken".into(), message: "no frames".into() }]).unwrap();
    assert!(SpoolWriter::open(folder.path(), &header()).is_err_and(|e| e.0.contains("another process")));
    drop(writer);
    let mut writer = SpoolWriter::open(folder.path(), &header()).unwrap();
    assert!(writer.knows("a") && writer.knows("bad") && !writer.knows("c"));
    assert!(writer.add(&[sample("b", 3)]).is_err_and(|e| e.0 == "clip `b` comes to the spool twice"));
    writer.add(&[sample("c", 3)]).unwrap();
    writer.seal().unwrap();
    writer.seal().unwrap();
    assert!(writer.add(&[sample("d", 3)]).is_err_and(|e| e.0.ends_with("is sealed")));
    let spool = Spool::open(folder.path()).unwrap();
    assert_eq!((spool.manifest.samples(), spool.manifest.sealed), (3, true));
    assert_eq!(spool.shard(&spool.manifest.shards[0]).unwrap(), [sample("a", 1), sample("b", 2)]);
    spool.verify().unwrap();
    let other = Header { encoder: "other".into(), ..header() };
    drop(writer);
    assert!(SpoolWriter::open(folder.path(), &other).is_err_and(|e| e.0.contains("made by other encoders")));
}

#[test]
fn a_changed_shard_and_a_damaged_manifest_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = SpoolWriter::open(folder.path(), &header()).unwrap();
    writer.add(&[sample("a", 1)]).unwrap();
    writer.add(&[sample("b", 1)]).unwrap();
    drop(writer);
    let shard = folder.path().join("000001.safetensors");
    let mut bytes = fs::read(&shard).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&shard, bytes).unwrap();
    let hash = |e: TrainerError| e.0.contains("its hash differs");
    assert!(Spool::open(folder.path()).unwrap().verify().is_err_and(hash));
    assert!(SpoolWriter::open(folder.path(), &header()).is_err_and(hash));
    let text = fs::read_to_string(folder.path().join(MANIFEST)).unwrap();
    fs::write(folder.path().join(MANIFEST), format!("{{\"n\":\n{text}")).unwrap();
    assert!(Spool::open(folder.path()).is_err_and(|e| e.0.contains("line 1 of the manifest is damaged")));
    fs::write(folder.path().join(MANIFEST), format!("{text}{text}")).unwrap();
    assert!(Spool::open(folder.path()).is_err_and(|e| e.0.contains("clip `a` is in the manifest twice")));
    fs::write(folder.path().join(MANIFEST), format!("{{\"sealed\":true}}\n{text}")).unwrap();
    assert!(Spool::open(folder.path()).is_err_and(|e| e.0.contains("line 2 of the manifest comes after its seal")));
}

proptest! {
    // Each case syncs dozens of files.
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Wherever a kill cuts the files that are being written, the next writer goes on, and ends with what an undisturbed one has.
    #[test]
    fn any_torn_tail_is_repaired(cut_manifest in 0_usize..400, cut_refused in 0_usize..90, left in any::<bool>()) {
        let refusal = || Refusal { id: "bad".into(), code: "broken".into(), message: "x".into() };
        let fill = |folder: &Path| {
            let mut writer = SpoolWriter::open(folder, &header()).unwrap();
            for (id, seed) in [("a", 1), ("b", 2)] {
                if !writer.knows(id) {
                    writer.add(&[sample(id, seed)]).unwrap();
                }
            }
            writer.refuse(vec![refusal()]).unwrap();
            writer.seal().unwrap();
        };
        let (whole, torn) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fill(whole.path());
        fill(torn.path());
        for (file, keep) in [(MANIFEST, cut_manifest), (REFUSED, cut_refused)] {
            let text = fs::read(torn.path().join(file)).unwrap();
            fs::write(torn.path().join(file), &text[..keep.min(text.len())]).unwrap();
        }
        if left {
            fs::write(torn.path().join("000007.safetensors.tmp"), b"half").unwrap();
            fs::write(torn.path().join("000009.safetensors"), b"without a line").unwrap();
        }
        fill(torn.path());
        let names = |folder: &Path| {
            let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name()).collect();
            names.sort();
            names
        };
        prop_assert_eq!(names(whole.path()), names(torn.path()));
        for name in names(whole.path()) {
            prop_assert!(fs::read(whole.path().join(&name)).unwrap() == fs::read(torn.path().join(&name)).unwrap(), "{:?}", name);
        }
    }
}
