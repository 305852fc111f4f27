//! The functions of conditions, and the face that DataFusion's planner looks through.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use arrow::datatypes::DataType;
use datafusion_common::config::ConfigOptions;
use datafusion_common::{Result, TableReference, plan_err};
use datafusion_expr::planner::{ContextProvider, ExprPlanner};
use datafusion_expr::{AggregateUDF, HigherOrderUDF, ScalarUDF, TableSource, WindowUDF};

/// All scalar functions by name and alias.
static FUNCTIONS: LazyLock<BTreeMap<String, Arc<ScalarUDF>>> = LazyLock::new(|| {
    let all = datafusion_functions::all_default_functions()
        .into_iter()
        .chain(datafusion_functions_nested::all_default_nested_functions());
    all.flat_map(|f| {
        let names: Vec<String> = std::iter::once(f.name().to_owned()).chain(f.aliases().iter().cloned()).collect();
        names.into_iter().map(move |n| (n.to_lowercase(), Arc::clone(&f)))
    })
    .collect()
});

static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| FUNCTIONS.keys().cloned().collect());

pub(super) fn find(name: &str) -> Option<Arc<ScalarUDF>> {
    FUNCTIONS.get(&name.to_lowercase()).cloned()
}

pub(super) fn names() -> &'static [String] {
    &NAMES
}

/// Names that people try because other SQL has them, over many rows.
pub(super) fn is_aggregate(name: &str) -> bool {
    const AGGREGATES: &[&str] =
        &["avg", "count", "max", "mean", "median", "min", "percentile_cont", "row_number", "stddev", "sum", "var", "array_agg"];
    AGGREGATES.contains(&name.to_lowercase().as_str())
}

/// No tables, no variables: only functions.
#[derive(Debug)]
pub(super) struct Context {
    options: ConfigOptions,
    planners: Vec<Arc<dyn ExprPlanner>>,
}

impl Default for Context {
    fn default() -> Self {
        Context {
            options: ConfigOptions::default(),
            planners: vec![
                Arc::new(datafusion_functions::core::planner::CoreFunctionPlanner::default()),
                Arc::new(datafusion_functions::unicode::planner::UnicodeFunctionPlanner),
                Arc::new(datafusion_functions_nested::planner::NestedFunctionPlanner),
                Arc::new(datafusion_functions_nested::planner::FieldAccessPlanner),
            ],
        }
    }
}

impl ContextProvider for Context {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        plan_err!("a condition cannot read the table `{name}`")
    }
    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.planners
    }
    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        find(name)
    }
    fn get_higher_order_meta(&self, _name: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }
    fn get_aggregate_meta(&self, _name: &str) -> Option<Arc<AggregateUDF>> {
        None
    }
    fn get_window_meta(&self, _name: &str) -> Option<Arc<WindowUDF>> {
        None
    }
    fn get_variable_type(&self, _names: &[String]) -> Option<DataType> {
        None
    }
    fn options(&self) -> &ConfigOptions {
        &self.options
    }
    fn udf_names(&self) -> Vec<String> {
        NAMES.clone()
    }
    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }
    fn udaf_names(&self) -> Vec<String> {
        Vec::new()
    }
    fn udwf_names(&self) -> Vec<String> {
        Vec::new()
    }
}
