//! A review server and its raters, by plain HTTP: what a page would not send is sent, too.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

/// A review server and the links of its raters.
pub struct Server {
    child: Child,
    links: BTreeMap<String, (String, String)>,
}

impl Server {
    pub fn start(command: &mut Command) -> Server {
        let mut child = command.args(["--format", "json"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let Ok(said) = serde_json::from_str::<Value>(&line) else {
            let output = child.wait_with_output().unwrap();
            panic!("{line:?}: {}", String::from_utf8_lossy(&output.stderr));
        };
        let link = |rater: &Value| {
            let url = rater["url"].as_str().unwrap().strip_prefix("http://").unwrap();
            let (host, path) = url.split_once('/').unwrap();
            (rater["rater"].as_str().unwrap().to_owned(), (host.to_owned(), format!("/{path}")))
        };
        Server { child, links: said["raters"].as_array().unwrap().iter().map(link).collect() }
    }

    pub fn seat(&self, rater: &str) -> Seat {
        let (host, path) = self.links[rater].clone();
        Seat { host, path }
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn stop(self) -> String {
        // SAFETY: the child has not been waited for.
        unsafe { libc::kill(self.child.id() as i32, libc::SIGTERM) };
        let output = self.child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        said
    }
}

#[derive(Clone)]
pub struct Seat {
    pub host: String,
    pub path: String,
}

pub struct Answer {
    pub status: u16,
    pub headers: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        serde_json::from_slice(&self.body).unwrap()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.headers.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}

/// What is sent as it is, and what comes back; `None` if the server is gone.
pub fn raw(host: &str, request: &[u8]) -> Option<Answer> {
    let mut stream = TcpStream::connect(host).ok()?;
    stream.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
    stream.write_all(request).ok()?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).ok()?;
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
    let headers = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let status = headers.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, headers, body: bytes[end + 4..].to_vec() })
}

impl Seat {
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Option<Answer> {
        let mut request = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        if !headers.iter().any(|(name, _)| *name == "Host") {
            request += &format!("Host: {}\r\n", self.host);
        }
        headers.iter().for_each(|(name, value)| request += &format!("{name}: {value}\r\n"));
        if method == "POST" {
            request += &format!("Content-Length: {}\r\n", body.len());
        }
        raw(&self.host, format!("{request}\r\n{body}").as_bytes())
    }

    pub fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.ask("GET", &format!("{}{path}", self.path), headers, "").unwrap()
    }

    pub fn post(&self, path: &str, body: &Value) -> Option<Answer> {
        let json = [("Content-Type", "application/json")];
        self.ask("POST", &format!("{}{path}", self.path), &json, &body.to_string())
    }

    /// Items in this rater's order, and which of them are rated.
    pub fn items(&self) -> Vec<(u64, bool)> {
        let items = self.get("api/session", &[]).json()["items"].clone();
        items.as_array().unwrap().iter().map(|i| (i["item"].as_u64().unwrap(), i["done"].as_bool().unwrap())).collect()
    }

    pub fn rate(&self, item: u64, label: &str) -> Option<Answer> {
        self.post("api/rating", &json!({"item": item, "label": label, "tags": ["border"], "note": null}))
    }
}

impl Seat {
    pub fn rate_plain(&self, item: u64, label: &str) -> Answer {
        self.post("api/rating", &json!({"item": item, "label": label})).unwrap()
    }
}
