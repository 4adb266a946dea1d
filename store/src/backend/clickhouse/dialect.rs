//! What a server understands. Queries are the same for all; the tables of an old one lack what it has no words for.

use std::fmt;

/// Kinds of servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// 24.8 or newer.
    Modern,
    /// 18.16, the one in Debian: without codecs, dictionaries of texts and tokens of inserts.
    Floor,
}

/// A version between the two, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unsupported(String);

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ClickHouse {:?} is not supported: 24.8 or newer is needed",
            self.0
        )
    }
}

impl std::error::Error for Unsupported {}

impl Dialect {
    /// By the answer to `SELECT version()`.
    pub(super) fn of(version: &str) -> Result<Self, Unsupported> {
        let mut numbers = version
            .trim()
            .split('.')
            .map(|part| part.parse::<u32>().ok());
        let mut next = || numbers.next().flatten();
        match (next(), next()) {
            (Some(18), Some(16)) => Ok(Self::Floor),
            (Some(major), Some(minor)) if (major, minor) >= (24, 8) => Ok(Self::Modern),
            _ => Err(Unsupported(version.trim().chars().take(40).collect())),
        }
    }

    /// The type of a column on such a server.
    pub(super) fn kind(self, kind: &'static str) -> &'static str {
        match (self, kind) {
            (Self::Floor, super::row::FEW) => "String",
            (_, kind) => kind,
        }
    }

    /// What follows the type of a column.
    pub(super) fn codec(self, codec: &str) -> String {
        match self {
            Self::Modern => format!(" CODEC({codec})"),
            Self::Floor => String::new(),
        }
    }

    /// Whether the server recognises a group of calls that comes again by a token.
    pub(super) fn has_tokens(self) -> bool {
        self == Self::Modern
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(version: &str, expected: Option<Dialect>) {
        assert_eq!(Dialect::of(version).ok(), expected, "{version}");
    }

    #[test]
    fn versions_have_dialects() {
        check("18.16.1\n", Some(Dialect::Floor));
        check("24.8.1.1", Some(Dialect::Modern));
        check("24.7.9.1", None);
        check("26.2.3.4-lts", Some(Dialect::Modern));
        check("19.1.6", None);
        check("", None);
        check("<html>", None);
    }
}
