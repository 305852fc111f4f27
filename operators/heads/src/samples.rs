//! Labelled embeddings.

/// Labelled embeddings of two classes, each of a group that must stay together (a video, a channel).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Samples {
    /// Width of the embeddings.
    pub dim: usize,
    /// Embeddings at length 1, one after the other.
    pub values: Vec<f32>,
    /// The label of each.
    pub positive: Vec<bool>,
    /// The group of each, as an index into `groups`.
    pub group_of: Vec<usize>,
    /// Names of the groups.
    pub groups: Vec<String>,
}

impl Samples {
    /// How many.
    pub fn len(&self) -> usize {
        self.positive.len()
    }

    /// True without any.
    pub fn is_empty(&self) -> bool {
        self.positive.is_empty()
    }

    /// The embeddings.
    pub fn vectors(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.dim.max(1))
    }

    /// How many have this label.
    pub fn count(&self, positive: bool) -> usize {
        self.positive.iter().filter(|p| **p == positive).count()
    }

    /// Those whose index is wanted.
    pub fn select(&self, wanted: impl Fn(usize) -> bool) -> Samples {
        let mut out = Samples { dim: self.dim, groups: self.groups.clone(), ..Samples::default() };
        for (i, vector) in self.vectors().enumerate().filter(|(i, _)| wanted(*i)) {
            out.values.extend_from_slice(vector);
            out.positive.push(self.positive[i]);
            out.group_of.push(self.group_of[i]);
        }
        out
    }

    /// Hash of embeddings, labels and groups.
    pub fn blake3(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        self.values.iter().for_each(|v| {
            hasher.update(&v.to_le_bytes());
        });
        for (positive, group) in self.positive.iter().zip(&self.group_of) {
            hasher.update(&[u8::from(*positive)]).update(self.groups[*group].as_bytes()).update(b"\0");
        }
        hasher.finalize().to_hex().to_string()
    }

    /// Appends a labelled embedding, brought to length 1 (a zero vector stays). `Err` says why it cannot be used.
    pub fn push(&mut self, vector: &[f32], positive: bool, group: usize) -> Result<(), String> {
        if self.dim == 0 {
            self.dim = vector.len();
        }
        if vector.is_empty() || vector.len() != self.dim {
            return Err(format!("has {} dimensions, others have {}", vector.len(), self.dim));
        }
        if let Some(i) = vector.iter().position(|v| !v.is_finite()) {
            return Err(format!("has {} at dimension {i}", vector[i]));
        }
        let length = vector.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>().sqrt();
        let length = if length > 0.0 { length } else { 1.0 };
        self.values.extend(vector.iter().map(|v| (f64::from(*v) / length) as f32));
        self.positive.push(positive);
        self.group_of.push(group);
        Ok(())
    }
}
