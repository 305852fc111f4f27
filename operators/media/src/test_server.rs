//! An HTTP server on this machine for tests: files with ranges, counted bytes, and one fault at a time.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How the server behaves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Manner {
    /// Ranges, a strong etag, `If-Match`.
    Good,
    /// No etag and no time of last change.
    Nameless,
    /// Always the whole file.
    Whole,
    /// This status for all requests.
    Status(u16),
    /// 503 for the first requests, then good.
    FailsFirst(u64),
    /// The etag is another one after so many requests; `If-Match` is kept or not even read.
    Changes { after: u64, checks: bool },
    /// Closes the connection after half of the body, for all requests after so many.
    CutsShort(u64),
    /// Answers nothing after so many requests.
    Silent(u64),
    /// Says another range than the one it was asked for.
    WrongRange,
}

struct Shared {
    folder: PathBuf,
    manner: Mutex<Manner>,
    bytes: AtomicU64,
    requests: AtomicU64,
    stopped: AtomicBool,
}

/// See the module's documentation. Stops when dropped.
pub(crate) struct Server {
    address: std::net::SocketAddr,
    shared: Arc<Shared>,
}

impl Server {
    pub fn of(folder: &Path, manner: Manner) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            folder: folder.to_owned(),
            manner: Mutex::new(manner),
            bytes: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
        });
        let serve = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if serve.stopped.load(Ordering::Relaxed) {
                    return;
                }
                let serve = Arc::clone(&serve);
                std::thread::spawn(move || drop(answer(stream, &serve)));
            }
        });
        Server { address, shared }
    }

    pub fn url(&self, name: &str) -> String {
        format!("http://{}/{name}?signature=secret", self.address)
    }

    /// Bytes of bodies that were sent.
    pub fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address); // wakes the listener
    }
}

/// One connection, many requests.
fn answer(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?);
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if lines.read_line(&mut line)? == 0 {
                return Ok(());
            }
            match line.trim_end() {
                "" => break,
                text => head.push(text.to_owned()),
            }
        }
        let manner = *shared.manner.lock().unwrap();
        let number = shared.requests.fetch_add(1, Ordering::Relaxed);
        let field = |name: &str| {
            let value = head.iter().skip(1).find_map(|line| line.split_once(':').filter(|(k, _)| k.eq_ignore_ascii_case(name)));
            value.map(|(_, value)| value.trim().to_owned())
        };
        let name = head[0].split(' ').nth(1).unwrap_or_default().trim_start_matches('/').split('?').next().unwrap_or_default();
        let path = shared.folder.join(name);
        let plain = |stream: &mut TcpStream, status: u16| write!(stream, "HTTP/1.1 {status} Told\r\nContent-Length: 0\r\n\r\n");
        let Ok(file) = std::fs::read(&path) else {
            plain(&mut stream, 404)?;
            continue;
        };
        match manner {
            Manner::Status(status) => {
                plain(&mut stream, status)?;
                continue;
            }
            Manner::FailsFirst(count) if number < count => {
                plain(&mut stream, 503)?;
                continue;
            }
            Manner::Silent(after) if number >= after => {
                while !shared.stopped.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(20));
                }
                return Ok(());
            }
            _ => {}
        }
        let etag = match manner {
            Manner::Nameless => None,
            Manner::Changes { after, .. } if number >= after => Some("\"second\""),
            _ => Some("\"first\""),
        };
        let checks = !matches!(manner, Manner::Changes { checks: false, .. });
        if checks && field("if-match").is_some_and(|wanted| Some(wanted.as_str()) != etag) {
            plain(&mut stream, 412)?;
            continue;
        }
        let range = field("range").and_then(|r| {
            let (from, to) = r.strip_prefix("bytes=")?.split_once('-')?;
            Some((from.parse::<usize>().ok()?, to.parse::<usize>().ok()?))
        });
        let named = etag.map_or(String::new(), |etag| format!("ETag: {etag}\r\n"));
        let (start, body) = match range.filter(|_| manner != Manner::Whole) {
            None => (format!("HTTP/1.1 200 OK\r\n{named}"), &file[..]),
            Some((from, _)) if from >= file.len() => {
                let all = file.len();
                write!(stream, "HTTP/1.1 416 No\r\nContent-Range: bytes */{all}\r\nContent-Length: 0\r\n\r\n")?;
                continue;
            }
            Some((from, to)) => {
                let to = to.min(file.len() - 1);
                let said = if manner == Manner::WrongRange { from + 1 } else { from };
                let start = format!("HTTP/1.1 206 Part\r\n{named}Content-Range: bytes {said}-{to}/{}\r\n", file.len());
                (start, &file[from..=to])
            }
        };
        write!(stream, "{start}Content-Length: {}\r\n\r\n", body.len())?;
        if matches!(manner, Manner::CutsShort(after) if number >= after) {
            stream.write_all(&body[..body.len() / 2])?;
            return stream.shutdown(std::net::Shutdown::Both);
        }
        shared.bytes.fetch_add(body.len() as u64, Ordering::Relaxed);
        stream.write_all(body)?;
    }
}
