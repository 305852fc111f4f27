//! A store's error in one line, with what to do about it.
//!
//! Why: stores answer in XML of many lines, some of which repeat what was signed and by which key; people need the code, the sentence and a remedy. What
//! can go wrong: a store with words of its own; they are shown as they are, cut to a length.

use object_store::Error;

/// Longest text of a store that is shown.
const MAX_CHARS: usize = 600;

/// What the error says, and what to do.
pub fn words(error: &Error) -> String {
    let text = plain(&chain(error));
    match remedy(error, &text) {
        Some(remedy) => format!("{text} ({remedy})"),
        None => text,
    }
}

/// Any text that may hold a store's answer, as one line without what was signed.
pub fn plain(text: &str) -> String {
    one_line(&without_xml(text))
}

/// The error and its causes, each once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = inner.source();
    }
    text
}

/// An answer in XML becomes its code and its sentence.
fn without_xml(text: &str) -> String {
    let Some(start) = text.find("<?xml").or_else(|| text.find("<Error>")) else { return text.to_owned() };
    let between = |from: &str, to: &str| {
        let after = &text[start..][text[start..].find(from)? + from.len()..];
        Some(after[..after.find(to)?].trim().to_owned())
    };
    let told: Vec<String> = [between("<Code>", "</Code>"), between("<Message>", "</Message>")]
        .into_iter()
        .flatten()
        .filter(|t| !t.is_empty())
        .collect();
    let told = if told.is_empty() { "(an answer in XML)".to_owned() } else { told.join(", ") };
    format!("{}{told}", &text[..start])
}

fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{} ...", &line[..end]),
        None => line,
    }
}

fn remedy(error: &Error, text: &str) -> Option<&'static str> {
    let has = |part: &str| text.contains(part);
    match error {
        // Where machines of a cloud ask for their own credentials; elsewhere nobody answers.
        _ if has("169.254.169.254") || has("metadata.google.internal") => Some(
            "no credentials were found in the environment, and this machine gives none: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, \
             GOOGLE_APPLICATION_CREDENTIALS, or AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
        ),
        _ if has("Account must be specified") => {
            Some("set AZURE_STORAGE_ACCOUNT_NAME, or AZURE_STORAGE_USE_EMULATOR=true for Azurite")
        }
        _ if has("RequestTimeTooSkewed") => Some("set this machine's clock right"),
        _ if has("NoSuchBucket") || has("ContainerNotFound") => Some("make the bucket first; curette makes none"),
        _ if has("Received redirect") || has("PermanentRedirect") => Some("the bucket is in another region: set AWS_REGION"),
        _ if has("SignatureDoesNotMatch") || has("InvalidAccessKeyId") || has("AuthenticationFailed") => {
            Some("the key or its secret is wrong: check the environment")
        }
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
            Some("check the credentials in the environment, and that they may read, write, list and delete here")
        }
        Error::NotImplemented { .. } if has("conditional put") => Some("unset AWS_CONDITIONAL_PUT"),
        _ if has("SlowDown") || has("503 Service") || has("429 Too Many") => Some("the store throttles; start again later or with fewer workers"),
        _ if has("URL scheme is not allowed") || has("HttpsOnly") => Some("for a store without TLS set AWS_ALLOW_HTTP=true"),
        _ if has("onnection refused") || has("dns error") || has("error sending request") => {
            Some("nobody answers there: check the endpoint (AWS_ENDPOINT_URL) and the network")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(text: &str) -> Error {
        Error::Generic { store: "S3", source: text.into() }
    }

    #[test]
    fn an_answer_in_xml_becomes_a_sentence_without_what_was_signed() {
        let xml = "Server returned non-2xx status code: 403 Forbidden: <?xml version=\"1.0\"?>\n<Error><Code>SignatureDoesNotMatch</Code>\n\
                   <Message>The request signature does not match.</Message><AWSAccessKeyId>AKIAX</AWSAccessKeyId>\n\
                   <StringToSign>AWS4-HMAC-SHA256\n2026</StringToSign></Error>";
        let error = Error::PermissionDenied { path: "a/b".into(), source: xml.into() };
        let said = words(&error);
        assert!(
            said.contains("SignatureDoesNotMatch, The request signature does not match. (the key or its secret is wrong"),
            "{said}"
        );
        assert!(!said.contains("AKIAX") && !said.contains("AWS4") && !said.contains('\n'), "{said}");
    }

    #[test]
    fn remedies_fit() {
        for (text, part) in [
            ("Error performing PUT http://169.254.169.254/latest/api/token in 5s", "AWS_ACCESS_KEY_ID"),
            ("<Error><Code>NoSuchBucket</Code></Error>", "make the bucket first"),
            ("Received redirect without LOCATION", "AWS_REGION"),
            ("tcp connect error: Connection refused (os error 111)", "AWS_ENDPOINT_URL"),
            ("Server returned non-2xx status code: 503 Service Unavailable: <Error><Code>SlowDown</Code></Error>", "throttles"),
        ] {
            assert!(words(&generic(text)).contains(part), "{}", words(&generic(text)));
        }
        assert_eq!(words(&generic("odd")), "Generic S3 error: odd");
        assert!(words(&generic(&"long ".repeat(1000))).len() < 700);
    }
}
