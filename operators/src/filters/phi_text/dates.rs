//! Full dates in a line: where they are. Pure.
//!
//! Known are day, month and year in any order that countries write, with `/`, `.`, `-` or spaces between, months as words (English, German, French,
//! Spanish: the first three letters), and eight digits (DICOM's `YYYYMMDD`, also `DDMMYYYY`). What can go wrong: a version number such as 1.2.03
//! looks like a date and counts as one.

use std::ops::Range;

/// Years that people who are filmed were born or examined in.
const YEARS: std::ops::RangeInclusive<u32> = 1900..=2099;
/// The beginnings of months, in the languages above; without accents.
const MONTHS: [&[&str]; 12] = [
    &["jan", "ene"],
    &["feb", "fev"],
    &["mar", "mrz"],
    &["apr", "avr", "abr"],
    &["may", "mai"],
    &["jun", "juin"],
    &["jul", "juil"],
    &["aug", "aou", "ago"],
    &["sep"],
    &["oct", "okt"],
    &["nov"],
    &["dec", "dez", "dic"],
];

/// A word or number of a line, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Its text.
    pub text: &'a str,
    /// Bytes in the line.
    pub at: Range<usize>,
}

/// Runs of letters and runs of digits.
pub fn pieces(line: &str) -> Vec<Piece<'_>> {
    let mut out: Vec<Piece> = Vec::new();
    let mut start = None;
    let kind = |c: char| {
        if c.is_ascii_digit() {
            1
        } else if c.is_alphabetic() {
            2
        } else {
            0
        }
    };
    let mut last = 0;
    for (at, c) in line.char_indices().chain([(line.len(), ' ')]) {
        let now = kind(c);
        if now != last {
            if let Some(from) = start.take() {
                out.push(Piece { text: &line[from..at], at: from..at });
            }
            start = (now != 0).then_some(at);
        }
        last = now;
    }
    out
}

/// The dates of a line, as ranges of bytes, from left to right.
pub fn dates(line: &str) -> Vec<Range<usize>> {
    let all = pieces(line);
    let mut out = Vec::new();
    let mut i = 0;
    while i < all.len() {
        if let Some(three) = all.get(i..i + 3).filter(|three| is_date(line, three)) {
            out.push(three[0].at.start..three[2].at.end);
            i += 3;
        } else {
            if eight_digits(all[i].text) {
                out.push(all[i].at.clone());
            }
            i += 1;
        }
    }
    out
}

fn is_date(line: &str, three: &[Piece]) -> bool {
    let between = |a: &Piece, b: &Piece| &line[a.at.end..b.at.start];
    let (first, second) = (between(&three[0], &three[1]), between(&three[1], &three[2]));
    let number = |p: &Piece| p.text.parse::<u32>().ok().filter(|_| p.text.len() <= 4);
    let year = |p: &Piece| number(p).is_some_and(|y| p.text.len() == 2 || (p.text.len() == 4 && YEARS.contains(&y)));
    let full_year = |p: &Piece| p.text.len() == 4 && year(p);
    let within = |p: &Piece, most: u32| number(p).is_some_and(|n| (1..=most).contains(&n) && p.text.len() <= 2);
    let [a, b, c] = three else { return false };
    if is_month(b.text) || is_month(a.text) {
        let gap = |g: &str| g.len() <= 3 && g.chars().all(|c| " .,-/'".contains(c));
        let day_first = within(a, 31) && is_month(b.text) && year(c);
        let year_first = full_year(a) && is_month(b.text) && within(c, 31);
        let month_first = is_month(a.text) && within(b, 31) && full_year(c);
        return gap(first) && gap(second) && (day_first || year_first || month_first);
    }
    let mark = first.trim();
    let same = second.trim() == mark && ["/", ".", "-"].contains(&mark) && first.len() <= 3 && second.len() <= 3;
    // A longer chain is a version or a range of numbers.
    let goes_on = line[c.at.end..].strip_prefix(mark).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    let same = same && !goes_on;
    let day_month = (within(a, 31) && within(b, 12)) || (within(a, 12) && within(b, 31));
    same && ((day_month && year(c)) || (full_year(a) && within(b, 12) && within(c, 31)))
}

fn is_month(word: &str) -> bool {
    let plain: String = word
        .to_lowercase()
        .chars()
        .map(|c| match c {
            'é' | 'è' | 'ê' => 'e',
            'û' | 'ü' | 'ù' => 'u',
            'ä' => 'a',
            c => c,
        })
        .collect();
    plain.chars().count() >= 3
        && plain.chars().count() <= 10
        && MONTHS.iter().flat_map(|m| *m).any(|start| plain.starts_with(start))
}

/// Eight digits that are a date in one of the two ways in which machines write it.
pub fn eight_digits(text: &str) -> bool {
    if text.len() != 8 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return false;
    }
    let part = |range: Range<usize>| text[range].parse::<u32>().unwrap_or(0);
    let good = |y: u32, m: u32, d: u32| YEARS.contains(&y) && (1..=12).contains(&m) && (1..=31).contains(&d);
    good(part(0..4), part(4..6), part(6..8)) || good(part(4..8), part(2..4), part(0..2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_many_countries_are_found_and_measures_are_not() {
        for line in [
            "12/03/1956",
            "03-12-56",
            "1956-03-12",
            "12.03.1956 10:32",
            "12 Mar 1956",
            "Mar 12, 1956",
            "2. Februar 1988",
            "12 août 1990",
            "19560312",
            "31121999",
            "12MAR1956",
            "5 / 6 / 2001",
            "1956 Dec 31",
            "3 de",
        ] {
            let expected = usize::from(line != "3 de");
            assert_eq!(dates(line).len(), expected, "{line}");
        }
        for line in [
            "120/80 mmHg",
            "12:03:56",
            "1.5 cm",
            "45/13/2001",
            "32.01.2001",
            "ratio 1/2",
            "2023",
            "March 2023",
            "v1.2",
            "EF 55-60 %",
            "00000000",
            "20231301",
            "10-20-30-40",
            "12/03-1956",
            "May 5 patients",
            "3.0 T 1.5 mm 64 x 64",
        ] {
            assert!(dates(line).is_empty(), "{line}: {:?}", dates(line));
        }
        assert_eq!(dates("a 12/03/1956 b 1.4.2001"), [2..12, 15..23]);
    }

    #[test]
    fn pieces_cover_letters_and_digits_and_nothing_else() {
        let texts = |line: &'static str| pieces(line).into_iter().map(|p| p.text).collect::<Vec<_>>();
        assert_eq!(texts("né le 12MAR,7é"), ["né", "le", "12", "MAR", "7", "é"]);
        assert!(texts(" .,:").is_empty());
    }
}
