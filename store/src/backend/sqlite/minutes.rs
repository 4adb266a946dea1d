//! Counts by the minute, kept by the writer, which outlive the calls that they are of.
//!
//! Calls are counted at their time, however late they come, by host, endpoint, operation, method, status, appliance and VNI. Their
//! number is bounded twice: past [`MINUTE_KEYS_MAX`] combinations a new one is counted under the endpoint `…other` of no host, and
//! past [`MINUTES_MAX`] rows the oldest minutes are deleted.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use crate::call::{Loss, Measures, Range};
use crate::clock::{MINUTE_MS, minute};
use crate::endpoint::OTHER;
use crate::fields::Field;
use crate::filter::{Filter, Known, Value};
use crate::histogram::{Histogram, put, take};
use crate::limits::{
    LOSSES_MAX, MINUTE_KEYS_BYTES_MAX, MINUTE_KEYS_MAX, MINUTES_HELD_MAX, MINUTES_MAX,
};
use crate::line::Columns;

/// Bytes of a text that calls are counted by.
const TEXT_BYTES_MAX: usize = 256;

/// What calls are counted by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Key {
    host: String,
    endpoint: String,
    operation: String,
    method: String,
    appliance: String,
    status: Option<i64>,
    vni: Option<i64>,
}

impl Key {
    fn of(call: &Columns) -> Self {
        let texts = [
            &call.host,
            &call.endpoint,
            &call.operation,
            &call.method,
            &call.appliance,
        ];
        if texts.iter().any(|text| text.len() > TEXT_BYTES_MAX) {
            return Self::other(call.status);
        }
        Self {
            host: call.host.clone(),
            endpoint: call.endpoint.clone(),
            operation: call.operation.clone(),
            method: call.method.clone(),
            appliance: call.appliance.clone(),
            status: call.status,
            vni: call.vni,
        }
    }

    /// What it takes in memory, about.
    fn bytes(&self) -> usize {
        let texts = [
            &self.host,
            &self.endpoint,
            &self.operation,
            &self.method,
            &self.appliance,
        ];
        2 * size_of::<Self>() + texts.iter().map(|text| text.len()).sum::<usize>()
    }

    /// What is counted with no other.
    fn other(status: Option<i64>) -> Self {
        Self {
            endpoint: OTHER.into(),
            status: status.filter(|status| (100..=599).contains(status)),
            ..Self::default()
        }
    }

    fn text(&self, field: Field) -> Option<&str> {
        Some(match field {
            Field::Host => &self.host,
            Field::Endpoint => &self.endpoint,
            Field::Operation => &self.operation,
            Field::Method => &self.method,
            Field::Appliance => &self.appliance,
            _ => return None,
        })
    }

    fn number(&self, field: Field) -> Option<Option<i64>> {
        match field {
            Field::Status => Some(self.status),
            Field::Vni => Some(self.vni),
            _ => None,
        }
    }

    /// The value of a field as a text; none where calls are not counted by it.
    fn value(&self, field: Field) -> Option<String> {
        let text = self.text(field).map(str::to_owned);
        text.or_else(|| {
            let number = self.number(field)?;
            Some(number.map_or_else(String::new, |number| number.to_string()))
        })
    }
}

impl Known for Key {
    fn field(&self, field: Field) -> Value<'_> {
        match (self.text(field), self.number(field)) {
            (Some(text), _) => Value::of_column(text),
            (None, Some(number)) => Value::of_number(number),
            (None, None) => Value::Unknown,
        }
    }

    fn annotation(&self, _: &str) -> Value<'_> {
        Value::Unknown
    }
}

/// Counts of calls that are not written yet.
#[derive(Debug, Default)]
pub(super) struct Counts(HashMap<(i64, Key), Measures>);

impl Counts {
    pub(super) fn add(&mut self, call: &Columns) {
        let place = (minute(call.time_ms), Key::of(call));
        count_call(self.0.entry(place).or_default(), call);
    }
}

fn count_call(measures: &mut Measures, call: &Columns) {
    measures.calls += 1;
    measures.classes[call.status.map_or(0, Measures::class)] += 1;
    if let Some(bytes) = call.request_bytes {
        measures.request_bytes += bytes.unsigned_abs();
    }
    if let Some(bytes) = call.response_bytes {
        measures.response_bytes += bytes.unsigned_abs();
        measures.sizes.add(bytes);
    }
    if let Some(took) = call.interval_ms {
        measures.took.add(took);
    }
    if let Some(first) = call.first_byte_ms {
        measures.first_byte.add(first);
    }
}

/// Counts that a transaction adds.
#[derive(Debug, Default)]
pub(super) struct Minutes {
    /// Rows of the keys that were used, in the database.
    known: HashMap<Key, i64>,
    /// Bytes of these keys, about.
    known_bytes: usize,
    added: HashMap<(i64, i64), Measures>,
    /// The newest minute that was written.
    newest: i64,
}

impl Minutes {
    pub(super) fn add(
        &mut self,
        transaction: &Transaction<'_>,
        call: &Columns,
    ) -> rusqlite::Result<()> {
        let measures = self.measures(transaction, minute(call.time_ms), &Key::of(call))?;
        count_call(measures, call);
        Ok(())
    }

    /// Adds what was counted before.
    pub(super) fn add_counts(
        &mut self,
        transaction: &Transaction<'_>,
        counts: &Counts,
    ) -> rusqlite::Result<()> {
        for ((minute, key), counted) in &counts.0 {
            self.measures(transaction, *minute, key)?.merge(counted);
        }
        Ok(())
    }

    fn measures(
        &mut self,
        transaction: &Transaction<'_>,
        minute: i64,
        key: &Key,
    ) -> rusqlite::Result<&mut Measures> {
        if self.added.len() >= MINUTES_HELD_MAX {
            self.write(transaction)?;
        }
        let key = self.key(transaction, key)?;
        Ok(self.added.entry((minute, key)).or_default())
    }

    fn key(&mut self, transaction: &Transaction<'_>, key: &Key) -> rusqlite::Result<i64> {
        if let Some(&id) = self.known.get(key) {
            return Ok(id);
        }
        let mut select = transaction.prepare_cached(
            "SELECT id FROM minute_keys WHERE host = ?1 AND endpoint = ?2 AND operation = ?3 AND method = ?4
             AND appliance = ?5 AND status = ?6 AND vni = ?7",
        )?;
        let values = params![
            key.host,
            key.endpoint,
            key.operation,
            key.method,
            key.appliance,
            key.status.unwrap_or(-1),
            key.vni.unwrap_or(-1)
        ];
        let id = match select.query_row(values, |row| row.get(0)).optional()? {
            Some(id) => id,
            None => {
                let keys: i64 = transaction
                    .prepare_cached("SELECT count(*) FROM minute_keys")?
                    .query_row([], |row| row.get(0))?;
                let other = Key::other(key.status);
                if keys >= MINUTE_KEYS_MAX as i64 && *key != other {
                    return self.key(transaction, &other);
                }
                transaction
                    .prepare_cached(
                        "INSERT INTO minute_keys (host, endpoint, operation, method, appliance, status, vni)
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                    )?
                    .execute(values)?;
                transaction.last_insert_rowid()
            }
        };
        let bytes = key.bytes();
        if self.known_bytes + bytes > MINUTE_KEYS_BYTES_MAX {
            self.forget_keys();
        }
        self.known_bytes += bytes;
        self.known.insert(key.clone(), id);
        Ok(id)
    }

    /// Writes what was added, and forgets it.
    pub(super) fn write(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let mut select = transaction
            .prepare_cached("SELECT data FROM minutes WHERE minute = ?1 AND key = ?2")?;
        let mut replace = transaction.prepare_cached(
            "INSERT OR REPLACE INTO minutes (minute, key, data) VALUES (?1, ?2, ?3)",
        )?;
        let mut newest = self.newest;
        for ((minute, key), mut measures) in self.added.drain() {
            let stored: Option<Vec<u8>> = select
                .query_row([minute, key], |row| row.get(0))
                .optional()?;
            if let Some(stored) = stored {
                measures.merge(&decode(&stored));
            }
            replace.execute(params![minute, key, encode(&measures)])?;
            newest = newest.max(minute);
        }
        if newest > self.newest {
            self.newest = newest;
            transaction
                .prepare_cached(
                    "DELETE FROM minutes WHERE minute <= (SELECT minute FROM minutes ORDER BY minute DESC LIMIT 1 OFFSET ?1)",
                )?
                .execute([MINUTES_MAX])?;
        }
        Ok(())
    }

    /// After a transaction failed: what it wrote is not there.
    pub(super) fn forget(&mut self) {
        self.added.clear();
        self.forget_keys();
    }

    fn forget_keys(&mut self) {
        self.known.clear();
        self.known_bytes = 0;
    }
}

fn encode(measures: &Measures) -> Vec<u8> {
    let mut bytes = Vec::new();
    for class in measures.classes {
        put(&mut bytes, class);
    }
    put(&mut bytes, measures.request_bytes);
    put(&mut bytes, measures.response_bytes);
    measures.took.encode(&mut bytes);
    measures.first_byte.encode(&mut bytes);
    measures.sizes.encode(&mut bytes);
    bytes
}

fn decode(mut bytes: &[u8]) -> Measures {
    let bytes = &mut bytes;
    let classes = [(); 6].map(|()| take(bytes));
    Measures {
        calls: classes.iter().sum(),
        classes,
        request_bytes: take(bytes),
        response_bytes: take(bytes),
        took: Histogram::decode(bytes),
        first_byte: Histogram::decode(bytes),
        sizes: Histogram::decode(bytes),
    }
}

/// The calls of one minute that have a value in common.
pub(super) struct Counted {
    pub(super) time_ms: i64,
    pub(super) value: String,
    pub(super) measures: Measures,
}

/// The counts of all minutes that have a time of the range. None where the filter, or what groups are of, is nothing that calls
/// are counted by.
pub(super) fn count(
    connection: &Connection,
    filter: &Filter,
    range: Range,
    by: Option<Field>,
) -> rusqlite::Result<Option<Vec<Counted>>> {
    let mut select = connection.prepare_cached(
        "SELECT id, host, endpoint, operation, method, appliance, status, vni FROM minute_keys",
    )?;
    let mut rows = select.query([])?;
    let mut values = HashMap::new();
    while let Some(row) = rows.next()? {
        let some = |number: i64| (number >= 0).then_some(number);
        let key = Key {
            host: row.get(1)?,
            endpoint: row.get(2)?,
            operation: row.get(3)?,
            method: row.get(4)?,
            appliance: row.get(5)?,
            status: some(row.get(6)?),
            vni: some(row.get(7)?),
        };
        let value = match by {
            Some(field) => key.value(field),
            None => Some(String::new()),
        };
        let (Some(matches), Some(value)) = (filter.decide(&key), value) else {
            return Ok(None);
        };
        if matches {
            values.insert(row.get::<_, i64>(0)?, value);
        }
    }
    let mut select = connection.prepare_cached(
        "SELECT minute, key, data FROM minutes WHERE minute >= ?1 AND minute <= ?2",
    )?;
    let mut rows = select.query(<[i64; 2]>::from(range.minutes()))?;
    let mut counted = Vec::new();
    while let Some(row) = rows.next()? {
        if let Some(value) = values.get(&row.get::<_, i64>(1)?) {
            counted.push(Counted {
                time_ms: row.get::<_, i64>(0)?.saturating_mul(MINUTE_MS),
                value: value.clone(),
                measures: decode(row.get_ref(2)?.as_blob().unwrap_or_default()),
            });
        }
    }
    Ok(Some(counted))
}

/// Time of the newest call that was deleted by the retention; none where none was.
pub(super) fn expired_to(connection: &Connection) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT value FROM counters WHERE name = 'expired_to_ms'")?
        .query_row([], |row| row.get(0))
        .optional()
}

/// Adds to the calls that are missing.
pub(super) fn lose(transaction: &Transaction<'_>, losses: &[Loss]) -> rusqlite::Result<()> {
    let mut add = transaction.prepare_cached(
        "INSERT INTO losses (minute, cause, appliance, vni, calls) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (minute, cause, appliance, vni) DO UPDATE SET calls = calls + excluded.calls",
    )?;
    for loss in losses {
        add.execute(params![
            minute(loss.time_ms),
            loss.cause,
            loss.appliance,
            loss.vni.unwrap_or(-1),
            i64::try_from(loss.calls).unwrap_or(i64::MAX)
        ])?;
    }
    transaction
        .prepare_cached(
            "DELETE FROM losses WHERE minute <= (SELECT minute FROM losses ORDER BY minute DESC LIMIT 1 OFFSET ?1)",
        )?
        .execute([LOSSES_MAX])?;
    Ok(())
}
