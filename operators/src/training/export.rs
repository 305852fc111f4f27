//! The verb `export`: a table of clips, or a spool of encoded ones, in the form of another trainer.
//!
//! What can go wrong: the table is none, or has no captions or clips; told before anything is written. A clip that cannot be had is left out and
//! named with its reason.

use std::path::Path;
use std::sync::Arc;

use curette_trainer::disk::TrainerError;
use curette_trainer::export::{ExportClip, export_clips, export_spool};
pub use curette_trainer::export::{Report, Target};
use curette_trainer::spool::{HEADER, Spool};

use super::rows::{ClipTable, FACT_COLUMNS, FILE_COLUMN, Names, Place, holds_clips};
use crate::sources::files::{Files, is_url};
use crate::tables::OpenTable;

/// Rows whose captions are read at once.
const CHUNK: usize = 256;

/// The columns to read, as far as they are named.
#[derive(Debug, Clone, Default)]
pub struct Columns {
    /// Names a clip; `clip_id` if the table has it, else `video_id`, else `id`.
    pub id: Option<String>,
    /// What it shows.
    pub caption: String,
    /// The clip itself.
    pub clip: String,
}

/// Exports `input` to the folder `out`, which must not be there yet.
pub fn export(input: &str, target: Target, columns: &Columns, out: &Path) -> Result<Report, String> {
    let place = absolute(input)?;
    if !is_url(&place) && Path::new(&place).join(HEADER).is_file() {
        let spool = Spool::open(Path::new(&place)).map_err(|e| e.0)?;
        return export_spool(target, &spool, out).map_err(|e| e.0);
    }
    let named = |e: String| format!("{input}: {e}");
    let names = names(&place, columns).map_err(named)?;
    let table = ClipTable::open(&place, names, Arc::new(Files::default())).map_err(named)?;
    let places = table.places().map_err(named)?;
    let clips = places.chunks(CHUNK).flat_map(|chunk| clips(&table, chunk));
    export_clips(target, clips.map(|clip| clip.map_err(|e| TrainerError(named(e)))), out).map_err(|e| e.0)
}

fn absolute(input: &str) -> Result<String, String> {
    if is_url(input) {
        return Ok(input.to_owned());
    }
    let local = input.strip_prefix("file://").unwrap_or(input);
    let full = std::path::absolute(local).map_err(|e| format!("{input}: {e}"))?;
    if !full.exists() {
        let help = "give the folder of an output table (such as OUTPUT/clips), a Parquet file, or a spool";
        return Err(format!("{input}: there is no such file or folder; {help}"));
    }
    Ok(full.to_string_lossy().into_owned())
}

/// The columns, if the table has what an export needs.
fn names(place: &str, columns: &Columns) -> Result<Names, String> {
    let table = OpenTable::open(Path::new(place))?;
    let known: Vec<&str> = table.schema().fields().iter().map(|f| f.name().as_str()).collect();
    let has = |name: &str| known.contains(&name);
    let there = || format!("its columns are: {}", known.join(", "));
    let id = match &columns.id {
        Some(id) if !has(id) => return Err(format!("there is no column `{id}`; {}", there())),
        Some(id) => id.clone(),
        None => {
            let usual = ["clip_id", "video_id", "id"].into_iter().find(|name| has(name));
            usual.ok_or_else(|| format!("no column names the clips; name one with --id ({})", there()))?.to_owned()
        }
    };
    if !has(&columns.caption) {
        let help = "a `captioner` step makes it; another column is named with --caption";
        return Err(format!("there is no column `{}` with captions; {help} ({})", columns.caption, there()));
    }
    let clip = table.schema().field_with_name(&columns.clip).ok();
    if let Some(odd) = clip.filter(|field| !holds_clips(field.data_type())) {
        return Err(format!("column `{}` holds no clips, but {}", columns.clip, odd.data_type()));
    }
    if clip.is_none() && !has(FILE_COLUMN) {
        let what = format!("there is neither a column `{}` with clips nor `{FILE_COLUMN}` with their files", columns.clip);
        return Err(format!("{what}; a `clip_cut` step makes them ({})", there()));
    }
    if let Some(missing) = FACT_COLUMNS.into_iter().find(|name| !has(name)) {
        let help = "a `clip_cut` step makes it with the clips";
        return Err(format!("there is no column `{missing}`, which the lists of trainers need; {help} ({})", there()));
    }
    Ok(Names { id, caption: columns.caption.clone(), clip: columns.clip.clone() })
}

/// The clips of some rows, one at a time.
fn clips<'a>(table: &'a ClipTable, chunk: &'a [Place]) -> Box<dyn Iterator<Item = Result<ExportClip, String>> + 'a> {
    let rows = match table.rows(chunk) {
        Ok(rows) => rows,
        Err(e) => return Box::new(std::iter::once(Err(e))),
    };
    Box::new(rows.into_iter().zip(chunk).map(move |(row, place)| {
        // Without a caption it is left out, whatever its clip is.
        let bytes = if row.caption.is_empty() { Ok(Vec::new()) } else { table.bytes(place)? };
        let (bytes, missing) = match bytes {
            Ok(bytes) => (bytes, None),
            Err((_, why)) => (Vec::new(), Some(why)),
        };
        Ok(ExportClip { id: row.id, caption: row.caption, bytes, missing, facts: row.facts, duration_s: row.duration_s })
    }))
}
