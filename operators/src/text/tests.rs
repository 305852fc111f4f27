//! Golden files as YouTube and editors write them, and junk.

use proptest::prelude::*;

use super::*;

/// Two rolling lines as yt-dlp saves them: blank first line is one space, 10 ms cues between, positions after the times.
const ROLLING: &str = "WEBVTT\nKind: captions\nLanguage: en\n\n\
00:00:00.160 --> 00:00:02.389 align:start position:0%\n \nthe<00:00:00.480><c> left</c><00:00:00.800><c> ventricle</c>\n\n\
00:00:02.389 --> 00:00:02.399 align:start position:0%\nthe left ventricle\n \n\n\
00:00:02.399 --> 00:00:04.550 align:start position:0%\nthe left ventricle\ncontracts<00:00:03.120><c> &amp;</c><00:00:03.600><c> relaxes</c>\n\n\
00:00:04.550 --> 00:00:04.560 align:start position:0%\ncontracts &amp; relaxes\n \n\n\
00:00:04.560 --> 00:00:07.000 align:start position:0%\ncontracts &amp; relaxes\n[Music]\n\n";

fn items(text: &str) -> Vec<String> {
    read(text.as_bytes()).unwrap().items.iter().map(|i| format!("{}-{} {}", i.start_us, i.end_us, i.text)).collect()
}

#[test]
fn rolling_captions_say_each_word_once_with_its_time() {
    assert_eq!(
        items(ROLLING),
        [
            "160000-480000 the",
            "480000-800000 left",
            "800000-2389000 ventricle",
            "2399000-3120000 contracts",
            "3120000-3600000 &",
            "3600000-4550000 relaxes",
            "4560000-7000000 [Music]",
        ]
    );
    assert!(read(ROLLING.as_bytes()).unwrap().has_word_times);
}

#[test]
fn a_line_that_begins_with_a_time_starts_then_and_not_with_its_cue() {
    let vtt = "WEBVTT\n\n00:01.000 --> 00:05.000\n<00:02.000><c>the</c><00:03.000><c> valve</c>\n<00:04.000>opens\n";
    assert_eq!(items(vtt), ["2000000-3000000 the", "3000000-5000000 valve", "4000000-5000000 opens"]);
    let one = "WEBVTT\n\n00:01.000 --> 00:05.000\n<00:04.000>opens\n";
    assert!(read(one.as_bytes()).unwrap().has_word_times);
}

#[test]
fn an_editor_that_trimmed_the_blank_line_does_not_orphan_the_words() {
    let trimmed = ROLLING.replace("\n \n", "\n\n");
    assert_eq!(items(&trimmed), items(ROLLING));
}

#[test]
fn windows_line_ends_a_byte_order_mark_and_utf16_change_nothing() {
    let crlf = format!("\u{feff}{}", ROLLING.replace('\n', "\r\n"));
    assert_eq!(items(&crlf), items(ROLLING));
    let wide: Vec<u8> = [0xff, 0xfe].into_iter().chain(ROLLING.encode_utf16().flat_map(u16::to_le_bytes)).collect();
    assert_eq!(read(&wide).unwrap(), read(ROLLING.as_bytes()).unwrap());
}

#[test]
fn what_is_said_again_after_a_pause_is_no_copy() {
    let vtt = |second: &str| format!("WEBVTT\n\n00:01.000 --> 00:02.000\nYes.\n\n{second} --> 00:09.000\nYes.\nNow cut.\n");
    assert_eq!(
        items(&vtt("00:02.199")),
        ["1000000-2000000 Yes.", "2199000-9000000 Now cut."],
        "carried: the screen was never empty"
    );
    assert_eq!(
        items(&vtt("00:02.200")),
        ["1000000-2000000 Yes.", "2200000-9000000 Yes.", "2200000-9000000 Now cut."],
        "said twice: the screen was empty between"
    );
}

#[test]
fn rolling_captions_converted_to_srt_lose_their_copies_too() {
    let srt = "1\n00:00:00,160 --> 00:00:02,389\nthe left ventricle\n\n\
               2\n00:00:02,389 --> 00:00:02,399\nthe left ventricle\n\n\
               3\n00:00:02,399 --> 00:00:04,550\nthe left ventricle\ncontracts and relaxes\n\n\
               4\n00:00:04,550 --> 00:00:04,560\ncontracts and relaxes\n\n\
               5\n00:00:04,560 --> 00:00:07,000\ncontracts and relaxes\nsixty times\n";
    assert_eq!(
        items(srt),
        ["160000-2389000 the left ventricle", "2399000-4550000 contracts and relaxes", "4560000-7000000 sixty times"]
    );
}

#[test]
fn manual_srt_keeps_its_lines_without_markup() {
    let srt = "1\n00:01:02,5 --> 00:01:04,000\n{\\an8}<i>Stenosis</i>\npH &lt; 7 < 8\n2\n01:00:00,000 --> 01:00:01,000\n<font color=\"#fff\">Caf&#233;&nbsp;au&#x20;lait</font>\n";
    assert_eq!(items(srt), ["62500000-64000000 Stenosis", "62500000-64000000 pH < 7 < 8", "3600000000-3601000000 Café au lait"]);
    assert!(!read(srt.as_bytes()).unwrap().has_word_times);
}

#[test]
fn notes_styles_and_reversed_times_are_skipped() {
    let vtt = "WEBVTT - a title\n\nNOTE not spoken\nreally\n\nSTYLE\n::cue { color: red }\n\nintro\n00:01.000 --> 00:02.000\nHello\n\n\
               00:05.000 --> 00:04.000\nbackwards\n\nxx --> yy\nnonsense\n\n00:06.000 --> 00:07.000\n\nNOTE late note\n\n00:08.000 --> 00:09.000\nBye\n";
    assert_eq!(items(vtt), ["1000000-2000000 Hello", "8000000-9000000 Bye"]);
}

#[test]
fn damage_and_silence_are_told_apart() {
    assert_eq!(read(b""), Err(TranscriptError::NoCues));
    assert_eq!(read(b"\x00\x01\x02 not captions"), Err(TranscriptError::NoCues));
    assert_eq!(read(b"WEBVTT\n\n").unwrap().items, []);
}

#[test]
fn broken_utf8_is_replaced_not_fatal() {
    let mut bytes = b"1\n00:00:01,000 --> 00:00:02,000\n".to_vec();
    bytes.extend([b'a', 0xff, b'b', b'\n']);
    assert_eq!(read(&bytes).unwrap().items[0].text, "a\u{fffd}b");
}

#[test]
fn of_two_adjacent_clips_only_one_gets_a_word_at_the_border() {
    let words = [(0, 10, "a"), (10, 20, "b"), (20, 20, "c"), (20, 30, "d")];
    assert_eq!(clip_transcript(words, 0, 10), "a");
    assert_eq!(clip_transcript(words, 5, 20), "a b");
    assert_eq!(clip_transcript(words, 20, 40), "c d");
    assert_eq!(clip_transcript(words, 40, 50), "");
}

#[test]
fn a_column_gives_back_what_was_put_in() {
    let transcript = read(ROLLING.as_bytes()).unwrap();
    let column = transcript_column([None, Some(&transcript.items[..]), Some(&[][..])].into_iter());
    assert_eq!(*column.data_type(), transcript_type());
    assert_eq!(transcript_items(&column, 0), None);
    assert_eq!(transcript_items(&column, 2), Some(vec![]));
    let items = transcript_items(&column, 1).unwrap();
    assert_eq!(items.len(), 7);
    assert_eq!(
        clip_transcript(items.iter().map(|(a, b, t)| (*a, *b, t.as_str())), 700_000, 3_000_000),
        "left ventricle contracts"
    );
}

#[test]
fn a_pathological_file_takes_linear_time() {
    // Unclosed tags, references, blank lines and huge cues: the naive way is quadratic in each.
    let line = "<a&".repeat(300_000);
    let same = "x\n".repeat(200_000);
    let blank = "\n".repeat(200_000);
    let text =
        format!("WEBVTT\n\n00:01.000 --> 00:02.000\n{line}\n\n00:02.000 --> 00:03.000\n{same}\n00:04.000 --> 00:05.000\n{blank}");
    let begin = std::time::Instant::now();
    read(text.as_bytes()).unwrap();
    assert!(begin.elapsed().as_secs() < 20, "{:?}", begin.elapsed());
}

proptest! {
    #[test]
    fn junk_never_panics_and_items_keep_their_promises(bytes in junk()) {
        if let Ok(transcript) = read(&bytes) {
            let mut last = i64::MIN;
            for item in transcript.items {
                prop_assert!(item.start_us <= item.end_us && item.start_us >= last);
                last = item.start_us;
                prop_assert!(!item.text.is_empty());
                prop_assert_eq!(&item.text, &item.text.split_whitespace().collect::<Vec<_>>().join(" "));
            }
        }
    }
}

/// Fragments that readers trip over, in any order, with random bytes between.
fn junk() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        prop::sample::select(vec![
            "WEBVTT",
            "\n",
            "\r\n",
            "\r",
            "\n\n",
            " ",
            "-->",
            "00:00:01.000 --> 00:00:02.000",
            "00:01,5 --> 99:59:59",
            "<00:00:01.500>",
            "<c>",
            "</c>",
            "<",
            ">",
            "&",
            "&amp;",
            "&#x110000;",
            "&#0;",
            "&;",
            "{\\an8}",
            "{",
            "NOTE",
            "1",
            "word",
            "é",
            "\u{feff}",
            "\u{200b}",
            "999999:59:59.9999999 --> 999999:59:59.99999999",
            "-1:00:00 --> ::",
        ])
        .prop_map(|s| s.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..6),
    ];
    prop::collection::vec(part, 0..60).prop_map(|parts| parts.concat())
}
