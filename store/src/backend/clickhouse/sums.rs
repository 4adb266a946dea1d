//! Sums over calls in SQL: counts by a point of time or a value, together with the places of numbers in their histograms.
//!
//! A histogram is rows of an answer, one for each place: plain groups of numbers, which every version of the server has, and no maps.
//! What a call is grouped by is a number: a point, a hash of a text, or the number of a field.

use std::collections::HashMap;

use super::binary::{Malformed, Reader};
use super::sql::{expression, within};
use crate::call::{Measures, Range};
use crate::clock::MINUTE_MS;
use crate::fields::Field;

/// What sums are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    Calls,
    Minutes,
}

/// What calls are summed up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// All together.
    All,
    /// A part of the time.
    Point { start_ms: i64, step_ms: i64 },
    /// The value of a field.
    Value(Field),
}

/// Where the sums come from, and of what.
#[derive(Clone, Debug)]
pub(super) struct Sums {
    pub(super) of: Table,
    pub(super) range: Range,
    pub(super) condition: String,
}

/// A row of an answer.
#[derive(Clone, Debug)]
pub(super) struct Sum {
    /// A point, or the [`key`](Sums::key) of a value.
    pub(super) place: u64,
    /// The value as a text, where the place is one of a text.
    pub(super) text: String,
    kind: Kind,
    places: [i16; 2],
    calls: u64,
    bytes: [u64; 2],
}

/// What the places of a row are of. One that is below 0 is of nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The class of the status, and the time.
    ClassAndTook,
    /// The time to the first byte, and the size.
    FirstByteAndSize,
}

const BYTES: [&str; 2] = ["request_bytes", "response_bytes"];

impl Sums {
    /// The statement for rows of some kinds.
    pub(super) fn sql(&self, wanted: &[(Kind, Place)]) -> String {
        let parts: Vec<_> = wanted
            .iter()
            .flat_map(|&(kind, place)| match self.of {
                Table::Calls => vec![self.of_calls(kind, place)],
                Table::Minutes => self.of_minutes(kind, place),
            })
            .collect();
        format!(
            "SELECT part, place, a, b, n, requests, responses, shown FROM (\n{}\n) FORMAT RowBinary",
            parts.join("\nUNION ALL ")
        )
    }

    fn of_calls(&self, kind: Kind, place: Place) -> String {
        let sum = |name: &str| format!("sum(toUInt64(if({name} > 0, {name}, 0)))");
        let (a, b, bytes) = match kind {
            Kind::ClassAndTook => ("class", "took_slot", BYTES.map(sum)),
            Kind::FirstByteAndSize => ("first_byte_slot", "size_slot", zeros()),
        };
        let text = match kind {
            Kind::ClassAndTook => shown(place),
            Kind::FirstByteAndSize => "''".into(),
        };
        self.part(kind, place, [a, b], "count()", &bytes, &text, "")
    }

    fn of_minutes(&self, kind: Kind, place: Place) -> Vec<String> {
        const NONE: &str = "toInt16(-1)";
        let map = |name: &str, places: [&str; 2]| {
            let join =
                format!(" ARRAY JOIN `{name}Map.slotKey` AS slot, `{name}Map.calls` AS times");
            self.part(kind, place, places, "sum(times)", &zeros(), "''", &join)
        };
        match kind {
            Kind::ClassAndTook => {
                let bytes = BYTES.map(|name| format!("sum({name}_sum)"));
                let places = ["class", NONE];
                let text = shown(place);
                vec![
                    self.part(kind, place, places, "sum(calls_sum)", &bytes, &text, ""),
                    map("took", [NONE, "slot"]),
                ]
            }
            Kind::FirstByteAndSize => {
                vec![
                    map("first_byte", ["slot", NONE]),
                    map("size", [NONE, "slot"]),
                ]
            }
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "they are the columns of the answer"
    )]
    fn part(
        &self,
        kind: Kind,
        place: Place,
        [a, b]: [&str; 2],
        calls: &str,
        [requests, responses]: &[String; 2],
        text: &str,
        join: &str,
    ) -> String {
        let mut groups = Vec::new();
        if place != Place::All {
            groups.push("place");
        }
        // A server may refuse to group by a constant.
        for (name, of) in [("a", a), ("b", b)] {
            if !of.starts_with("toInt16") {
                groups.push(name);
            }
        }
        format!(
            "SELECT toUInt8({}) AS part, {} AS place, {a} AS a, {b} AS b, {calls} AS n, {requests} AS requests, {responses} AS responses, {text} AS shown {} GROUP BY {}",
            u8::from(kind == Kind::FirstByteAndSize),
            self.key(place),
            self.from(join),
            groups.join(", ")
        )
    }

    fn key(&self, place: Place) -> String {
        match (place, self.of) {
            (Place::All, _) => "toUInt64(0)".into(),
            (Place::Value(field), _) => key(field),
            (Place::Point { start_ms, step_ms }, Table::Calls) => {
                format!("toUInt64(intDiv(time - {start_ms}, {step_ms}))")
            }
            (Place::Point { start_ms, step_ms }, Table::Minutes) => format!(
                "toUInt64(intDiv(greatest(minute * {MINUTE_MS} - {start_ms}, toInt64(0)), {step_ms}))"
            ),
        }
    }

    /// The statement for the keys of the most frequent values of a field.
    pub(super) fn largest(&self, field: Field, groups_max: usize) -> String {
        let calls = match self.of {
            Table::Calls => "count()",
            Table::Minutes => "sum(calls_sum)",
        };
        format!(
            "SELECT place FROM (SELECT {} AS place, {calls} AS n {} GROUP BY place ORDER BY n DESC, place LIMIT {groups_max}) FORMAT RowBinary",
            key(field),
            self.from("")
        )
    }

    /// The sums of these values alone.
    pub(super) fn only(&self, field: Field, keys: &[u64]) -> Self {
        let keys: Vec<_> = keys.iter().map(u64::to_string).collect();
        let condition = match keys.as_slice() {
            [] => "0".to_owned(),
            keys => format!(
                "({}) AND {} IN ({})",
                self.condition,
                key(field),
                keys.join(", ")
            ),
        };
        Self {
            condition,
            ..self.clone()
        }
    }

    fn from(&self, join: &str) -> String {
        let condition = &self.condition;
        match self.of {
            Table::Calls => format!(
                "FROM calls PREWHERE {} WHERE {condition}",
                within(self.range.from_ms, self.range.to_ms)
            ),
            Table::Minutes => {
                let (first, last) = self.range.minutes();
                format!(
                    "FROM minutes{join} WHERE minute >= {first} AND minute <= {last} AND ({condition})"
                )
            }
        }
    }
}

/// What stands for a value: a number as it is, or the hash of a text, which costs less to compare.
pub(super) fn key(field: Field) -> String {
    match field.kind().is_number() {
        true => format!("toUInt64({})", field.name()),
        false => format!("cityHash64({})", expression(field)),
    }
}

fn shown(place: Place) -> String {
    match place {
        Place::Value(field) if !field.kind().is_number() => {
            format!("toString(any({}))", expression(field))
        }
        _ => "''".into(),
    }
}

fn zeros() -> [String; 2] {
    [(); 2].map(|()| "toUInt64(0)".to_owned())
}

impl Sum {
    /// All rows of an answer.
    pub(super) fn read_all(answer: &[u8]) -> Result<Vec<Self>, Malformed> {
        let mut reader = Reader(answer);
        let mut sums = Vec::new();
        while reader.has_more() {
            sums.push(Self {
                kind: match reader.u8()? {
                    0 => Kind::ClassAndTook,
                    _ => Kind::FirstByteAndSize,
                },
                place: reader.u64()?,
                places: [reader.i16()?, reader.i16()?],
                calls: reader.u64()?,
                bytes: [reader.u64()?, reader.u64()?],
                text: reader.text()?,
            });
        }
        Ok(sums)
    }

    /// The place of its status and that of its time, where it has them.
    pub(super) fn class_and_took(&self) -> [Option<usize>; 2] {
        match self.kind {
            Kind::ClassAndTook => self.places.map(|place| usize::try_from(place).ok()),
            Kind::FirstByteAndSize => [None; 2],
        }
    }

    pub(super) fn calls(&self) -> u64 {
        self.calls
    }

    /// Adds its calls.
    pub(super) fn add_to(&self, measures: &mut Measures) {
        let [first, second] = self.places.map(|place| usize::try_from(place).ok());
        match self.kind {
            Kind::ClassAndTook => {
                if let Some(class) = first {
                    measures.calls += self.calls;
                    if let Some(class) = measures.classes.get_mut(class) {
                        *class += self.calls;
                    }
                }
                let [request, response] = self.bytes;
                measures.request_bytes += request;
                measures.response_bytes += response;
                if let Some(slot) = second {
                    measures.took.add_to_slot(slot, self.calls);
                }
            }
            Kind::FirstByteAndSize => {
                for (histogram, slot) in [
                    (&mut measures.first_byte, first),
                    (&mut measures.sizes, second),
                ] {
                    if let Some(slot) = slot {
                        histogram.add_to_slot(slot, self.calls);
                    }
                }
            }
        }
    }
}

/// Measures by place, with the texts of the places.
pub(super) fn by_place(sums: &[Sum]) -> HashMap<u64, (String, Measures)> {
    let mut places: HashMap<u64, (String, Measures)> = HashMap::new();
    for sum in sums {
        let (text, measures) = places.entry(sum.place).or_default();
        if text.is_empty() {
            text.clone_from(&sum.text);
        }
        sum.add_to(measures);
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::Histogram;

    #[test]
    fn rows_without_a_place_count_nothing_of_it() {
        let row = |kind, places, calls| Sum {
            place: 7,
            text: String::new(),
            kind,
            places,
            calls,
            bytes: [1, 2],
        };
        let sums = [
            row(Kind::ClassAndTook, [2, -1], 5),
            row(Kind::ClassAndTook, [-1, 3], 4),
            row(Kind::FirstByteAndSize, [-1, 9], 3),
            row(Kind::FirstByteAndSize, [0, -1], 2),
        ];
        let places = by_place(&sums);
        let (_, measures) = places.get(&7).expect("the place");
        assert_eq!((measures.calls, measures.classes[2]), (5, 5));
        assert_eq!((measures.request_bytes, measures.response_bytes), (2, 4));
        let counts = [&measures.took, &measures.first_byte, &measures.sizes];
        assert_eq!(counts.map(Histogram::count), [4, 2, 3]);
        assert_eq!(measures.first_byte.zero, 2);
    }

    #[test]
    fn no_statement_groups_by_a_constant() {
        let sums = |of| Sums {
            of,
            range: Range::default(),
            condition: "1".into(),
        };
        let wanted = [
            (Kind::ClassAndTook, Place::Value(Field::Host)),
            (Kind::FirstByteAndSize, Place::All),
        ];
        let calls = sums(Table::Calls).sql(&wanted);
        assert_eq!(calls.matches("GROUP BY place, a, b").count(), 1);
        assert_eq!(calls.matches("GROUP BY a, b").count(), 1);
        let minutes = sums(Table::Minutes).sql(&wanted);
        assert_eq!(minutes.matches("GROUP BY place, a\n").count(), 1);
        assert_eq!(minutes.matches("GROUP BY place, b\n").count(), 1);
        assert_eq!(minutes.matches("GROUP BY a\n").count(), 1);
    }
}
