//! Bytes of clips. A browser asks for parts of a file to play and seek; a part is read where it is.

use std::io::SeekFrom;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::header::{self, HeaderMap, HeaderValue};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use super::Review;
use super::guard::Who;
use crate::media::{Body as Source, Open, open};
use crate::mode::Mode;
use crate::range::{Part, part};

/// Bytes that are read at a time.
const PIECE_BYTES: usize = 64 << 10;

/// A clip, by the places of its item and side. Of pairs, 0 is what this rater sees on the left.
pub async fn clip(
    State(review): State<Arc<Review>>,
    Extension(Who(who)): Extension<Who>,
    Path((_, at, side)): Path<(String, usize, usize)>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let swapped =
        review.session.ask.mode == Mode::Pairwise && !review.session.ours_is_left(at_most(at, &review), &review.seats[who].rater);
    let side = if swapped { 1_usize.wrapping_sub(side) } else { side };
    let media = review.session.items.get(at).and_then(|item| item.media.get(side)).cloned();
    let Some(media) = media else { return (StatusCode::NOT_FOUND, "there is no such clip\n").into_response() };
    let opened = tokio::task::spawn_blocking(move || open(&media, &review.cache)).await;
    match opened {
        Ok(Ok(found)) => send(found, &method, &headers).await,
        Ok(Err(e)) => (StatusCode::NOT_FOUND, format!("{e}\n")).into_response(),
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{e}\n")).into_response(),
    }
}

fn at_most(at: usize, review: &Review) -> usize {
    at.min(review.session.items.len().saturating_sub(1))
}

async fn send(found: Open, method: &Method, headers: &HeaderMap) -> Response {
    let Open { body, length, content_type, tag } = found;
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    // Parts of what has changed meanwhile would not fit together.
    let unchanged = text(header::IF_RANGE).is_none_or(|asked| asked == tag);
    let wanted = if unchanged { part(text(header::RANGE), length) } else { Part::Whole };
    let common =
        [(header::CONTENT_TYPE, content_type.to_owned()), (header::ACCEPT_RANGES, "bytes".to_owned()), (header::ETAG, tag)];
    let (status, first, count, range) = match wanted {
        Part::Beyond => {
            let range = [(header::CONTENT_RANGE, format!("bytes */{length}"))];
            return (StatusCode::RANGE_NOT_SATISFIABLE, range, common).into_response();
        }
        Part::Whole => (StatusCode::OK, 0, length, None),
        Part::Bytes(first, last) => {
            let range = format!("bytes {first}-{last}/{length}");
            (StatusCode::PARTIAL_CONTENT, first, last - first + 1, Some(range))
        }
    };
    let body = if *method == Method::HEAD { Ok(Body::empty()) } else { bytes(body, first, count).await };
    match body {
        Ok(body) => {
            let mut response = (status, common, [(header::CONTENT_LENGTH, count.to_string())], body).into_response();
            if let Some(range) = range.and_then(|range| HeaderValue::from_str(&range).ok()) {
                response.headers_mut().insert(header::CONTENT_RANGE, range);
            }
            response
        }
        Err(e) => (StatusCode::NOT_FOUND, format!("{e}\n")).into_response(),
    }
}

async fn bytes(source: Source, first: u64, count: u64) -> std::io::Result<Body> {
    match source {
        Source::Bytes(bytes) => {
            let from = usize::try_from(first).unwrap_or(usize::MAX).min(bytes.len());
            let to = from.saturating_add(usize::try_from(count).unwrap_or(usize::MAX)).min(bytes.len());
            Ok(Body::from(bytes.slice(from..to)))
        }
        Source::File(file) => {
            let mut file = tokio::fs::File::from_std(file);
            file.seek(SeekFrom::Start(first)).await?;
            Ok(Body::from_stream(stream::try_unfold((file, count), |(mut file, left)| async move {
                if left == 0 {
                    return Ok::<_, std::io::Error>(None);
                }
                let mut piece = vec![0; usize::try_from(left).unwrap_or(usize::MAX).min(PIECE_BYTES)];
                let read = file.read(&mut piece).await?;
                if read == 0 {
                    // The file became shorter; the browser sees that bytes are missing.
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
                piece.truncate(read);
                Ok(Some((Bytes::from(piece), (file, left - read as u64))))
            })))
        }
    }
}
