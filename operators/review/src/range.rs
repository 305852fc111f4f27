//! Which part of a file a request asks for (RFC 9110, 14). Pure.
//!
//! A browser seeks in a video by asking for one range. What is no range of bytes, or several of them, is answered by the whole, which the standard allows;
//! a range behind the end cannot be answered.

/// What to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Everything.
    Whole,
    /// From this byte to that one, both included.
    Bytes(u64, u64),
    /// There is no such part.
    Beyond,
}

/// What a header `Range` asks for of so many bytes.
pub fn part(header: Option<&str>, length: u64) -> Part {
    let Some(range) = header.and_then(|text| text.trim().strip_prefix("bytes=")) else { return Part::Whole };
    let Some((first, last)) = range.split_once('-') else { return Part::Whole };
    let number = |text: &str| {
        let text = text.trim();
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        // A number too large for us is behind every end.
        digits.then(|| text.parse::<u64>().unwrap_or(u64::MAX))
    };
    match (first.trim().is_empty(), number(first), last.trim().is_empty(), number(last)) {
        // The last so many.
        (true, _, _, Some(0)) => Part::Beyond,
        (true, _, _, Some(_)) if length == 0 => Part::Beyond,
        (true, _, _, Some(n)) => Part::Bytes(length.saturating_sub(n), length - 1),
        (_, Some(first), true, _) if first < length => Part::Bytes(first, length - 1),
        (_, Some(first), _, Some(last)) if first > last => Part::Whole,
        (_, Some(first), _, Some(last)) if first < length => Part::Bytes(first, last.min(length - 1)),
        (_, Some(_), true, _) | (_, Some(_), _, Some(_)) => Part::Beyond,
        _ => Part::Whole,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_are_read_as_the_standard_says() {
        let all = [
            (None, Part::Whole),
            (Some("bytes=0-"), Part::Bytes(0, 9)),
            (Some("bytes=0-0"), Part::Bytes(0, 0)),
            (Some("bytes=4-99"), Part::Bytes(4, 9)),
            (Some("bytes=-3"), Part::Bytes(7, 9)),
            (Some("bytes=-30"), Part::Bytes(0, 9)),
            (Some("bytes=-0"), Part::Beyond),
            (Some("bytes=10-"), Part::Beyond),
            (Some("bytes=99999999999999999999-"), Part::Beyond),
            (Some("bytes=5-4"), Part::Whole),
            (Some("bytes=0-1,4-5"), Part::Whole),
            (Some("bytes=a-b"), Part::Whole),
            (Some("bytes=+1-2"), Part::Whole),
            (Some("items=0-1"), Part::Whole),
            (Some("bytes=-"), Part::Whole),
        ];
        for (header, want) in all {
            assert_eq!(part(header, 10), want, "{header:?}");
        }
        assert_eq!(part(Some("bytes=0-"), 0), Part::Beyond);
        assert_eq!(part(Some("bytes=-1"), 0), Part::Beyond);
    }

    proptest! {
        #[test]
        fn whatever_is_asked_the_part_is_inside(header in "(bytes=)?[0-9]{0,22}-?[0-9]{0,22}(,1-2)?", length in 0u64..1000) {
            if let Part::Bytes(first, last) = part(Some(&header), length) {
                prop_assert!(first <= last && last < length);
            }
        }
    }
}
