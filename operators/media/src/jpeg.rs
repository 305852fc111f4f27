//! JPEG of a frame, for captioning services; PNG for eyes.

use image::ExtendedColorType;
use image::ImageEncoder;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;

use super::{Frame, MediaError};

/// Baseline JPEG; `quality` from 1 to 100. The same frame gives the same bytes.
pub fn to_jpeg(frame: &Frame, quality: u8) -> Result<Vec<u8>, MediaError> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, quality.clamp(1, 100))
        .encode(&frame.rgb, frame.width, frame.height, ExtendedColorType::Rgb8)
        .map_err(|e| failed(frame, "a JPEG", &e))?;
    Ok(bytes)
}

/// PNG, without loss.
pub fn to_png(frame: &Frame) -> Result<Vec<u8>, MediaError> {
    let mut bytes = Vec::new();
    PngEncoder::new(&mut bytes)
        .write_image(&frame.rgb, frame.width, frame.height, ExtendedColorType::Rgb8)
        .map_err(|e| failed(frame, "a PNG", &e))?;
    Ok(bytes)
}

fn failed(frame: &Frame, what: &str, why: &image::ImageError) -> MediaError {
    MediaError::new("encode_failed", format!("a frame of {}x{} cannot become {what}: {why}", frame.width, frame.height))
}
