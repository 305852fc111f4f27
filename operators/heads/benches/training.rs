//! Fits one head on samples from a formula and prints how much processor time that took; `benches/heads.py` runs it in turn with scikit-learn.
//!
//! Arguments: C, tolerance, rows, dimensions, file for the probabilities (32 bits, little end first).

use std::process::ExitCode;

use curette_heads::head::sigmoid;
use curette_heads::{logistic, synthetic};

/// Time that this thread was on a processor, in seconds: other processes do not count (Linux).
fn processor_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1e9
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let [c, tolerance, rows, dim, out] = arguments.as_slice() else { return ExitCode::SUCCESS };
    let number = |text: &str| text.parse::<f64>().unwrap_or(f64::NAN);
    let samples = synthetic::samples(number(rows) as usize, number(dim) as usize);
    let start = processor_seconds();
    let model = match logistic::fit(&samples, number(c), None, number(tolerance)) {
        Ok(model) => model,
        Err(_) => return ExitCode::FAILURE,
    };
    let seconds = processor_seconds() - start;
    let probabilities = samples.vectors().map(|x| {
        let z: f64 = x.iter().zip(&model.weight).map(|(x, w)| f64::from(*x) * w).sum::<f64>() + model.bias;
        sigmoid(z) as f32
    });
    let bytes: Vec<u8> = probabilities.flat_map(f32::to_le_bytes).collect();
    let report =
        format!("{{\"seconds\": {seconds}, \"iterations\": {}, \"gradient\": {:e}}}\n", model.iterations, model.gradient);
    let written = std::fs::write(out, bytes).and_then(|()| std::io::Write::write_all(&mut std::io::stdout(), report.as_bytes()));
    if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
