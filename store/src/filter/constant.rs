//! A value of a filter, from its text and the kind of its field: numbers with units, dates, texts.

use super::error::Reason;
use super::names::nearest;
use super::tree::Constant;
use crate::date;
use crate::fields::Kind;

/// Units of time in milliseconds.
const DURATIONS: [(&str, f64); 7] = [
    ("ns", 1e-6),
    ("us", 1e-3),
    ("ms", 1.0),
    ("s", 1e3),
    ("min", 6e4),
    ("h", 3.6e6),
    ("d", 8.64e7),
];

/// Units of size in bytes. Case does not matter.
const SIZES: [(&str, f64); 7] = [
    ("B", 1.0),
    ("kB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
    ("KiB", 1024.0),
    ("MiB", 1_048_576.0),
    ("GiB", 1_073_741_824.0),
];

/// Reads a value that stands in quotation marks or not.
pub(super) fn constant(
    text: &str,
    is_quoted: bool,
    kind: Option<Kind>,
) -> Result<Constant, Reason> {
    match kind {
        Some(Kind::Text) => Ok(Constant::Text(text.to_owned())),
        None => Ok(match number(text).filter(|_| !is_quoted) {
            Some(number) => Constant::Number(number),
            None => Constant::Text(text.to_owned()),
        }),
        Some(kind) => measure(text, kind).map(Constant::Number),
    }
}

/// Reads a number, with a unit where the kind has units.
pub(super) fn measure(text: &str, kind: Kind) -> Result<f64, Reason> {
    let no_guess = Reason::NotOfKind { kind, guess: None };
    match kind {
        Kind::Duration => with_unit(text, kind, &DURATIONS, str::eq),
        Kind::Bytes => with_unit(text, kind, &SIZES, str::eq_ignore_ascii_case),
        Kind::Time => number(text).or_else(|| date::parse(text)).ok_or(no_guess),
        Kind::Number | Kind::Text => number(text).ok_or(no_guess),
    }
}

/// Milliseconds of a duration, such as `15min`; without a unit it has milliseconds.
pub fn duration(text: &str) -> Option<f64> {
    let length = measure(text, Kind::Duration).ok()?;
    (length >= 0.0).then_some(length)
}

/// A decimal number.
pub(super) fn number(text: &str) -> Option<f64> {
    let is_decimal = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'+' | b'e' | b'E'));
    let number: f64 = text.parse().ok().filter(|_| is_decimal)?;
    number.is_finite().then_some(number)
}

fn with_unit(
    text: &str,
    kind: Kind,
    units: &[(&'static str, f64)],
    is_same: fn(&str, &str) -> bool,
) -> Result<f64, Reason> {
    let end = text
        .rfind(|c: char| c.is_ascii_digit() || c == '.')
        .map_or(0, |at| at + 1);
    let (digits, unit) = text.split_at(end);
    let Some(number) = number(digits) else {
        return Err(Reason::NotOfKind { kind, guess: None });
    };
    if unit.is_empty() {
        return Ok(number);
    }
    if let Some((_, factor)) = units.iter().find(|(name, _)| is_same(name, unit)) {
        return Ok(number * factor);
    }
    let names = units.iter().map(|(name, _)| *name);
    let guess = nearest(unit, names).map(|unit| format!("{digits}{unit}"));
    Err(Reason::NotOfKind { kind, guess })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, kind: Kind, expected: Option<f64>) {
        assert_eq!(measure(text, kind).ok(), expected, "{text:?}");
    }

    #[test]
    fn numbers_have_units() {
        for (text, expected) in [
            ("5", 5.0),
            ("1.5s", 1500.0),
            ("250ms", 250.0),
            ("500us", 0.5),
            ("2min", 120_000.0),
            ("-1h", -3_600_000.0),
        ] {
            check(text, Kind::Duration, Some(expected));
        }
        for (text, expected) in [
            ("10kB", 10_000.0),
            ("10KB", 10_000.0),
            ("1KiB", 1024.0),
            ("1.5mib", 1_572_864.0),
            ("7B", 7.0),
        ] {
            check(text, Kind::Bytes, Some(expected));
        }
        for text in [
            "", "s", "5 s", "1.2.3", "5parsec", "NaN", "inf", "1e999", "--1",
        ] {
            check(text, Kind::Duration, None);
            check(text, Kind::Number, None);
        }
        check("5ms", Kind::Number, None);
        check("1e3", Kind::Number, Some(1000.0));
    }

    #[test]
    fn an_unknown_unit_has_a_guess() {
        let guess = |text, kind| match measure(text, kind) {
            Err(Reason::NotOfKind { guess, .. }) => guess,
            other => panic!("{other:?}"),
        };
        assert_eq!(guess("5mss", Kind::Duration).as_deref(), Some("5ms"));
        assert_eq!(guess("2KIB2", Kind::Bytes), None);
        assert_eq!(guess("2Kib.", Kind::Bytes), None);
    }
}
