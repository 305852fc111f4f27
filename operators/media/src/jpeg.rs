//! JPEG of a frame, for captioning services.

use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;

use super::{Frame, MediaError};

/// Baseline JPEG; `quality` from 1 to 100. The same frame gives the same bytes.
pub fn to_jpeg(frame: &Frame, quality: u8) -> Result<Vec<u8>, MediaError> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, quality.clamp(1, 100))
        .encode(&frame.rgb, frame.width, frame.height, ExtendedColorType::Rgb8)
        .map_err(|e| {
            MediaError::new("encode_failed", format!("a frame of {}x{} cannot become a JPEG: {e}", frame.width, frame.height))
        })?;
    Ok(bytes)
}
