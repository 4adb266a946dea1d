//! A filter's text into its tree.
//!
//! ```text
//! filter     = [ any ]
//! any        = all *( "or" all )
//! all        = one *( [ "and" ] one )
//! one        = "not" one / "(" any ")" / comparison / word
//! comparison = FIELD ( "==" / "!=" / "~" / "!~" / "<" / "<=" / ">" / ">=" ) value
//!            / FIELD "in" "(" value *( "," value ) ")"
//! value      = quoted / 1*( any character but white space, quotation marks and parentheses; in a list no comma )
//! word       = quoted / 1*( any character but white space, quotation marks, parentheses and = < > ~ )
//! quoted     = quotation mark *( character / "\" quotation mark / "\\" ) quotation mark
//! ```
//!
//! `and`, `or` and `not` are these words in any case. One pass, without going back; what is nested costs stack, up to
//! [`FILTER_DEPTH_MAX`].

use std::borrow::Cow;

use super::constant::{constant, measure};
use super::error::{Error, Reason};
use super::names::{self, Source};
use super::tree::{Comparison, Constant, Expression, Order, Pattern, Test};
use super::word::Word;
use crate::fields::Kind;
use crate::limits::{FILTER_BYTES_MAX, FILTER_DEPTH_MAX, FILTER_PATTERNS_MAX, FILTER_TERMS_MAX};

/// Parses a filter.
pub(super) fn parse(text: &str) -> Result<Expression, Error> {
    if text.len() > FILTER_BYTES_MAX {
        let position = text.floor_char_boundary(FILTER_BYTES_MAX);
        return Err(Error {
            position,
            end: text.len(),
            reason: Reason::TooLong,
        });
    }
    let mut parser = Parser {
        text,
        at: 0,
        depth: 0,
        terms: 0,
        patterns: 0,
    };
    parser.skip_blanks();
    if parser.rest().is_empty() {
        return Ok(Expression::default());
    }
    let expression = parser.any()?;
    if parser.rest().is_empty() {
        Ok(expression)
    } else {
        // Only a parenthesis ends an expression before its text does.
        Err(parser.error_here(1, Reason::CloseParenthesis))
    }
}

/// What compares a field with a value.
#[derive(Clone, Copy)]
enum Operator {
    Is,
    IsNot,
    Found,
    NotFound,
    Ordered(Order),
}

const OPERATORS: [(&str, Operator); 8] = [
    ("==", Operator::Is),
    ("!=", Operator::IsNot),
    ("!~", Operator::NotFound),
    ("<=", Operator::Ordered(Order::AtMost)),
    (">=", Operator::Ordered(Order::AtLeast)),
    ("~", Operator::Found),
    ("<", Operator::Ordered(Order::Less)),
    (">", Operator::Ordered(Order::Greater)),
];

/// What other languages have, and the operator here. `=` last: it begins others.
const FOREIGN: [(&str, &str); 5] = [
    ("=~", "~"),
    ("=<", "<="),
    ("=>", ">="),
    ("<>", "!="),
    ("=", "=="),
];

/// A piece of the text with its place.
struct Span<'a> {
    start: usize,
    text: Cow<'a, str>,
    is_quoted: bool,
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    terms: usize,
    patterns: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn skip_blanks(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    /// An error in the text from an offset up to where the parser is.
    fn error(&self, position: usize, reason: Reason) -> Error {
        Error {
            position,
            end: self.at.max(position),
            reason,
        }
    }

    /// An error in the next octets.
    fn error_here(&self, length: usize, reason: Reason) -> Error {
        Error {
            position: self.at,
            end: (self.at + length).min(self.text.len()),
            reason,
        }
    }

    fn any(&mut self) -> Result<Expression, Error> {
        let mut parts = vec![self.all()?];
        while self.takes_keyword("or") {
            parts.push(self.all()?);
        }
        Ok(one_or(parts, Expression::Or))
    }

    fn all(&mut self) -> Result<Expression, Error> {
        let mut parts = vec![self.one()?];
        loop {
            let is_joined = self.takes_keyword("and");
            let is_end = self.rest().is_empty() || self.rest().starts_with(')');
            if !is_joined && (is_end || self.is_keyword("or")) {
                return Ok(one_or(parts, Expression::And));
            }
            parts.push(self.one()?);
        }
    }

    fn one(&mut self) -> Result<Expression, Error> {
        self.skip_blanks();
        if self.depth >= FILTER_DEPTH_MAX {
            return Err(self.error_here(1, Reason::TooDeep));
        }
        self.depth += 1;
        let one = self.one_within();
        self.depth -= 1;
        let one = one?;
        self.skip_blanks();
        Ok(one)
    }

    fn one_within(&mut self) -> Result<Expression, Error> {
        if self.takes_keyword("not") {
            return Ok(Expression::Not(Box::new(self.one()?)));
        }
        let open = self.at;
        if self.takes("(") {
            let inside = self.any()?;
            return if self.takes(")") {
                Ok(inside)
            } else {
                Err(Error {
                    position: open,
                    end: open + 1,
                    reason: Reason::OpenParenthesis,
                })
            };
        }
        self.term()
    }

    /// A comparison or a word.
    fn term(&mut self) -> Result<Expression, Error> {
        let start = self.at;
        if self.rest().is_empty()
            || self.rest().starts_with(')')
            || self.is_keyword("and")
            || self.is_keyword("or")
        {
            return Err(self.error_here(0, Reason::NoTerm));
        }
        if let Some(operator) = self.operator()? {
            let _: Operator = operator;
            return Err(self.error(start, Reason::NoField));
        }
        let name = self.piece(is_in_word)?;
        let end = self.at;
        if name.is_quoted {
            return self.word(&name);
        }
        self.skip_blanks();
        if let Some(operator) = self.operator()? {
            let source = self.source(&name, end)?;
            return self.comparison(source, operator);
        }
        if self.is_list() {
            let source = self.source(&name, end)?;
            return self.list(source);
        }
        self.word(&name)
    }

    fn word(&mut self, text: &Span<'_>) -> Result<Expression, Error> {
        self.count_term(text.start)?;
        if text.text.is_empty() {
            return Ok(Expression::default());
        }
        match Word::new(&text.text) {
            Ok(word) => Ok(Expression::Word(word)),
            Err(_) => Err(self.error(text.start, Reason::TooLong)),
        }
    }

    fn source(&self, name: &Span<'_>, end: usize) -> Result<Source, Error> {
        names::find(&name.text).ok_or_else(|| Error {
            position: name.start,
            end,
            reason: Reason::NoSuchField {
                name: name.text.clone().into_owned(),
                guess: names::guess(&name.text),
            },
        })
    }

    fn comparison(&mut self, source: Source, operator: Operator) -> Result<Expression, Error> {
        let kind = source.kind();
        let behind = self.at;
        let value = self.value(is_in_value)?;
        let invalid = |reason| self.error(value.start, reason);
        let (test, is_negated) = match operator {
            Operator::Is | Operator::IsNot => {
                let constant = constant(&value.text, value.is_quoted, kind).map_err(invalid)?;
                (
                    Test::In(vec![constant]),
                    matches!(operator, Operator::IsNot),
                )
            }
            Operator::Found | Operator::NotFound => {
                if kind.is_some_and(Kind::is_number) {
                    return Err(self.error_before(behind, Reason::NumberHasNoPattern));
                }
                let pattern = Pattern::new(&value.text).map_err(invalid)?;
                self.patterns += 1;
                if self.patterns > FILTER_PATTERNS_MAX {
                    return Err(self.error(value.start, Reason::TooManyPatterns));
                }
                (Test::Found(pattern), matches!(operator, Operator::NotFound))
            }
            Operator::Ordered(order) => {
                if kind == Some(Kind::Text) {
                    return Err(self.error_before(behind, Reason::TextHasNoOrder));
                }
                let number = measure(&value.text, kind.unwrap_or(Kind::Number)).map_err(invalid)?;
                (Test::Ordered(order, number), false)
            }
        };
        let comparison = Expression::Compare(Comparison { source, test });
        Ok(if is_negated {
            Expression::Not(Box::new(comparison))
        } else {
            comparison
        })
    }

    /// An error at the operator that ends at an offset.
    fn error_before(&self, end: usize, reason: Reason) -> Error {
        let before = self.text.get(..end).unwrap_or_default();
        let operator = OPERATORS.iter().find(|(sign, _)| before.ends_with(sign));
        Error {
            position: end - operator.map_or(0, |(sign, _)| sign.len()),
            end,
            reason,
        }
    }

    /// The values behind `in`.
    fn list(&mut self, source: Source) -> Result<Expression, Error> {
        let kind = source.kind();
        let open = self.at;
        self.takes("(");
        let mut values: Vec<Constant> = Vec::new();
        loop {
            let value = self.value(is_in_list)?;
            let constant = constant(&value.text, value.is_quoted, kind);
            values.push(constant.map_err(|reason| self.error(value.start, reason))?);
            self.skip_blanks();
            if self.takes(")") {
                let test = Test::In(values);
                return Ok(Expression::Compare(Comparison { source, test }));
            }
            if !self.takes(",") {
                return Err(self.error(open, Reason::NoEndOfList));
            }
        }
    }

    fn value(&mut self, is_inside: fn(char) -> bool) -> Result<Span<'a>, Error> {
        self.skip_blanks();
        let value = self.piece(is_inside)?;
        if value.text.is_empty() && !value.is_quoted {
            return Err(self.error_here(0, Reason::NoValue));
        }
        self.count_term(value.start)?;
        Ok(value)
    }

    fn count_term(&mut self, start: usize) -> Result<(), Error> {
        self.terms += 1;
        if self.terms > FILTER_TERMS_MAX {
            return Err(self.error(start, Reason::TooManyTerms));
        }
        Ok(())
    }

    /// A quoted text, or the characters that are inside of one without quotation marks.
    fn piece(&mut self, is_inside: fn(char) -> bool) -> Result<Span<'a>, Error> {
        let start = self.at;
        if self.takes("\"") {
            return self.quoted(start);
        }
        let rest = self.rest();
        let end = rest.find(|c| !is_inside(c)).unwrap_or(rest.len());
        let text = rest.get(..end).unwrap_or_default();
        // `a!=b` and `a!~b`: the exclamation mark belongs to the operator.
        let is_negation = rest
            .get(end..)
            .is_some_and(|behind| behind.starts_with(['=', '~']))
            && !is_inside('=');
        let text = text
            .strip_suffix('!')
            .filter(|_| is_negation)
            .unwrap_or(text);
        self.at += text.len();
        Ok(Span {
            start,
            text: Cow::Borrowed(text),
            is_quoted: false,
        })
    }

    /// The rest of a quoted text whose quotation mark is at `start`.
    fn quoted(&mut self, start: usize) -> Result<Span<'a>, Error> {
        let rest = self.rest();
        let mut text = String::new();
        let mut characters = rest.char_indices().peekable();
        while let Some((at, character)) = characters.next() {
            match (character, characters.peek()) {
                ('"', _) => {
                    self.at += at + 1;
                    return Ok(Span {
                        start,
                        text: Cow::Owned(text),
                        is_quoted: true,
                    });
                }
                // Any other backslash stands for itself, as patterns need it.
                ('\\', Some(&(_, escaped @ ('"' | '\\')))) => {
                    text.push(escaped);
                    characters.next();
                }
                _ => text.push(character),
            }
        }
        Err(Error {
            position: start,
            end: start + 1,
            reason: Reason::OpenQuote,
        })
    }

    fn operator(&mut self) -> Result<Option<Operator>, Error> {
        let rest = self.rest();
        if let Some((sign, operator)) = OPERATORS.iter().find(|(sign, _)| rest.starts_with(sign))
            && !rest.starts_with("<>")
        {
            self.at += sign.len();
            return Ok(Some(*operator));
        }
        match FOREIGN.iter().find(|(sign, _)| rest.starts_with(sign)) {
            Some((found, guess)) => {
                Err(self.error_here(found.len(), Reason::NoSuchOperator { found, guess }))
            }
            None => Ok(None),
        }
    }

    fn takes(&mut self, sign: &str) -> bool {
        let is_there = self.rest().starts_with(sign);
        self.at += if is_there { sign.len() } else { 0 };
        is_there
    }

    /// Whether a word is next, and not the name of a field.
    fn is_keyword(&self, keyword: &str) -> bool {
        let Some((word, behind)) = self.rest().split_at_checked(keyword.len()) else {
            return false;
        };
        word.eq_ignore_ascii_case(keyword)
            && behind
                .chars()
                .next()
                .is_none_or(|next| next.is_whitespace() || matches!(next, '(' | ')' | '"'))
    }

    fn takes_keyword(&mut self, keyword: &str) -> bool {
        self.skip_blanks();
        let is_there = self.is_keyword(keyword);
        if is_there {
            self.at += keyword.len();
            self.skip_blanks();
        }
        is_there
    }

    /// Whether `in (` is next, which is taken up to the parenthesis. Without it `in` is a word.
    fn is_list(&mut self) -> bool {
        let before = self.at;
        if self.takes_keyword("in") && self.rest().starts_with('(') {
            return true;
        }
        self.at = before;
        false
    }
}

fn is_in_word(character: char) -> bool {
    is_in_value(character) && !matches!(character, '=' | '<' | '>' | '~')
}

fn is_in_value(character: char) -> bool {
    !character.is_whitespace() && !matches!(character, '"' | '(' | ')')
}

fn is_in_list(character: char) -> bool {
    is_in_value(character) && character != ','
}

/// The only part, or all of them joined.
fn one_or(mut parts: Vec<Expression>, join: fn(Vec<Expression>) -> Expression) -> Expression {
    match parts.pop() {
        Some(part) if parts.is_empty() => part,
        Some(part) => {
            parts.push(part);
            join(parts)
        }
        None => Expression::default(),
    }
}
