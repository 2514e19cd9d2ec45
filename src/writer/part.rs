//! Which rows of a batch go into a request of their own, and without which fields. Pure.
//!
//! An output may refuse every row that has a certain field, because the field has another type there. Its rows then go
//! apart from those that lack the field, so that a whole batch is mended with a few requests. What is promised: the parts
//! that a batch is split into hold each of its rows exactly once, and a field is left out of a row only after the output has
//! refused that very row and named the field.

use std::fmt;

use crate::journal::{Position, Stored};
use crate::measurement::Row;

/// The most fields that rows are told apart by; a server that names more is not believed.
const MOST_FIELDS: usize = 32;

/// A field of a measurement, as rows name it: a name that an output had to make safe first is not found again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FieldName {
    /// The measurement.
    pub measurement: String,
    /// The field.
    pub field: String,
}

impl FieldName {
    fn is_in(&self, row: &Row) -> bool {
        row.series.measurement() == self.measurement && row.fields.get(&self.field).is_some()
    }
}

impl fmt::Display for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.measurement, self.field)
    }
}

/// A field that an output refused, and what it said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedField {
    /// Which.
    pub name: FieldName,
    /// What the output said.
    pub why: String,
}

/// What an output refused: it named this field, and said how many lines it did not store, if it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The field, and what was said.
    pub field: RefusedField,
    /// The lines of the request that were not stored.
    pub refused: Option<usize>,
}

/// A part of a batch: the rows that have some fields and lack others, and what they go without.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    has: Vec<FieldName>,
    lacks: Vec<FieldName>,
    /// Some of those that the rows have.
    without: Vec<RefusedField>,
}

impl Part {
    /// Whether this is the whole batch.
    pub fn is_whole(&self) -> bool {
        self.has.is_empty() && self.lacks.is_empty()
    }

    /// Whether all other rows of the batch are dealt with once this part is: parts are sent in the order of
    /// [`Part::split`], so the last one is the one that lacks nothing.
    pub fn is_last(&self) -> bool {
        self.lacks.is_empty()
    }

    /// The fields that every row of this part has and goes without.
    pub fn without(&self) -> &[RefusedField] {
        &self.without
    }

    /// The same rows with all their fields.
    #[must_use]
    pub fn unabridged(&self) -> Self {
        Self { without: Vec::new(), ..self.clone() }
    }

    /// The positions of this part's rows, and the rows as they are to be sent: none if nothing is left of one of them.
    pub fn of(&self, mut rows: Vec<Stored>) -> (Vec<Position>, Option<Vec<Stored>>) {
        rows.retain(|Stored { row, .. }| self.has.iter().all(|name| name.is_in(row)) && !self.lacks.iter().any(|name| name.is_in(row)));
        let positions = rows.iter().map(|stored| stored.position).collect();
        let mut whole = true;
        if !self.without.is_empty() {
            for Stored { row, .. } in &mut rows {
                for refused in &self.without {
                    row.fields.remove(&refused.name.field);
                }
                whole &= !row.fields.is_empty();
            }
        }
        (positions, whole.then_some(rows))
    }

    /// What to send instead of this part, of which `rows` rows were refused; the last first. None if what the output said is
    /// of no help: then the part is to be halved, or the single row held.
    pub fn split(&self, rows: usize, conflict: &Conflict) -> Option<Vec<Self>> {
        let RefusedField { name, .. } = &conflict.field;
        let known = self.lacks.contains(name) || self.without.iter().any(|refused| refused.name == *name);
        // Then no row of the part was stored, so each was refused.
        let all = rows == 1 || conflict.refused == Some(rows);
        let mut having = self.clone();
        if all {
            having.without.push(conflict.field.clone());
        }
        match self.has.contains(name) {
            _ if known => None,
            true => all.then(|| vec![having]),
            false if self.has.len() + self.lacks.len() >= MOST_FIELDS => None,
            false => {
                let mut lacking = self.clone();
                lacking.lacks.push(name.clone());
                having.has.push(name.clone());
                Some(vec![having, lacking])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::measurement::{Fields, Series, Value};

    fn name(measurement: &str, field: &str) -> FieldName {
        FieldName { measurement: measurement.to_owned(), field: field.to_owned() }
    }

    fn conflict(measurement: &str, field: &str, refused: Option<usize>) -> Conflict {
        Conflict { field: RefusedField { name: name(measurement, field), why: "400".to_owned() }, refused }
    }

    fn stored(position: u64, measurement: &str, fields: &[&str]) -> Stored {
        let mut set = Fields::new();
        for field in fields {
            set.put(crate::measurement::field_name(field), Value::Integer(1));
        }
        let row = Row { series: Series::new(measurement, [("a", "b")]), time: Timestamp::from_nanos(1), fields: set };
        Stored { position: Position(position), row }
    }

    fn rows() -> Vec<Stored> {
        vec![stored(1, "m", &["a", "b"]), stored(2, "m", &["b"]), stored(3, "n", &["a", "b"]), stored(4, "m", &["a"])]
    }

    /// Positions with the names of the fields that are sent.
    fn sent(part: &Part) -> Vec<(u64, Vec<String>)> {
        let (positions, rows) = part.of(rows());
        let rows = rows.unwrap();
        assert_eq!(positions, rows.iter().map(|stored| stored.position).collect::<Vec<_>>());
        let fields = |row: &Row| row.fields.iter().map(|(name, _)| name.to_string()).collect();
        rows.iter().map(|stored| (stored.position.0, fields(&stored.row))).collect()
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_whole_is_every_row_as_it_is() {
        let whole = Part::default();
        assert!(whole.is_whole() && whole.is_last());
        assert_eq!(whole.of(rows()), (rows().iter().map(|stored| stored.position).collect(), Some(rows())));
    }

    #[test]
    fn rows_that_have_the_field_go_apart_and_keep_it_until_each_of_them_was_refused() {
        let [having, lacking] = Part::default().split(4, &conflict("m", "a", Some(2))).unwrap().try_into().unwrap();
        assert_eq!(sent(&lacking), [(2, names(&["b"])), (3, names(&["a", "b"]))]);
        assert_eq!(sent(&having), [(1, names(&["a", "b"])), (4, names(&["a"]))]);
        assert!(having.is_last() && !lacking.is_last());
        assert_eq!(having.split(2, &conflict("m", "a", Some(1))), None, "one of them may have been stored");
        assert_eq!(having.split(2, &conflict("m", "a", None)), None);
        let [again] = having.split(2, &conflict("m", "a", Some(2))).unwrap().try_into().unwrap();
        assert_eq!(again.without()[0].name.to_string(), "m.a");
        assert_eq!(again.of(rows()), (vec![Position(1), Position(4)], None), "nothing is left of the last");
        assert_eq!(again.unabridged(), having);
    }

    #[test]
    fn a_single_row_or_a_batch_refused_whole_needs_no_further_proof() {
        for (rows, refused) in [(1, None), (1, Some(7)), (3, Some(3))] {
            let parts = Part::default().split(rows, &conflict("m", "b", refused)).unwrap();
            assert_eq!(sent(&parts[1]), [(3, names(&["a", "b"])), (4, names(&["a"]))]);
            assert_eq!(parts[0].without().len(), 1);
        }
    }

    #[test]
    fn parts_of_parts_hold_every_row_once_and_the_last_is_last() {
        let mut todo = vec![Part::default()];
        for field in ["a", "b", "c"] {
            todo = todo.iter().flat_map(|part| part.split(2, &conflict("m", field, None)).unwrap()).collect();
        }
        let mut all: Vec<_> = todo.iter().flat_map(|part| part.of(rows()).0).collect();
        all.sort_unstable();
        assert_eq!(all, [1, 2, 3, 4].map(Position));
        assert_eq!(todo.iter().map(Part::is_last).collect::<Vec<_>>(), [true, false, false, false, false, false, false, false]);
    }

    #[test]
    fn a_server_that_repeats_itself_or_names_ever_new_fields_is_not_believed() {
        let first = conflict("m", "a", Some(4));
        let parts = Part::default().split(4, &first).unwrap();
        assert!(parts.iter().all(|part| part.split(4, &first).is_none()));
        let (mut part, mut named) = (Part::default(), 0);
        while let Some(parts) = part.split(1, &conflict("m", &format!("f{named}"), None)) {
            part = parts[named % 2].clone();
            named += 1;
        }
        assert_eq!(named, MOST_FIELDS);
    }
}
