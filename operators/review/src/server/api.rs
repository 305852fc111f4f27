//! What the page asks for. A rater is told nothing of other raters, and of pairs nothing that tells the models apart.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::Review;
use super::guard::Who;
use super::seat::Said;
use crate::media::is_picture;
use crate::mode::Mode;
use crate::rating::Rating;
use crate::rows::Media;
use crate::session::Item;

/// Columns that are texts to read rather than values to look at.
const CAPTIONS: [&str; 6] = ["caption", "caption_brief", "title", "description", "prompt", "tags"];
const TRANSCRIPTS: [&str; 2] = ["clip_transcript", "transcript"];
/// Columns that say where things lie, which no rater needs.
const PLACES: [&str; 3] = ["video_uri", "clip_uri", "transcript_uri"];

fn refuse(status: StatusCode, why: impl ToString) -> Response {
    (status, Json(json!({ "error": why.to_string() }))).into_response()
}

/// What there is to do.
pub async fn session(State(review): State<Arc<Review>>, Extension(Who(who)): Extension<Who>) -> Response {
    let (seat, session) = (&review.seats[who], &review.session);
    let mode = session.ask.mode;
    let labels = match mode {
        Mode::Pairwise => ["left", "both_loss", "right"].map(str::to_owned).to_vec(),
        _ => session.ask.labels(),
    };
    let done = seat.done(session);
    let items: Vec<Value> = seat.order.iter().zip(done).map(|(item, done)| json!({ "item": item, "done": done })).collect();
    Json(json!({
        "mode": mode,
        "question": mode.question(),
        "stage": session.ask.stage,
        "rater": seat.rater,
        "labels": labels,
        "tags": mode.tags(),
        "dimensions": mode.dimensions(),
        "items": items,
        "notes": session.notes,
    }))
    .into_response()
}

/// One item, and what this rater has said of it.
pub async fn item(
    State(review): State<Arc<Review>>,
    Extension(Who(who)): Extension<Who>,
    Path((_, at)): Path<(String, usize)>,
) -> Response {
    let (seat, session) = (&review.seats[who], &review.session);
    let Some(item) = session.items.get(at) else { return refuse(StatusCode::NOT_FOUND, format!("there is no item {at}")) };
    let pairs = session.ask.mode == Mode::Pairwise;
    let mine: Vec<Value> =
        seat.said(at).iter().map(|rating| said(rating, seat.side(session, at, &rating.label), pairs)).collect();
    let media: Vec<Value> = item.media.iter().enumerate().map(|(side, media)| place(at, side, media)).collect();
    Json(json!({
        "item": at,
        "name": if pairs { String::new() } else { item.id.clone() },
        "outcome": item.outcome,
        "reason": item.reason,
        "texts": texts(item, &CAPTIONS),
        "transcript": transcript(item),
        "values": if pairs { Vec::new() } else { values(item) },
        "media": media,
        "mine": mine,
    }))
    .into_response()
}

fn said(rating: &Rating, side: String, pairs: bool) -> Value {
    json!({
        "dimension": rating.dimension,
        "label": if pairs { side } else { rating.label.clone() },
        "tags": rating.tags,
        "note": rating.note,
    })
}

/// Addresses by number: neither names nor folders are shown.
fn place(at: usize, side: usize, media: &Media) -> Value {
    let (start, end) = match media {
        Media::File { start_us, end_us, .. } => (*start_us, *end_us),
        Media::Row { .. } => (None, None),
    };
    let seconds = |us: Option<i64>| us.map(|us| us as f64 / 1e6);
    let kind = if is_picture(media) { "picture" } else { "video" };
    json!({ "url": format!("media/{at}/{side}"), "kind": kind, "start": seconds(start), "end": seconds(end) })
}

fn texts(item: &Item, names: &[&str]) -> Vec<Value> {
    let of = |name: &str| match item.details.get(name)? {
        Value::String(text) if !text.trim().is_empty() => Some(json!([name, text])),
        Value::Array(words) if !words.is_empty() => {
            let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
            (!words.is_empty()).then(|| json!([name, words.join(", ")]))
        }
        _ => None,
    };
    names.iter().filter_map(|name| of(name)).collect()
}

/// What is said in the clip; else of the whole video what is said while the clip lasts.
fn transcript(item: &Item) -> Option<String> {
    if let Some(Value::String(text)) = item.details.get(TRANSCRIPTS[0]) {
        return Some(text.clone());
    }
    let number = |of: &Map<String, Value>, name: &str| of.get(name).and_then(Value::as_i64);
    let (start, end) = (number(&item.details, "start_us").unwrap_or(0), number(&item.details, "end_us").unwrap_or(i64::MAX));
    let cues = item.details.get(TRANSCRIPTS[1])?.as_array()?.iter().filter_map(Value::as_object);
    let inside = |cue: &&Map<String, Value>| {
        number(cue, "end_us").unwrap_or(i64::MAX) > start && number(cue, "start_us").unwrap_or(0) < end
    };
    let said: Vec<&str> = cues.filter(inside).filter_map(|cue| cue.get("text").and_then(Value::as_str)).collect();
    (!said.is_empty()).then(|| said.join(" "))
}

fn values(item: &Item) -> Vec<Value> {
    let left_out = |name: &str| CAPTIONS.contains(&name) || TRANSCRIPTS.contains(&name) || PLACES.contains(&name);
    let shown = item
        .details
        .iter()
        .filter(|(name, value)| !left_out(name) && !value.is_array() && !value.is_object() && value.as_str() != Some(&item.id));
    shown.map(|(name, value)| json!([name, value])).collect()
}

/// Keeps a rating. The answer comes when it is on the disk.
pub async fn rate(State(review): State<Arc<Review>>, Extension(Who(who)): Extension<Who>, Json(said): Json<Said>) -> Response {
    let kept = tokio::task::spawn_blocking(move || {
        let seat = &review.seats[who];
        seat.keep(&review.session, said).map(|kept| kept.map(|rating| (rating.sequence, seat.done(&review.session))))
    });
    match kept.await {
        Ok(Ok(Ok((sequence, done)))) => {
            let open = done.iter().filter(|done| !**done).count();
            Json(json!({ "kept": sequence, "open": open })).into_response()
        }
        Ok(Ok(Err(disk))) => {
            tracing::error!("A rating was not kept: {disk}");
            refuse(StatusCode::INSUFFICIENT_STORAGE, disk)
        }
        Ok(Err(mistake)) => refuse(StatusCode::UNPROCESSABLE_ENTITY, mistake),
        Err(e) => refuse(StatusCode::INTERNAL_SERVER_ERROR, e),
    }
}

/// Commits what stands in the journals.
pub async fn finish(State(review): State<Arc<Review>>) -> Response {
    match tokio::task::spawn_blocking(move || review.commit()).await {
        Ok(Ok(done)) => Json(json!({ "committed": done.committed })).into_response(),
        Ok(Err(e)) => {
            tracing::error!("The ratings stand in the journals but were not committed: {e}");
            refuse(StatusCode::INSUFFICIENT_STORAGE, e)
        }
        Err(e) => refuse(StatusCode::INTERNAL_SERVER_ERROR, e),
    }
}
