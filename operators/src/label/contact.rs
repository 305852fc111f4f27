//! Several frames as one picture, so that a clip can be judged at a glance.

use crate::media::Frame;

/// Frames side by side.
const ACROSS: usize = 3;

/// The frames in reading order, three in a row, each in the upper left of a cell as large as the largest; what is left is black. `None` without frames.
pub fn sheet_of(frames: &[Frame]) -> Option<Frame> {
    let (width, height) = (frames.iter().map(|f| f.width).max()? as usize, frames.iter().map(|f| f.height).max()? as usize);
    let (across, down) = (frames.len().min(ACROSS), frames.len().div_ceil(ACROSS));
    let stride = across * width * 3;
    let mut rgb = vec![0; stride * height * down];
    for (i, frame) in frames.iter().enumerate() {
        let bytes = frame.width as usize * 3;
        let left = i % ACROSS * width * 3;
        for (y, line) in frame.rgb.chunks_exact(bytes.max(1)).enumerate() {
            let at = (i / ACROSS * height + y) * stride + left;
            rgb[at..at + bytes].copy_from_slice(line);
        }
    }
    Some(Frame { pts_ns: frames.first()?.pts_ns, width: (across * width) as u32, height: (down * height) as u32, rgb })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(width: u32, height: u32, grey: u8) -> Frame {
        Frame { pts_ns: i64::from(grey), width, height, rgb: vec![grey; (width * height * 3) as usize] }
    }

    #[test]
    fn each_frame_stands_in_its_cell() {
        assert!(sheet_of(&[]).is_none());
        let frames: Vec<Frame> = (1..=5).map(|k| if k == 2 { frame(2, 4, k) } else { frame(4, 3, k) }).collect();
        let sheet = sheet_of(&frames).unwrap();
        assert_eq!((sheet.width, sheet.height, sheet.rgb.len(), sheet.pts_ns), (12, 8, 12 * 8 * 3, 1));
        let at = |x: usize, y: usize| sheet.rgb[(y * 12 + x) * 3];
        assert_eq!([at(0, 0), at(4, 3), at(8, 0), at(0, 4), at(7, 6)], [1, 2, 3, 4, 5]);
        assert_eq!([at(6, 0), at(0, 3), at(8, 4), at(0, 7)], [0; 4], "black where no frame is");
        let one = sheet_of(&frames[..1]).unwrap();
        assert_eq!((one.width, one.height), (4, 3));
    }
}
