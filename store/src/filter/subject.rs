//! A call as the filter looks at it: the columns that are known without its line, and the line.
//!
//! Whether a call matches is decided here, for every backend. A column that a backend has keeps its line from being read:
//! [`decide`] answers as far as the columns suffice. What a backend does not know, or knows only the beginning of, it leaves
//! [`Value::Unknown`], and [`matches`] reads that of the line.

use std::borrow::Cow;
use std::cell::OnceCell;

use super::constant::number;
use super::names::{ANNOTATION, Source};
use super::tree::{Comparison, Constant, Expression, Test};
use super::word::Searched;
use crate::endpoint::Endpoints;
use crate::fields::Field;
use crate::line::{self, APART, Columns, Detail};

/// What is known of a call without its line.
pub trait Known {
    /// The value of a field.
    fn field(&self, field: Field) -> Value<'_>;

    /// The value of an annotation, whose name is without its prefix.
    fn annotation(&self, name: &str) -> Value<'_>;
}

/// Nothing.
impl Known for () {
    fn field(&self, _: Field) -> Value<'_> {
        Value::Unknown
    }

    fn annotation(&self, _: &str) -> Value<'_> {
        Value::Unknown
    }
}

/// What is known of a value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// It is in the line, if anywhere.
    Unknown,
    /// The call has none.
    Missing,
    /// A number.
    Number(f64),
    /// A text, all of it.
    Text(Cow<'a, str>),
}

impl<'a> Value<'a> {
    /// A text of a column, which is empty where a call has none, and has a mark where it was cut.
    pub fn of_column(text: &'a str) -> Self {
        match text {
            "" => Self::Missing,
            text if line::is_cut(text) => Self::Unknown,
            text => Self::Text(text.into()),
        }
    }

    /// A number of a column.
    pub fn of_number(number: Option<i64>) -> Self {
        number.map_or(Self::Missing, |number| Self::Number(number as f64))
    }
}

/// Whether a call matches, as far as the columns decide that.
pub(super) fn decide(expression: &Expression, known: &dyn Known) -> Option<bool> {
    Subject { known, line: None }.decides(expression)
}

/// Whether a call matches.
pub(super) fn matches(expression: &Expression, known: &dyn Known, line: &str) -> bool {
    let line = Line::new(line);
    let subject = Subject {
        known,
        line: Some(&line),
    };
    // With a line there is nothing that is unknown.
    subject.decides(expression).unwrap_or(false)
}

struct Subject<'a> {
    known: &'a dyn Known,
    line: Option<&'a Line<'a>>,
}

impl Subject<'_> {
    /// `None`: the line is needed.
    fn decides(&self, expression: &Expression) -> Option<bool> {
        match expression {
            Expression::And(parts) => self.joined(parts, true),
            Expression::Or(parts) => self.joined(parts, false),
            Expression::Not(part) => self.decides(part).map(|matches| !matches),
            Expression::Word(word) => self.line.map(|line| word.occurs_in(&line.searched)),
            Expression::Compare(comparison) => self.compare(comparison),
        }
    }

    /// All parts have the neutral value, or one has the other. The line is needed only if no known part decides.
    fn joined(&self, parts: &[Expression], neutral: bool) -> Option<bool> {
        let mut is_known = true;
        for part in parts {
            match self.decides(part) {
                Some(value) if value == neutral => {}
                Some(value) => return Some(value),
                None => is_known = false,
            }
        }
        is_known.then_some(neutral)
    }

    fn compare(&self, comparison: &Comparison) -> Option<bool> {
        let Comparison { source, test } = comparison;
        let known = match source {
            Source::Field(field) => self.known.field(*field),
            Source::Detail(name) => match name.strip_prefix(ANNOTATION) {
                Some(annotation) => self.known.annotation(annotation),
                None => Value::Unknown,
            },
        };
        if known != Value::Unknown {
            return Some(test.passes(&known));
        }
        self.line.map(|line| match source {
            Source::Field(field) => test.passes(&line.field(*field)),
            Source::Detail(name) => {
                let most = match name.starts_with(ANNOTATION) {
                    true => 1,
                    false => usize::MAX,
                };
                let mut values = line.values(name).take(most);
                values.any(|value| test.passes(&Value::Text(value.into())))
            }
        })
    }
}

impl Test {
    /// Whether a value passes. A text in place of a number is read as one.
    pub fn passes(&self, value: &Value<'_>) -> bool {
        let as_number = || match value {
            Value::Number(number) => Some(*number),
            Value::Text(text) => number(text.trim()),
            Value::Unknown | Value::Missing => None,
        };
        match self {
            Self::In(constants) => constants.iter().any(|constant| match (constant, value) {
                (Constant::Text(constant), Value::Text(text)) => constant == text,
                (Constant::Text(_), _) => false,
                (Constant::Number(constant), _) => as_number() == Some(*constant),
            }),
            Self::Found(pattern) => match value {
                Value::Text(text) => pattern.is_found_in(text),
                _ => false,
            },
            Self::Ordered(order, right) => {
                as_number().is_some_and(|left| order.holds(left, *right))
            }
        }
    }
}

/// A line, of which each part is read when it is needed for the first time.
struct Line<'a> {
    text: &'a str,
    searched: Searched<'a>,
    details: OnceCell<Vec<Detail<'a>>>,
    columns: OnceCell<Columns>,
}

impl<'a> Line<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text,
            searched: Searched::new(text),
            details: OnceCell::new(),
            columns: OnceCell::new(),
        }
    }

    /// The values of the details with a name. A text that is no line has none.
    fn values<'b>(&'b self, name: &'b str) -> impl Iterator<Item = &'b str> {
        let details = self
            .details
            .get_or_init(|| line::details(self.text).unwrap_or_default());
        details
            .iter()
            .filter(move |(known, _)| known == name)
            .map(|(_, value)| &**value)
    }

    /// The value of a field. What only a store knows is missing.
    fn field(&self, field: Field) -> Value<'_> {
        let columns = self
            .columns
            .get_or_init(|| Columns::read(self.text).unwrap_or_default());
        match field {
            Field::Time => Value::of_number(columns.now_ms),
            Field::Received | Field::Sender => Value::Missing,
            Field::Endpoint => {
                let endpoint = Endpoints::default().of(&columns.path);
                Value::Text(endpoint.into())
            }
            field => match Known::field(columns, field) {
                Value::Unknown => self.whole(field),
                value => value,
            },
        }
    }

    /// A text of which a column has only the beginning.
    fn whole(&self, field: Field) -> Value<'_> {
        let first = |name| {
            let mut texts = self.values(name).filter(|text| !text.is_empty());
            texts.next().unwrap_or_default()
        };
        let url = || line::split_url(first("request_url"));
        let text = match field {
            Field::ContentType => {
                let media_type = first("response_header:content-type").split(';').next();
                let media_type = media_type.unwrap_or_default().trim();
                return Value::Text(media_type.to_ascii_lowercase().into());
            }
            Field::Method => first("request_method"),
            Field::Url => first("request_url"),
            Field::Host if url().0.is_empty() => first("request_header:host"),
            Field::Host => url().0,
            Field::Path => url().1,
            Field::Operation => first("custom_field:operation"),
            Field::OperationKind => first("custom_field:operation_kind"),
            Field::Client => first("custom_field:client_address"),
            Field::Server => first("custom_field:server_address"),
            Field::Connection => first("custom_field:connection_id"),
            Field::Appliance => first("host"),
            _ => "",
        };
        match text {
            "" => Value::Missing,
            text => Value::Text(text.into()),
        }
    }
}

/// As much as a line's columns have of it. The time is the one that a store set.
impl Known for Columns {
    fn field(&self, field: Field) -> Value<'_> {
        match field {
            // Before a store has set them.
            Field::Time | Field::Received if self.number(field) == Some(0) => Value::Unknown,
            Field::Endpoint | Field::Sender if self.text(field).is_empty() => Value::Unknown,
            _ if field.kind().is_number() => Value::of_number(self.number(field)),
            _ => Value::of_column(self.text(field)),
        }
    }

    fn annotation(&self, name: &str) -> Value<'_> {
        match self.fact_of(name) {
            _ if self.are_facts_cut || APART.contains(&name) => Value::Unknown,
            Some(value) => Value::Text(value.into()),
            None => Value::Missing,
        }
    }
}
