//! A view of a column of embeddings: for each row a list of vectors of equal width.
//!
//! Why: `frame_classifier` and `temporal_split` read the same column, and it may come as `List<FixedSizeList<Float32, D>>` (what `frame_embed` makes)
//! or as `List<List<Float32>>` (what other tools write). What can go wrong: nulls and NaN inside; [`RowVectors::get`] refuses them, because a
//! score computed from them would look like a measurement.

use arrow::array::{Array, AsArray, FixedSizeListArray, Float32Array, ListArray};
use arrow::datatypes::{DataType, Float32Type};

/// The embeddings of all rows of a batch.
#[derive(Clone, Copy)]
pub struct Vectors<'a> {
    rows: &'a ListArray,
    items: Items<'a>,
}

#[derive(Clone, Copy)]
enum Items<'a> {
    Fixed(&'a FixedSizeListArray, &'a Float32Array),
    Lists(&'a ListArray, &'a Float32Array),
}

/// The embeddings of one row.
#[derive(Clone, Copy)]
pub struct RowVectors<'a> {
    items: Items<'a>,
    start: usize,
    len: usize,
}

/// What a column's type says about the width of its vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// All have this many dimensions.
    Fixed(usize),
    /// Each says for itself.
    Open,
}

/// The width of the vectors; `None` when the type holds no embeddings at all.
pub fn width_of(data_type: &DataType) -> Option<Width> {
    let DataType::List(row) = data_type else { return None };
    match row.data_type() {
        DataType::FixedSizeList(item, width) if *item.data_type() == DataType::Float32 => Some(Width::Fixed(*width as usize)),
        DataType::List(item) if *item.data_type() == DataType::Float32 => Some(Width::Open),
        _ => None,
    }
}

impl<'a> Vectors<'a> {
    /// The view, or `None` when the column has another type.
    pub fn of(column: &'a dyn Array) -> Option<Self> {
        let rows = column.as_list_opt::<i32>()?;
        let items = match rows.values().as_fixed_size_list_opt() {
            Some(fixed) => Items::Fixed(fixed, fixed.values().as_primitive_opt::<Float32Type>()?),
            None => {
                let lists = rows.values().as_list_opt::<i32>()?;
                Items::Lists(lists, lists.values().as_primitive_opt::<Float32Type>()?)
            }
        };
        Some(Vectors { rows, items })
    }

    /// The vectors of a row; `None` when the row is null.
    pub fn row(&self, row: usize) -> Option<RowVectors<'a>> {
        if self.rows.is_null(row) {
            return None;
        }
        let offsets = self.rows.value_offsets();
        let (start, end) = (offsets[row] as usize, offsets[row + 1] as usize);
        Some(RowVectors { items: self.items, start, len: end - start })
    }
}

impl<'a> RowVectors<'a> {
    /// How many vectors the row has.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when the row has no vector.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Vector `index`, all of it finite. `Err` says what is wrong with it.
    pub fn get(&self, index: usize) -> Result<&'a [f32], &'static str> {
        let at = self.start + index;
        let (null, values, from, to) = match self.items {
            Items::Fixed(list, values) => {
                let width = list.value_length() as usize;
                let from = list.value_offset(at) as usize;
                (list.is_null(at), values, from, from + width)
            }
            Items::Lists(list, values) => {
                let offsets = list.value_offsets();
                (list.is_null(at), values, offsets[at] as usize, offsets[at + 1] as usize)
            }
        };
        if null || (values.null_count() > 0 && (from..to).any(|i| values.is_null(i))) {
            return Err("is null or has a null in it");
        }
        let vector = &values.values()[from..to];
        if vector.iter().all(|v| v.is_finite()) { Ok(vector) } else { Err("has a NaN or an infinity in it") }
    }
}

/// Sum of products in 64 bits, in order: the same on every machine.
pub fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
}

/// Euclidean length.
pub fn norm(a: &[f32]) -> f64 {
    dot(a, a).sqrt()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{FixedSizeListBuilder, Float32Builder, ListBuilder};
    use arrow::datatypes::Field;

    use super::*;

    fn fixed(rows: &[Option<Vec<Option<[f32; 2]>>>]) -> ListArray {
        let mut b = ListBuilder::new(FixedSizeListBuilder::new(Float32Builder::new(), 2));
        for row in rows {
            for v in row.iter().flatten() {
                for x in v.unwrap_or_default() {
                    b.values().values().append_value(x);
                }
                b.values().append(v.is_some());
            }
            b.append(row.is_some());
        }
        b.finish()
    }

    #[test]
    fn a_slice_of_either_layout_shows_its_own_vectors() {
        let a = fixed(&[Some(vec![Some([1., 2.]), Some([3., 4.])]), None, Some(vec![Some([5., 6.])]), Some(vec![])]);
        let sliced = a.slice(1, 3);
        let v = Vectors::of(&sliced).unwrap();
        assert!(v.row(0).is_none());
        assert_eq!(v.row(1).unwrap().get(0), Ok(&[5.0f32, 6.0][..]));
        assert!(v.row(2).unwrap().is_empty());

        let mut b = ListBuilder::new(ListBuilder::new(Float32Builder::new()));
        b.values().append_value([Some(1.0), Some(2.0), Some(3.0)]);
        b.append(true);
        b.values().append_value([Some(4.0)]);
        b.append(true);
        let sliced = b.finish().slice(1, 1);
        assert_eq!(Vectors::of(&sliced).unwrap().row(0).unwrap().get(0), Ok(&[4.0f32][..]));
    }

    #[test]
    fn nulls_and_nan_are_refused() {
        let a = fixed(&[Some(vec![None, Some([f32::NAN, 0.])])]);
        let row = Vectors::of(&a).unwrap().row(0).unwrap();
        assert!(row.get(0).is_err());
        assert!(row.get(1).is_err());
    }

    #[test]
    fn only_lists_of_float_vectors_are_embeddings() {
        let item = |t| Arc::new(Field::new_list_field(t, true));
        let fixed = DataType::FixedSizeList(item(DataType::Float32), 7);
        assert_eq!(width_of(&DataType::List(item(fixed.clone()))), Some(Width::Fixed(7)));
        assert_eq!(width_of(&DataType::List(item(DataType::List(item(DataType::Float32))))), Some(Width::Open));
        assert_eq!(width_of(&fixed), None);
        assert_eq!(width_of(&DataType::Utf8), None);
    }
}
