//! Masks inside bodies, compared with readers of their own: what a mask of `p` leaves has no value of `p` for any of them.
//!
//! The readers are slow and obvious, and share nothing with the engine: a JSON reader that keeps repeated members, form fields
//! split at both separators, and multipart by its delimiter lines.

use std::fmt;

use engine_core::rules::{RuleSet, Sampler, apply_all};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// Masks by the first octet of the input: each hides all values named `p`, at any depth.
const RULES: [&str; 4] = [
    "/request_body:$..p/ remove",
    "/request_body:$..p/ replace /.+/, /-/",
    "/request_body:$..p/ remove_if_found /(?s)./",
    "/request_body:$..p/ remove\n/request_body:$..q[*]/ remove\n/request_body:$.a.b/ replace /./, /--/",
];

/// A JSON value, with members as often as they are there.
#[derive(Debug, PartialEq)]
enum Tree {
    Scalar(String),
    List(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Tree;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }

            fn visit_unit<E>(self) -> Result<Tree, E> {
                Ok(Tree::Scalar("null".to_owned()))
            }

            fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
                Ok(Tree::Scalar(value.to_string()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
                Ok(Tree::Scalar(value.to_string()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
                Ok(Tree::Scalar(value.to_string()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
                Ok(Tree::Scalar(value.to_string()))
            }

            fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
                Ok(Tree::Scalar(value.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Tree, A::Error> {
                let mut list = Vec::new();
                while let Some(value) = from.next_element()? {
                    list.push(value);
                }
                Ok(Tree::List(list))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Tree, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = from.next_entry()? {
                    members.push(member);
                }
                Ok(Tree::Object(members))
            }
        }
        from.deserialize_any(Reader)
    }
}

impl Tree {
    /// Whether a value named `p` is left that says anything: `-` is the replacement, alone or for each value in it.
    fn leaks(&self) -> bool {
        match self {
            Self::Scalar(_) => false,
            Self::List(list) => list.iter().any(Self::leaks),
            Self::Object(members) => members.iter().any(|(name, value)| {
                if name == "p" {
                    value.says()
                } else {
                    value.leaks()
                }
            }),
        }
    }

    /// Whether it holds anything but replacements.
    fn says(&self) -> bool {
        match self {
            Self::Scalar(text) => says(text),
            Self::List(list) => list.iter().any(Self::says),
            Self::Object(members) => members.iter().any(|(_, value)| value.says()),
        }
    }
}

/// Whether a text holds anything but replacements, of which there is one for each line.
fn says(text: &str) -> bool {
    text.contains(|letter: char| letter != '-' && !letter.is_whitespace())
}

/// A rule set by the first octet, and a body.
pub(super) fn masks(input: &[u8]) {
    let Some((&set, body)) = input.split_first() else {
        return;
    };
    let rules = RuleSet::parse(RULES[usize::from(set) % RULES.len()]).expect("they parse");
    let details = [("request_body".to_owned(), body.to_vec())];
    let left = apply_all(&rules, &details, &mut Sampler::new(1)).unwrap_or_default();
    let Some((_, left)) = left.first() else {
        return;
    };
    let left = std::str::from_utf8(left).expect("what leaves is text");
    // Each reader, whatever the engine took the body for.
    let mut documents = serde_json::Deserializer::from_str(left).into_iter::<Tree>();
    while let Some(Ok(tree)) = documents.next() {
        assert!(
            !tree.leaks(),
            "{left:?} of {:?}",
            String::from_utf8_lossy(body)
        );
    }
    let start = left.trim_start();
    if start.starts_with("--") {
        assert!(!multipart_leaks(start), "{left:?}");
    } else if !start.starts_with(['{', '[', '"']) && left.contains('=') {
        assert!(!form_leaks(left), "{left:?}");
    }
}

/// Whether a form has a value for `p`, by either separator.
fn form_leaks(text: &str) -> bool {
    text.split(['&', ';']).any(|field| {
        let Some((name, value)) = field.split_once('=') else {
            return false;
        };
        decoded(name).trim() == "p" && says(&decoded(value))
    })
}

/// `+` is a blank and `%XX` a byte; what is broken stays.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, later)) = rest.split_first() {
        let hex = later.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (first, byte) {
            (b'%', Some(byte)) if !later.starts_with(b"+") => {
                bytes.push(byte);
                rest = &later[2..];
            }
            _ => {
                bytes.push(if first == b'+' { b' ' } else { first });
                rest = later;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whether a part named `p` has a content.
fn multipart_leaks(text: &str) -> bool {
    let Some((delimiter, _)) = text.split_once("\r\n") else {
        return false;
    };
    if delimiter.trim_end().len() < 3 {
        return false;
    }
    text.split(delimiter).any(|part| {
        let Some((head, content)) = part.split_once("\r\n\r\n") else {
            return false;
        };
        let named = head.lines().any(|line| {
            let line = line.to_ascii_lowercase();
            line.starts_with("content-disposition:")
                && line.contains("form-data")
                && line.contains("; name=\"p\"")
        });
        named && says(content)
    })
}
