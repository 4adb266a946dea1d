//! The tables, as numbered migrations, and the comparison of what a server has with what this program needs.
//!
//! On a cluster each table is a local one on every replica and a distributed one over them, without the cluster it is one table
//! with the name of the latter. Local ones are made first. A migration can be made again: what is there stays.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::address::Address;
use super::binary::Reader;
use super::client::{Client, Error, Password};
use super::dialect::Dialect;
use super::row::{COLUMNS, FEW, MASKED};
use super::sql::{BUCKET_MS, literal};
use crate::clock::{MINUTE_MS, unix_ms};
use crate::limits::CLICKHOUSE_MIGRATION_WAIT;

/// The version of the tables that this program needs.
pub(super) const VERSION: u32 = 1;

/// Time for a query about the schema.
const WAIT: Duration = Duration::from_secs(10);

/// Where the tables of a database are.
#[derive(Clone, Debug)]
pub(super) struct Names {
    pub(super) database: String,
    pub(super) cluster: Option<String>,
}

impl Names {
    pub(super) fn of(address: &Address) -> Self {
        Self {
            database: address.database.clone(),
            cluster: address.cluster.clone(),
        }
    }

    /// The table with the data, which is what statements that change it are for.
    pub(super) fn local(&self, table: &str) -> String {
        match self.cluster {
            Some(_) => format!("{table}_local"),
            None => table.to_owned(),
        }
    }

    /// ` ON CLUSTER c`
    pub(super) fn everywhere(&self) -> String {
        let cluster = self.cluster.as_deref();
        cluster.map_or_else(String::new, |cluster| format!(" ON CLUSTER `{cluster}`"))
    }

    /// A table of the server itself, of one replica of each shard.
    pub(super) fn system(&self, table: &str) -> String {
        match &self.cluster {
            Some(cluster) => format!("cluster({}, system, {table})", literal(cluster)),
            None => format!("system.{table}"),
        }
    }

    fn engine(&self, family: &str, table: &str, dialect: Dialect) -> String {
        match self.cluster {
            Some(_) => format!(
                "Replicated{family}('/clickhouse/tables/{{shard}}/{}/{table}_v1', '{{replica}}')",
                self.database
            ),
            None => format!(
                "{family}{}",
                if dialect == Dialect::Floor { "()" } else { "" }
            ),
        }
    }
}

/// A table: its columns, how it is sorted and divided, and by what calls reach a shard of it.
struct Table {
    name: &'static str,
    columns: Vec<(&'static str, &'static str, &'static str)>,
    family: &'static str,
    order: String,
    partition: String,
    shard: &'static str,
}

/// What calls are counted by.
pub(super) const KEYS: [(&str, &str); 8] = [
    ("host", FEW),
    ("endpoint", FEW),
    ("operation", FEW),
    ("method", FEW),
    ("appliance", FEW),
    ("status", "Int64"),
    ("vni", "Int64"),
    ("class", "Int16"),
];

/// Sums by the minute, and what each is of.
const SUMS: [(&str, &str); 7] = [
    ("calls_sum", "count()"),
    (
        "request_bytes_sum",
        "sum(toUInt64(if(request_bytes > 0, request_bytes, 0)))",
    ),
    (
        "response_bytes_sum",
        "sum(toUInt64(if(response_bytes > 0, response_bytes, 0)))",
    ),
    ("masked_sum", MASKED),
    ("bundles_sum", "sum(toUInt64(bundles))"),
    ("bad_lines_sum", "sum(toUInt64(bad_lines))"),
    ("line_bytes_sum", "sum(toUInt64(line_bytes))"),
];

/// Histograms by the minute.
pub(super) const MAPS: [&str; 3] = ["took", "first_byte", "size"];

fn tables() -> Vec<Table> {
    let plain = "ZSTD(1)";
    let calls = COLUMNS
        .iter()
        .map(|column| (column.name, column.kind, column.codec));
    let mut minutes = vec![("minute", "Int64", "Delta(8), ZSTD(1)")];
    minutes.extend(KEYS.iter().map(|&(name, kind)| (name, kind, plain)));
    minutes.extend(SUMS.iter().map(|&(name, _)| (name, "UInt64", plain)));
    for name in ["tookMap", "first_byteMap", "sizeMap"] {
        minutes.push((name, "Nested(slotKey Int16, calls UInt64)", ""));
    }
    let keys: Vec<_> = KEYS.iter().map(|(name, _)| *name).collect();
    vec![
        Table {
            name: "calls",
            columns: calls.collect(),
            family: "ReplacingMergeTree",
            order: format!(
                "intDiv(time, {BUCKET_MS}), host, endpoint, operation, time, bundle, line_no"
            ),
            partition: "intDiv(time, 86400000)".into(),
            shard: "bundle",
        },
        Table {
            name: "minutes",
            columns: minutes,
            family: "SummingMergeTree",
            order: format!("minute, {}", keys.join(", ")),
            partition: "intDiv(minute, 43200)".into(),
            shard: "rand()",
        },
        Table {
            name: "losses",
            columns: vec![
                ("minute", "Int64", plain),
                ("cause", "String", plain),
                ("appliance", "String", plain),
                ("sender", "String", plain),
                ("vni", "Int64", plain),
                ("calls", "UInt64", plain),
            ],
            family: "SummingMergeTree",
            order: "minute, cause, appliance, sender, vni".into(),
            partition: "intDiv(minute, 43200)".into(),
            shard: "rand()",
        },
        Table {
            name: "ledgers",
            columns: vec![
                ("sender", "String", plain),
                ("appliance", "String", plain),
                ("run", "String", plain),
                ("updated_ms", "Int64", plain),
                ("data", "String", plain),
            ],
            family: "ReplacingMergeTree",
            order: "sender, appliance, run, updated_ms".into(),
            partition: "intDiv(updated_ms, 2592000000)".into(),
            shard: "cityHash64(sender, appliance, run)",
        },
    ]
}

impl Table {
    fn create(&self, names: &Names, dialect: Dialect) -> String {
        let mut columns = String::new();
        for (name, kind, codec) in &self.columns {
            let codec = match *codec {
                "" => String::new(),
                codec => dialect.codec(codec),
            };
            let comma = if columns.is_empty() { "" } else { ",\n    " };
            let _ = write!(columns, "{comma}{name} {}{codec}", dialect.kind(kind));
        }
        let mut settings = "index_granularity = 8192".to_owned();
        if dialect.has_tokens() && names.cluster.is_none() {
            settings += ", non_replicated_deduplication_window = 1000";
        }
        if dialect.has_tokens() && names.cluster.is_some() {
            settings += ", replicated_deduplication_window = 1000";
        }
        format!(
            "CREATE TABLE IF NOT EXISTS {}.{}{} (\n    {columns}\n) ENGINE = {}\nPARTITION BY {}\nORDER BY ({})\nSETTINGS {settings}",
            names.database,
            names.local(self.name),
            names.everywhere(),
            names.engine(self.family, self.name, dialect),
            self.partition,
            self.order,
        )
    }

    fn distributed(&self, names: &Names, cluster: &str) -> String {
        let database = &names.database;
        let name = self.name;
        format!(
            "CREATE TABLE IF NOT EXISTS {database}.{name}{} AS {database}.{} ENGINE = Distributed({}, {database}, {}, {})",
            names.everywhere(),
            names.local(name),
            literal(cluster),
            names.local(name),
            self.shard
        )
    }
}

/// The statement that counts calls by the minute as they are inserted. No sum has the name of a column of calls: an old server would
/// take one for the other within the same statement.
fn view(names: &Names) -> String {
    let keys: Vec<_> = KEYS.iter().map(|(name, _)| *name).collect();
    let keys = keys.join(", ");
    let mut columns = format!("intDiv(time, {MINUTE_MS}) AS minute, {keys}");
    for (name, of) in SUMS {
        let of = if of == MASKED {
            format!("countIf({of})")
        } else {
            of.to_owned()
        };
        let _ = write!(columns, ",\n    {of} AS {name}");
    }
    for name in MAPS {
        for (element, part) in [(1, "slotKey"), (2, "calls")] {
            let _ = write!(
                columns,
                ",\n    tupleElement(sumMap([{name}_slot], [toUInt64(1)]), {element}) AS `{name}Map.{part}`"
            );
        }
    }
    format!(
        "CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.minutes_view{} TO {database}.{} AS\nSELECT {columns}\nFROM {database}.{}\nGROUP BY minute, {keys}",
        names.everywhere(),
        names.local("minutes"),
        names.local("calls"),
        database = names.database,
    )
}

/// The statements of a migration, in their order.
pub(super) fn statements(names: &Names, dialect: Dialect) -> Vec<String> {
    let database = &names.database;
    let everywhere = names.everywhere();
    let mut statements = vec![format!(
        "CREATE DATABASE IF NOT EXISTS {database}{everywhere}"
    )];
    let tables = tables();
    statements.extend(tables.iter().map(|table| table.create(names, dialect)));
    statements.push(view(names));
    if let Some(cluster) = &names.cluster {
        statements.extend(tables.iter().map(|table| table.distributed(names, cluster)));
    }
    let engine = match names.cluster {
        // One of all shards together.
        Some(_) => format!(
            "ReplicatedMergeTree('/clickhouse/tables/all/{database}/schema_versions', '{{shard}}-{{replica}}')"
        ),
        None => "MergeTree()".into(),
    };
    statements.push(format!(
        "CREATE TABLE IF NOT EXISTS {database}.schema_versions{everywhere} (\n    version UInt32,\n    applied_ms Int64,\n    program String\n) ENGINE = {engine}\nORDER BY version"
    ));
    statements.push(format!(
        "INSERT INTO {database}.schema_versions (version, applied_ms, program) VALUES ({VERSION}, {}, {})",
        unix_ms(),
        literal(env!("CARGO_PKG_VERSION"))
    ));
    statements
}

/// What a migration did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Migrated {
    /// The tables were there already.
    Unchanged,
    /// All of it was carried out.
    Done,
    /// Some servers of the cluster were away. They carry it out when they return.
    Pending(String),
}

/// The statements that the database needs, for an administrator.
///
/// # Errors
/// The server cannot be reached or is not supported.
pub(super) async fn plan(address: &Address, password: &Password) -> anyhow::Result<Vec<String>> {
    let client = Client::new(address, password, false)?;
    let dialect = dialect(&client).await?;
    Ok(statements(&Names::of(address), dialect))
}

/// Carries the migrations out that the database lacks.
///
/// # Errors
/// The server cannot be reached, is not supported, or refuses a statement.
pub(super) async fn migrate(address: &Address, password: &Password) -> anyhow::Result<Migrated> {
    let client = Client::new(address, password, false)?;
    let dialect = dialect(&client).await?;
    let names = Names::of(address);
    let before = version(&client, &names).await?;
    if let Some(version) = before.filter(|version| *version >= VERSION) {
        if version > VERSION {
            bail!(
                "the tables have version {version}, this program has {VERSION}: use a newer program"
            );
        }
        return Ok(Migrated::Unchanged);
    }
    let mut pending = None;
    for statement in statements(&names, dialect) {
        let carried = client
            .write(
                None,
                statement.clone().into(),
                &[("distributed_ddl_task_timeout", "20")],
                CLICKHOUSE_MIGRATION_WAIT,
            )
            .await;
        match carried {
            Ok(_) => {}
            Err(Error::Server(159, text)) if names.cluster.is_some() => pending = Some(text),
            Err(error) => {
                let line = statement.lines().next().unwrap_or_default();
                return Err(error).with_context(|| line.to_owned());
            }
        }
    }
    // Replicas take over the version from each other, and a store asks whichever answers.
    let end = Instant::now() + WAIT;
    while pending.is_none() && Instant::now() < end {
        let mut are_all = true;
        for _ in &address.hosts {
            are_all &= version(&client, &names).await? == Some(VERSION);
        }
        if are_all {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(pending.map_or(Migrated::Done, Migrated::Pending))
}

pub(super) async fn dialect(client: &Client) -> anyhow::Result<Dialect> {
    let version = client.read("SELECT version()".into(), &[], WAIT).await?;
    Ok(Dialect::of(&String::from_utf8_lossy(&version))?)
}

/// The version of the tables; none where there are none.
async fn version(client: &Client, names: &Names) -> anyhow::Result<Option<u32>> {
    let sql = format!(
        "SELECT count() FROM system.tables WHERE database = {} AND name = 'schema_versions' FORMAT RowBinary",
        literal(&names.database)
    );
    let answer = client.read(sql, &[], WAIT).await?;
    if Reader(&answer).u64()? == 0 {
        return Ok(None);
    }
    let sql = format!(
        "SELECT max(version) FROM {}.schema_versions FORMAT RowBinary",
        names.database
    );
    let answer = client.read(sql, &[], WAIT).await?;
    Ok(Some(Reader(&answer).u32()?).filter(|version| *version > 0))
}

/// Compares the tables with what is needed; when they were made.
///
/// # Errors
/// They are missing, or others.
pub(super) async fn compare(
    client: &Client,
    names: &Names,
    dialect: Dialect,
) -> anyhow::Result<i64> {
    let database = &names.database;
    match version(client, names).await? {
        Some(version) if version >= VERSION => {}
        found => {
            let what = match found {
                Some(version) => format!("has tables of version {version}, {VERSION} is needed"),
                None => "has no tables of this program".to_owned(),
            };
            bail!(NeedsMigration(format!("the database {database} {what}")));
        }
    }
    for table in tables() {
        let sql = format!(
            "SELECT name, type FROM system.columns WHERE database = {} AND table = {} FORMAT RowBinary",
            literal(database),
            literal(table.name)
        );
        let answer = client.read(sql, &[], WAIT).await?;
        let mut reader = Reader(&answer);
        let mut found = Vec::new();
        while reader.has_more() {
            found.push((reader.text()?, reader.text()?));
        }
        for (name, kind, _) in table
            .columns
            .iter()
            .filter(|(_, kind, _)| !kind.starts_with("Nested"))
        {
            let kind = dialect.kind(kind);
            match found.iter().find(|(known, _)| known == name) {
                Some((_, there)) if there == kind => {}
                Some((_, there)) => bail!(
                    "the table {database}.{}: its column {name} is {there}, {kind} is needed",
                    table.name
                ),
                None => bail!("the table {database}.{} has no column {name}", table.name),
            }
        }
    }
    let sql = format!("SELECT min(applied_ms) FROM {database}.schema_versions FORMAT RowBinary");
    Ok(Reader(&client.read(sql, &[], WAIT).await?).i64()?)
}

/// The tables are missing or old.
#[derive(Debug)]
pub struct NeedsMigration(String);

impl std::fmt::Display for NeedsMigration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NeedsMigration {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_server_gets_no_words_that_it_lacks() {
        let names = Names {
            database: "d".into(),
            cluster: None,
        };
        let floor = statements(&names, Dialect::Floor).join(";\n");
        for word in [
            "CODEC",
            "LowCardinality",
            "dedup",
            "ON CLUSTER",
            "Distributed",
            "Replicated",
        ] {
            assert!(!floor.contains(word), "{word}");
        }
        let names = Names {
            database: "d".into(),
            cluster: Some("c".into()),
        };
        let modern = statements(&names, Dialect::Modern);
        let place = |word: &str| modern.iter().position(|statement| statement.contains(word));
        assert!(place("calls_local") < place("Distributed('c', d, calls_local, bundle)"));
        assert!(
            modern[..modern.len() - 1]
                .iter()
                .all(|statement| statement.contains("ON CLUSTER `c`"))
        );
    }
}
