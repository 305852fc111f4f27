//! How a pipeline names a model: by a manifest's name, or by the path of a manifest or of an ONNX file.

use std::path::{Path, PathBuf};

/// A model as named in TOML.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ModelRef {
    /// The name in a manifest, such as `clip-vit-b32`.
    Name(String),
    /// A manifest file (`.toml`).
    Manifest(PathBuf),
    /// A bare graph (`.onnx`): no licence, no contract; its inputs and outputs are taken as they are.
    Onnx(PathBuf),
}

impl ModelRef {
    /// Text that ends in `.toml` or `.onnx` is a path (relative ones start at `base`); everything else is a name.
    pub fn parse(text: &str, base: &Path) -> Self {
        match Path::new(text).extension().and_then(|e| e.to_str()) {
            Some("toml") => ModelRef::Manifest(base.join(text)),
            Some("onnx") => ModelRef::Onnx(base.join(text)),
            _ => ModelRef::Name(text.to_owned()),
        }
    }
}

impl std::fmt::Display for ModelRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ModelRef::Name(name) => f.write_str(name),
            ModelRef::Manifest(path) | ModelRef::Onnx(path) => write!(f, "{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_known_by_their_ending() {
        let base = Path::new("/p");
        assert_eq!(ModelRef::parse("clip-vit-b32", base), ModelRef::Name("clip-vit-b32".into()));
        assert_eq!(ModelRef::parse("m/x.onnx", base), ModelRef::Onnx("/p/m/x.onnx".into()));
        assert_eq!(ModelRef::parse("/a/x.toml", base), ModelRef::Manifest("/a/x.toml".into()));
        assert_eq!(ModelRef::parse("v1.2", base), ModelRef::Name("v1.2".into()));
    }
}
