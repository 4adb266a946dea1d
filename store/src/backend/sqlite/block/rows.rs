//! Calls on their way into a block.

use std::borrow::Cow;
use std::collections::BTreeMap;

use rusqlite::Transaction;

use super::column::{Extent, NONE, TextsBuilder, encode_numbers};
use super::{
    ALL_TEXTS, Block, ColumnHead, FIRST_FACT, FIRST_TEXT, GRAMS, Grams, Head, MARK_FACTS_CUT,
    MARK_MASKED, NUMBERS, Number, TEXTS, WHOLE, signed, unsigned,
};
use crate::limits::{
    BLOCK_CALLS_MAX, BLOCK_FACTS_MAX, BLOCK_INLINE_BYTES, BLOCK_LINES_BYTES, BLOCK_TEXT_BYTES,
};
use crate::line::Columns;

/// Calls that are put into a block.
#[derive(Debug, Default)]
pub(in super::super) struct Rows {
    arrivals: Vec<u64>,
    numbers: [Vec<i64>; NUMBERS],
    texts: [TextsBuilder; TEXTS],
    facts: BTreeMap<String, TextsBuilder>,
    /// Sum of the lines' lengths.
    line_bytes: u64,
    /// Of the lines.
    grams: Grams,
    /// Those of the one block that all calls are of, as they were written.
    kept_grams: Option<Vec<u8>>,
}

/// Calls as the columns of a block that is not written yet.
#[derive(Debug)]
pub(in super::super) struct EncodedBlock {
    head: Head,
    /// Columns that are rows of their own.
    outside: Vec<(u8, Vec<u8>)>,
}

impl EncodedBlock {
    /// Writes it as calls of which the first has a number that was not known, and which are all of one sender.
    pub(in super::super) fn insert_as(
        &self,
        transaction: &Transaction<'_>,
        first: u64,
        sender: i64,
    ) -> rusqlite::Result<()> {
        let mut head = self.head.clone();
        head.last = first + (head.last - head.first);
        head.first = first;
        if let Some(column) = head.columns.get_mut(Number::Sender as usize) {
            column.extent = Extent::of(&[sender]);
            column.inline = Some(encode_numbers(&[sender], column.extent));
        }
        head.insert(transaction, &self.outside)
    }
}

impl Rows {
    pub(in super::super) fn len(&self) -> usize {
        self.arrivals.len()
    }

    /// Whether it is time to write them.
    pub(in super::super) fn is_full(&self) -> bool {
        self.len() >= BLOCK_CALLS_MAX
            || self.text_bytes() >= BLOCK_TEXT_BYTES
            || self.line_bytes >= BLOCK_LINES_BYTES
    }

    /// Bytes of all dictionaries.
    fn text_bytes(&self) -> usize {
        let columns = self.texts.iter().chain(self.facts.values());
        columns.map(TextsBuilder::text_bytes).sum()
    }

    /// Adds a call, which arrived after those that are there, without the grams of its line.
    pub(in super::super) fn push(
        &mut self,
        arrival: u64,
        sender: i64,
        line_bytes: usize,
        call: &Columns,
    ) {
        let rows = self.len();
        self.arrivals.push(arrival);
        self.line_bytes += line_bytes as u64;
        let mut marks = if call.are_facts_cut {
            MARK_FACTS_CUT
        } else {
            0
        };
        if call.is_masked() {
            marks |= MARK_MASKED;
        }
        for (name, value) in &call.facts {
            if !self.facts.contains_key(name) {
                // The head of a block has one byte for the length of a name.
                if self.facts.len() >= BLOCK_FACTS_MAX || name.len() > usize::from(u8::MAX) {
                    marks |= MARK_FACTS_CUT;
                    continue;
                }
                self.facts.insert(name.clone(), TextsBuilder::of_none(rows));
            }
            if let Some(column) = self.facts.get_mut(name) {
                column.push(value);
            }
        }
        for column in self.facts.values_mut() {
            if column.len() == rows {
                column.push("");
            }
        }
        let or_none = |number: Option<i64>| number.map_or(NONE, |number| number.max(NONE + 1));
        let numbers = [
            0,
            sender,
            i64::try_from(line_bytes).unwrap_or(i64::MAX),
            call.time_ms,
            call.received_ms,
            or_none(call.now_ms.and_then(|now| now.checked_sub(call.time_ms))),
            or_none(call.interval_ms),
            or_none(call.first_byte_ms),
            or_none(call.status),
            or_none(call.request_bytes),
            or_none(call.response_bytes),
            or_none(call.vni),
            or_none(call.client_port),
            or_none(call.server_port),
            marks,
        ];
        for (column, number) in self.numbers.iter_mut().zip(numbers) {
            column.push(number);
        }
        let url = short_url(call);
        let texts: [&str; TEXTS] = [
            &call.method,
            &call.host,
            &call.path,
            &url,
            &call.endpoint,
            &call.operation,
            &call.operation_kind,
            &call.content_type,
            &call.protocol,
            &call.client,
            &call.server,
            &call.appliance,
            &call.connection,
            &call.note,
        ];
        for (column, text) in self.texts.iter_mut().zip(texts) {
            column.push(text);
        }
    }

    /// Adds the grams of all lines of a block of which calls are added.
    pub(in super::super) fn add_grams(&mut self, block: &Block<'_>) -> anyhow::Result<()> {
        block.add_grams(&mut self.grams)
    }

    /// Has the grams of a block, of which alone calls are added: also of calls that are not, which costs a search at most.
    pub(in super::super) fn keep_grams(&mut self, block: &Block<'_>) -> anyhow::Result<()> {
        match block.encoded_grams()? {
            Some(grams) => self.kept_grams = Some(grams.to_vec()),
            None => self.grams.open(),
        }
        Ok(())
    }

    /// Adds the grams of a line.
    pub(in super::super) fn add_grams_of(&mut self, line: &str) {
        self.grams.add(line);
    }

    /// Adds calls of a block, which arrived after those that are there, without the grams of their lines.
    pub(in super::super) fn extend(
        &mut self,
        block: &Block<'_>,
        rows: &[usize],
    ) -> anyhow::Result<()> {
        let before = self.len();
        let arrivals = block.numbers(Number::Arrival)?;
        self.arrivals
            .extend(rows.iter().map(|&row| block.head.arrival(&arrivals, row)));
        for (index, column) in self.numbers.iter_mut().enumerate() {
            let numbers = block.column_of_numbers(index as u8)?;
            column.extend(rows.iter().filter_map(|&row| numbers.get(row)));
        }
        let line_bytes = block.numbers(Number::LineBytes)?;
        let line_bytes = rows.iter().filter_map(|&row| line_bytes.get(row));
        self.line_bytes += line_bytes.map(|&bytes| unsigned(bytes)).sum::<u64>();
        for (column, kind) in self.texts.iter_mut().zip(ALL_TEXTS) {
            column.extend(&*block.texts(kind)?, rows.iter().copied());
        }
        let cut = &mut self.numbers[Number::Marks as usize];
        for name in block.head.facts() {
            let Some(texts) = block.fact(name)? else {
                continue;
            };
            if !self.facts.contains_key(name) {
                if self.facts.len() >= BLOCK_FACTS_MAX {
                    for (at, &row) in rows.iter().enumerate() {
                        if !texts.get(row).is_empty()
                            && let Some(marks) = cut.get_mut(before + at)
                        {
                            *marks |= MARK_FACTS_CUT;
                        }
                    }
                    continue;
                }
                let column = TextsBuilder::of_none(before);
                self.facts.insert(name.to_owned(), column);
            }
            if let Some(column) = self.facts.get_mut(name) {
                column.extend(&texts, rows.iter().copied());
            }
        }
        let missing = before + rows.len();
        for column in self.facts.values_mut() {
            while column.len() < missing {
                column.push("");
            }
        }
        Ok(())
    }

    /// Writes them as a block, and forgets them. Nothing is written of none.
    pub(in super::super) fn write(
        &mut self,
        transaction: &Transaction<'_>,
    ) -> rusqlite::Result<Option<Head>> {
        let Some(mut block) = std::mem::take(self).encode() else {
            return Ok(None);
        };
        block.head.insert(transaction, &block.outside)?;
        Ok(Some(block.head))
    }

    /// Makes a block of them; none of no calls.
    pub(in super::super) fn encode(mut self) -> Option<EncodedBlock> {
        let (&first, &last) = (self.arrivals.first()?, self.arrivals.last()?);
        let expected = first..;
        self.numbers[Number::Arrival as usize] = self
            .arrivals
            .iter()
            .zip(expected)
            .map(|(&arrival, expected)| signed(arrival - expected))
            .collect();
        let mut head = Head {
            id: 0,
            first,
            last,
            rows: self.arrivals.len(),
            text_bytes: self.text_bytes(),
            columns: Vec::new(),
        };
        let mut outside = Vec::new();
        let mut add = |number, name: &str, extent, bytes: Vec<u8>| {
            let inline = if bytes.len() <= BLOCK_INLINE_BYTES {
                Some(bytes)
            } else {
                outside.push((number, bytes));
                None
            };
            head.columns.push(ColumnHead {
                number,
                name: name.into(),
                extent,
                inline,
            });
        };
        for (number, numbers) in (0..).zip(&self.numbers) {
            let extent = Extent::of(numbers);
            add(number, "", extent, encode_numbers(numbers, extent));
        }
        let none = Extent::of(&[]);
        for (number, texts) in (FIRST_TEXT..).zip(&self.texts) {
            add(number, "", none, texts.texts().encode());
        }
        for (number, (name, texts)) in (FIRST_FACT..=u8::MAX).zip(&self.facts) {
            add(number, name, none, texts.texts().encode());
        }
        let grams = self.kept_grams.unwrap_or_else(|| self.grams.encode());
        outside.push((GRAMS, grams));
        Some(EncodedBlock { head, outside })
    }
}

/// The scheme where the URL is scheme, host and path, as nearly every one is; the whole URL behind [`WHOLE`] where not.
fn short_url(call: &Columns) -> Cow<'_, str> {
    let scheme = call.url.split_once("://").filter(|(scheme, rest)| {
        !scheme.starts_with(WHOLE)
            && rest
                .strip_prefix(call.host.as_str())
                .is_some_and(|rest| rest == call.path)
    });
    match scheme {
        Some((scheme, _)) => scheme.into(),
        None => format!("{WHOLE}{}", call.url).into(),
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    fn connection() -> Connection {
        let connection = Connection::open_in_memory().expect("memory");
        connection
            .execute_batch(include_str!("../schema.sql"))
            .and_then(|()| connection.execute_batch(include_str!("../calls.sql")))
            .expect("the schema");
        connection
    }

    fn call(url: &str, host: &str, path: &str, facts: &[(&str, &str)]) -> Columns {
        Columns {
            time_ms: 1_700_000_000_000,
            received_ms: 1_700_000_000_900,
            now_ms: Some(-5),
            url: url.into(),
            host: host.into(),
            path: path.into(),
            status: Some(200),
            facts: facts
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect(),
            ..Columns::default()
        }
    }

    #[test]
    fn calls_come_back_whole_also_when_blocks_are_merged() {
        let calls = [
            call("http://h/p", "h", "/p", &[]),
            call("h", "h", "", &[("a", "1")]),
            call("", "", "", &[("b", "2"), ("a", "3")]),
            call("http:", "http:", "", &[]),
            call("=://h/p", "h", "/p", &[]),
            call("http://u@h/p", "h", "/p", &[("c", "x")]),
            call("ftp://h/p?q", "h", "/p?q", &[]),
        ];
        let mut connection = connection();
        let transaction = connection.transaction().expect("begins");
        let mut heads = Vec::new();
        for (part, first) in [(&calls[..3], 1), (&calls[3..], 10)] {
            let mut rows = Rows::default();
            for (arrival, call) in (first..).zip(part) {
                rows.push(arrival, 1, 100, call);
            }
            heads.extend(rows.write(&transaction).expect("writes"));
        }
        let arrivals = [1, 2, 3, 10, 11, 12, 13];
        let check = |head: &Head, range: std::ops::Range<usize>| {
            let stored = transaction
                .query_row(
                    &format!("SELECT {} FROM blocks WHERE id = ?1", super::super::HEAD),
                    [head.id],
                    Head::read,
                )
                .expect("reads");
            let block = Block::new(&transaction, &stored);
            for (row, index) in range.enumerate() {
                let mut expected = calls[index].clone();
                expected.facts.sort();
                assert_eq!(block.columns(row).expect("reads"), expected);
                assert_eq!(block.arrival(row).expect("reads"), arrivals[index]);
            }
        };
        check(&heads[0], 0..3);
        check(&heads[1], 3..7);
        let mut merged = Rows::default();
        for head in &heads {
            let block = Block::new(&transaction, head);
            let all: Vec<_> = (0..head.rows).collect();
            merged.extend(&block, &all).expect("reads");
            merged.add_grams(&block).expect("reads");
            head.delete(&transaction).expect("deletes");
        }
        let merged = merged.write(&transaction).expect("writes");
        check(&merged.expect("calls"), 0..7);
    }

    #[test]
    fn facts_beyond_the_bound_are_marked() {
        let mut connection = connection();
        let transaction = connection.transaction().expect("begins");
        let mut rows = Rows::default();
        for number in 0..=BLOCK_FACTS_MAX as u64 {
            rows.push(
                number + 1,
                1,
                1,
                &call("", "", "", &[(&format!("f{number}"), "v")]),
            );
        }
        let head = rows.write(&transaction).expect("writes").expect("calls");
        let block = Block::new(&transaction, &head);
        assert!(!block.columns(0).expect("reads").are_facts_cut);
        assert!(block.columns(BLOCK_FACTS_MAX).expect("reads").are_facts_cut);
        assert_eq!(head.facts().count(), BLOCK_FACTS_MAX);
        for (length, is_cut) in [(255, false), (256, true)] {
            let mut rows = Rows::default();
            let facts = [("a", "1"), (&"n".repeat(length)[..], "2"), ("z", "3")];
            rows.push(1000 + length as u64, 1, 1, &call("", "", "", &facts));
            let head = rows.write(&transaction).expect("writes").expect("calls");
            let head = transaction
                .query_row(
                    &format!("SELECT {} FROM blocks WHERE id = ?1", super::super::HEAD),
                    [head.id],
                    Head::read,
                )
                .expect("reads");
            let block = Block::new(&transaction, &head);
            let columns = block.columns(0).expect("reads");
            assert_eq!(
                (columns.are_facts_cut, columns.fact_of("z")),
                (is_cut, Some("3"))
            );
        }
    }
}
