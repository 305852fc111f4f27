//! Makes a catalogue of video records: Parquet shards with the shape of a broad crawl, the same for the same seed.
//!
//! `cargo bench --bench catalogue -- OUT [RECORDS] [SEED]` (25,000,000 records in the paper's size; 1,000,000 by default). Columns: `id`, `title`,
//! `description`,
//! `channel_id`, `channel`, `tags`, `upload_date`, `duration`, `view_count`, and the truth in `is_medical`. Next to the shards lies `terms.txt`:
//! 1,500 terms of
//! `datasets/medical_terms.txt`, of which every medical record has at least one as a whole word, and no other record has one.
//!
//! Channels are skewed as 1 / rank, one for 25 records. One channel in fifty is medical: 70 % of its records are, against 0.3 % elsewhere. Titles and
//! descriptions are about 430 bytes together; one record in seven has letters beyond ASCII, one in a hundred a term glued to other letters, which is
//! no hit. A record depends on seed and number only; memory holds one row group.

// A bench prints its result.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanBuilder, Int64Builder, ListBuilder, RecordBatch, StringBuilder};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

const ROWS_PER_GROUP: u64 = 65_536;
const ROWS_PER_SHARD: u64 = 8 * ROWS_PER_GROUP;
const TERMS: usize = 1_500;
const RECORDS_PER_CHANNEL: u64 = 25;
const DESCRIPTION_BYTES: u64 = 375;
const TITLE_BYTES: u64 = 55;

/// Everyday words, none of which is a term.
const WORDS: &str = "\
    how to make the best of new video game music live official review tutorial day vlog easy recipe cooking travel house car build learn english \
    guitar dance cover song lyrics trailer episode season full match highlights goals today world people life love story funny cats dogs \
    subscribe channel follow link below like share comment watch more playlist thanks watching hope enjoy friends family summer winter beach \
    city street food market coffee morning night sleep dream phone camera laptop keyboard setup unboxing cheap price sale shop fashion style \
    outfit makeup nails hair colour paint drawing art wood metal garden plants flowers trees river mountain hiking bike train plane airport \
    hotel island sunset sunrise ocean fishing boat football basketball tennis racing engine wheel road trip drive truck tractor farm horse cow \
    chicken bread cake chocolate sugar salt pepper onion garlic tomato cheese pasta rice soup salad pizza burger tea wine beer party birthday \
    wedding christmas holiday school teacher student homework maths history science space rocket planet stars moon physics magic trick prank \
    challenge reaction compilation moments top ten facts explained theory mystery legend ghost horror movie film actor scene comedy drama \
    cartoon anime manga hero villain sword dragon castle king queen battle war army tank soldier island map minecraft survival server mod \
    speedrun level boss update patch guide tips tricks beginners advanced course lesson part one two three four five free download software code \
    program website app design logo photo edit effect sound beat remix piano drum bass violin concert festival interview podcast news weather \
    election president country money business market stock crypto bitcoin work job office desk chair room tour tiny cabin forest snow rain";
const BEYOND_ASCII: [&str; 8] = [
    "\u{1F600} ",
    "caf\u{e9} ",
    "it\u{2019}s ",
    "\u{2014} ",
    "\u{41f}\u{440}\u{438}\u{432}\u{435}\u{442} ",
    "\u{65e5}\u{672c} ",
    "\u{ff5c} ",
    "\u{2026} ",
];

/// A stream of random numbers (splitmix64), by seed and number.
struct Random(u64);

impl Random {
    fn of(seed: u64, number: u64) -> Random {
        let mut first = Random(seed ^ number.wrapping_mul(0xd134_2543_de82_ef95));
        Random(first.next())
    }
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }
    fn chance(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
    fn id(&mut self, letters: usize, out: &mut String) {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        (0..letters).for_each(|_| out.push(ALPHABET[self.below(64) as usize] as char));
    }
}

struct World {
    seed: u64,
    channels: u64,
    words: Vec<&'static str>,
    terms: Vec<String>,
}

#[derive(Default)]
struct Columns {
    texts: [StringBuilder; 6],
    tags: ListBuilder<StringBuilder>,
    numbers: [Int64Builder; 2],
    is_medical: BooleanBuilder,
    medical: u64,
    bytes: u64,
}

impl World {
    /// Words up to a length, with what is asked for at random places between them.
    fn text(&self, random: &mut Random, bytes: u64, among: &[String], out: &mut String) {
        out.clear();
        let every = bytes / (among.len() as u64 + 1);
        let mut left = among.iter();
        let mut at = random.below(every + 1);
        while (out.len() as u64) < bytes {
            if out.len() as u64 >= at
                && let Some(extra) = left.next()
            {
                out.push_str(extra);
                at += every;
            } else {
                out.push_str(self.words[random.below(self.words.len() as u64) as usize]);
            }
            out.push_str(match random.below(24) {
                0 => ".\n",
                1 => ", ",
                2 => ". ",
                _ => " ",
            });
        }
        left.for_each(|extra| out.push_str(extra));
    }

    fn record(&self, number: u64, columns: &mut Columns, text: &mut String) {
        let mut random = Random::of(self.seed, number);
        // The inverse of a distribution whose density is 1 / rank.
        let channel = (self.channels as f64).powf(random.chance()) as u64 - 1;
        let mut of_channel = Random::of(self.seed ^ 0x6368_616e, channel);
        let medical = random.chance() < if of_channel.below(50) == 0 { 0.7 } else { 0.003 };
        let term = |random: &mut Random| self.terms[random.below(self.terms.len() as u64) as usize].clone();
        let (mut in_title, mut in_description) = (Vec::new(), Vec::new());
        if medical {
            let terms = 1 + random.below(4);
            (0..terms).for_each(|n| {
                if n == 0 && random.below(3) > 0 { &mut in_title } else { &mut in_description }.push(term(&mut random))
            });
        } else if random.below(100) == 0 {
            let letters: String = term(&mut random).chars().filter(|c| c.is_alphanumeric()).collect();
            in_description.push(format!("re{letters}x"));
        }
        if random.below(7) == 0 {
            in_description.push(BEYOND_ASCII[random.below(8) as usize].trim().to_owned());
            in_title.push(BEYOND_ASCII[random.below(8) as usize].trim().to_owned());
        }
        let around = |random: &mut Random, mean: u64| mean / 2 + random.below(mean / 2) + random.below(mean / 2 + 1);
        let [id, title, description, channel_id, channel_name, date] = &mut columns.texts;
        let mut put = |builder: &mut StringBuilder, text: &str| {
            columns.bytes += text.len() as u64;
            builder.append_value(text);
        };
        text.clear();
        random.id(11, text);
        put(id, text);
        let length = around(&mut random, TITLE_BYTES);
        self.text(&mut random, length, &in_title, text);
        put(title, text.trim());
        let length = around(&mut random, DESCRIPTION_BYTES);
        self.text(&mut random, length, &in_description, text);
        put(description, text.trim());
        text.clear();
        text.push_str("UC");
        of_channel.id(22, text);
        channel_id.append_value(&*text);
        channel_name.append_value(format!("{} {}", self.words[of_channel.below(self.words.len() as u64) as usize], channel));
        date.append_value(format!("20{:02}{:02}{:02}", 10 + random.below(15), 1 + random.below(12), 1 + random.below(28)));
        let tags: Vec<&str> = (0..random.below(5)).map(|_| self.words[random.below(self.words.len() as u64) as usize]).collect();
        columns.tags.append_value(tags.into_iter().map(Some));
        columns.numbers[0].append_value(10 + random.below(3_000) as i64);
        columns.numbers[1].append_value((10f64.powf(7.0 * random.chance())) as i64);
        columns.is_medical.append_value(medical);
        columns.medical += u64::from(medical);
    }
}

fn batch(columns: &mut Columns) -> RecordBatch {
    let [id, title, description, channel_id, channel, date] = &mut columns.texts;
    let [duration, views] = &mut columns.numbers;
    RecordBatch::try_from_iter([
        ("id", Arc::new(id.finish()) as ArrayRef),
        ("title", Arc::new(title.finish())),
        ("description", Arc::new(description.finish())),
        ("channel_id", Arc::new(channel_id.finish())),
        ("channel", Arc::new(channel.finish())),
        ("tags", Arc::new(columns.tags.finish())),
        ("upload_date", Arc::new(date.finish())),
        ("duration", Arc::new(duration.finish())),
        ("view_count", Arc::new(views.finish())),
        ("is_medical", Arc::new(columns.is_medical.finish())),
    ])
    .unwrap()
}

fn terms() -> Vec<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/medical_terms.txt");
    let text = std::fs::read_to_string(file).unwrap();
    let all: Vec<&str> = text.lines().map(|l| l.split('#').next().unwrap().trim()).filter(|l| !l.is_empty()).collect();
    let step = all.len() / TERMS;
    all.into_iter().step_by(step).take(TERMS).map(str::to_owned).collect()
}

fn main() {
    let mut args = std::env::args().skip(1).filter(|a| !a.starts_with("--"));
    let out = args.next().expect("a folder to write to");
    let records: u64 = args.next().map_or(1_000_000, |n| n.parse().expect("a number of records"));
    let seed: u64 = args.next().map_or(1, |n| n.parse().expect("a seed"));
    let out = Path::new(&out);
    std::fs::create_dir_all(out).unwrap();
    let terms = terms();
    std::fs::write(out.join("terms.txt"), terms.join("\n") + "\n").unwrap();
    let channels = (records / RECORDS_PER_CHANNEL).max(2);
    let world = World { seed, channels, words: WORDS.split_whitespace().collect(), terms };
    let level = ZstdLevel::try_new(1).unwrap();
    let properties = || WriterProperties::builder().set_compression(Compression::ZSTD(level)).build();
    let (mut columns, mut text) = (Columns::default(), String::new());
    for (shard, first) in (0..records).step_by(ROWS_PER_SHARD as usize).enumerate() {
        let last = (first + ROWS_PER_SHARD).min(records);
        let mut writer: Option<ArrowWriter<File>> = None;
        for from in (first..last).step_by(ROWS_PER_GROUP as usize) {
            (from..(from + ROWS_PER_GROUP).min(last)).for_each(|number| world.record(number, &mut columns, &mut text));
            let batch = batch(&mut columns);
            let writer = writer.get_or_insert_with(|| {
                let file = File::create(out.join(format!("records-{shard:05}.parquet"))).unwrap();
                ArrowWriter::try_new(file, batch.schema(), Some(properties())).unwrap()
            });
            writer.write(&batch).unwrap();
            writer.flush().unwrap();
        }
        writer.unwrap().close().unwrap();
    }
    println!(
        "{{\"records\": {records}, \"medical\": {}, \"channels\": {channels}, \"mean_bytes\": {:.1}, \"seed\": {seed}}}",
        columns.medical,
        columns.bytes as f64 / records as f64
    );
}
