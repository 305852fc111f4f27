//! From the terms that were found in a row to the decision about it. Pure.

use curette_engine::verdict::Verdict;

use super::keyword_filter::KeywordFilter;
use super::keywords::{Pattern, Role};

/// What was found in one row, used again from row to row.
#[derive(Default)]
pub struct Found {
    /// Whether there was any text to search.
    pub has_text: bool,
    /// Terms by field: numbers, and after [`Found::settle`] each once, ascending.
    by_field: Vec<Vec<usize>>,
    /// Distinct terms over all fields, ascending.
    terms: Vec<usize>,
    /// The first veto.
    veto: Option<usize>,
}

impl Found {
    /// Forgets the last row.
    pub fn clear(&mut self) {
        self.has_text = false;
        self.by_field.iter_mut().for_each(Vec::clear);
        self.terms.clear();
        self.veto = None;
    }

    /// Where to put what is found in a field.
    pub fn field(&mut self, field: usize) -> &mut Vec<usize> {
        if self.by_field.len() <= field {
            self.by_field.resize_with(field + 1, Vec::new);
        }
        &mut self.by_field[field]
    }

    /// After all fields: joins doubles, and takes vetoes out.
    pub fn settle(&mut self, patterns: &[Pattern]) {
        for terms in self.by_field.iter_mut().filter(|terms| !terms.is_empty()) {
            terms.sort_unstable();
            terms.dedup();
            let veto = terms.iter().copied().find(|&term| patterns[term].role == Role::Veto);
            self.veto = self.veto.or(veto);
            terms.retain(|&term| patterns[term].role == Role::Term);
            self.terms.extend_from_slice(terms);
        }
        self.terms.sort_unstable();
        self.terms.dedup();
    }

    /// Distinct terms over all fields, sorted by their text.
    pub fn terms(&self) -> &[usize] {
        &self.terms
    }

    /// Distinct terms of each field, sorted by their text.
    pub fn by_field(&self) -> impl Iterator<Item = (usize, &[usize])> {
        self.by_field.iter().enumerate().map(|(field, terms)| (field, terms.as_slice()))
    }
}

/// What a row needs.
pub struct Rules {
    min_hits: u32,
    /// Field, its name, and the least number of terms.
    by_field: Vec<(usize, String, u32)>,
    /// Dictionary, its name, and the least number of terms.
    by_dictionary: Vec<(usize, String, u32)>,
    /// By field.
    weights: Vec<f64>,
    min_score: Option<f64>,
}

impl Rules {
    /// The rules of a step whose dictionaries have these names.
    pub fn of(step: &KeywordFilter, dictionaries: &[String]) -> Rules {
        let numbered = |names: &[String], table: &std::collections::BTreeMap<String, u32>| {
            let minimum = |(at, name): (usize, &String)| table.get(name).map(|&least| (at, name.clone(), least));
            names.iter().enumerate().filter_map(minimum).collect()
        };
        Rules {
            min_hits: step.min_hits,
            by_field: numbered(&step.fields, &step.min_hits_by_field),
            by_dictionary: numbered(dictionaries, &step.min_hits_by_dictionary),
            weights: step.fields.iter().map(|field| step.weights.get(field).copied().unwrap_or(1.0)).collect(),
            min_score: step.min_score,
        }
    }

    /// The sum over distinct terms of what each is worth.
    pub fn score(&self, found: &Found) -> f64 {
        let worth = |term: &usize| {
            let here = found.by_field().filter(|(_, terms)| terms.binary_search(term).is_ok());
            here.map(|(field, _)| self.weights[field]).fold(0.0, f64::max)
        };
        found.terms().iter().map(worth).sum()
    }

    /// The decision; the first rule that is broken is the reason.
    pub fn judge(&self, found: &Found, patterns: &[Pattern]) -> Verdict {
        if let Some(veto) = found.veto {
            return Verdict::fail_because("vetoed", format!("`{}` occurs, which no row may have", patterns[veto].text));
        }
        let named = |terms: &[usize]| match terms {
            [] => "none".to_owned(),
            terms => terms.iter().map(|&t| patterns[t].text.as_str()).collect::<Vec<_>>().join(", "),
        };
        let hits = found.terms().len();
        if hits < self.min_hits as usize {
            let message = format!("{hits} of the {} terms needed occur: {}", self.min_hits, named(found.terms()));
            return Verdict::fail("too_few_keyword_hits", hits as f64, f64::from(self.min_hits), message);
        }
        for (field, name, least) in &self.by_field {
            let here = found.by_field.get(*field).map_or(&[][..], Vec::as_slice);
            if here.len() < *least as usize {
                let message = format!("{} of the {least} terms needed in `{name}` occur: {}", here.len(), named(here));
                return Verdict::fail("too_few_hits_in_field", here.len() as f64, f64::from(*least), message);
            }
        }
        for (bit, name, least) in &self.by_dictionary {
            let of: Vec<usize> = found.terms().iter().copied().filter(|&t| patterns[t].dictionaries >> bit & 1 == 1).collect();
            if of.len() < *least as usize {
                let message = format!("{} of the {least} terms needed of `{name}` occur: {}", of.len(), named(&of));
                return Verdict::fail("too_few_hits_of_dictionary", of.len() as f64, f64::from(*least), message);
            }
        }
        let score = self.score(found);
        match self.min_score.filter(|least| score < *least) {
            Some(least) => {
                let message = format!("the terms are worth {score}, needed are {least}: {}", named(found.terms()));
                Verdict::fail("low_keyword_score", score, least, message)
            }
            None => Verdict::Pass,
        }
    }
}
