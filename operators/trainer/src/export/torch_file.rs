//! A file of `torch.save` with one tensor, readable with `weights_only=True`.
//!
//! It is a zip without compression: `data.pkl` says how to build the tensor (pickle, protocol 2), `data/0` holds its numbers. No Python code is in
//! it, only the two functions that the safe reader knows. Times in the zip are fixed, so equal tensors are equal files.

use std::io::{Cursor, Write};

use safetensors::Dtype;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use crate::disk::{Result, TrainerError};
use crate::spool::OwnedTensor;

/// Numbers begin at a multiple of this in the file, as readers that map it want.
const ALIGNMENT: u16 = 64;

/// The file's bytes.
pub fn torch_file(tensor: &OwnedTensor) -> Result<Vec<u8>> {
    let pickle = pickle(tensor)?;
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(DateTime::default())
        .with_alignment(ALIGNMENT);
    let parts: [(&str, &[u8]); 4] = [
        ("archive/data.pkl", &pickle),
        ("archive/byteorder", b"little"),
        ("archive/data/0", &tensor.bytes),
        ("archive/version", b"3\n"),
    ];
    let failed = |e: &dyn std::fmt::Display| TrainerError(format!("cannot make a file of a tensor: {e}"));
    for (name, bytes) in parts {
        zip.start_file(name, options).map_err(|e| failed(&e))?;
        zip.write_all(bytes).map_err(|e| failed(&e))?;
    }
    Ok(zip.finish().map_err(|e| failed(&e))?.into_inner())
}

fn pickle(tensor: &OwnedTensor) -> Result<Vec<u8>> {
    let storage = match tensor.dtype {
        Dtype::F32 => "FloatStorage",
        Dtype::F64 => "DoubleStorage",
        Dtype::F16 => "HalfStorage",
        Dtype::BF16 => "BFloat16Storage",
        Dtype::I64 => "LongStorage",
        Dtype::I32 => "IntStorage",
        Dtype::U8 => "ByteStorage",
        Dtype::BOOL => "BoolStorage",
        other => return Err(TrainerError(format!("torch files of {other:?} are not known here"))),
    };
    let mut out = vec![0x80, 2];
    let global = |out: &mut Vec<u8>, module: &str, name: &str| out.extend(format!("c{module}\n{name}\n").bytes());
    let text = |out: &mut Vec<u8>, text: &str| {
        out.push(b'X');
        out.extend((text.len() as u32).to_le_bytes());
        out.extend(text.bytes());
    };
    let number = |out: &mut Vec<u8>, value: usize| -> Result<()> {
        let value = i32::try_from(value).map_err(|_| TrainerError::new("a tensor is too large for a torch file"))?;
        out.push(b'J');
        out.extend(value.to_le_bytes());
        Ok(())
    };
    let mut strides = vec![1; tensor.shape.len()];
    for side in (1..tensor.shape.len()).rev() {
        strides[side - 1] = strides[side] * tensor.shape[side];
    }
    global(&mut out, "torch._utils", "_rebuild_tensor_v2");
    out.extend(b"((");
    text(&mut out, "storage");
    global(&mut out, "torch", storage);
    text(&mut out, "0");
    text(&mut out, "cpu");
    number(&mut out, tensor.shape.iter().product())?;
    // The storage by its key, then the offset, the sides and the strides.
    out.extend(b"tQ");
    number(&mut out, 0)?;
    for sides in [&tensor.shape, &strides] {
        out.push(b'(');
        for side in sides {
            number(&mut out, *side)?;
        }
        out.push(b't');
    }
    // No gradient, no hooks.
    out.push(0x89);
    global(&mut out, "collections", "OrderedDict");
    out.extend(b")RtR.");
    Ok(out)
}
