//! Hides secrets in the text of a pipeline file before any of it is shown.
//!
//! Why by name: an excerpt shows whole lines, also of steps whose type is misspelt and of keys that do not exist, so no schema can say which
//! values are secret. What can go wrong: a secret under a harmless name is shown if it is written into the file; secrets belong in `${VAR}`.

use std::borrow::Cow;

/// Parts of key names that mark a secret.
const SECRET: &[&str] = &["token", "secret", "password", "passwd", "credential", "credentials", "authorization", "bearer"];
/// `api_key`, but not `key` or `partition_key`.
const KEYS: &[&str] = &["api_key", "apikey", "access_key", "private_key", "auth_key"];

/// True if values of this key are not to be shown.
pub(crate) fn is_secret(key: &str) -> bool {
    let key = key.to_lowercase().replace('-', "_");
    // Also with a slip of the finger: an unknown key is shown with its whole line.
    let slip = |k: &&str| strsim::osa_distance(k, &key) == 1;
    key.split('_').any(|part| SECRET.contains(&part)) || KEYS.iter().any(|k| key.contains(k)) || KEYS.iter().any(slip)
}

/// The name and password in front of the host of each URL, as stars.
fn without_user_info(text: Cow<'_, str>) -> Cow<'_, str> {
    let mut out = String::new();
    let mut rest = &*text;
    while let Some(at) = rest.find("://") {
        let host = at + 3;
        let end = rest[host..].find(|c: char| c.is_whitespace() || "/?#\"'`,;".contains(c)).map_or(rest.len(), |e| host + e);
        let (head, authority) = (&rest[..host], &rest[host..end]);
        out.push_str(head);
        match authority.rfind('@') {
            Some(user) if !authority.starts_with("${") => {
                out.push_str(&stars(&authority[..user]));
                out.push_str(&authority[user..]);
            }
            _ => out.push_str(authority),
        }
        rest = &rest[end..];
    }
    out.push_str(rest);
    if out == text { text } else { Cow::Owned(out) }
}

/// The same text with the same number of bytes, where values of secret keys are stars. `${VAR}` alone stays.
pub(super) fn mask(text: &str) -> Cow<'_, str> {
    let mut out = String::new();
    let mut inside: Option<&str> = None; // the delimiter of a secret multi-line string
    for line in text.split_inclusive('\n') {
        if let Some(end) = inside {
            match line.find(end) {
                Some(at) => {
                    out.push_str(&stars(&line[..at]));
                    out.push_str(&line[at..]);
                    inside = None;
                }
                None => out.push_str(&stars(line)),
            }
            continue;
        }
        let mut start = 0;
        // Inline tables can hold several keys on one line.
        for (eq, _) in line.match_indices('=') {
            if eq < start {
                continue;
            }
            let key = line[start..eq].rsplit(['{', ',', '.', '[']).next().unwrap_or_default();
            let value = eq + 1 + (line[eq + 1..].len() - line[eq + 1..].trim_start().len());
            if !is_secret(key.trim().trim_matches(['"', '\''])) {
                continue;
            }
            let quote = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|q| line[value..].starts_with(q));
            if quote.is_none() {
                let end = line[value..].find([',', '}', '#', '\n', '\r']).map_or(line.len(), |at| value + at);
                out.push_str(&line[start..value]);
                out.push_str(&stars(&line[value..end]));
                start = end;
            } else if let Some(quote) = quote {
                let open = value + quote.len();
                let close = closing(&line[open..], quote).map(|at| open + at);
                let secret = &line[open..close.unwrap_or(line.len())];
                let variable = secret.starts_with("${") && secret.ends_with('}') && !secret.contains(":-");
                out.push_str(&line[start..open]);
                out.push_str(&if variable { secret.to_owned() } else { stars(secret) });
                start = open + secret.len();
                if close.is_none() && quote.len() == 3 {
                    inside = Some(quote);
                }
            }
        }
        out.push_str(&line[start..]);
    }
    without_user_info(if out == text { Cow::Borrowed(text) } else { Cow::Owned(out) })
}

fn closing(text: &str, quote: &str) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(i, c)| {
        if escaped {
            escaped = false;
        } else if c == '\\' && quote.starts_with('"') {
            escaped = true;
        } else if text[i..].starts_with(quote) {
            return Some(i);
        }
        None
    })
}

fn stars(text: &str) -> String {
    text.chars().map(|c| if c == '\n' || c == '\r' { c.to_string() } else { "*".repeat(c.len_utf8()) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_secret_keys_become_stars_and_nothing_moves() {
        let text = "api_key = \"sk-é\\\"1\" # mine\nx = { auth_token = 'abc', n = 1 }\nmax_tokens = 5\npassword = '''\nab\nc''' \nkey = \"id\"\n";
        let masked = mask(text);
        assert_eq!(masked.len(), text.len());
        assert_eq!(
            masked,
            "api_key = \"********\" # mine\nx = { auth_token = '***', n = 1 }\nmax_tokens = 5\npassword = '''\n**\n*''' \nkey = \"id\"\n"
        );
        assert_eq!(mask("token = \"${TOKEN}\""), "token = \"${TOKEN}\"");
        assert_eq!(mask("token = \"${TOKEN:-abc}\""), "token = \"*************\"");
        assert_eq!(mask("{ token = 17, n = 1 }\ntoken = 5\n"), "{ token = **, n = 1 }\ntoken = *\n");
        assert_eq!(mask("api_kye = 'sk-1'"), "api_kye = '****'");
        assert_eq!(mask("u = \"ftp://me:pw@host/a@b\" # s3://A:B@c"), "u = \"ftp://*****@host/a@b\" # s3://***@c");
        assert_eq!(mask("u = \"https://host/?to=a@b\""), "u = \"https://host/?to=a@b\"");
        assert_eq!(mask("token = \"open"), "token = \"****");
    }
}
