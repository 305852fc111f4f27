//! Which URLs name a store. Pure.

use url::Url;

/// What may stand in a pipeline.
pub const KNOWN: &str = "known are local paths, file://, s3://, gs:// and az:// (or abfss://); credentials come from the environment: AWS_*, GOOGLE_*, \
                         AZURE_*";

/// Whose interface a store speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    S3,
    Google,
    Azure,
}

pub(crate) fn kind(url: &str) -> Option<Kind> {
    match url.split_once("://")?.0 {
        "s3" | "s3a" => Some(Kind::S3),
        "gs" => Some(Kind::Google),
        "az" | "azure" | "abfs" | "abfss" => Some(Kind::Azure),
        _ => None,
    }
}

/// True for the URL of a known kind of store.
pub fn is_known(url: &str) -> bool {
    kind(url).is_some()
}

/// `s3://bucket` of `s3://bucket/a/b`.
pub fn root(url: &str) -> &str {
    let from = url.find("://").map_or(0, |at| at + 3);
    let end = url[from..].find('/').map_or(url.len(), |at| from + at);
    &url[..end]
}

/// What is wrong with a URL that is to name a place in a store.
pub fn problem(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    if !is_known(url) {
        return Some(format!("`{scheme}://` is no store that is known"));
    }
    let authority = rest.split('/').next().unwrap_or_default();
    if authority.is_empty() {
        return Some(format!("the URL names no {}", if kind(url) == Some(Kind::Azure) { "container" } else { "bucket" }));
    }
    let parsed = match Url::parse(root(url)) {
        Ok(parsed) => parsed,
        Err(error) => return Some(format!("it is no URL: {error}")),
    };
    // Azure's own form is container@account.
    let named = parsed.password().is_some() || (!parsed.username().is_empty() && !matches!(scheme, "abfs" | "abfss"));
    named.then(|| {
        "a user name or password does not belong in a URL: logs and tables would show it; use the environment".to_owned()
    })
}

/// A URL of a store as messages may show it: without user name and password.
pub fn shown(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, key) = rest.split_once('/').map_or((rest, None), |(authority, key)| (authority, Some(key)));
    let host = match authority.rsplit_once('@') {
        Some((user, host)) if matches!(scheme, "abfs" | "abfss") && !user.contains(':') => format!("{user}@{host}"),
        Some((_, host)) => format!("***@{host}"),
        None => authority.to_owned(),
    };
    match key {
        Some(key) => format!("{scheme}://{host}/{key}"),
        None => format!("{scheme}://{host}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_told_apart() {
        for good in
            ["s3://b", "s3://b/x", "s3a://b/x", "gs://b/x", "az://c/x", "abfss://c@me.dfs.core.windows.net/x", "/local", "x"]
        {
            assert_eq!(problem(good), None, "{good}");
        }
        insta::assert_snapshot!(problem("ftp://b/x").unwrap(), @"`ftp://` is no store that is known");
        insta::assert_snapshot!(problem("s3:///x").unwrap(), @"the URL names no bucket");
        insta::assert_snapshot!(problem("az:///x").unwrap(), @"the URL names no container");
        for secret in ["s3://key:hunter2@b/x", "s3://key@b/x", "abfss://c:hunter2@me.dfs.core.windows.net/x"] {
            let said = problem(secret).unwrap();
            assert!(said.contains("does not belong in a URL") && !said.contains("hunter2"), "{said}");
            assert!(!shown(secret).contains("hunter2") && !shown(secret).contains("key@"), "{}", shown(secret));
        }
        assert_eq!(shown("abfss://c@me.dfs.core.windows.net/x@y"), "abfss://c@me.dfs.core.windows.net/x@y");
        assert_eq!((root("s3://b/x/y"), root("s3://b"), root("/a/b")), ("s3://b", "s3://b", ""));
    }
}
