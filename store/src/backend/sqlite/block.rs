//! Calls in blocks of some thousand, column by column, without their lines.
//!
//! A block holds calls in their order of arrival, in any order of their times. Its row in the table `blocks` has the head: which
//! columns there are, least and largest of each number, and all columns that are short; the longer ones are rows of the table
//! `columns`, so that a query reads what it looks at. A fact is a column that exists where some call of the block has it, which
//! is why a new one needs no migration.

mod column;
mod rows;

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::damaged::Damaged;
use super::grams::{self, Grams};
use crate::fields::Field;
use crate::filter::Word;
use crate::line::Columns;

use column::decode_numbers;
pub(super) use column::{Extent, NONE, Texts};
pub(super) use rows::{EncodedBlock, Rows};

/// The columns of numbers. Their order is that in the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Number {
    /// Distance of the call's number in the order of arrival from that of the first in the block.
    Arrival,
    /// Row of the table `senders`.
    Sender,
    /// Bytes of the line.
    LineBytes,
    Time,
    Received,
    /// Distance of `now` from the time.
    Now,
    Took,
    FirstByte,
    Status,
    RequestBytes,
    ResponseBytes,
    Vni,
    ClientPort,
    ServerPort,
    /// See [`MARK_FACTS_CUT`] and [`MARK_MASKED`].
    Marks,
}

/// Number of them.
const NUMBERS: usize = 15;

/// Not all facts of the call are in columns.
pub(super) const MARK_FACTS_CUT: i64 = 1;

/// A rule or a bound has left something out of the call.
pub(super) const MARK_MASKED: i64 = 2;

/// The columns of texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Text {
    Method,
    Host,
    Path,
    /// The URL, or its scheme where the rest of it is host and path.
    Url,
    Endpoint,
    Operation,
    OperationKind,
    ContentType,
    Protocol,
    Client,
    Server,
    Appliance,
    Connection,
    Note,
}

const TEXTS: usize = 14;

const ALL_TEXTS: [Text; TEXTS] = [
    Text::Method,
    Text::Host,
    Text::Path,
    Text::Url,
    Text::Endpoint,
    Text::Operation,
    Text::OperationKind,
    Text::ContentType,
    Text::Protocol,
    Text::Client,
    Text::Server,
    Text::Appliance,
    Text::Connection,
    Text::Note,
];

/// Numbers of the columns in the files: those of numbers, of texts, of facts.
const FIRST_TEXT: u8 = 32;
const FIRST_FACT: u8 = 64;

/// Number of the row of `columns` that has the grams of the lines, behind those of facts.
const GRAMS: u8 = u8::MAX;

impl Number {
    /// The column of a field; none where that is no column of its own.
    pub(super) fn of(field: Field) -> Option<Self> {
        Some(match field {
            Field::Time => Self::Time,
            Field::Received => Self::Received,
            Field::Took => Self::Took,
            Field::FirstByte => Self::FirstByte,
            Field::Status => Self::Status,
            Field::RequestBytes => Self::RequestBytes,
            Field::ResponseBytes => Self::ResponseBytes,
            Field::Vni => Self::Vni,
            Field::ClientPort => Self::ClientPort,
            Field::ServerPort => Self::ServerPort,
            _ => return None,
        })
    }
}

impl Text {
    /// The column of a field; none where that is no column of its own.
    pub(super) fn of(field: Field) -> Option<Self> {
        Some(match field {
            Field::Method => Self::Method,
            Field::Host => Self::Host,
            Field::Path => Self::Path,
            Field::Endpoint => Self::Endpoint,
            Field::Operation => Self::Operation,
            Field::OperationKind => Self::OperationKind,
            Field::ContentType => Self::ContentType,
            Field::Protocol => Self::Protocol,
            Field::Client => Self::Client,
            Field::Server => Self::Server,
            Field::Appliance => Self::Appliance,
            Field::Connection => Self::Connection,
            Field::Note => Self::Note,
            _ => return None,
        })
    }
}

/// Stands before a URL that is not shortened.
const WHOLE: char = '=';

/// What is known of a block without its columns.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) id: i64,
    /// Number of its first call in the order of arrival.
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) rows: usize,
    /// Bytes of the dictionaries of its texts.
    pub(super) text_bytes: usize,
    columns: Vec<ColumnHead>,
}

#[derive(Clone, Debug)]
struct ColumnHead {
    number: u8,
    /// Of a fact.
    name: String,
    /// Of numbers.
    extent: Extent,
    /// The column itself if it is short.
    inline: Option<Vec<u8>>,
}

/// What [`Head::read`] reads, in this order.
pub(super) const HEAD: &str = "id, first, last, rows, text_bytes, head";

impl Head {
    pub(super) fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        let mut head = Self {
            id: row.get(0)?,
            first: unsigned(row.get(1)?),
            last: unsigned(row.get(2)?),
            rows: usize::try_from(row.get::<_, i64>(3)?).unwrap_or_default(),
            text_bytes: usize::try_from(row.get::<_, i64>(4)?).unwrap_or_default(),
            columns: Vec::new(),
        };
        let mut bytes = row.get_ref(5)?.as_blob().unwrap_or_default();
        while let Some((&number, rest)) = bytes.split_first() {
            bytes = rest;
            let mut some = |length: u64| {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                let (some, rest) = bytes.split_at_checked(length)?;
                bytes = rest;
                Some(some)
            };
            let mut column = || {
                let name = if number >= FIRST_FACT {
                    let length = some(1)?[0];
                    std::str::from_utf8(some(u64::from(length))?).ok()?
                } else {
                    ""
                };
                let extent = if number < FIRST_TEXT {
                    let [least, most] = [some(8)?, some(8)?]
                        .map(|bytes| bytes.try_into().map_or(0, i64::from_le_bytes));
                    Extent {
                        least,
                        most,
                        has_none: some(1)?[0] != 0,
                    }
                } else {
                    Extent::of(&[])
                };
                let inline = match some(1)?[0] {
                    0 => None,
                    _ => {
                        let length = some(2)?.try_into().map_or(0, u16::from_le_bytes);
                        Some(some(u64::from(length))?.to_vec())
                    }
                };
                Some(ColumnHead {
                    number,
                    name: name.into(),
                    extent,
                    inline,
                })
            };
            match column() {
                Some(column) => head.columns.push(column),
                // What cannot be read has no column, and reading that is an error.
                None => break,
            }
        }
        Ok(head)
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for column in &self.columns {
            bytes.push(column.number);
            if column.number >= FIRST_FACT {
                bytes.push(column.name.len().min(255) as u8);
                bytes.extend_from_slice(column.name.as_bytes());
            }
            if column.number < FIRST_TEXT {
                bytes.extend_from_slice(&column.extent.least.to_le_bytes());
                bytes.extend_from_slice(&column.extent.most.to_le_bytes());
                bytes.push(u8::from(column.extent.has_none));
            }
            match &column.inline {
                None => bytes.push(0),
                Some(inline) => {
                    bytes.push(1);
                    bytes.extend_from_slice(&(inline.len() as u16).to_le_bytes());
                    bytes.extend_from_slice(inline);
                }
            }
        }
        bytes
    }

    fn insert(
        &mut self,
        transaction: &Transaction<'_>,
        outside: &[(u8, Vec<u8>)],
    ) -> rusqlite::Result<()> {
        let time = self.extent(Number::Time);
        transaction
            .prepare_cached(
                "INSERT INTO blocks (first, last, rows, text_bytes, oldest_ms, newest_ms, head) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                signed(self.first),
                signed(self.last),
                signed(self.rows as u64),
                signed(self.text_bytes as u64),
                time.least,
                time.most,
                self.encode()
            ])?;
        self.id = transaction.last_insert_rowid();
        let mut insert =
            transaction.prepare_cached("INSERT INTO columns (id, data) VALUES (?1, ?2)")?;
        for (number, bytes) in outside {
            insert.execute(params![column_id(self.id, *number), bytes])?;
        }
        Ok(())
    }

    /// Deletes the block.
    pub(super) fn delete(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        transaction
            .prepare_cached("DELETE FROM columns WHERE id BETWEEN ?1 AND ?2")?
            .execute([column_id(self.id, 0), column_id(self.id, u8::MAX)])?;
        transaction
            .prepare_cached("DELETE FROM blocks WHERE id = ?1")?
            .execute([self.id])?;
        Ok(())
    }

    /// What it takes in memory, about.
    pub(super) fn bytes(&self) -> usize {
        let columns = self.columns.iter().map(|column| {
            let inline = column.inline.as_ref().map_or(0, Vec::len);
            size_of::<ColumnHead>() + column.name.len() + inline
        });
        size_of::<Self>() + columns.sum::<usize>()
    }

    pub(super) fn extent(&self, number: Number) -> Extent {
        self.column(number as u8)
            .map_or(Extent::of(&[]), |column| column.extent)
    }

    /// Time of its oldest call.
    pub(super) fn oldest_ms(&self) -> i64 {
        self.extent(Number::Time).least
    }

    /// Time of its newest call.
    pub(super) fn newest_ms(&self) -> i64 {
        self.extent(Number::Time).most
    }

    /// Names of the facts that have a column.
    pub(super) fn facts(&self) -> impl Iterator<Item = &str> {
        let facts = self.columns.iter();
        facts
            .filter(|column| column.number >= FIRST_FACT)
            .map(|column| column.name.as_str())
    }

    /// The number of a call in the order of arrival, of which `arrivals` is the column.
    pub(super) fn arrival(&self, arrivals: &[i64], row: usize) -> u64 {
        let distance = arrivals.get(row).copied().unwrap_or_default();
        self.first + row as u64 + unsigned(distance)
    }

    fn column(&self, number: u8) -> Option<&ColumnHead> {
        // Those of numbers and of texts are all there, in their order.
        let index = match number {
            FIRST_FACT.. => return self.columns.iter().find(|column| column.number == number),
            FIRST_TEXT.. => usize::from(number - FIRST_TEXT) + NUMBERS,
            _ => usize::from(number),
        };
        let column = self.columns.get(index)?;
        (column.number == number).then_some(column)
    }
}

/// Heads of the first blocks whose calls have larger numbers than this, in their order.
pub(super) fn heads_behind(
    connection: &Connection,
    last: u64,
    heads_max: usize,
) -> rusqlite::Result<Vec<Head>> {
    let mut select = connection.prepare_cached(&format!(
        "SELECT {HEAD} FROM blocks WHERE first > ?1 ORDER BY first LIMIT ?2"
    ))?;
    select
        .query_map([signed(last), signed(heads_max as u64)], Head::read)?
        .collect()
}

fn column_id(block: i64, number: u8) -> i64 {
    block.saturating_mul(256) | i64::from(number)
}

/// A number as SQLite has it.
pub(super) fn signed(number: u64) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

/// A number that is never negative.
pub(super) fn unsigned(number: i64) -> u64 {
    number.try_into().unwrap_or_default()
}

/// A block whose columns are read when they are needed, and kept.
pub(super) struct Block<'a> {
    pub(super) head: &'a Head,
    connection: &'a Connection,
    numbers: [OnceCell<Rc<Vec<i64>>>; NUMBERS],
    texts: [OnceCell<Rc<Texts>>; TEXTS],
    facts: RefCell<BTreeMap<u8, Rc<Texts>>>,
    grams: OnceCell<Option<Vec<u8>>>,
}

impl<'a> Block<'a> {
    pub(super) fn new(connection: &'a Connection, head: &'a Head) -> Self {
        Self {
            head,
            connection,
            numbers: Default::default(),
            texts: Default::default(),
            facts: RefCell::default(),
            grams: OnceCell::new(),
        }
    }

    pub(super) fn rows(&self) -> usize {
        self.head.rows
    }

    /// A column of numbers.
    pub(super) fn numbers(&self, number: Number) -> anyhow::Result<Rc<Vec<i64>>> {
        self.column_of_numbers(number as u8)
    }

    fn column_of_numbers(&self, number: u8) -> anyhow::Result<Rc<Vec<i64>>> {
        let cell = self.numbers.get(usize::from(number)).ok_or(Damaged)?;
        if let Some(numbers) = cell.get() {
            return Ok(Rc::clone(numbers));
        }
        let numbers = self.bytes(number, |bytes| decode_numbers(bytes, self.rows()))?;
        Ok(Rc::clone(cell.get_or_init(|| Rc::new(numbers))))
    }

    /// A column of texts.
    pub(super) fn texts(&self, text: Text) -> anyhow::Result<Rc<Texts>> {
        let cell = &self.texts[text as usize];
        if let Some(texts) = cell.get() {
            return Ok(Rc::clone(texts));
        }
        let texts = self.bytes(FIRST_TEXT + text as u8, |bytes| {
            Texts::decode(bytes, self.rows())
        })?;
        Ok(Rc::clone(cell.get_or_init(|| Rc::new(texts))))
    }

    /// The column of a fact; none where no call has it.
    pub(super) fn fact(&self, name: &str) -> anyhow::Result<Option<Rc<Texts>>> {
        let columns = self.head.columns.iter();
        let column = columns.filter(|column| column.number >= FIRST_FACT);
        let Some(column) = column.into_iter().find(|column| column.name == name) else {
            return Ok(None);
        };
        if let Some(texts) = self.facts.borrow().get(&column.number) {
            return Ok(Some(Rc::clone(texts)));
        }
        let texts = self.bytes(column.number, |bytes| Texts::decode(bytes, self.rows()))?;
        let texts = Rc::new(texts);
        self.facts
            .borrow_mut()
            .insert(column.number, Rc::clone(&texts));
        Ok(Some(texts))
    }

    fn bytes<T>(
        &self,
        number: u8,
        decode: impl Fn(&[u8]) -> Result<T, Damaged>,
    ) -> anyhow::Result<T> {
        let column = self.head.column(number).ok_or(Damaged)?;
        if let Some(inline) = &column.inline {
            return Ok(decode(inline)?);
        }
        Ok(self.outside(number, decode)?.ok_or(Damaged)??)
    }

    /// What is kept in a row of its own.
    fn outside<T>(&self, number: u8, decode: impl Fn(&[u8]) -> T) -> rusqlite::Result<Option<T>> {
        let mut select = self
            .connection
            .prepare_cached("SELECT data FROM columns WHERE id = ?1")?;
        select
            .query_row([column_id(self.head.id, number)], |row| {
                Ok(decode(row.get_ref(0)?.as_blob().unwrap_or_default()))
            })
            .optional()
    }

    /// Whether some line may contain a word, as far as the grams of the lines show that.
    pub(super) fn may_contain(&self, word: &Word) -> anyhow::Result<bool> {
        Ok(match self.encoded_grams()? {
            Some(grams) => grams::may_contain(grams, word)?,
            None => true,
        })
    }

    /// Adds the grams of all its lines to a set.
    fn add_grams(&self, grams: &mut Grams) -> anyhow::Result<()> {
        match self.encoded_grams()? {
            Some(bytes) => grams.merge_encoded(bytes)?,
            None => grams.open(),
        }
        Ok(())
    }

    fn encoded_grams(&self) -> rusqlite::Result<Option<&[u8]>> {
        if self.grams.get().is_none() {
            let grams = self.outside(GRAMS, <[u8]>::to_vec)?;
            drop(self.grams.set(grams));
        }
        Ok(self.grams.get().and_then(Option::as_deref))
    }

    /// The number of a call in the order of arrival.
    pub(super) fn arrival(&self, row: usize) -> anyhow::Result<u64> {
        Ok(self.head.arrival(&self.numbers(Number::Arrival)?, row))
    }

    /// The number of a call; none where it has none.
    pub(super) fn number(&self, number: Number, row: usize) -> anyhow::Result<Option<i64>> {
        let number = self.numbers(number)?.get(row).copied();
        Ok(number.filter(|&number| number != NONE))
    }

    /// The URL of a call.
    pub(super) fn url(&self, row: usize) -> anyhow::Result<String> {
        let texts = self.texts(Text::Url)?;
        let url = texts.get(row);
        if let Some(whole) = url.strip_prefix(WHOLE) {
            return Ok(whole.to_owned());
        }
        let (host, path) = (self.texts(Text::Host)?, self.texts(Text::Path)?);
        Ok(format!("{url}://{}{}", host.get(row), path.get(row)))
    }

    /// Passes the URLs of all calls on, in their order.
    pub(super) fn each_url(&self, mut each: impl FnMut(&str)) -> anyhow::Result<()> {
        let [urls, hosts, paths] = [Text::Url, Text::Host, Text::Path].map(|text| self.texts(text));
        let (urls, hosts, paths) = (urls?, hosts?, paths?);
        let mut text = String::new();
        for row in 0..self.rows() {
            let url = urls.get(row);
            if let Some(whole) = url.strip_prefix(WHOLE) {
                each(whole);
                continue;
            }
            text.clear();
            text.extend([url, "://", hosts.get(row), paths.get(row)]);
            each(&text);
        }
        Ok(())
    }

    /// Those columns of a call that a row of the list has.
    pub(super) fn listed(&self, row: usize) -> anyhow::Result<Columns> {
        let text = |text| anyhow::Ok(self.texts(text)?.get(row).to_owned());
        let number = |number| self.number(number, row);
        let time_ms = number(Number::Time)?.unwrap_or_default();
        Ok(Columns {
            time_ms,
            received_ms: number(Number::Received)?.unwrap_or_default(),
            now_ms: number(Number::Now)?.and_then(|now| now.checked_add(time_ms)),
            interval_ms: number(Number::Took)?,
            first_byte_ms: number(Number::FirstByte)?,
            method: text(Text::Method)?,
            url: self.url(row)?,
            host: text(Text::Host)?,
            path: text(Text::Path)?,
            status: number(Number::Status)?,
            request_bytes: number(Number::RequestBytes)?,
            response_bytes: number(Number::ResponseBytes)?,
            content_type: text(Text::ContentType)?,
            note: text(Text::Note)?,
            endpoint: text(Text::Endpoint)?,
            operation: text(Text::Operation)?,
            protocol: text(Text::Protocol)?,
            vni: number(Number::Vni)?,
            client: text(Text::Client)?,
            server: text(Text::Server)?,
            appliance: text(Text::Appliance)?,
            ..Columns::default()
        })
    }

    /// All columns of a call, but for the text of its sender.
    pub(super) fn columns(&self, row: usize) -> anyhow::Result<Columns> {
        let text = |text| anyhow::Ok(self.texts(text)?.get(row).to_owned());
        let number = |number| self.number(number, row);
        let mut facts = Vec::new();
        for name in self.head.facts() {
            if let Some(texts) = self.fact(name)?
                && !texts.get(row).is_empty()
            {
                facts.push((name.to_owned(), texts.get(row).to_owned()));
            }
        }
        Ok(Columns {
            operation_kind: text(Text::OperationKind)?,
            client_port: number(Number::ClientPort)?,
            server_port: number(Number::ServerPort)?,
            connection: text(Text::Connection)?,
            facts,
            are_facts_cut: number(Number::Marks)?.unwrap_or_default() & MARK_FACTS_CUT != 0,
            ..self.listed(row)?
        })
    }
}
