//! Ranges of numbers, from a JSON Schema and from the machine type behind it, and how they are told.

use serde_json::Value;
use toml::de::DeValue;

/// `None`: too large for any machine type, or not a number at all (`nan`).
pub(super) fn number(value: &DeValue<'_>) -> Option<f64> {
    match value {
        DeValue::Integer(i) => i128::from_str_radix(i.as_str(), i.radix()).ok().map(|n| n as f64),
        DeValue::Float(f) => f.as_str().parse().ok().filter(|n: &f64| n.is_finite()),
        _ => None,
    }
}

/// The range of a number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    min: Option<f64>,
    max: Option<f64>,
    above: Option<f64>,
    below: Option<f64>,
}

impl Bounds {
    /// What the schema says, and where it says nothing what fits the machine type.
    pub fn of(schema: &Value) -> Bounds {
        let key = |name| schema.get(name).and_then(Value::as_f64);
        let format = Bounds::of_format(schema);
        let (above, below) = (key("exclusiveMinimum"), key("exclusiveMaximum"));
        Bounds {
            min: key("minimum").or(if above.is_none() { format.min } else { None }),
            max: key("maximum").or(if below.is_none() { format.max } else { None }),
            above,
            below,
        }
    }

    /// What fits the machine type.
    pub fn of_format(schema: &Value) -> Bounds {
        let (min, max) = match schema.get("format").and_then(Value::as_str).unwrap_or_default() {
            "int8" => (f64::from(i8::MIN), f64::from(i8::MAX)),
            "int16" => (f64::from(i16::MIN), f64::from(i16::MAX)),
            "int32" => (f64::from(i32::MIN), f64::from(i32::MAX)),
            "int64" | "int" => (i64::MIN as f64, i64::MAX as f64),
            "uint8" => (0.0, f64::from(u8::MAX)),
            "uint16" => (0.0, f64::from(u16::MAX)),
            "uint32" => (0.0, f64::from(u32::MAX)),
            // TOML's own integers end at i64::MAX.
            "uint64" | "uint" => (0.0, i64::MAX as f64),
            _ => (f64::MIN, f64::MAX),
        };
        Bounds { min: Some(min), max: Some(max), above: None, below: None }
    }

    /// True if nothing but the machine type limits it.
    pub fn is_open(&self) -> bool {
        let wide = |v: Option<f64>| v.is_none_or(|v| v.abs() >= i64::MAX as f64);
        wide(self.max) && self.above.is_none() && self.below.is_none() && (wide(self.min) || self.min == Some(0.0))
    }

    /// True if the number is inside.
    pub fn holds(&self, n: f64) -> bool {
        self.min.is_none_or(|m| n >= m)
            && self.max.is_none_or(|m| n <= m)
            && self.above.is_none_or(|m| n > m)
            && self.below.is_none_or(|m| n < m)
    }
}

impl std::fmt::Display for Bounds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let wide = |v: f64| v.abs() >= i64::MAX as f64;
        let low = self.min.filter(|v| !wide(*v)).map(|v| (v, "at least"));
        let low = low.or(self.above.map(|v| (v, "more than")));
        let high = self.max.filter(|v| !wide(*v)).map(|v| (v, "at most"));
        let high = high.or(self.below.map(|v| (v, "less than")));
        match (low, high) {
            (Some((a, "at least")), Some((b, "at most"))) => write!(f, "between {a} and {b}"),
            (Some((a, low)), Some((b, high))) => write!(f, "{low} {a} and {high} {b}"),
            (Some((a, words)), None) | (None, Some((a, words))) => write!(f, "{words} {a}"),
            (None, None) => f.write_str("a finite number"),
        }
    }
}
