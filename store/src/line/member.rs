//! A member of a line's array, and the two scalars of which a detail consists, as they stand in the line.
//!
//! A text is decoded where it is needed, and its length is computed without that. Only what decoding may find an error in (a
//! surrogate that stands alone, a number that is too large) is decoded at once, so that a line that was read once has no errors.

use std::borrow::Cow;

use memchr::{memchr, memchr_iter};
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// A member of the line's array, `None` when it is no pair.
pub(super) struct Member<'a>(pub(super) Option<(Scalar<'a>, Scalar<'a>)>);

impl<'de: 'a, 'a> Deserialize<'de> for Member<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pair;
        impl<'de> Visitor<'de> for Pair {
            type Value = Member<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a [name, value] pair")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
                let mut next = || -> Result<_, A::Error> {
                    let raw = members.next_element::<&'de RawValue>()?;
                    raw.map_or(Ok(None), Scalar::of).map_err(de::Error::custom)
                };
                let (name, value) = (next()?, next()?);
                let mut is_pair = true;
                while members.next_element::<IgnoredAny>()?.is_some() {
                    is_pair = false;
                }
                Ok(Member(name.zip(value).filter(|_| is_pair)))
            }
        }
        deserializer.deserialize_seq(Pair)
    }
}

/// A string, a number or a boolean.
pub(super) enum Scalar<'a> {
    /// A string without an escape, without its quotes.
    Plain(&'a str),
    /// A string with escapes that can be decoded, with its quotes.
    Escaped(&'a str),
    /// The text of one that was decoded.
    Decoded(String),
}

impl<'a> Scalar<'a> {
    /// None where the value is neither a string nor a number nor a boolean.
    fn of(raw: &'a RawValue) -> serde_json::Result<Option<Self>> {
        let whole = raw.get();
        let Some(inner) = within_quotes(whole) else {
            let text: Text = serde_json::from_str(whole)?;
            return Ok(text.0.map(Self::Decoded));
        };
        Ok(Some(if memchr(b'\\', inner.as_bytes()).is_none() {
            Self::Plain(inner)
        } else if may_have_surrogates(inner) {
            Self::Decoded(serde_json::from_str(whole)?)
        } else {
            Self::Escaped(whole)
        }))
    }

    /// The text.
    pub(super) fn text(self) -> Cow<'a, str> {
        match self {
            Self::Plain(text) => text.into(),
            // It was seen to have no error.
            Self::Escaped(whole) => serde_json::from_str::<String>(whole)
                .unwrap_or_default()
                .into(),
            Self::Decoded(text) => text.into(),
        }
    }

    /// Bytes of the text.
    pub(super) fn length(&self) -> usize {
        match self {
            Self::Plain(text) => text.len(),
            Self::Escaped(whole) => decoded_length(within_quotes(whole).unwrap_or_default()),
            Self::Decoded(text) => text.len(),
        }
    }
}

fn within_quotes(whole: &str) -> Option<&str> {
    whole.strip_prefix('"')?.strip_suffix('"')
}

/// Whether a string has an escape of the range of surrogates, or what looks like one.
fn may_have_surrogates(inner: &str) -> bool {
    let bytes = inner.as_bytes();
    memchr_iter(b'\\', bytes).any(|at| matches!(bytes.get(at + 1..at + 3), Some(b"ud" | b"uD")))
}

/// Bytes of the text of a string without surrogates.
fn decoded_length(inner: &str) -> usize {
    let mut length = inner.len();
    let mut rest = inner;
    while let Some(at) = memchr(b'\\', rest.as_bytes()) {
        let escape = rest.get(at + 1..).unwrap_or_default();
        let digits = escape.strip_prefix('u').and_then(|code| code.get(..4));
        let code = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        // `\n` is two bytes for one.
        let (escaped, decoded) = match code {
            Some(code) => (6, char::from_u32(code).map_or(0, char::len_utf8)),
            None => (2, 1),
        };
        length = (length + decoded).saturating_sub(escaped);
        rest = rest.get(at + escaped..).unwrap_or_default();
    }
    length
}

/// The text of a string, or a number or boolean as its text; `None` for anything else.
struct Text(Option<String>);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Text;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a text")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Some(text.to_owned())))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
                Ok(Text(Some(number.to_string())))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
                Ok(Text(Some(number.to_string())))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Self::Value, E> {
                Ok(Text(Some(number.to_string())))
            }

            fn visit_bool<E: de::Error>(self, truth: bool) -> Result<Self::Value, E> {
                Ok(Text(Some(truth.to_string())))
            }

            fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
                Ok(Text(None))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
                while members.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Text(None))
            }

            fn visit_map<A: de::MapAccess<'de>>(
                self,
                mut members: A,
            ) -> Result<Self::Value, A::Error> {
                while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Text(None))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What decoding at once makes of a value, and what decoding where it is needed makes of it.
    #[track_caller]
    fn check(value: &str) {
        let expected = serde_json::from_str::<Text>(value).map(|text| text.0);
        let line = format!("[\"name\",{value}]");
        let member = serde_json::from_str::<Member<'_>>(&line);
        match (expected, member) {
            (Ok(None), Ok(Member(None))) | (Err(_), Err(_)) => {}
            (Ok(Some(text)), Ok(Member(Some((_, scalar))))) => {
                assert_eq!(scalar.length(), text.len(), "{value}");
                assert_eq!(scalar.text(), text);
            }
            (expected, member) => panic!(
                "{value}: {expected:?}, but {}",
                member.map_or_else(|e| e.to_string(), |m| m.0.is_some().to_string())
            ),
        }
    }

    #[test]
    fn what_is_decoded_later_is_what_would_have_been_decoded_at_once() {
        for value in [
            r#""""#,
            r#""plain""#,
            r#""a\"b\\c\/d\b\f\n\r\te""#,
            r#""\u0041\u00e9\u20ac x é €""#,
            r#""\ud83d\ude00""#,
            r#""\uD83D""#,
            r#""\ude00 alone""#,
            r#""\\ud83d""#,
            r#""\\u12""#,
            r#""\u12""#,
            r#""\x""#,
            r#""\"#,
            "\"\n\"",
            "\"\u{1F600}\"",
            "17",
            "-0.5e3",
            "1e999",
            "01",
            "true",
            "null",
            "[1,[2]]",
            r#"{"a":{"b":1}}"#,
            "{",
            "",
        ] {
            check(value);
        }
    }

    #[test]
    fn texts_of_any_kind_come_back() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let pieces = [
            "a",
            "é",
            "€",
            "\u{1F600}",
            "\\n",
            "\\\"",
            "\\\\",
            "\\u0000",
            "\\u00ff",
            "\\uFFFD",
            "\\ud800",
            "\\udbff\\udfff",
            "\\",
            "\"",
            "u",
            "d",
        ];
        for _ in 0..20_000 {
            let mut value = String::from("\"");
            for _ in 0..state % 7 {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                value.push_str(pieces[(state >> 33) as usize % pieces.len()]);
            }
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            value.push('"');
            check(&value);
        }
    }
}
