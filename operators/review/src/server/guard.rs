//! Who may ask. Everything passes here, also what is nowhere.
//!
//! A page of another site can make a browser send requests to this machine, and a name that an attacker owns can point here. Neither knows the token, and
//! neither can send our `Host` with a foreign name or no `Origin` of ours; each alone would do.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::{ANSWER_LIMIT, Review};

/// What a page of ours may do: nothing but what came with it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The rater whose token a request has: a place in [`Review::seats`].
#[derive(Debug, Clone, Copy)]
pub struct Who(pub usize);

fn refuse(status: StatusCode, why: &str) -> Response {
    (status, format!("{why}\n")).into_response()
}

/// Whether a request was sent to this server by its own name.
fn is_ours(port: u16, uri: &Uri, headers: &HeaderMap) -> bool {
    let names = [format!("127.0.0.1:{port}"), format!("localhost:{port}")];
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let known = |text: &str| names.iter().any(|name| name == text);
    let host = host.to_str().unwrap_or_default();
    known(host) && uri.authority().is_none_or(|a| known(a.as_str()))
}

/// Whether the page that sent it is ours, where the browser says so.
fn from_us(port: u16, headers: &HeaderMap) -> bool {
    let pages = [format!("http://127.0.0.1:{port}"), format!("http://localhost:{port}")];
    headers.get_all(header::ORIGIN).iter().all(|origin| pages.iter().any(|page| origin.as_bytes() == page.as_bytes()))
}

/// The rater of a token. Hashes are compared, so that the time tells nothing of the token.
fn who(review: &Review, uri: &Uri) -> Option<Who> {
    let token = uri.path().strip_prefix('/')?.split('/').next()?;
    let asked = blake3::hash(token.as_bytes());
    review.seats.iter().position(|seat| blake3::hash(seat.token.as_bytes()) == asked).map(Who)
}

/// Lets in who may ask.
pub async fn guard(State(review): State<Arc<Review>>, mut request: Request, next: Next) -> Response {
    let mut response = match admitted(&review, &request) {
        Err((status, why)) => refuse(status, why),
        Ok(who) => {
            let Ok(_place) = Arc::clone(&review.requests).try_acquire_owned() else {
                let mut busy = refuse(StatusCode::SERVICE_UNAVAILABLE, "too many requests at once");
                busy.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
                return busy;
            };
            request.extensions_mut().insert(who);
            match tokio::time::timeout(ANSWER_LIMIT, next.run(request)).await {
                Ok(response) => response,
                Err(_) => refuse(StatusCode::REQUEST_TIMEOUT, "the request took too long"),
            }
        }
    };
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn admitted(review: &Review, request: &Request) -> Result<Who, (StatusCode, &'static str)> {
    if !is_ours(review.port, request.uri(), request.headers()) {
        return Err((StatusCode::MISDIRECTED_REQUEST, "this server is known as 127.0.0.1 and localhost only"));
    }
    if !from_us(review.port, request.headers()) {
        return Err((StatusCode::FORBIDDEN, "the request comes from another page"));
    }
    if ![Method::GET, Method::HEAD, Method::POST].contains(request.method()) {
        return Err((StatusCode::METHOD_NOT_ALLOWED, "only GET, HEAD and POST"));
    }
    who(review, request.uri()).ok_or((StatusCode::FORBIDDEN, "open the whole link that `curette review` printed"))
}

/// Addresses that are none.
pub async fn nothing() -> Response {
    refuse(StatusCode::NOT_FOUND, "there is nothing here")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_and_pages_are_ours() {
        let headers = |list: &[(&str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in list {
                headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
            }
            headers
        };
        let path: Uri = "/t/".parse().unwrap();
        let ours = |list: &[(&str, &str)]| is_ours(80, &path, &headers(list));
        assert!(ours(&[("host", "127.0.0.1:80")]) && ours(&[("host", "localhost:80")]));
        for wrong in ["127.0.0.1", "127.0.0.1:81", "evil.example:80", "localhost:80.evil.example", "", "127.0.0.1:80@evil"] {
            assert!(!ours(&[("host", wrong)]), "{wrong}");
        }
        assert!(!ours(&[]) && !ours(&[("host", "localhost:80"), ("host", "evil:80")]));
        let foreign: Uri = "http://evil.example/t/".parse().unwrap();
        assert!(!is_ours(80, &foreign, &headers(&[("host", "localhost:80")])));
        assert!(from_us(80, &headers(&[])) && from_us(80, &headers(&[("origin", "http://localhost:80")])));
        assert!(!from_us(80, &headers(&[("origin", "null")])) && !from_us(80, &headers(&[("origin", "http://localhost:81")])));
    }
}
