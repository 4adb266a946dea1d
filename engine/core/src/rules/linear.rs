//! Patterns of the linear engine: their test, and their replacement.

use regex::CaptureLocations;

use super::prefilter::Prefilter;
use super::replacement::{Replaced, Replacement, Splice};
use crate::limits::PATTERN_COMPILED_BYTES_MAX;

/// A pattern that the linear engine executes.
#[derive(Clone, Debug)]
pub(super) struct Linear {
    pub(super) regex: regex::Regex,
    pub(super) prefilter: Prefilter,
    /// The effect of the pattern with `$1`, if that is only to cut the value.
    pub(super) cut: Option<Cut>,
}

impl Linear {
    /// Compiles `pattern`, which was written as `source`.
    pub(super) fn new(pattern: &str, source: &str) -> Result<Self, String> {
        let built = regex::RegexBuilder::new(pattern)
            .size_limit(PATTERN_COMPILED_BYTES_MAX)
            .build();
        Ok(Self {
            regex: built.map_err(|error| reason(&error))?,
            prefilter: Prefilter::of(pattern),
            cut: Cut::of(source),
        })
    }

    pub(super) fn replace(
        &self,
        value: &str,
        with: &Replacement,
        out: &mut String,
        groups: &mut Option<CaptureLocations>,
    ) -> Replaced {
        if !self.prefilter.may_match(value.as_bytes()) {
            return Replaced::Same;
        }
        if let Some(cut) = self.cut.as_ref().filter(|_| with.is_first_group())
            && let Some(replaced) = cut.replace(value, out)
        {
            return replaced;
        }
        if with.is_literal() {
            let mut splice = Splice::new(value, out);
            for found in self.regex.find_iter(value) {
                with.expand(splice.over(found.range()), |_| None);
            }
            return splice.finish();
        }
        let groups = groups.get_or_insert_with(|| self.regex.capture_locations());
        replace_groups(&self.regex, groups, value, with, out)
    }
}

/// The pattern `([^?;]+).*`, for any such characters: with `$1` it keeps what is before them. The strict set applies it to
/// every URL, where finding groups costs more than everything else that is done with the URL.
#[derive(Clone, Debug)]
pub(super) struct Cut {
    stops: Box<[u8]>,
}

impl Cut {
    pub(super) fn of(pattern: &str) -> Option<Self> {
        let class = pattern.strip_prefix("([^")?.strip_suffix("]+).*")?;
        let mut stops = Vec::new();
        let mut bytes = class.bytes();
        while let Some(byte) = bytes.next() {
            // In a class these stand for themselves, with and without a backslash.
            match if byte == b'\\' { bytes.next()? } else { byte } {
                byte @ (b'?' | b';' | b'#' | b'=' | b'/' | b':' | b',' | b'@' | b'!' | b'$') => {
                    stops.push(byte);
                }
                _ => return None,
            }
        }
        (!stops.is_empty()).then(|| Self {
            stops: stops.into(),
        })
    }

    /// The effect of the pattern with `$1`; none when that is more than one cut, since `.` stops at the end of a line.
    fn replace(&self, value: &str, out: &mut String) -> Option<Replaced> {
        let bytes = value.as_bytes();
        if memchr::memchr(b'\n', bytes).is_some() {
            return None;
        }
        let is_stop = |byte: &u8| self.stops.contains(byte);
        let Some(start) = bytes.iter().position(|byte| !is_stop(byte)) else {
            return Some(Replaced::Same);
        };
        let kept = bytes.iter().skip(start).position(is_stop);
        // A stop is ASCII, so it is a character's first byte.
        out.push_str(
            kept.and_then(|kept| value.get(..start + kept))
                .unwrap_or(value),
        );
        Some(Replaced::Changed)
    }
}

/// The same as `captures_iter`, without its allocation for each match: an empty match right after a match does not count.
fn replace_groups(
    regex: &regex::Regex,
    groups: &mut CaptureLocations,
    value: &str,
    with: &Replacement,
    out: &mut String,
) -> Replaced {
    let mut splice = Splice::new(value, out);
    let (mut at, mut last_end) = (0, None);
    while let Some(found) = regex.captures_read_at(groups, value, at) {
        let found = found.range();
        if !(found.is_empty() && last_end == Some(found.end)) {
            with.expand(splice.over(found.clone()), |group| {
                groups
                    .get(group)
                    .and_then(|(start, end)| value.get(start..end))
            });
            last_end = Some(found.end);
        }
        at = found.end;
        if found.is_empty() {
            let Some(next) = value.get(at..).and_then(|rest| rest.chars().next()) else {
                break;
            };
            at += next.len_utf8();
        }
    }
    splice.finish()
}

/// The engine's message without the lines that show the translated pattern, since that is not the text that the user
/// wrote.
fn reason(error: &regex::Error) -> String {
    let text = error.to_string();
    text.lines()
        .last()
        .unwrap_or_default()
        .trim_start_matches("error: ")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_is_one_pattern_only() {
        for pattern in [
            "([^]+).*",
            "([^a]+).*",
            "([^?]+)x.*",
            "([^?]*).*",
            r"([^\d]+).*",
        ] {
            assert!(Cut::of(pattern).is_none(), "{pattern}");
        }
    }
}
