//! One ONNX Runtime session, checked against its manifest when it is opened.
//!
//! What can go wrong: `ort` lets a session run only through `&mut`, and means it: concurrent runs crash some providers. A session therefore has one
//! owner at a time ([`crate::service`] lends them out).

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ort::ep::{self, ExecutionProviderDispatch};
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{RunOptions, SessionInputValue};
use ort::value::{TensorElementType, TensorRef, ValueType};

use crate::library::{Library, available};
use crate::manifest::{Contract, Dim, Dtype, Port};
use crate::settings::{Provider, RunSettings};
use crate::{ErrorKind, ModelError, Result, Tensor};

/// How often a call looks whether the run is being stopped.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A session and the order of its ports.
pub struct Session {
    session: ort::session::Session,
    contract: Arc<Contract>,
    model: String,
    /// Ends the call in progress when its flag is set from another thread.
    stop: RunOptions,
}

impl Session {
    /// Opens a graph and compares it with the contract; without one the graph's own ports are the contract.
    pub fn open(library: &Library, model: &str, graph: &Path, contract: Option<&Contract>, run: &RunSettings) -> Result<Session> {
        let session = build(library, model, graph, run)?;
        let has = Contract { opset: None, inputs: ports(model, session.inputs())?, outputs: ports(model, session.outputs())? };
        let contract = match contract {
            Some(wanted) => {
                let mistakes = differences(wanted, &has);
                if !mistakes.is_empty() {
                    let message = format!("the graph of model `{model}` is not what its manifest says: {}", mistakes.join("; "));
                    return Err(ModelError::new(ErrorKind::Contract, message)
                        .help(format!("another model is at {}, or the manifest is wrong", graph.display())));
                }
                wanted.clone()
            }
            None => has,
        };
        if let Some(port) = contract.inputs.iter().chain(&contract.outputs).find(|p| !matches!(p.dtype, Dtype::F32 | Dtype::I64))
        {
            let message = format!("`{}` of model `{model}` is {:?}; only f32 and i64 are supported", port.name, port.dtype);
            return Err(
                ModelError::new(ErrorKind::Contract, message).help("convert it so that inputs and outputs are f32 or i64")
            );
        }
        let stop = RunOptions::new().map_err(|e| failed(model, &e))?;
        Ok(Session { session, contract: Arc::new(contract), model: model.to_owned(), stop })
    }

    /// What goes in and out.
    pub fn contract(&self) -> &Arc<Contract> {
        &self.contract
    }

    /// A value of the graph's metadata, such as the character table of a text recogniser.
    pub fn metadata(&self, key: &str) -> Option<String> {
        self.session.metadata().ok()?.custom(key)
    }

    /// Runs. Inputs and outputs are in the contract's order; output values must all be finite.
    pub fn run(&mut self, inputs: &[Tensor], cancelled: Option<&AtomicBool>) -> Result<Vec<Tensor>> {
        check_inputs(&self.model, &self.contract, inputs)?;
        if cancelled.is_some_and(|c| c.load(Ordering::Relaxed)) {
            return Err(stopped(&self.model));
        }
        let mut named: Vec<(&str, SessionInputValue<'_>)> = Vec::with_capacity(inputs.len());
        for (port, tensor) in self.contract.inputs.iter().zip(inputs) {
            let value: SessionInputValue<'_> = match tensor {
                Tensor::F32(a) => TensorRef::from_array_view(a).map_err(|e| failed(&self.model, &e))?.into(),
                Tensor::I64(a) => TensorRef::from_array_view(a).map_err(|e| failed(&self.model, &e))?.into(),
            };
            named.push((&port.name, value));
        }
        self.stop.unterminate().map_err(|e| failed(&self.model, &e))?;
        let outputs = match watched(&self.stop, cancelled, || self.session.run_with_options(named, &self.stop)) {
            Ok(outputs) => outputs,
            Err(_) if cancelled.is_some_and(|c| c.load(Ordering::Relaxed)) => return Err(stopped(&self.model)),
            Err(e) => return Err(failed(&self.model, &e)),
        };
        let mut out = Vec::with_capacity(self.contract.outputs.len());
        for port in &self.contract.outputs {
            let value = outputs.get(&port.name).ok_or_else(|| {
                ModelError::new(ErrorKind::Run, format!("model `{}` gave no output `{}`", self.model, port.name))
            })?;
            let tensor = match port.dtype {
                Dtype::I64 => Tensor::I64(value.try_extract_array::<i64>().map_err(|e| failed(&self.model, &e))?.to_owned()),
                _ => Tensor::F32(value.try_extract_array::<f32>().map_err(|e| failed(&self.model, &e))?.to_owned()),
            };
            if tensor.as_f32().is_some_and(|a| a.iter().any(|v| !v.is_finite())) {
                let message = format!("output `{}` of model `{}` has NaN or infinite values", port.name, self.model);
                return Err(ModelError::new(ErrorKind::NotFinite, message)
                    .help("the weights may be damaged (`curette models verify`), or the input is far outside its range"));
            }
            if let Some(misfit) = misshapen(port, tensor.shape()) {
                let help =
                    "the graph is another model's, or the manifest is wrong; convert it so that its output has fixed lengths";
                let message = format!("output `{}` of model `{}` {misfit}", port.name, self.model);
                return Err(ModelError::new(ErrorKind::Contract, message).help(help));
            }
            out.push(tensor);
        }
        Ok(out)
    }
}

/// Does `work` while a second thread looks at `cancelled` and asks ONNX Runtime to end early.
fn watched<R>(stop: &RunOptions, cancelled: Option<&AtomicBool>, work: impl FnOnce() -> R) -> R {
    let Some(cancelled) = cancelled else { return work() };
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watch = || {
            while !done.load(Ordering::Acquire) {
                if cancelled.load(Ordering::Relaxed) {
                    // A failure means that the call ends by itself.
                    let _ = stop.terminate();
                    return;
                }
                std::thread::park_timeout(LOOK_EVERY);
            }
        };
        // Without the thread the call cannot be cut short: it ends by itself.
        let watcher = std::thread::Builder::new().name("model-watch".into()).spawn_scoped(scope, watch);
        let out = work();
        done.store(true, Ordering::Release);
        if let Ok(watcher) = watcher {
            watcher.thread().unpark();
        }
        out
    })
}

fn build(library: &Library, model: &str, graph: &Path, run: &RunSettings) -> Result<ort::session::Session> {
    if !graph.is_file() {
        return Err(ModelError::new(
            ErrorKind::MissingFile,
            format!("the graph of model `{model}` is not at {}", graph.display()),
        ));
    }
    let refuse = |e: &dyn std::fmt::Display| ModelError::new(ErrorKind::Session, format!("model `{model}`: {e}"));
    let mut builder = ort::session::Session::builder(&library.environment).map_err(|e| refuse(&e))?;
    builder = builder.with_optimization_level(GraphOptimizationLevel::Level3).map_err(|e| refuse(&e))?;
    builder = builder.with_intra_threads(run.threads.max(1)).map_err(|e| refuse(&e))?;
    builder = builder.with_intra_op_spinning(false).map_err(|e| refuse(&e))?;
    let providers = providers(&run.providers)?;
    builder = builder.with_execution_providers(providers).map_err(|e| {
        ModelError::new(ErrorKind::Provider, format!("model `{model}`: {e}"))
            .help("add \"cpu\" to [runtime] providers to go on without it")
    })?;
    builder.commit_from_file(graph).map_err(|e| {
        let message = format!("ONNX Runtime refuses {} of model `{model}`: {}", graph.display(), first_line(&e));
        ModelError::new(ErrorKind::Session, message).help(
            "the file is damaged, is not an ONNX model, or needs a newer ONNX Runtime; `curette models verify` compares its hash",
        )
    })
}

/// The providers to register. With `cpu` in the list the others may be absent. Even without it ONNX Runtime puts some small nodes (shapes, slices of them) on the
/// processor on purpose; forbidding that makes it refuse such graphs.
fn providers(wanted: &[Provider]) -> Result<Vec<ExecutionProviderDispatch>> {
    let strict = !wanted.contains(&Provider::Cpu);
    let mut out = Vec::new();
    for &provider in wanted {
        if provider != Provider::Cpu && !available(provider) {
            let what = format!("this ONNX Runtime was built without the provider `{}`", provider.name());
            if strict {
                return Err(ModelError::new(ErrorKind::Provider, what)
                    .help("name a library that has it in [runtime] onnxruntime, or add \"cpu\" to [runtime] providers"));
            }
            tracing::warn!("{what}; going on with the next one");
            continue;
        }
        let dispatch = match provider {
            Provider::TensorRt => ep::TensorRT::default().build(),
            Provider::Cuda => ep::CUDA::default().build(),
            Provider::OpenVino => ep::OpenVINO::default().build(),
            Provider::Cpu => ep::CPU::default().build(),
        };
        out.push(if strict { dispatch.error_on_failure() } else { dispatch });
    }
    Ok(out)
}

fn ports(model: &str, outlets: &[ort::value::Outlet]) -> Result<Vec<Port>> {
    outlets.iter().map(|outlet| port(model, outlet)).collect()
}

fn port(model: &str, outlet: &ort::value::Outlet) -> Result<Port> {
    let odd = |what: String| ModelError::new(ErrorKind::Contract, format!("`{}` of model `{model}` is {what}", outlet.name()));
    let ValueType::Tensor { ty, shape, dimension_symbols } = outlet.dtype() else {
        return Err(odd("not a tensor".into()));
    };
    let dtype = match ty {
        TensorElementType::Float32 => Dtype::F32,
        TensorElementType::Float16 => Dtype::F16,
        TensorElementType::Int32 => Dtype::I32,
        TensorElementType::Int64 => Dtype::I64,
        TensorElementType::Uint8 => Dtype::U8,
        other => return Err(odd(format!("of the type {other:?}, which is not supported"))),
    };
    let dims = shape.iter().zip(dimension_symbols.iter()).enumerate().map(|(axis, (&n, symbol))| {
        match u64::try_from(n) {
            Ok(n) => Dim::Fixed(n),
            // An axis without a name is like no other axis.
            Err(_) if symbol.is_empty() => Dim::Symbol(format!("{}_{axis}", outlet.name())),
            Err(_) => Dim::Symbol(symbol.clone()),
        }
    });
    Ok(Port { name: outlet.name().to_owned(), dtype, shape: dims.collect() })
}

/// What the graph has against what the manifest wants, in words. Names of symbols may differ; an axis that the manifest leaves open must be open.
pub fn differences(wanted: &Contract, has: &Contract) -> Vec<String> {
    let mut out = Vec::new();
    for (what, wanted, has, strict) in
        [("input", &wanted.inputs, &has.inputs, true), ("output", &wanted.outputs, &has.outputs, false)]
    {
        for want in wanted {
            match has.iter().find(|p| p.name == want.name) {
                None => {
                    let names: Vec<_> = has.iter().map(|p| format!("`{}`", p.name)).collect();
                    out.push(format!("there is no {what} `{}` (there is {})", want.name, names.join(", ")));
                }
                Some(has) => port_difference(what, want, has, strict, &mut out),
            }
        }
        if strict {
            let extra = has.iter().filter(|p| !wanted.iter().any(|w| w.name == p.name));
            out.extend(extra.map(|p| format!("the graph also needs {what} `{}`", p.name)));
        }
    }
    out
}

fn port_difference(what: &str, want: &Port, has: &Port, input: bool, out: &mut Vec<String>) {
    if want.dtype != has.dtype {
        out.push(format!("{what} `{}` is {:?}, expected {:?}", want.name, has.dtype, want.dtype).to_lowercase());
    }
    let fits = want.shape.len() == has.shape.len()
        && want.shape.iter().zip(&has.shape).all(|(w, h)| match (w, h) {
            (Dim::Fixed(a), Dim::Fixed(b)) => a == b,
            // An open axis of the graph takes any length; the shape of an output may be unknown until it runs.
            (Dim::Fixed(_), Dim::Symbol(_)) => true,
            (Dim::Symbol(_), Dim::Symbol(_)) => true,
            // An input that must vary cannot be fixed.
            (Dim::Symbol(_), Dim::Fixed(_)) => !input,
        });
    if !fits {
        out.push(format!("{what} `{}` has the shape {}, expected {}", want.name, shape(&has.shape), shape(&want.shape)));
    }
}

fn shape(dims: &[Dim]) -> String {
    format!("[{}]", dims.iter().map(Dim::to_string).collect::<Vec<_>>().join(", "))
}

/// Compares one call's tensors with the contract; the same symbol must have the same length everywhere.
pub fn check_inputs(model: &str, contract: &Contract, inputs: &[Tensor]) -> Result<()> {
    let bad = |what: String| Err(ModelError::new(ErrorKind::BadInput, format!("model `{model}`: {what}")));
    if inputs.len() != contract.inputs.len() {
        return bad(format!("{} inputs given, {} expected", inputs.len(), contract.inputs.len()));
    }
    let mut symbols: Vec<(&str, usize)> = Vec::new();
    for (port, tensor) in contract.inputs.iter().zip(inputs) {
        let fits_type = matches!((port.dtype, tensor), (Dtype::F32, Tensor::F32(_)) | (Dtype::I64, Tensor::I64(_)));
        if !fits_type {
            return bad(format!("input `{}` must be {:?}", port.name, port.dtype).to_lowercase());
        }
        let given = tensor.shape();
        let misfit = || bad(format!("input `{}` has the shape {given:?}, expected {}", port.name, shape(&port.shape)));
        if given.len() != port.shape.len() || given.contains(&0) {
            return misfit();
        }
        for (&n, dim) in given.iter().zip(&port.shape) {
            match dim {
                Dim::Fixed(want) if *want != n as u64 => return misfit(),
                Dim::Fixed(_) => {}
                Dim::Symbol(s) => match symbols.iter().find(|(name, _)| name == s) {
                    Some((_, before)) if *before != n => return misfit(),
                    Some(_) => {}
                    None => symbols.push((s, n)),
                },
            }
        }
    }
    Ok(())
}

/// How an output differs from what its port promises. Graphs may leave lengths open that the manifest fixes; only the numbers that come out show them.
fn misshapen(port: &Port, given: &[usize]) -> Option<String> {
    let fits = port.shape.len() == given.len()
        && port.shape.iter().zip(given).all(|(want, have)| match want {
            Dim::Fixed(want) => *want == *have as u64,
            Dim::Symbol(_) => true,
        });
    (!fits).then(|| format!("has the shape {given:?}, expected {}", shape(&port.shape)))
}

fn first_line(e: &dyn std::fmt::Display) -> String {
    e.to_string().lines().next().unwrap_or_default().to_owned()
}

fn failed(model: &str, e: &dyn std::fmt::Display) -> ModelError {
    ModelError::new(ErrorKind::Run, format!("model `{model}` failed: {}", first_line(e)))
}

fn stopped(model: &str) -> ModelError {
    ModelError::new(ErrorKind::Cancelled, format!("model `{model}`: the run is being stopped"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_of_another_width_is_named() {
        let dims = |last| vec![Dim::Symbol("batch".into()), Dim::Fixed(last)];
        let port = Port { name: "embedding".into(), dtype: Dtype::F32, shape: dims(512) };
        assert_eq!(misshapen(&port, &[8, 512]), None);
        assert_eq!(misshapen(&port, &[8, 768]).as_deref(), Some("has the shape [8, 768], expected [batch, 512]"));
        assert!(misshapen(&port, &[8]).is_some());
    }
}
