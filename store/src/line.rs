//! One line of a bundle, read into the columns that lists and filters need (`docs/contract.md`, sections 1.1 and 1.8).
//!
//! A line is a JSON array of `[name, value]` pairs, the details. As in the reference database, a member that is not a pair is
//! skipped and unknown names are kept as they are; the first of a repeated name fills the column. A text that is not a JSON
//! array of arrays is refused as a whole. The line itself is never changed: it is stored as it was sent.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};

use crate::limits::NOTE_CHARS_MAX;

/// What a line fills columns with.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Columns {
    /// `now`: Unix time of the response's first packet, in milliseconds. A rule may have removed it.
    pub now_ms: Option<i64>,
    /// `interval`: request to response, in milliseconds.
    pub interval_ms: Option<i64>,
    /// `request_method`.
    pub method: String,
    /// `request_url`.
    pub url: String,
    /// Authority of the URL without user info; the `host` header where the URL has none.
    pub host: String,
    /// What follows the authority in the URL.
    pub path: String,
    /// `response_code`.
    pub status: Option<i64>,
    /// Length of the logged request body in bytes; `None` without one.
    pub request_bytes: Option<i64>,
    /// Length of the logged response body in bytes; `None` without one.
    pub response_bytes: Option<i64>,
    /// Media type of the response, without its parameters.
    pub content_type: String,
    /// Remarks for the list: truncated bodies, missing bytes, the network.
    pub note: String,
}

/// Name and value of one detail.
pub type Detail<'a> = (Cow<'a, str>, Cow<'a, str>);

impl Columns {
    /// Reads a line.
    ///
    /// # Errors
    /// The text is not a JSON array of arrays.
    pub fn read(line: &str) -> Result<Self, serde_json::Error> {
        let mut columns = Self::default();
        let mut host_header = String::new();
        for (name, value) in details(line)? {
            match &*name {
                "request_method" => first(&mut columns.method, value),
                "request_url" => first(&mut columns.url, value),
                "response_code" if columns.status.is_none() => {
                    columns.status = value.trim().parse().ok();
                }
                "now" if columns.now_ms.is_none() => columns.now_ms = value.trim().parse().ok(),
                "interval" | "interval_millis" if columns.interval_ms.is_none() => {
                    columns.interval_ms = milliseconds(&value);
                }
                "request_body" if columns.request_bytes.is_none() => {
                    columns.request_bytes = Some(length(&value));
                }
                "response_body" if columns.response_bytes.is_none() => {
                    columns.response_bytes = Some(length(&value));
                }
                "request_header:host" => first(&mut host_header, value),
                "response_header:content-type" if columns.content_type.is_empty() => {
                    columns.content_type = media_type(&value);
                }
                _ => {
                    if let Some(annotation) = name.strip_prefix("custom_field:") {
                        note(&mut columns.note, annotation, &value);
                    }
                }
            }
        }
        (columns.host, columns.path) = split_url(&columns.url);
        if columns.host.is_empty() {
            columns.host = host_header;
        }
        Ok(columns)
    }
}

/// The details of a line in their order; members that are no pair are left out.
///
/// # Errors
/// The text is not a JSON array of arrays.
pub fn details(line: &str) -> Result<Vec<Detail<'_>>, serde_json::Error> {
    let members: Vec<Member<'_>> = serde_json::from_str(line)?;
    Ok(members.into_iter().filter_map(|member| member.0).collect())
}

fn first(column: &mut String, value: Cow<'_, str>) {
    if column.is_empty() {
        *column = value.into_owned();
    }
}

fn length(text: &str) -> i64 {
    i64::try_from(text.len()).unwrap_or(i64::MAX)
}

/// Some loggers write fractions; anything below one millisecond counts as one, as in the reference database.
fn milliseconds(text: &str) -> Option<i64> {
    let value: f64 = text.trim().parse().ok()?;
    // The cast saturates, and NaN and infinity are excluded.
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

/// What the list shows of an annotation; nothing of most.
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
    let free = NOTE_CHARS_MAX.saturating_sub(note.chars().count());
    let separator = if note.is_empty() { "" } else { ", " };
    note.extend(separator.chars().chain(remark.chars()).take(free));
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

/// A member of the line's array, `None` when it is no pair.
struct Member<'a>(Option<Detail<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for Member<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Member<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a [name, value] pair")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
                let name = members.next_element::<Text<'de>>()?.and_then(|text| text.0);
                let value = members.next_element::<Text<'de>>()?.and_then(|text| text.0);
                let mut is_pair = true;
                while members.next_element::<IgnoredAny>()?.is_some() {
                    is_pair = false;
                }
                Ok(Member(name.zip(value).filter(|_| is_pair)))
            }
        }
        deserializer.deserialize_seq(Members)
    }
}

/// A string, or a number or boolean as its text; `None` for anything else.
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
    fn check(line: &str, expected: Columns) {
        assert_eq!(Columns::read(line).expect("a line"), expected);
    }

    #[track_caller]
    fn check_refused(line: &str) {
        assert!(Columns::read(line).is_err(), "{line} is read as a line");
    }

    #[test]
    fn fills_every_column() {
        check(
            r#"[["request_method","POST"],["request_url","http://u:p@shop.example:8000/v1/pay"],["response_code","201"],
            ["request_body","{\"a\":1}"],["request_header:host","other"],["response_header:content-type","Application/JSON; charset=utf-8"],
            ["response_body","é"],["now","1700000000123"],["interval","12.9"],["custom_field:vni","7"],["custom_field:client_port","9"],["custom_field:missing_bytes","12"],["host","logger"]]"#,
            Columns {
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
    fn the_first_of_a_repeated_name_counts_and_the_host_header_replaces_a_missing_host() {
        check(
            r#"[["request_method","GET"],["request_method","PUT"],["request_url","http:///p?q"],["request_header:host","h"]]"#,
            Columns {
                method: "GET".into(),
                url: "http:///p?q".into(),
                host: "h".into(),
                path: "/p?q".into(),
                ..Columns::default()
            },
        );
    }

    #[test]
    fn members_that_are_no_pair_are_skipped() {
        check(
            r#"[[],["a"],["a","b","c"],[1,{"x":[2]}],[["n"],null],["now",1700000000000],["interval","0.2"]]"#,
            Columns {
                now_ms: Some(1_700_000_000_000),
                interval_ms: Some(1),
                ..Columns::default()
            },
        );
        check("[]", Columns::default());
    }

    #[test]
    fn columns_of_malformed_numbers_stay_empty() {
        check(
            r#"[["response_code","abc"],["now","soon"],["interval","NaN"]]"#,
            Columns::default(),
        );
    }

    #[test]
    fn texts_that_are_no_line_are_refused() {
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
