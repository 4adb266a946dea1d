//! Headers in which some receivers find further ones: a CR without LF ends a line for them.
//!
//! The parser of Python's standard library, which its servers and clients use, and Node before 18.16.1 and 20.3.1 read
//! `X: a<CR>Authorization: b` as two headers; others refuse the message, or read a blank. So such a header leaves only if the
//! rules leave all that can be read in it as it is. (Where a length may be hidden, the framing is in doubt: `http/h1/head.rs`.) A value
//! that was written without an escape, as most are, is not searched for a CR.

use super::super::facts::Details;
use super::super::keys::Kind;
use super::filter::{RuleFilter, Written};
use crate::http::Header;

impl RuleFilter<'_> {
    /// As [`Self::write`], for a header: what it is among the details that facts come from, unless it is in the line as it was
    /// sent.
    #[inline]
    pub(super) fn write_header(
        &mut self,
        kind: Kind,
        name: &[u8],
        value: &[u8],
        out: &mut Vec<u8>,
    ) -> Details {
        let start = out.len();
        let written = self.put(kind, name, value, out);
        if written == Written::Unescaped {
            return Details::NONE;
        }
        let changed = match written {
            Written::Changed(source) => source,
            _ => Details::NONE,
        };
        // One that does not leave anyway is searched only for rules that drop the call: where rules remove most headers, the
        // search would take longer than everything else.
        if out.len() == start && !self.set.rules.stops() {
            return changed;
        }
        if self.withhold_lines(kind, name, value, start, out) {
            changed.and(Details::header(kind.side(), name))
        } else {
            changed
        }
    }

    /// Searches a header that is not written itself for others that rules drop the call for.
    #[cold]
    pub(super) fn search_lines(&mut self, kind: Kind, name: &[u8], value: &[u8]) {
        if self.set.rules.stops() {
            self.withhold_lines(kind, name, value, 0, &mut Vec::new());
        }
    }

    /// Takes back what was written since `start` of a header with several lines, unless the rules leave each of them. Whether
    /// they do not.
    #[cold]
    pub(super) fn withhold_lines(
        &mut self,
        kind: Kind,
        name: &[u8],
        value: &[u8],
        start: usize,
        out: &mut Vec<u8>,
    ) -> bool {
        if memchr::memchr2(b'\r', b'\n', value).is_none() {
            return false;
        }
        let changed = self.concern(kind, |each| {
            let mut lines = value.split(|byte| b"\r\n".contains(byte));
            each(name, lines.next().unwrap_or_default().trim_ascii());
            for line in lines {
                let colon = memchr::memchr(b':', line).unwrap_or(line.len());
                let (name, value) = line.split_at_checked(colon).unwrap_or_default();
                let value = value.get(1..).unwrap_or_default();
                let header = Header::new(name.trim_ascii(), value.trim_ascii());
                each(header.name, header.value);
            }
        });
        if changed && out.len() > start {
            out.truncate(start);
            self.findings.left_out();
        }
        changed
    }
}
