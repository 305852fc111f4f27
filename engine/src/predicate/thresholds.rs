//! Thresholds in the precision of the column that they are held against.
//!
//! Why: scores are Float32 and literals Float64. SQL would widen the column, so a stored score of 0.9 (0.89999998) would fail `score >= 0.9`
//! although both were written as 0.9. Rounding the literal to Float32 instead makes what is equal on paper equal in the table.

use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{DFSchema, Result, ScalarValue};
use datafusion_expr::{Expr, ExprSchemable};

use arrow::datatypes::DataType;

pub(super) fn in_column_precision(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    let narrow = |e: &Expr| matches!(e.get_type(schema), Ok(DataType::Float32));
    let transformed = expr.transform_up(|e| {
        Ok(match e {
            Expr::BinaryExpr(mut b) if b.op.supports_propagation() => {
                if narrow(&b.left) {
                    round(&mut b.right);
                } else if narrow(&b.right) {
                    round(&mut b.left);
                }
                Transformed::yes(Expr::BinaryExpr(b))
            }
            Expr::Between(mut b) if narrow(&b.expr) => {
                round(&mut b.low);
                round(&mut b.high);
                Transformed::yes(Expr::Between(b))
            }
            Expr::InList(mut l) if narrow(&l.expr) => {
                l.list.iter_mut().for_each(round);
                Transformed::yes(Expr::InList(l))
            }
            other => Transformed::no(other),
        })
    })?;
    Ok(transformed.data)
}

#[expect(clippy::cast_possible_truncation, reason = "rounding is the point")]
fn round(literal: &mut Expr) {
    if let Expr::Literal(ScalarValue::Float64(Some(v)), _) = literal {
        *literal = Expr::Literal(ScalarValue::Float32(Some(*v as f32)), None);
    }
}
