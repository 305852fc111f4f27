//! The model: two modules whose low-rank change B A is to become a given matrix of low rank. Adam, in double precision.

use std::collections::BTreeMap;

/// Width of a module.
pub const WIDTH: usize = 8;
/// Modules.
pub const MODULES: usize = 2;
/// Rank of what is to be learned.
const TRUE_RANK: usize = 2;
/// How much a sample differs from the others.
const NOISE: f64 = 0.01;

/// Numbers from -1 to 1 that depend on a word alone.
pub struct Random(u64);

impl Random {
    pub fn new(word: &str) -> Random {
        Random(word.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)) | 1)
    }
    pub fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    }
    fn many(&mut self, count: usize) -> Vec<f64> {
        (0..count).map(|_| self.next()).collect()
    }
}

/// `left` of `rows` × `inner` times `right` of `inner` × `columns`.
fn product(left: &[f64], right: &[f64], inner: usize, columns: usize) -> Vec<f64> {
    let row = |row: &[f64]| -> Vec<f64> {
        (0..columns).map(|c| row.iter().enumerate().map(|(k, v)| v * right[k * columns + c]).sum()).collect()
    };
    left.chunks(inner).flat_map(row).collect()
}

fn turned(matrix: &[f64], columns: usize) -> Vec<f64> {
    (0..columns).flat_map(|c| matrix.iter().skip(c).step_by(columns).copied().collect::<Vec<_>>()).collect()
}

/// Parameters with their moments, by name, and the step.
pub struct Model {
    pub rank: usize,
    pub tensors: BTreeMap<String, Vec<f64>>,
    truth: Vec<Vec<f64>>,
}

pub fn name(module: usize, letter: &str) -> String {
    format!("transformer.transformer_blocks.{module}.attn.to_q.lora_{letter}.weight")
}

impl Model {
    pub fn new(rank: usize, seed: u64) -> Model {
        let mut random = Random::new(&format!("start {seed}"));
        let (mut tensors, mut truth) = (BTreeMap::new(), Vec::new());
        for module in 0..MODULES {
            let a: Vec<f64> = random.many(rank * WIDTH).iter().map(|v| v * 0.5).collect();
            tensors.insert(name(module, "A"), a);
            tensors.insert(name(module, "B"), vec![0.0; WIDTH * rank]);
            let mut fixed = Random::new(&format!("truth {module}"));
            truth.push(product(&fixed.many(WIDTH * TRUE_RANK), &fixed.many(TRUE_RANK * WIDTH), TRUE_RANK, WIDTH));
        }
        let names: Vec<String> = tensors.keys().cloned().collect();
        for name in names {
            for moment in ["m", "v"] {
                tensors.insert(format!("{moment}.{name}"), vec![0.0; rank * WIDTH]);
            }
            tensors.insert(format!("ema.{name}"), tensors[&name].clone());
        }
        Model { rank, tensors, truth }
    }

    fn wanted(&self, module: usize, samples: &[&str]) -> Vec<f64> {
        let mut wanted = self.truth[module].clone();
        for sample in samples {
            let mut random = Random::new(&format!("{module} {sample}"));
            for value in &mut wanted {
                *value += NOISE * random.next() / samples.len() as f64;
            }
        }
        wanted
    }

    /// Loss on these samples, with the adapter (or without).
    pub fn loss(&self, samples: &[&str], adapter: bool) -> f64 {
        let of = |module: usize| {
            let wanted = self.wanted(module, samples);
            let has = match adapter {
                true => product(&self.tensors[&name(module, "B")], &self.tensors[&name(module, "A")], self.rank, WIDTH),
                false => vec![0.0; WIDTH * WIDTH],
            };
            has.iter().zip(&wanted).map(|(h, w)| (h - w).powi(2)).sum::<f64>()
        };
        (0..MODULES).map(of).sum::<f64>() / (MODULES * WIDTH * WIDTH) as f64
    }

    /// One step of Adam.
    pub fn step(&mut self, samples: &[&str], step: u64, rate: f64, train_b: bool, ema: Option<f64>) {
        for module in 0..MODULES {
            let (a, b) = (self.tensors[&name(module, "A")].clone(), self.tensors[&name(module, "B")].clone());
            let wanted = self.wanted(module, samples);
            let scale = 2.0 / (MODULES * WIDTH * WIDTH) as f64;
            let error: Vec<f64> = product(&b, &a, self.rank, WIDTH).iter().zip(&wanted).map(|(h, w)| scale * (h - w)).collect();
            let for_a = product(&turned(&b, self.rank), &error, WIDTH, WIDTH);
            let for_b = product(&error, &turned(&a, WIDTH), WIDTH, self.rank);
            self.adam(&name(module, "A"), &for_a, step, rate, ema);
            if train_b {
                self.adam(&name(module, "B"), &for_b, step, rate, ema);
            }
        }
    }

    fn adam(&mut self, name: &str, gradient: &[f64], step: u64, rate: f64, ema: Option<f64>) {
        let t = i32::try_from(step).unwrap_or(i32::MAX);
        let (m, v) = (format!("m.{name}"), format!("v.{name}"));
        for (i, g) in gradient.iter().enumerate() {
            let mut blend = |key: &str, keep: f64, new: f64| {
                let slot = self.tensors.get_mut(key).map(|t| &mut t[i]);
                slot.map_or(0.0, |slot| {
                    *slot = keep * *slot + (1.0 - keep) * new;
                    *slot
                })
            };
            let first = blend(&m, 0.9, *g) / (1.0 - 0.9_f64.powi(t));
            let second = blend(&v, 0.999, g * g) / (1.0 - 0.999_f64.powi(t));
            if let Some(values) = self.tensors.get_mut(name) {
                values[i] -= rate * first / (second.sqrt() + 1e-8);
            }
        }
        if let Some(decay) = ema {
            let now = self.tensors[name].clone();
            for (average, value) in self.tensors.get_mut(&format!("ema.{name}")).into_iter().flatten().zip(now) {
                *average = decay * *average + (1.0 - decay) * value;
            }
        }
    }
}
