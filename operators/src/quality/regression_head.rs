//! A head that gives a number, not a class ([`Head`] of kind `regression`), found by a manifest's name or a path. What can go wrong: another kind of head, or
//! one that cannot be read; both are messages that say what was found.

use std::path::{Path, PathBuf};

use curette_heads::Head;
use curette_heads::head::Kind;
use curette_models::manifest::Score;
use curette_models::{ErrorKind, FileRole, ModelError, ModelRef, Models};

use crate::models::identity;

/// A head.
pub struct RegressionHead {
    /// The head itself.
    pub head: Head,
    /// What names it in outputs.
    pub identity: String,
    /// What its number means, where a manifest says it.
    pub score: Option<Score>,
}

impl RegressionHead {
    /// The head that a key names: a manifest's name or path (`kind = "head"`), or a `.safetensors` file.
    pub fn open(models: &Models, text: &str, base: &Path) -> Result<Self, ModelError> {
        let (path, identity, score): (PathBuf, String, Option<Score>) = if text.ends_with(".safetensors") {
            let path = base.join(text);
            let name = path.file_stem().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            let (sha256, _) = curette_models::store::hash_file(&path)?;
            (path, identity(&name, "unversioned", &sha256), None)
        } else {
            let located = models.find(&ModelRef::parse(text, base))?;
            located.verify()?;
            let name = identity(&located.manifest.name, &located.manifest.version, &located.sha256(FileRole::Head)?);
            (located.require(FileRole::Head)?.to_owned(), name, located.manifest.score.clone())
        };
        let wrong = |what: String| {
            ModelError::new(ErrorKind::Manifest, what).help("LAION's predictor becomes one with `curette head import-laion`")
        };
        let (head, _) = Head::load(&path).map_err(|e| wrong(e.to_string()))?;
        if head.kind != Kind::Regression {
            let what = format!("head {}: is of kind `{}`, a `regression` head is needed", path.display(), head.kind.name());
            return Err(wrong(what));
        }
        Ok(RegressionHead { head, identity, score })
    }
}

#[cfg(test)]
mod tests {
    use curette_heads::{Encoder, laion};
    use curette_models::Settings;

    use super::*;

    fn open(folder: &Path, name: &str) -> Result<RegressionHead, ModelError> {
        RegressionHead::open(&Models::new(Settings::from_environment()), name, folder)
    }

    /// What `curette head import-laion` makes of five layers whose product 32 bits cannot hold.
    #[test]
    fn an_imported_predictor_is_a_head_for_aesthetic() {
        let dir = tempfile::tempdir().unwrap();
        let tensor = |name: &str, shape: &str, from: usize, to: usize| {
            format!("\"{name}\":{{\"dtype\":\"F32\",\"shape\":{shape},\"data_offsets\":[{from},{to}]}}")
        };
        let mut parts = vec![
            tensor("layers.0.weight", "[2,2]", 0, 16),
            tensor("layers.0.bias", "[2]", 16, 24),
            tensor("layers.2.weight", "[1,2]", 24, 32),
            tensor("layers.2.bias", "[1]", 32, 36),
        ];
        // The others change nothing.
        for (i, number) in [4, 6, 7].into_iter().enumerate() {
            parts.push(tensor(&format!("layers.{number}.weight"), "[1,1]", 36 + 8 * i, 40 + 8 * i));
            parts.push(tensor(&format!("layers.{number}.bias"), "[1]", 40 + 8 * i, 44 + 8 * i));
        }
        let header = format!("{{{}}}", parts.join(","));
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        let values = [0.1f32, 0.2, 0.3, 0.4, 0.0, 1.0, 0.7, 0.9, 5.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0];
        values.iter().for_each(|v| bytes.extend_from_slice(&v.to_le_bytes()));
        let encoder: Encoder = format!("clip@sha256:{}", "ab".repeat(32)).parse().unwrap();
        let head = laion::import(&bytes, encoder).unwrap();
        std::fs::write(dir.path().join("laion.safetensors"), head.to_bytes()).unwrap();
        let opened = open(dir.path(), "laion.safetensors").unwrap();
        assert!(opened.identity.starts_with("laion@unversioned#"));
        // 0.7 (0.1 x + 0.2 y) + 0.9 (0.3 x + 0.4 y + 1) + 5, at length 1.
        for (vector, want) in [([2.0, 0.0], 0.34 + 5.9), ([0.0, 0.5], 0.5 + 5.9), ([0.0, 0.0], 5.9)] {
            assert!((opened.head.logits(&vector)[0] - want).abs() < 1e-6, "{vector:?}");
        }
    }

    #[test]
    fn another_kind_of_head_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let classes = ["no".into(), "yes".into()];
        let head = Head::linear(vec![1.0, 2.0], 0.0, Encoder::built_in("clip"), classes);
        std::fs::write(dir.path().join("a.safetensors"), head.to_bytes()).unwrap();
        std::fs::write(dir.path().join("b.safetensors"), "").unwrap();
        let said = |name: &str| open(dir.path(), name).err().unwrap().message;
        assert!(said("a.safetensors").contains("`linear`, a `regression` head is needed"));
        assert!(said("b.safetensors").contains("is empty"));
        assert!(said("none.safetensors").contains("none.safetensors"));
    }
}
