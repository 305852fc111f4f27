//! The boxes that an mp4 is made of: a length, a name, a content.

/// The matrix that leaves a picture as it is.
pub(super) const UNTURNED: [u8; 36] =
    [0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x40, 0, 0, 0];

/// Boxes one after the other.
#[derive(Default)]
pub(super) struct Boxes {
    pub bytes: Vec<u8>,
}

impl Boxes {
    /// A box with this content.
    pub fn leaf(&mut self, name: &[u8; 4], body: &[u8]) {
        self.bytes.extend((body.len() as u32 + 8).to_be_bytes());
        self.bytes.extend(name);
        self.bytes.extend(body);
    }

    /// A box of boxes.
    pub fn nested(&mut self, name: &[u8; 4], fill: impl FnOnce(&mut Boxes)) {
        self.after(name, &[], fill);
    }

    /// A box of boxes that follow some fields.
    pub fn after(&mut self, name: &[u8; 4], fields: &[u8], fill: impl FnOnce(&mut Boxes)) {
        let mut inner = Boxes { bytes: fields.to_vec() };
        fill(&mut inner);
        self.leaf(name, &inner.bytes);
    }
}

/// A content that begins with a version and flags.
pub(super) fn full(version: u8, flags: u32, body: &[u8]) -> Vec<u8> {
    [&(u32::from(version) << 24 | flags).to_be_bytes()[..], body].concat()
}

/// A descriptor of MPEG-4 systems: tag, length of at most 127, content.
pub(super) fn descriptor(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag, body.len().min(127) as u8][..], body].concat()
}
