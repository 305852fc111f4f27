//! What SQL engines let through and a judge of rows must not: numbers that mean nothing, and conditions that can never be evaluated.
//!
//! - NaN: comparisons in Arrow order NaN above (or, negative, below) all numbers, so `ln(fps - 1000) < 0` would decide by the sign of a NaN. Every
//!   computed float is passed through [`NanToNull`], so that it is missing, which means unmeasured.
//! - Integers that overflow wrap silently in SQL engines; here the row's evaluation fails.
//! - `title > 5` would be planned as "read the text as a number" and fail on every row that is not one; it is refused when the condition is checked.
//! - A part without columns that cannot be evaluated (`1 / 0`) fails on every row; it is refused as well.

use std::sync::{Arc, LazyLock};

use arrow::array::RecordBatchOptions;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{DFSchema, Result, ScalarValue};
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::expr::ScalarFunction;
use datafusion_expr::{
    BinaryExpr, ColumnarValue, Expr, ExprSchemable, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion_physical_expr::expressions::BinaryExpr as PhysicalBinary;
use datafusion_physical_expr::{PhysicalExpr, create_physical_expr};

use super::{PredicateError, first_line, without_nan};

/// The same number; missing instead of NaN. Not a function that conditions can call.
#[derive(Debug, PartialEq, Eq, Hash)]
struct NanToNull(Signature);

impl ScalarUDFImpl for NanToNull {
    fn name(&self) -> &str {
        "nan_to_null"
    }
    fn signature(&self) -> &Signature {
        &self.0
    }
    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types.first().cloned().unwrap_or(DataType::Null))
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [value] = <[ColumnarValue; 1]>::try_from(args.args)
            .map_err(|_| datafusion_common::DataFusionError::Internal("one argument expected".into()))?;
        Ok(match value {
            ColumnarValue::Array(values) => ColumnarValue::Array(without_nan(&values)),
            ColumnarValue::Scalar(ScalarValue::Float32(Some(v))) if v.is_nan() => {
                ColumnarValue::Scalar(ScalarValue::Float32(None))
            }
            ColumnarValue::Scalar(ScalarValue::Float64(Some(v))) if v.is_nan() => {
                ColumnarValue::Scalar(ScalarValue::Float64(None))
            }
            scalar => scalar,
        })
    }
}

static NAN_TO_NULL: LazyLock<Arc<ScalarUDF>> =
    LazyLock::new(|| Arc::new(ScalarUDF::from(NanToNull(Signature::any(1, Volatility::Immutable)))));

/// Every float that is computed, as missing where it is NaN; columns are cleaned before. Constant integers are computed here, with the error
/// that the planner's own folding would hide.
pub(super) fn computed_values(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    let guarded = expr.transform_up(|e| {
        if let Some(value) = folded(&e)? {
            return Ok(Transformed::yes(Expr::Literal(ScalarValue::Int64(Some(value)), None)));
        }
        let is_float = matches!(e.get_type(schema), Ok(DataType::Float32 | DataType::Float64));
        Ok(match e {
            Expr::Column(_) | Expr::Literal(..) | Expr::Alias(_) => Transformed::no(e),
            e if is_float => {
                let wrapped = ScalarFunction::new_udf(Arc::clone(&NAN_TO_NULL), vec![e]);
                Transformed::yes(Expr::ScalarFunction(wrapped))
            }
            e => Transformed::no(e),
        })
    })?;
    Ok(guarded.data)
}

fn folded(expr: &Expr) -> Result<Option<i64>> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = expr else { return Ok(None) };
    let number = |e: &Expr| match e {
        Expr::Literal(ScalarValue::Int64(Some(v)), _) => Some(*v),
        _ => None,
    };
    let (Some(l), Some(r)) = (number(left), number(right)) else { return Ok(None) };
    let value = match op {
        Operator::Plus => l.checked_add(r),
        Operator::Minus => l.checked_sub(r),
        Operator::Multiply => l.checked_mul(r),
        _ => return Ok(None),
    };
    let overflow = || datafusion_common::DataFusionError::Plan(format!("{l} {op} {r} is more than a 64-bit integer holds"));
    value.map(Some).ok_or_else(overflow)
}

/// Integer arithmetic that fails instead of wrapping around.
pub(super) fn checked_arithmetic(expr: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
    let checked = expr.transform_up(|e| {
        let Some(binary) = e.downcast_ref::<PhysicalBinary>() else { return Ok(Transformed::no(e)) };
        if !matches!(binary.op(), Operator::Plus | Operator::Minus | Operator::Multiply) {
            return Ok(Transformed::no(e));
        }
        let checked =
            PhysicalBinary::new(Arc::clone(binary.left()), *binary.op(), Arc::clone(binary.right())).with_fail_on_overflow(true);
        Ok(Transformed::yes(Arc::new(checked) as Arc<dyn PhysicalExpr>))
    })?;
    Ok(checked.data)
}

/// Text is not held against numbers: before types are brought together, because then one of them has been cast.
pub(super) fn no_text_against_numbers(expr: &Expr, schema: &DFSchema) -> std::result::Result<(), PredicateError> {
    let mut mixed = None;
    let kind = |e: &Expr| match e.get_type(schema) {
        Ok(t) if t.is_numeric() => Some(false),
        Ok(DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) => Some(true),
        _ => None,
    };
    let mut compare = |a: &Expr, b: &Expr| {
        if let (Some(a_is_text), Some(b_is_text)) = (kind(a), kind(b))
            && a_is_text != b_is_text
        {
            let (text, number) = if a_is_text { (a, b) } else { (b, a) };
            mixed = Some((text.human_display().to_string(), number.human_display().to_string()));
        }
    };
    let walked = expr.apply(|e| {
        match e {
            Expr::BinaryExpr(b) if b.op.supports_propagation() || b.op == Operator::IsDistinctFrom => compare(&b.left, &b.right),
            Expr::Between(b) => {
                compare(&b.expr, &b.low);
                compare(&b.expr, &b.high);
            }
            Expr::InList(l) => l.list.iter().for_each(|one| compare(&l.expr, one)),
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    });
    walked.map_err(|e| PredicateError::new(None, e.strip_backtrace(), None))?;
    match mixed {
        None => Ok(()),
        Some((text, number)) => {
            let message = format!("{text} is text and {number} is a number: they cannot be compared");
            let help =
                format!("write the number as text in single quotes, or read the text as a number: `cast({text} as double)`");
            Err(PredicateError::new(None, message, Some(help)))
        }
    }
}

/// After simplification, whatever has no column in it and is not a value failed when it was tried.
pub(super) fn no_failing_constants(expr: &Expr) -> std::result::Result<(), PredicateError> {
    let mut failure = None;
    let walked = expr.apply(|e| {
        if matches!(e, Expr::Literal(..)) || !e.column_refs().is_empty() {
            return Ok(TreeNodeRecursion::Continue);
        }
        match constant(e) {
            Ok(()) => Ok(TreeNodeRecursion::Continue),
            Err(why) => {
                failure = Some(format!("{} fails on every row: {why}", e.human_display()));
                Ok(TreeNodeRecursion::Stop)
            }
        }
    });
    walked.map_err(|e| PredicateError::new(None, e.strip_backtrace(), None))?;
    failure.map_or(Ok(()), |message| Err(PredicateError::new(None, message, None)))
}

fn constant(expr: &Expr) -> std::result::Result<(), String> {
    let schema = Schema::new(Vec::<Field>::new());
    let rows = RecordBatch::try_new_with_options(Arc::new(schema), vec![], &RecordBatchOptions::new().with_row_count(Some(1)));
    let rows = rows.map_err(|e| e.to_string())?;
    let done = create_physical_expr(expr, &DFSchema::empty(), &ExecutionProps::new(), &Default::default())
        .and_then(|e| e.evaluate(&rows));
    done.map(|_| ()).map_err(|e| first_line(&e.strip_backtrace()).to_owned())
}
