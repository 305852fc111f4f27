//! The child's side: answers tasks on its standard input, one after the other, until the input ends.
//!
//! What can go wrong: a library that prints to standard output would break the messages; so the descriptor is set aside first, and what is printed
//! goes to standard error. A panic ends the process: its parent makes an error row of it.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::FromRawFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arrow::array::RecordBatch;
use toml::de::ValueDeserializer;

use super::fault;
use super::wire::{Head, Setup, decode_rows, encode_columns, parts, read_message, write_message};
use crate::exit::Exit;
use crate::operator::{BuildContext, Entry, Paths, Runtime, Task, Transform};
use crate::resources::{OutputPlace, Resources};

/// An operator and where its shared things are: those of one setting of the runtime.
struct Built {
    setup: Setup,
    transform: Box<dyn Transform>,
}

/// Serves until the input ends.
pub fn serve(registry: &[Entry]) -> Exit {
    let Some(mut output) = set_output_aside() else { return Exit::Failed };
    let mut input = std::io::stdin().lock();
    let resources = Arc::new(Resources::default());
    let mut built = HashMap::new();
    loop {
        let body = match read_message(&mut input as &mut dyn Read) {
            Ok(Some(body)) => body,
            Ok(None) => return Exit::Done,
            Err(e) => {
                tracing::error!("A decoder process cannot read its task: {e}");
                return Exit::Failed;
            }
        };
        let (head, columns) = match answer(&body, registry, &resources, &mut built) {
            Ok(answer) => answer,
            Err(error) => {
                (Head { verdicts: Vec::new(), parents: None, error: Some(error) }, encode_columns(&[]).unwrap_or_default())
            }
        };
        let Ok(head) = serde_json::to_vec(&head) else { return Exit::Failed };
        if write_message(&mut output, &[&head, &columns]).is_err() {
            return Exit::Failed; // nobody listens any more
        }
    }
}

/// Standard output for messages alone; whatever is printed goes to standard error.
fn set_output_aside() -> Option<File> {
    // SAFETY: `dup` and `dup2` take no pointers; the new descriptor is owned by the file alone.
    unsafe {
        let own = libc::dup(libc::STDOUT_FILENO);
        let moved = libc::dup2(libc::STDERR_FILENO, libc::STDOUT_FILENO);
        (own >= 0 && moved >= 0).then(|| File::from_raw_fd(own))
    }
}

type Failed = (String, Option<String>);

fn answer(
    body: &[u8],
    registry: &[Entry],
    resources: &Arc<Resources>,
    built: &mut HashMap<String, Built>,
) -> Result<(Head, Vec<u8>), Failed> {
    let plain = |e: String| (format!("a decoder process: {e}"), None);
    let [setup, schema, rows] = parts(body).map_err(plain)?;
    let setup: Setup = serde_json::from_slice(setup).map_err(|e| plain(e.to_string()))?;
    let rows = decode_rows(rows).map_err(plain)?;
    let step = setup.step.clone();
    if built.get(&step).is_none_or(|b| b.setup != setup) {
        let transform = build(&setup, &decode_rows(schema).map_err(plain)?, registry, resources)?;
        built.insert(step.clone(), Built { setup, transform });
    }
    let Some(Built { transform, .. }) = built.get(&step) else { return Err(plain("no operator".into())) };
    fault::strike(&rows);
    let task = Task { step: &step, resources, cancelled: &AtomicBool::new(false) };
    let done = transform.process(&rows, &task).map_err(|e| (e.message, e.help))?;
    let columns = encode_columns(&done.columns).map_err(plain)?;
    Ok((Head { verdicts: done.verdicts, parents: done.parents, error: None }, columns))
}

fn build(
    setup: &Setup,
    input: &RecordBatch,
    registry: &[Entry],
    resources: &Arc<Resources>,
) -> Result<Box<dyn Transform>, Failed> {
    resources.get(|| setup.runtime.clone());
    resources.get(|| setup.memory);
    resources.get(|| OutputPlace(setup.output.clone()));
    let plain = |e: String| (format!("a decoder process cannot start `{}`: {e}", setup.operator), None);
    let entry = registry.iter().find(|e| e.name == setup.operator).ok_or_else(|| plain("no such operator".into()))?;
    let parameters = toml::Value::try_from(without_nulls(&setup.parameters)).map_err(|e| plain(e.to_string()))?.to_string();
    let value = ValueDeserializer::parse(&parameters).map_err(|e| plain(e.to_string()))?;
    let operator = (entry.parse)(value).map_err(|e| plain(e.to_string()))?;
    let context = BuildContext {
        step: &setup.step,
        input: input.schema(),
        id_column: setup.id_column.clone(),
        paths: &Paths { base: setup.base.clone() },
        resources,
    };
    match operator.build(&context).map_err(|e| (e.message, e.help))? {
        Runtime::Transform(transform) => Ok(transform),
        _ => Err(plain("it is no transform".into())),
    }
}

/// TOML has no null: a key that is not there means the same.
fn without_nulls(value: &serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Object(map) => {
            Value::Object(map.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.clone(), without_nulls(v))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(without_nulls).collect()),
        other => other.clone(),
    }
}
