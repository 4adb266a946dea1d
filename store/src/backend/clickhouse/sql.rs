//! A filter as a condition of SQL: SQL narrows, Rust decides.
//!
//! A condition may let through too much, never too little: what is not exact is examined again (`docs/filter.md`). Columns come from
//! a table of fields; of the filter itself only numbers reach a statement, and texts in which every character that is no letter,
//! digit, blank or one of a few marks is written as its number. Names of columns, and statements, are constants.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::row::{MARK_FACTS_CUT, MARK_TEXT_CUT};
use crate::fields::{Field, Kind};
use crate::filter::names::{ANNOTATION, Source};
use crate::filter::tree::{Comparison, Constant, Order, Test};
use crate::filter::{Expression, Filter, Value, Word};
use crate::line::APART;

/// Milliseconds of a bucket, by which the table is sorted first.
pub(super) const BUCKET_MS: i64 = 300_000;

/// A condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    /// `1` where nothing is excluded.
    pub(super) sql: String,
    /// It holds exactly for the calls that match.
    pub(super) is_exact: bool,
    /// The line may be needed to decide, else the columns suffice unless one is cut.
    pub(super) needs_line: bool,
}

impl Condition {
    fn exact(sql: String) -> Self {
        Self {
            sql,
            is_exact: true,
            needs_line: false,
        }
    }

    fn some(sql: String, needs_line: bool) -> Self {
        Self {
            sql,
            is_exact: false,
            needs_line,
        }
    }

    /// Of a filter.
    pub(super) fn of(filter: &Filter) -> Self {
        of(filter.expression(), &Values::new())
    }

    /// Of a filter, where all values of some fields are known: a pattern is exact for these.
    pub(super) fn with(filter: &Filter, values: &Values) -> Self {
        of(filter.expression(), values)
    }

    /// The expression that has the line where it is needed to decide.
    pub(super) fn line(&self) -> String {
        if self.is_exact {
            return "''".into();
        }
        if self.needs_line {
            return "line".into();
        }
        let cut = MARK_FACTS_CUT | MARK_TEXT_CUT;
        format!("if(bitAnd(marks, {cut}) != 0, line, '')")
    }
}

/// A text as a literal.
pub(super) fn literal(text: &str) -> String {
    let mut literal = String::with_capacity(text.len() + 2);
    literal.push('\'');
    for c in text.chars() {
        match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | ' ' | '.' | ',' | '-' | '_' | '/' => {
                literal.push(c);
            }
            c if !c.is_ascii() => literal.push(c),
            c => {
                let _ = write!(literal, "\\x{:02X}", u32::from(c));
            }
        }
    }
    literal.push('\'');
    literal
}

/// What a field is in the tables.
pub(super) fn expression(field: Field) -> &'static str {
    match field {
        Field::Url => "concat(origin, path)",
        field => field.name(),
    }
}

/// All values that calls have in some fields.
pub(super) type Values = HashMap<Field, Vec<String>>;

/// The fields for which a filter has a pattern.
pub(super) fn patterns(expression: &Expression) -> Vec<Field> {
    match expression {
        Expression::And(parts) | Expression::Or(parts) => parts.iter().flat_map(patterns).collect(),
        Expression::Not(part) => patterns(part),
        Expression::Compare(Comparison {
            source: Source::Field(field),
            test: Test::Found(_),
        }) => vec![*field],
        Expression::Word(_) | Expression::Compare(_) => Vec::new(),
    }
}

fn of(expression: &Expression, values: &Values) -> Condition {
    match expression {
        Expression::And(parts) => joined(parts, values, " AND ", "1"),
        Expression::Or(parts) => joined(parts, values, " OR ", "0"),
        Expression::Not(part) => {
            let part = of(part, values);
            if part.is_exact {
                return Condition::exact(format!("NOT ({})", part.sql));
            }
            Condition::some("1".into(), part.needs_line)
        }
        Expression::Word(word) => Condition::some(of_word(word), true),
        Expression::Compare(comparison) => compare(comparison, values),
    }
}

fn joined(parts: &[Expression], values: &Values, between: &str, neutral: &str) -> Condition {
    let parts: Vec<_> = parts.iter().map(|part| of(part, values)).collect();
    let sql = parts
        .iter()
        .map(|part| format!("({})", part.sql))
        .collect::<Vec<_>>();
    Condition {
        sql: if sql.is_empty() {
            neutral.into()
        } else {
            sql.join(between)
        },
        is_exact: parts.iter().all(|part| part.is_exact),
        needs_line: parts.iter().any(|part| part.needs_line),
    }
}

fn of_word(word: &Word) -> String {
    let mut texts: Vec<_> = word.texts().map(|text| contains("line", text)).collect();
    texts.dedup();
    texts.join(" OR ")
}

/// A text occurs in another one, cases ignored as in Unicode's simple case folding: what follows from that for the parts of the
/// text that have no case but that of ASCII. `k` and `s` have a third form each, the Kelvin sign and the long s.
fn contains(column: &str, text: &str) -> String {
    let is_apart = |c: char| !c.is_ascii() || matches!(c, 'k' | 'K' | 's' | 'S');
    let mut parts: Vec<_> = text
        .split(is_apart)
        .filter(|part| !part.is_empty())
        .collect();
    // The longest ones exclude the most.
    parts.sort_by_key(|part| std::cmp::Reverse(part.len()));
    parts.truncate(4);
    let found = |part: &&str| format!("positionCaseInsensitive({column}, {}) > 0", literal(part));
    match parts.iter().map(found).collect::<Vec<_>>() {
        none if none.is_empty() => "1".into(),
        all => format!("({})", all.join(" AND ")),
    }
}

fn compare(Comparison { source, test }: &Comparison, values: &Values) -> Condition {
    match source {
        Source::Field(field) if values.contains_key(field) && matches!(test, Test::Found(_)) => {
            let all = values.get(field).into_iter().flatten();
            let found = all.filter(|value| test.passes(&Value::of_column(value)));
            let found: Vec<_> = found.map(|value| literal(value)).collect();
            Condition::exact(is_one_of(expression(*field), &found))
        }
        Source::Field(field) if field.kind() == Kind::Text => of_text(expression(*field), test),
        Source::Field(field) => of_number(*field, test),
        Source::Detail(name) => match name.strip_prefix(ANNOTATION) {
            Some(name) if !APART.contains(&name) => {
                let sql = format!(
                    "has(fact_names, {}) OR bitAnd(marks, {MARK_FACTS_CUT}) != 0",
                    literal(name)
                );
                Condition::some(sql, false)
            }
            _ => Condition::some("1".into(), true),
        },
    }
}

fn of_text(column: &str, test: &Test) -> Condition {
    match test {
        // A text that was cut is longer than any that a filter can have.
        Test::In(constants) => {
            let texts: Vec<_> = constants
                .iter()
                .filter_map(|constant| match constant {
                    Constant::Text(text) if !text.is_empty() => Some(literal(text)),
                    _ => None,
                })
                .collect();
            if constants
                .iter()
                .any(|constant| matches!(constant, Constant::Number(_)))
            {
                return Condition::some("1".into(), false);
            }
            Condition::exact(is_one_of(column, &texts))
        }
        Test::Found(pattern) => match pattern.literal() {
            Some(text) => {
                let found = contains(column, text);
                let sql = format!("{found} OR bitAnd(marks, {MARK_TEXT_CUT}) != 0");
                Condition::some(sql, false)
            }
            None => Condition::some("1".into(), false),
        },
        Test::Ordered(..) => Condition::some("1".into(), false),
    }
}

fn is_one_of(column: &str, values: &[String]) -> String {
    match values {
        [] => "0".into(),
        values => format!("{column} IN ({})", values.join(", ")),
    }
}

/// Up to here a number of 64 bits with a fraction has all whole numbers.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

fn of_number(field: Field, test: &Test) -> Condition {
    let column = expression(field);
    let is_usual = |number: f64| (0.0..EXACT_MAX).contains(&number);
    match test {
        Test::In(constants) => {
            let mut numbers = Vec::new();
            for constant in constants {
                match constant {
                    Constant::Number(number) if !is_usual(*number) => {
                        return Condition::some("1".into(), false);
                    }
                    Constant::Number(number) if number.fract() == 0.0 => {
                        numbers.push(format!("{number:.0}"));
                    }
                    _ => {}
                }
            }
            Condition::exact(is_one_of(column, &numbers))
        }
        Test::Found(_) => Condition::exact("0".into()),
        Test::Ordered(_, right) if !is_usual(*right) => Condition::some("1".into(), false),
        // -1 is none.
        Test::Ordered(order, right) => Condition::exact(match order {
            Order::Less => format!("{column} < {:.0} AND {column} != -1", right.ceil()),
            Order::AtMost => format!("{column} <= {:.0} AND {column} != -1", right.floor()),
            Order::Greater => format!("{column} > {:.0}", right.floor()),
            Order::AtLeast => format!("{column} >= {:.0}", right.ceil()),
        }),
    }
}

/// Calls of a range of time, with the bucket, by which the server skips what is elsewhere.
pub(super) fn within(from_ms: Option<i64>, to_ms: Option<i64>) -> String {
    let mut parts = Vec::new();
    if let Some(from) = from_ms {
        parts.push(format!("intDiv(time, {BUCKET_MS}) >= {}", from / BUCKET_MS));
        parts.push(format!("time >= {from}"));
    }
    if let Some(to) = to_ms {
        parts.push(format!("intDiv(time, {BUCKET_MS}) <= {}", to / BUCKET_MS));
        parts.push(format!("time < {to}"));
    }
    if parts.is_empty() {
        return "time >= 0".into();
    }
    parts.join(" AND ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(filter: &str, sql: &str, is_exact: bool, needs_line: bool) {
        let condition = Condition::of(&Filter::parse(filter).expect(filter));
        let expected = Condition {
            sql: sql.into(),
            is_exact,
            needs_line,
        };
        assert_eq!(condition, expected, "{filter}");
    }

    #[test]
    fn comparisons_are_exact_where_sql_has_the_same() {
        check("", "1", true, false);
        check("status >= 400", "status >= 400", true, false);
        check("took < 1.5", "took < 2 AND took != -1", true, false);
        check("took <= 1.5", "took <= 1 AND took != -1", true, false);
        check("status == -1", "1", false, false);
        check("host == x", "host IN ('x')", true, false);
        check("host == \"\"", "0", true, false);
        check("not host == x", "NOT (host IN ('x'))", true, false);
        check("url == x", "concat(origin, path) IN ('x')", true, false);
    }

    #[test]
    fn a_pattern_is_a_list_of_values_where_these_are_known() {
        let filter = Filter::parse("host ~ \"^a\" and not path ~ x").expect("a filter");
        assert_eq!(patterns(filter.expression()), [Field::Host, Field::Path]);
        let hosts = ["a1", "b", "A2", ""].map(str::to_owned).to_vec();
        let filter = Filter::parse("not host ~ \"^a\"").expect("a filter");
        let condition = Condition::with(&filter, &Values::from([(Field::Host, hosts)]));
        assert_eq!(
            condition,
            Condition::exact("NOT (host IN ('a1', 'A2'))".into())
        );
    }

    #[test]
    fn what_is_not_exact_excludes_too_little() {
        check("not word", "1", false, true);
        check(
            "Task",
            "(positionCaseInsensitive(line, 'Ta') > 0)",
            false,
            true,
        );
    }

    #[test]
    fn nothing_of_a_filter_ends_a_literal() {
        for text in [
            "'",
            "\\",
            "\\'",
            "');DROP",
            "\0",
            "\n",
            "`",
            "?",
            "{x:String}",
            "\u{1b}",
            "é'",
            "/*",
            "--",
        ] {
            let literal = literal(text);
            let inner = &literal[1..literal.len() - 1];
            assert!(!inner.contains('\''), "{literal}");
            let mut rest = inner;
            while let Some((_, behind)) = rest.split_once('\\') {
                let hex = behind.strip_prefix('x').and_then(|hex| hex.get(..2));
                assert!(
                    hex.is_some_and(|hex| u8::from_str_radix(hex, 16).is_ok()),
                    "{literal}"
                );
                rest = &behind[3..];
            }
        }
        assert_eq!(literal("a'b"), "'a\\x27b'");
    }
}
