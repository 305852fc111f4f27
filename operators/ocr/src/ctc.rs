//! Greedy decoding of connectionist temporal classification: the best class of each step, repeats and blanks dropped.
//!
//! The score of PP-OCR is the mean probability of the steps that gave a character. EasyOCR's goes down with the length of the text: see
//! [`decode_easyocr`].

use crate::Dictionary;

/// What the recogniser read in one strip.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// The text; may be empty.
    pub text: String,
    /// Mean probability of its characters, 0 to 1; 0 for no character.
    pub score: f32,
}

/// Decodes steps of `dictionary.classes()` probabilities each; class 0 is the blank. Steps whose numbers are none are blanks.
pub fn decode(steps: &[f32], dictionary: &Dictionary) -> Decoded {
    let (mut text, mut last, mut sum, mut count) = (String::new(), 0, 0.0, 0u32);
    for step in steps.chunks_exact(dictionary.classes()) {
        let (class, probability) = best(step);
        if class != 0 && class != last {
            text.push_str(dictionary.character(class));
            sum += probability;
            count += 1;
        }
        last = class;
    }
    Decoded { text, score: if count == 0 { 0.0 } else { sum / count as f32 } }
}

/// As [`decode`], of numbers that the network gives before its softmax, with EasyOCR's score: the product of the best probabilities of the `n` steps
/// that are no blanks, repeats among them, to the power of `2 / sqrt(n)`. Steps that are probabilities already are taken as they are.
pub fn decode_easyocr(steps: &[f32], dictionary: &Dictionary) -> Decoded {
    let (mut text, mut last, mut product, mut count) = (String::new(), 0, 1.0f32, 0u32);
    for step in steps.chunks_exact(dictionary.classes()) {
        let (class, value) = best(step);
        if class != 0 {
            product *= probability(step, value);
            count += 1;
            if class != last {
                text.push_str(dictionary.character(class));
            }
        }
        last = class;
    }
    let score = if count == 0 { 0.0 } else { f64::from(product).powf(2.0 / f64::from(count).sqrt()) as f32 };
    Decoded { text, score }
}

/// Softmax of the largest value of a step.
fn probability(step: &[f32], largest: f32) -> f32 {
    let sum: f32 = step.iter().sum();
    if (sum - 1.0).abs() < 1e-3 && step.iter().all(|v| *v >= 0.0) {
        return largest;
    }
    1.0 / step.iter().map(|v| (v - largest).exp()).sum::<f32>()
}

/// The first class with the largest probability.
fn best(step: &[f32]) -> (usize, f32) {
    // In two passes, because the compiler makes vector code of the first one.
    let mut lanes = [f32::NEG_INFINITY; 16];
    let chunks = step.chunks_exact(lanes.len());
    let tail = chunks.remainder().iter().fold(f32::NEG_INFINITY, |a, b| if *b > a { *b } else { a });
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = if *value > *lane { *value } else { *lane };
        }
    }
    let most = lanes.iter().fold(tail, |a, b| if *b > a { *b } else { a });
    step.iter().position(|v| *v == most).map_or((0, 0.0), |class| (class, most))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn letters() -> Dictionary {
        Dictionary::from_lines("a\nb\nc")
    }

    /// One step: the class has 0.9, the others the rest.
    fn steps(classes: &[usize]) -> Vec<f32> {
        let n = letters().classes();
        classes.iter().flat_map(|c| (0..n).map(move |i| if i == *c { 0.9 } else { 0.1 / (n - 1) as f32 })).collect()
    }

    #[test]
    fn repeats_and_blanks_are_dropped_and_a_blank_parts_doubles() {
        let read = |classes: &[usize]| decode(&steps(classes), &letters());
        assert_eq!(read(&[0, 1, 1, 0, 1, 2, 2, 4, 3, 0]).text, "aab c");
        assert!((read(&[1, 0, 2]).score - 0.9).abs() < 1e-6);
        assert_eq!(read(&[0, 0]), Decoded { text: String::new(), score: 0.0 });
        assert_eq!(read(&[]), Decoded { text: String::new(), score: 0.0 });
    }

    #[test]
    fn easyocrs_score_is_a_product_and_logits_give_what_probabilities_give() {
        let probabilities = steps(&[0, 1, 1, 0, 2, 0]);
        let logits: Vec<f32> = probabilities.iter().map(|p| p.ln() + 3.0).collect();
        let want = 0.9f32.powi(3).powf(2.0 / 3f32.sqrt());
        for values in [&probabilities, &logits] {
            let read = decode_easyocr(values, &letters());
            assert_eq!(read.text, "ab");
            assert!((read.score - want).abs() < 1e-5, "{} {want}", read.score);
        }
        assert_eq!(decode_easyocr(&steps(&[0, 0]), &letters()), Decoded { text: String::new(), score: 0.0 });
    }

    #[test]
    fn numbers_that_are_none_are_blanks() {
        assert_eq!(decode_easyocr(&[f32::NAN; 10], &letters()).text, "");
        assert_eq!(decode(&[f32::NAN; 10], &letters()).text, "");
    }

    proptest! {
        #[test]
        fn the_best_class_is_that_of_a_plain_search(step in prop::collection::vec(0u8..40, 1..200)) {
            let step: Vec<f32> = step.iter().map(|v| f32::from(*v)).collect();
            let mut want = 0;
            for (i, v) in step.iter().enumerate() {
                if *v > step[want] { want = i; }
            }
            prop_assert_eq!(best(&step), (want, step[want]));
        }
    }
}
