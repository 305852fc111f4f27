//! SQL conditions over columns: `aesthetic_score >= 3.0 and not (dover < 0.3 and aesthetic_score < 4.0)`.
//!
//! Parsed, type-checked and evaluated by DataFusion's SQL and expression crates; the functions are those of DataFusion that always give the same
//! answer for the same row (numbers, text, regular expressions, lists). SQL's three-valued logic is kept: a condition over a missing value is neither
//! true nor false but null, which means *unmeasured*. A NaN, stored or computed, counts as missing, because no comparison with it means anything.
//!
//! What can go wrong: a division by zero, an integer overflow or a failed cast of ONE row fails the evaluation of its whole batch; [`Predicate::answers`] asks the rows
//! one by one then. Column names are case-sensitive, function names are not.

mod functions;
mod guard;
mod parse;
#[cfg(test)]
mod tests;
mod thresholds;

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Float32Array, Float64Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Float32Type, Float64Type, Schema, SchemaRef};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use datafusion_common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion_common::{DFSchema, DataFusionError};
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::simplify::SimplifyContext;
use datafusion_expr::{Expr, ExprSchemable, Volatility};
use datafusion_optimizer::simplify_expressions::ExprSimplifier;
use datafusion_physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion_sql::planner::{ParserOptions, PlannerContext, SqlToRel};

use crate::diag::{Code, did_you_mean};
use crate::operator::StepCheck;
use parse::Parsed;

/// A condition that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}{}", .help.as_ref().map(|h| format!(" ({h})")).unwrap_or_default())]
pub struct PredicateError {
    /// Byte range in the SQL text that is wrong; `None`: the text as a whole.
    pub range: Option<Range<usize>>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

impl PredicateError {
    fn new(range: Option<Range<usize>>, message: impl Into<String>, help: Option<String>) -> Self {
        PredicateError { range, message: message.into(), help }
    }
}

/// The columns that a condition reads, each once, in the order of their first use. Needs no schema: made for
/// [`crate::operator::Operator::columns`].
pub fn referenced_columns(sql: &str) -> Result<Vec<String>, PredicateError> {
    on_a_large_stack(|| Ok(parse::parse(sql)?.column_names()))?
}

/// Compiles the condition that stands at a config key and reports every mistake there: for [`crate::operator::Operator::check_input`].
pub fn check(key: &str, sql: &str, schema: &SchemaRef, check: &mut dyn StepCheck) -> Option<Predicate> {
    match Predicate::compile_all(sql, schema) {
        Ok(predicate) => Some(predicate),
        Err(errors) => {
            for e in errors {
                check.error_in(key, e.range, Code::BadPredicate, e.message, e.help);
            }
            None
        }
    }
}

/// Stack of the thread that parses and plans.
const STACK_BYTES: usize = 64 << 20;

/// Parser and planner walk trees recursively, in frames of many kilobytes. The limits in `parse` bound the depth; this makes it fit whatever thread
/// the caller is on. Evaluating needs far less.
fn on_a_large_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, PredicateError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("sql".into()).stack_size(STACK_BYTES).spawn_scoped(scope, work);
        match thread {
            Ok(thread) => Ok(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))),
            Err(e) => Err(PredicateError::new(None, format!("cannot start a thread to read the condition: {e}"), None)),
        }
    })
}

/// A compiled condition.
#[derive(Clone)]
pub struct Predicate {
    expr: Arc<dyn PhysicalExpr>,
    /// The referenced columns only, all nullable: batches are brought into this shape.
    schema: SchemaRef,
}

impl std::fmt::Debug for Predicate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Predicate({})", self.expr)
    }
}

impl Predicate {
    /// Compiles `sql` against the columns of `schema`; it must be a boolean expression. Of several mistakes gives the first.
    pub fn compile(sql: &str, schema: &SchemaRef) -> Result<Predicate, PredicateError> {
        Predicate::compile_all(sql, schema).map_err(|errors| {
            let first = errors.into_iter().next();
            first.unwrap_or_else(|| PredicateError::new(None, "the condition cannot be understood", None))
        })
    }

    /// As [`Predicate::compile`], with every unknown column and function.
    pub fn compile_all(sql: &str, schema: &SchemaRef) -> Result<Predicate, Vec<PredicateError>> {
        on_a_large_stack(|| {
            let parsed = parse::parse(sql).map_err(|e| vec![e])?;
            let mut errors = unknown_columns(&parsed, schema);
            errors.extend(unknown_functions(&parsed));
            if !errors.is_empty() {
                errors.sort_by_key(|e| e.range.as_ref().map(|r| r.start));
                return Err(errors);
            }
            Self::plan(sql, parsed, schema).map_err(|e| vec![e])
        })
        .map_err(|e| vec![e])?
    }

    fn plan(sql: &str, parsed: Parsed, schema: &SchemaRef) -> Result<Predicate, PredicateError> {
        let fields = parsed.column_names().into_iter().filter_map(|name| schema.field_with_name(&name).ok().cloned());
        let schema = Arc::new(Schema::new(fields.map(|f| f.with_nullable(true)).collect::<Vec<_>>()));
        let df_schema = Arc::new(DFSchema::try_from(Arc::clone(&schema)).map_err(|e| explain(sql, e))?);

        let options = ParserOptions::new()
            .with_enable_ident_normalization(false)
            .with_map_string_types_to_utf8view(false)
            .with_collect_spans(true);
        let context = functions::Context::default();
        let expr = SqlToRel::new_with_options(&context, options)
            .sql_to_expr(parsed.expr, &df_schema, &mut PlannerContext::new())
            .map_err(|e| explain(sql, e))?;
        check_volatility(&expr)?;
        guard::no_text_against_numbers(&expr, &df_schema)?;
        let expr = thresholds::in_column_precision(expr, &df_schema).map_err(|e| explain(sql, e))?;
        // Some functions, `coalesce` among them, exist only until they are simplified into other expressions.
        let simplifier = ExprSimplifier::new(SimplifyContext::builder().with_schema(Arc::clone(&df_schema)).build());
        let expr = simplifier
            .coerce(expr, &df_schema)
            .and_then(|e| guard::computed_values(e, &df_schema))
            .and_then(|e| simplifier.simplify(e))
            .map_err(|e| explain(sql, e))?;
        guard::no_failing_constants(&expr)?;
        match expr.get_type(&df_schema).map_err(|e| explain(sql, e))? {
            DataType::Boolean => {}
            other => {
                let message = format!("the condition gives {other}, not true or false");
                let help = "compare it with something, for example `... >= 0.5` or `... is not null`".to_owned();
                return Err(PredicateError::new(None, message, Some(help)));
            }
        }
        let expr = create_physical_expr(&expr, &df_schema, &ExecutionProps::new(), &Default::default())
            .and_then(guard::checked_arithmetic)
            .map_err(|e| explain(sql, e))?;
        Ok(Predicate { expr, schema })
    }

    /// The columns that it reads.
    pub fn columns(&self) -> Vec<&str> {
        self.schema.fields().iter().map(|f| f.name().as_str()).collect()
    }

    /// One answer per row: true, false, or null = unmeasured. The batch may hold other columns, in any order.
    pub fn evaluate(&self, rows: &RecordBatch) -> Result<BooleanArray, String> {
        let columns = self
            .schema
            .fields()
            .iter()
            .map(|field| {
                let column =
                    rows.column_by_name(field.name()).ok_or_else(|| format!("the rows have no column `{}`", field.name()))?;
                if column.data_type() != field.data_type() {
                    return Err(format!(
                        "column `{}` is {} in these rows, but the condition was checked against {}",
                        field.name(),
                        column.data_type(),
                        field.data_type()
                    ));
                }
                Ok(without_nan(column))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options).map_err(|e| e.to_string())?;
        let answer = self
            .expr
            .evaluate(&batch)
            .and_then(|value| value.into_array(rows.num_rows()))
            .map_err(|e| first_line(&e.strip_backtrace()).to_owned())?;
        let answer = answer.as_any().downcast_ref::<BooleanArray>();
        answer.cloned().ok_or_else(|| "the condition did not give true or false".to_owned())
    }

    /// An answer for each row, as of [`Predicate::evaluate`]; what cannot be evaluated for a row is the error of that row alone.
    pub fn answers(&self, rows: &RecordBatch) -> Vec<Result<Option<bool>, String>> {
        let of_row = |answers: &BooleanArray, row: usize| answers.is_valid(row).then(|| answers.value(row));
        match self.evaluate(rows) {
            Ok(answers) => (0..rows.num_rows()).map(|row| Ok(of_row(&answers, row))).collect(),
            Err(_) => {
                (0..rows.num_rows()).map(|row| self.evaluate(&rows.slice(row, 1)).map(|answer| of_row(&answer, 0))).collect()
            }
        }
    }

    /// The values that the condition saw in one row, for messages: `aesthetic_score = 2.5, dover = null`.
    pub fn values(&self, rows: &RecordBatch, row: usize) -> String {
        let options = FormatOptions::default().with_null("null");
        let shown = self.schema.fields().iter().filter_map(|field| {
            let column = rows.column_by_name(field.name())?;
            let formatter = ArrayFormatter::try_new(column.as_ref(), &options).ok()?;
            let text = formatter.value(row).try_to_string().ok()?;
            Some(format!("{} = {}", field.name(), shorten(&text)))
        });
        shown.collect::<Vec<_>>().join(", ")
    }

    /// The single number that the condition depends on, for [`crate::verdict::Reject::measured`]; `None` if it reads several columns, or no number.
    pub fn measured(&self, rows: &RecordBatch, row: usize) -> Option<f64> {
        let [field] = self.schema.fields().as_ref() else { return None };
        let column = rows.column_by_name(field.name()).filter(|_| field.data_type().is_numeric())?;
        let number = arrow_cast::cast(&column.slice(row, 1), &DataType::Float64).ok()?;
        let number = number.as_any().downcast_ref::<Float64Array>()?;
        number.is_valid(0).then(|| number.value(0))
    }
}

/// Longest value that is shown in a message, in characters.
const MAX_SHOWN: usize = 60;

fn shorten(text: &str) -> String {
    if text.chars().count() <= MAX_SHOWN {
        return text.to_owned();
    }
    text.chars().take(MAX_SHOWN - 1).chain(['…']).collect()
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or(text)
}

/// NaN is missing.
fn without_nan(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Float32 => match column.as_any().downcast_ref::<Float32Array>() {
            Some(a) if a.values().iter().any(|v| v.is_nan()) => {
                Arc::new(a.unary_opt::<_, Float32Type>(|v| (!v.is_nan()).then_some(v)))
            }
            _ => Arc::clone(column),
        },
        DataType::Float64 => match column.as_any().downcast_ref::<Float64Array>() {
            Some(a) if a.values().iter().any(|v| v.is_nan()) => {
                Arc::new(a.unary_opt::<_, Float64Type>(|v| (!v.is_nan()).then_some(v)))
            }
            _ => Arc::clone(column),
        },
        _ => Arc::clone(column),
    }
}

fn unknown_columns(parsed: &Parsed, schema: &Schema) -> Vec<PredicateError> {
    let mut errors = Vec::new();
    for (name, range) in &parsed.columns {
        if schema.field_with_name(name).is_err() {
            let names = schema.fields().iter().map(|f| f.name().as_str());
            let help = if sql_quotes_it(name, schema) {
                format!("text is written in single quotes: '{name}'; double quotes are for column names")
            } else if let Some(same) = schema.fields().iter().find(|f| f.name().eq_ignore_ascii_case(name)) {
                format!("column names are case-sensitive: `{}`", same.name())
            } else if let Some(near) = did_you_mean(name, names.clone()) {
                format!("did you mean `{near}`?")
            } else {
                format!("the columns are: {}", names.collect::<Vec<_>>().join(", "))
            };
            errors.push(PredicateError::new(Some(range.clone()), format!("no column is called `{name}`"), Some(help)));
        }
    }
    errors
}

/// A "column" with spaces or other signs that no column has: the user meant text.
fn sql_quotes_it(name: &str, schema: &Schema) -> bool {
    let word = |n: &str| n.chars().all(|c| c.is_alphanumeric() || c == '_');
    !word(name) && schema.fields().iter().all(|f| word(f.name()))
}

fn unknown_functions(parsed: &Parsed) -> Vec<PredicateError> {
    let mut errors = Vec::new();
    for (name, range) in &parsed.functions {
        if functions::find(name).is_none() {
            let help = if functions::is_aggregate(name) {
                "a condition looks at one row at a time; over a list use array_min, array_max, array_sum or cardinality"
                    .to_owned()
            } else if let Some(near) = did_you_mean(&name.to_lowercase(), functions::names().iter().map(String::as_str)) {
                format!("did you mean `{near}`?")
            } else {
                "see the scalar functions in DataFusion's SQL reference".to_owned()
            };
            errors.push(PredicateError::new(Some(range.clone()), format!("no function is called `{name}`"), Some(help)));
        }
    }
    errors
}

/// Functions such as `now` and `random` would make a resumed run differ from an undisturbed one.
fn check_volatility(expr: &Expr) -> Result<(), PredicateError> {
    let mut found = None;
    let walked = expr.apply(|e| {
        if let Expr::ScalarFunction(f) = e
            && f.func.signature().volatility != Volatility::Immutable
        {
            found = Some(f.func.name().to_owned());
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    match (walked, found) {
        (Ok(_), None) => Ok(()),
        (Err(e), _) => Err(PredicateError::new(None, e.strip_backtrace(), None)),
        (_, Some(name)) => {
            let help = "a row must get the same answer whenever it is looked at again: compare columns with constants".to_owned();
            Err(PredicateError::new(None, format!("`{name}` gives another answer each time"), Some(help)))
        }
    }
}

/// DataFusion's error in the user's terms: one line, and its place if it names one.
fn explain(sql: &str, error: DataFusionError) -> PredicateError {
    let range = error.diagnostic().and_then(|d| d.span).map(|s| {
        let at = |l: &datafusion_common::Location| parse::offset(sql, l.line, l.column);
        at(&s.start)..at(&s.end)
    });
    let text = error.strip_backtrace();
    let line = first_line(&text);
    let message = ["Error during planning: ", "Schema error: ", "This feature is not implemented: ", "SQL error: "]
        .iter()
        .fold(line, |text, prefix| text.strip_prefix(prefix).unwrap_or(text));
    PredicateError::new(range.filter(|r| !r.is_empty()), message.trim_end_matches('.'), None)
}
