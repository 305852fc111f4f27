//! SQL text to a syntax tree, with the byte ranges of the names in it.
//!
//! Why not DataFusion's own parser wrapper: it keeps no place for a syntax error. What can go wrong: expressions are trees that the planner walks
//! recursively, so their size is limited here ([`MAX_TOKENS`], [`MAX_NESTING`], [`MAX_DEPTH`]) and no text can exhaust the stack.

use std::ops::{ControlFlow, Range};

use datafusion_sql::sqlparser::ast::{BinaryOperator, Expr, ObjectNamePart, Spanned, Visit, Visitor};
use datafusion_sql::sqlparser::dialect::GenericDialect;
use datafusion_sql::sqlparser::parser::{Parser, ParserError};
use datafusion_sql::sqlparser::tokenizer::{Location, Span, Token, Tokenizer};

use super::PredicateError;

/// A condition has at most this many words, numbers and signs.
const MAX_TOKENS: usize = 500;
/// Parentheses and function calls nest at most this deep.
const MAX_NESTING: usize = 30;
/// The tree is at most this deep: a chain of `and` is as deep as it is long.
const MAX_DEPTH: usize = 64;

/// A syntax tree and the names in it, in the order of the text.
pub(super) struct Parsed {
    pub expr: Expr,
    pub columns: Vec<(String, Range<usize>)>,
    pub functions: Vec<(String, Range<usize>)>,
}

impl Parsed {
    /// Each column once, in the order of first use.
    pub fn column_names(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for (name, _) in &self.columns {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        names
    }
}

/// Byte offset of a 1-based line and column (in characters).
pub(super) fn offset(sql: &str, line: u64, column: u64) -> usize {
    let skip = usize::try_from(line.saturating_sub(1)).unwrap_or(usize::MAX);
    let start: usize = sql.split_inclusive('\n').take(skip).map(str::len).sum();
    let rest = sql.get(start..).unwrap_or_default();
    let column = usize::try_from(column.saturating_sub(1)).unwrap_or(usize::MAX);
    start + rest.char_indices().nth(column).map_or(rest.len(), |(i, _)| i)
}

fn range(sql: &str, span: Span) -> Option<Range<usize>> {
    let at = |l: Location| offset(sql, l.line, l.column);
    let range = at(span.start)..at(span.end);
    (span.start.line > 0 && !range.is_empty()).then_some(range)
}

pub(super) fn parse(sql: &str) -> Result<Parsed, PredicateError> {
    let dialect = GenericDialect {};
    let tokens = Tokenizer::new(&dialect, sql).tokenize_with_location().map_err(|e| {
        let at = offset(sql, e.location.line, e.location.column);
        let range = (at < sql.len()).then_some(at..sql.len());
        let help = e.message.contains("single quoted").then(|| "close the text with a single quote".to_owned());
        PredicateError::new(range, sentence(&e.message), help)
    })?;
    let words = tokens.iter().filter(|t| !matches!(t.token, Token::Whitespace(_))).count();
    if words == 0 {
        return Err(PredicateError::new(None, "the condition is empty", Some("write for example `width >= 640`".into())));
    }
    if words > MAX_TOKENS {
        let message = format!("the condition has {words} words and signs, more than {MAX_TOKENS}");
        return Err(PredicateError::new(None, message, Some("split it into several filter steps".into())));
    }

    let mut parser = Parser::new(&dialect).with_recursion_limit(MAX_NESTING).with_tokens_with_locations(tokens);
    let expr = parser.parse_expr().map_err(|e| syntax_error(sql, &e))?;
    let next = parser.peek_token();
    if next.token != Token::EOF {
        let help = match next.token.to_string().as_str() {
            "=" | "==" => Some("equality is written with one `=`".to_owned()),
            "&&" => Some("write `and`".to_owned()),
            "||" => Some("write `or`".to_owned()),
            _ => None,
        };
        let message = format!("the condition should end before `{}`", next.token);
        return Err(PredicateError::new(range(sql, next.span), message, help));
    }

    let mut names = Names { sql, columns: Vec::new(), functions: Vec::new(), depth: 0 };
    if let ControlFlow::Break(error) = expr.visit(&mut names) {
        return Err(error);
    }
    let Names { mut columns, mut functions, .. } = names;
    columns.sort_by_key(|(_, r)| r.start);
    functions.sort_by_key(|(_, r)| r.start);
    Ok(Parsed { expr, columns, functions })
}

/// Collects names, and stops at what a condition over one row cannot have.
struct Names<'a> {
    sql: &'a str,
    columns: Vec<(String, Range<usize>)>,
    functions: Vec<(String, Range<usize>)>,
    depth: usize,
}

impl Visitor for Names<'_> {
    type Break = PredicateError;

    fn post_visit_expr(&mut self, _: &Expr) -> ControlFlow<PredicateError> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<PredicateError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            let message = format!("the condition chains or nests more than {MAX_DEPTH} operators");
            return ControlFlow::Break(PredicateError::new(None, message, Some("split it into several filter steps".into())));
        }
        let refused = match expr {
            Expr::Identifier(name) => {
                self.columns.push((name.value.clone(), range(self.sql, name.span).unwrap_or(0..self.sql.len())));
                return ControlFlow::Continue(());
            }
            Expr::CompoundIdentifier(names) => {
                if let Some(name) = names.first() {
                    self.columns.push((name.value.clone(), range(self.sql, name.span).unwrap_or(0..self.sql.len())));
                }
                return ControlFlow::Continue(());
            }
            Expr::Function(f) => {
                if f.over.is_none() && f.filter.is_none() && f.within_group.is_empty() {
                    let span = f.name.0.first().and_then(ObjectNamePart::as_ident).map(|i| i.span);
                    let place = span.and_then(|s| range(self.sql, s)).unwrap_or(0..self.sql.len());
                    self.functions.push((f.name.to_string(), place));
                    return ControlFlow::Continue(());
                }
                "a window or aggregate"
            }
            Expr::BinaryOp { op: BinaryOperator::PGOverlap, .. } => "`&&`: write `and`",
            Expr::Subquery(_) | Expr::InSubquery { .. } | Expr::Exists { .. } => "a subquery",
            Expr::Wildcard(_) | Expr::QualifiedWildcard(..) => "`*`",
            Expr::Lambda(_) => "a lambda",
            Expr::Value(v) if matches!(v.value, datafusion_sql::sqlparser::ast::Value::Placeholder(_)) => "a placeholder",
            _ => return ControlFlow::Continue(()),
        };
        let help = "it sees the columns of one row, constants and functions".to_owned();
        let place = range(self.sql, expr.span());
        ControlFlow::Break(PredicateError::new(place, format!("a condition cannot have {refused}"), Some(help)))
    }
}

/// The parser puts the place into its message: ` at Line: 1, Column: 7`.
fn syntax_error(sql: &str, error: &ParserError) -> PredicateError {
    let text = match error {
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => text.as_str(),
        ParserError::RecursionLimitExceeded => {
            let message = format!("parentheses nest deeper than {MAX_NESTING}");
            return PredicateError::new(None, message, Some("split it into several filter steps".into()));
        }
    };
    let (message, place) = match text.rsplit_once(" at Line: ") {
        Some((message, place)) => (message, place.split_once(", Column: ")),
        None => (text, None),
    };
    let at = place.and_then(|(l, c)| Some(offset(sql, l.trim().parse().ok()?, c.trim().parse().ok()?)));
    let end = |at: usize| {
        let rest = sql.get(at..).unwrap_or_default();
        let word = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        at + word.max(rest.chars().next().map_or(0, char::len_utf8))
    };
    let range = at.map(|at| at..end(at)).filter(|r| !r.is_empty());
    let message = if message.ends_with("found: EOF") {
        message.replace("found: EOF", "but the condition ends here")
    } else {
        message.to_owned()
    };
    PredicateError::new(range, sentence(&message), None)
}

fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|c| c.to_lowercase().chain(chars).collect()).unwrap_or_default()
}
