//! Text that others wrote, made harmless for the place where it is shown. Pure.
//!
//! Titles, descriptions and captions come from strangers. What can go wrong: markup, quotes that end an attribute, characters that turn the
//! direction of the text around it, control characters; none of them gets through.

use std::borrow::Cow;

/// Characters of a text that is shown; the rest is left out with a `…`.
pub const SHOWN_CHARS: usize = 400;

/// For HTML and SVG, in text and in quoted attributes.
pub fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(visible(c)),
        }
    }
    out
}

/// For a line of Markdown or a cell of its tables: all that it could mean is said to mean nothing.
pub fn markdown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' => out.push(' '),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '(' | ')' | '#' | '|' | '!' | '~' | '$' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(visible(c)),
        }
    }
    out
}

/// For YAML: a double-quoted scalar, of which JSON's strings are a part.
pub fn yaml(text: &str) -> String {
    serde_json::Value::from(text.chars().map(visible).collect::<String>()).to_string()
}

/// The beginning of a text.
pub fn short(text: &str, chars: usize) -> Cow<'_, str> {
    match text.char_indices().nth(chars) {
        None => Cow::Borrowed(text),
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
    }
}

/// Characters that cannot be seen but change what is seen become U+FFFD.
fn visible(c: char) -> char {
    match c {
        '\n' | '\t' => c,
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => '\u{fffd}',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hostile_texts_are_text() {
        assert_eq!(html("<script>alert('x')</script>"), "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;");
        assert_eq!(html("\" onload=\"x\u{202e}\0"), "&quot; onload=&quot;x\u{fffd}\u{fffd}");
        assert_eq!(markdown("a | b\n# [x](javascript:y) <b>"), r"a \| b \# \[x\]\(javascript:y\) &lt;b&gt;");
        assert_eq!(yaml("a: \"b\"\n- c\u{202e}"), r#""a: \"b\"\n- c�""#);
        assert_eq!((short("äbc", 2).as_ref(), short("äbc", 3).as_ref()), ("äb…", "äbc"));
    }

    proptest! {
        #[test]
        fn no_text_opens_a_tag_or_ends_an_attribute(text in any::<String>()) {
            prop_assert!(!html(&text).contains(['<', '>', '"', '\'']));
            let line = markdown(&text);
            prop_assert!(!line.contains(['<', '>', '\n']));
            let back: String = serde_json::from_str(&yaml(&text)).unwrap();
            prop_assert_eq!(back, text.chars().map(visible).collect::<String>());
        }
    }
}
