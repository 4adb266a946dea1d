//! One line of a bundle → the columns of its row (message contract, section 1).
//!
//! A line is a JSON array of `[key, value]` pairs. As in the reference database, a detail that is not a pair is skipped
//! and unknown keys are kept as they are; the first of a repeated key fills the column. What is no JSON array of
//! arrays is refused as a whole. The line itself is never changed: it is stored as it was sent.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};

use crate::limits::NOTE_CHARS_MAX;

/// The columns that a line fills.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Message {
    /// `now`: Unix time of the response's first packet, in milliseconds. A rule may have removed it.
    pub(crate) now_ms: Option<i64>,
    /// `interval`: request to response, in milliseconds.
    pub(crate) interval_ms: Option<i64>,
    pub(crate) method: String,
    pub(crate) url: String,
    /// Authority of the URL without user info; the `host` header where the URL has none.
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) status: Option<i64>,
    /// Length of the logged request body in bytes; `None` without one.
    pub(crate) request_bytes: Option<i64>,
    pub(crate) response_bytes: Option<i64>,
    /// Media type of the response, without its parameters.
    pub(crate) content_type: String,
    /// What an annotation says about a cut, a loss or the network, for the list.
    pub(crate) note: String,
}

/// One `[key, value]` of a line.
pub(crate) type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

impl Message {
    /// Reads a line.
    ///
    /// # Errors
    /// The text is not a JSON array of arrays.
    pub(crate) fn read(line: &str) -> Result<Self, serde_json::Error> {
        let mut message = Self::default();
        let mut host_header = String::new();
        for (key, value) in pairs(line)? {
            match &*key {
                "request_method" => first(&mut message.method, value),
                "request_url" => first(&mut message.url, value),
                "response_code" if message.status.is_none() => {
                    message.status = value.trim().parse().ok();
                }
                "now" if message.now_ms.is_none() => message.now_ms = value.trim().parse().ok(),
                "interval" | "interval_millis" if message.interval_ms.is_none() => {
                    message.interval_ms = milliseconds(&value);
                }
                "request_body" if message.request_bytes.is_none() => {
                    message.request_bytes = Some(length(&value));
                }
                "response_body" if message.response_bytes.is_none() => {
                    message.response_bytes = Some(length(&value));
                }
                "request_header:host" => first(&mut host_header, value),
                "response_header:content-type" if message.content_type.is_empty() => {
                    message.content_type = media_type(&value);
                }
                _ => {
                    if let Some(name) = key.strip_prefix("custom_field:") {
                        note(&mut message.note, name, &value);
                    }
                }
            }
        }
        (message.host, message.path) = split_url(&message.url);
        if message.host.is_empty() {
            message.host = host_header;
        }
        Ok(message)
    }
}

/// The details of a line in their order; whatever is not a pair is left out.
///
/// # Errors
/// The text is not a JSON array of arrays.
pub(crate) fn pairs(line: &str) -> Result<Vec<Pair<'_>>, serde_json::Error> {
    let details: Vec<Detail<'_>> = serde_json::from_str(line)?;
    Ok(details.into_iter().filter_map(|detail| detail.0).collect())
}

fn first(column: &mut String, value: Cow<'_, str>) {
    if column.is_empty() {
        *column = value.into_owned();
    }
}

fn length(text: &str) -> i64 {
    i64::try_from(text.len()).unwrap_or(i64::MAX)
}

/// Some loggers write fractions; less than one is one, as in the reference database.
fn milliseconds(text: &str) -> Option<i64> {
    let value: f64 = text.trim().parse().ok()?;
    // The cast saturates, and a value that is not a number was no time.
    value.is_finite().then(|| (value as i64).max(1))
}

fn media_type(value: &str) -> String {
    value
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
}

/// What an annotation means to somebody who skims a list; most mean nothing there.
fn remark(name: &str, value: &str) -> Option<String> {
    match name {
        "vni" => Some(format!("VNI {value}")),
        "half" => Some(format!("half call: {value}")),
        "incomplete" => Some("incomplete".into()),
        "missing_bytes" => Some(format!("{value} B missing")),
        "request_body_bytes" => Some(format!("request cut, was {value} B")),
        "response_body_bytes" => Some(format!("response cut, was {value} B")),
        _ => None,
    }
}

fn note(note: &mut String, name: &str, value: &str) {
    let Some(remark) = remark(name, value) else {
        return;
    };
    let room = NOTE_CHARS_MAX.saturating_sub(note.chars().count());
    let separator = if note.is_empty() { "" } else { ", " };
    note.extend(separator.chars().chain(remark.chars()).take(room));
}

/// Authority without user info, and everything from the path on.
fn split_url(url: &str) -> (String, String) {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let at = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(at);
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    (host.to_owned(), path.to_owned())
}

/// A member of the line's array: `Some` when it is a pair.
struct Detail<'a>(Option<Pair<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for Detail<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Detail<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a [key, value] pair")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
                let key = members.next_element::<Text<'de>>()?.and_then(|text| text.0);
                let value = members.next_element::<Text<'de>>()?.and_then(|text| text.0);
                let mut is_pair = true;
                while members.next_element::<IgnoredAny>()?.is_some() {
                    is_pair = false;
                }
                Ok(Detail(key.zip(value).filter(|_| is_pair)))
            }
        }
        deserializer.deserialize_seq(Members)
    }
}

/// A string, or a number or truth value as its text; anything else is no text.
struct Text<'a>(Option<Cow<'a, str>>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Scalar;
        impl<'de> Visitor<'de> for Scalar {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Some(Cow::Borrowed(text))))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Some(Cow::Owned(text.to_owned()))))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
                Ok(Text(Some(number.to_string().into())))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
                Ok(Text(Some(number.to_string().into())))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Self::Value, E> {
                Ok(Text(Some(number.to_string().into())))
            }

            fn visit_bool<E: de::Error>(self, truth: bool) -> Result<Self::Value, E> {
                Ok(Text(Some(truth.to_string().into())))
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
        deserializer.deserialize_any(Scalar)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expected: Message) {
        assert_eq!(Message::read(line).expect("a line"), expected);
    }

    #[track_caller]
    fn check_refused(line: &str) {
        assert!(Message::read(line).is_err(), "{line} was taken for a line");
    }

    #[test]
    fn fills_every_column() {
        check(
            r#"[["request_method","POST"],["request_url","http://u:p@shop.example:8000/v1/pay"],["response_code","201"],
            ["request_body","{\"a\":1}"],["request_header:host","other"],["response_header:content-type","Application/JSON; charset=utf-8"],
            ["response_body","é"],["now","1700000000123"],["interval","12.9"],["custom_field:vni","7"],["custom_field:client_port","9"],["custom_field:missing_bytes","12"],["host","logger"]]"#,
            Message {
                now_ms: Some(1_700_000_000_123),
                interval_ms: Some(12),
                method: "POST".into(),
                url: "http://u:p@shop.example:8000/v1/pay".into(),
                host: "shop.example:8000".into(),
                path: "/v1/pay".into(),
                status: Some(201),
                request_bytes: Some(7),
                response_bytes: Some(2),
                content_type: "application/json".into(),
                note: "VNI 7, 12 B missing".into(),
            },
        );
    }

    #[test]
    fn first_of_a_repeated_key_counts_and_the_host_header_helps_out() {
        check(
            r#"[["request_method","GET"],["request_method","PUT"],["request_url","http:///p?q"],["request_header:host","h"]]"#,
            Message {
                method: "GET".into(),
                url: "http:///p?q".into(),
                host: "h".into(),
                path: "/p?q".into(),
                ..Message::default()
            },
        );
    }

    #[test]
    fn skips_what_is_no_pair() {
        check(
            r#"[[],["a"],["a","b","c"],[1,{"x":[2]}],[["n"],null],["now",1700000000000],["interval","0.2"]]"#,
            Message {
                now_ms: Some(1_700_000_000_000),
                interval_ms: Some(1),
                ..Message::default()
            },
        );
        check("[]", Message::default());
    }

    #[test]
    fn numbers_that_are_none_stay_out() {
        check(
            r#"[["response_code","abc"],["now","soon"],["interval","NaN"]]"#,
            Message::default(),
        );
    }

    #[test]
    fn refuses_what_is_no_line() {
        for line in [
            "",
            "{}",
            "1",
            "null",
            "[1]",
            "[[\"a\",\"b\"]",
            "[[\"a\",\"b\"]] x",
            "[{\"a\":1}]",
            "[\"a\"]",
        ] {
            check_refused(line);
        }
        check_refused(&"[".repeat(100_000));
    }
}
