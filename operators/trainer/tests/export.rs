//! What is exported, byte for byte, and read back.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use curette_trainer::Architecture;
use curette_trainer::disk::sha256;
use curette_trainer::export::{ExportClip, Target, export_clips, export_spool};
use curette_trainer::job::Shape;
use curette_trainer::rules::ClipFacts;
use curette_trainer::spool::{Header, OwnedTensor, Sample, SampleInfo, Spool, SpoolWriter};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use safetensors::{Dtype, SafeTensors};

fn clip(id: &str, frames: u64) -> ExportClip {
    ExportClip {
        id: id.into(),
        caption: format!("A \"hand\" of\n{id}"),
        bytes: format!("the mp4 of {id}").into_bytes(),
        missing: None,
        facts: ClipFacts { frames: Some(frames), height: Some(480), width: Some(720), fps: Some(24.0) },
        duration_s: Some(frames as f64 / 24.0),
    }
}

fn spool(folder: &Path) -> Spool {
    let shape = Shape { frames: 5, height: 16, width: 32, fps: 24.0 };
    let header = Header { architecture: Architecture::Hunyuan, encoder: "test".into(), shape };
    let mut writer = SpoolWriter::open(folder, &header).unwrap();
    let numbers = |count: usize| (0..count).flat_map(|i| half::bf16::from_f32(i as f32 / 4.0).to_le_bytes()).collect::<Vec<u8>>();
    let tensor =
        |shape: &[usize]| OwnedTensor { dtype: Dtype::BF16, shape: shape.to_vec(), bytes: numbers(shape.iter().product()) };
    let mask: Vec<u8> = [1_i64, 1, 1, 0].iter().flat_map(|v| v.to_le_bytes()).collect();
    let sample = |id: &str| Sample {
        info: SampleInfo { id: id.into(), caption: format!("about {id}"), frames: 5, height: 16, width: 32, fps: 24.0 },
        tensors: BTreeMap::from([
            ("latent".to_owned(), tensor(&[16, 2, 2, 4])),
            ("embed".to_owned(), tensor(&[3, 8])),
            ("mask".to_owned(), OwnedTensor { dtype: Dtype::I64, shape: vec![4], bytes: mask.clone() }),
            ("pooled".to_owned(), tensor(&[6])),
        ]),
    };
    writer.add(&[sample("a/b.mp4"), sample("c")]).unwrap();
    writer.seal().unwrap();
    Spool::open(folder).unwrap()
}

/// Every file with its size and hash, and what is in it where that is text.
fn listing(folder: &Path) -> String {
    fn walk(folder: &Path, root: &Path, out: &mut BTreeMap<String, Vec<u8>>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => walk(&path, root, out),
                false => drop(out.insert(path.strip_prefix(root).unwrap().display().to_string(), std::fs::read(&path).unwrap())),
            }
        }
    }
    let mut files = BTreeMap::new();
    walk(folder, folder, &mut files);
    let mut out = String::new();
    for (name, bytes) in files {
        out.push_str(&format!("{name}  {} bytes  {}\n", bytes.len(), sha256(&bytes)));
        if ["json", "jsonl", "toml", "txt"].iter().any(|e| name.ends_with(&format!(".{e}"))) {
            out.push_str(&format!("{}\n", String::from_utf8(bytes).unwrap()));
        }
    }
    out
}

#[test]
fn clips_in_every_form_byte_for_byte() {
    for (target, name) in Target::ALL {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let mute = ExportClip { caption: " ".into(), ..clip("mute", 100) };
        let clips = [clip("v1#0.mp4", 96), mute, clip("v2", 200)];
        let report = export_clips(target, clips.into_iter().map(Ok), &out).unwrap();
        assert_eq!(
            (report.exported, report.left_out_why.as_slice()),
            (2, &["`mute`: it has no caption".to_owned()][..]),
            "{name}"
        );
        insta::assert_snapshot!(format!("clips-{name}"), format!("{}{:?}", listing(&out), report.warnings));
        let again = export_clips(target, [clip("x", 93)].into_iter().map(Ok), &out).unwrap_err();
        assert!(again.0.contains("is there already"), "{again}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing half-made is left");
    }
}

#[test]
fn a_failed_export_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let fail = |clips: Vec<ExportClip>| export_clips(Target::Hf, clips.into_iter().map(Ok), &out).unwrap_err().0;
    assert!(fail(vec![clip("a", 93), clip("a", 93)]).contains("two clips are called `a`"));
    assert!(fail(vec![ExportClip { duration_s: None, ..clip("a", 93) }]).contains("`a`: its duration is not known"));
    assert!(fail(vec![]).starts_with("there is no clip to export"));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn spools_for_those_that_read_them_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let spool = spool(&folder.path().join("spool"));
    for (target, name) in Target::ALL {
        let out = folder.path().join(name);
        let done = export_spool(target, &spool, &out);
        match target {
            Target::FastvideoV0 | Target::Musubi => {
                assert_eq!(done.unwrap().exported, 2);
                insta::assert_snapshot!(format!("spool-{name}"), listing(&out));
            }
            // Parquet names the version of its writer: read back below.
            Target::Fastvideo => assert_eq!(done.unwrap().exported, 2),
            _ => assert!(done.unwrap_err().0.contains("has no form for encoded ones")),
        }
    }
    let path = folder.path().join("musubi/a~2fb~2emp4_00000-005_0032x0016_hv.safetensors");
    let bytes = std::fs::read(path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let latent = tensors.tensor("latents_2x2x4_bfloat16").unwrap();
    let samples = spool.shard(&spool.manifest.shards[0]).unwrap();
    assert_eq!((latent.shape(), latent.data()), (&[16, 2, 2, 4][..], &samples[0].tensors["latent"].bytes[..]));
    let text = std::fs::read(folder.path().join("musubi/c_hv_te.safetensors")).unwrap();
    let text = SafeTensors::deserialize(&text).unwrap();
    assert_eq!(text.tensor("llm_bfloat16").unwrap().shape(), [4, 8], "filled up to the mask");

    let file = std::fs::File::open(folder.path().join("fastvideo/data_000000.parquet")).unwrap();
    let batch = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap().next().unwrap().unwrap();
    assert_eq!(batch.num_rows(), 2);
    let column = |name: &str| batch.column_by_name(name).unwrap();
    assert_eq!(column("id").as_string::<i32>().value(0), "a/b.mp4");
    assert_eq!(column("vae_latent_shape").as_list::<i32>().value(1).as_primitive::<Int64Type>().values(), &[16, 2, 2, 4]);
    let floats: Vec<f32> = column("vae_latent_bytes")
        .as_binary::<i32>()
        .value(0)
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
        .collect();
    let wanted: Vec<f32> = (0..256).map(|i| half::bf16::from_f32(i as f32 / 4.0).to_f32()).collect();
    assert_eq!(floats, wanted, "float32, whatever was stored");
}

/// The zip holds the numbers where a reader that maps the file wants them.
#[test]
fn torch_files_are_zips_with_aligned_numbers() {
    let tensor = OwnedTensor { dtype: Dtype::F32, shape: vec![2, 3], bytes: (0..24).collect() };
    let bytes = curette_trainer::export::torch_file::torch_file(&tensor).unwrap();
    let mut zip = zip::ZipArchive::new(std::io::Cursor::new(&bytes)).unwrap();
    let names: Vec<String> = zip.file_names().map(|name| name.unwrap().into_owned()).collect();
    assert_eq!(names, ["archive/data.pkl", "archive/byteorder", "archive/data/0", "archive/version"]);
    let mut read = Vec::new();
    std::io::Read::read_to_end(&mut zip.by_name("archive/data/0").unwrap(), &mut read).unwrap();
    assert_eq!(read, tensor.bytes);
    let start = bytes.windows(24).position(|w| w == tensor.bytes).unwrap();
    assert_eq!(start % 64, 0);
    let other = OwnedTensor { dtype: Dtype::I8, ..tensor };
    assert!(curette_trainer::export::torch_file::torch_file(&other).is_err());
}
