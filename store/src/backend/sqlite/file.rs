//! The file `calls.sqlite`: opening, schema, durability.
//!
//! The journal is a write-ahead log with `synchronous = NORMAL`: when a commit returns, the kernel has it, so whatever was
//! answered with 204 survives the death of this process, by `kill -9` too. It is not forced to the disk with every commit:
//! when the *machine* loses power, the commits since the last checkpoint may be lost, while the file stays consistent. `FULL`
//! would close that gap at the price of an fsync for each group of bundles, on a host whose traffic must not be disturbed.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, anyhow, bail};
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::ledgers;
use super::lock::{LOCK_NAME, lock};
use super::migration;
use super::wal::WAL_NAME;
use crate::clock::unix_ms;
use crate::folder::Folder;
use crate::limits::BUSY_WAIT;

/// Name of the file in the data folder.
pub(super) const FILE_NAME: &str = "calls.sqlite";

/// All files that are opened there.
pub(crate) const FILE_NAMES: [&str; 4] = [FILE_NAME, WAL_NAME, "calls.sqlite-shm", LOCK_NAME];

/// The files beside it that SQLite opens by itself. It follows no link there either.
const SQLITE_NAMES: [&str; 2] = [WAL_NAME, "calls.sqlite-shm"];

/// How every connection opens the file: no part of its path is a link.
const OPENING: OpenFlags = OpenFlags::SQLITE_OPEN_NO_MUTEX.union(OpenFlags::SQLITE_OPEN_NOFOLLOW);

/// Version of the schema, kept in `PRAGMA user_version`.
const SCHEMA_VERSION: i64 = 3;

/// The version that had a row for each call; such a file is rewritten.
const ROWS_VERSION: i64 = 2;

/// KiB of the page cache of a connection that reads.
const READER_CACHE_KIB: i64 = 1024;

/// Bytes of a page of the file.
const PAGE_BYTES: i64 = 16 << 10;

/// Makes the file (mode 0600) where it is missing, and opens the writing connection. The file is made private in any case, since
/// it holds the bodies of calls; SQLite gives its `-wal` and `-shm` files the mode of the main file.
///
/// The file that is returned beside the connection is the lock of the folder: no other store opens it while that lives.
pub(super) fn open_writer(folder: &Folder) -> anyhow::Result<(Connection, File)> {
    let named = || format!("data folder {}", folder.path().display());
    for name in SQLITE_NAMES {
        folder.check(name).with_context(named)?;
    }
    drop(folder.file(FILE_NAME).with_context(named)?);
    let lock = lock(folder).with_context(named)?;
    let path = folder.path().join(FILE_NAME);
    let connection =
        Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_WRITE | OPENING)
            .with_context(|| format!("opening {}", path.display()))?;
    configure(&connection)
        .and_then(|()| migrate(&connection))
        .map_err(in_words)
        .with_context(|| format!("database {}", path.display()))?;
    Ok((connection, lock))
}

/// What SQLite finds wrong with a file that it cannot read, and what to do.
fn in_words(error: anyhow::Error) -> anyhow::Error {
    let code =
        (error.downcast_ref::<rusqlite::Error>()).and_then(rusqlite::Error::sqlite_error_code);
    match code {
        Some(ErrorCode::NotADatabase) => {
            anyhow!("the file is not a database; move it away, or use another data folder")
        }
        Some(ErrorCode::DatabaseCorrupt) => {
            anyhow!("the file is damaged; move it away, or use another data folder")
        }
        _ => error,
    }
}

/// Opens one more connection that cannot write.
pub(super) fn open_reader(folder: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OPENING;
    let connection = Connection::open_with_flags(folder.join(FILE_NAME), flags)?;
    connection.busy_timeout(BUSY_WAIT)?;
    // Columns are read once for each query, so that a cache serves the inner pages alone.
    connection.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
    connection.pragma_update(None, "query_only", true)?;
    // No query of ours sorts more than a page of the list, and a confined process has no folder for temporary files.
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(connection)
}

/// Opens one more connection that makes checkpoints and changes nothing else.
pub(super) fn open_checkpointer(folder: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OPENING;
    let connection = Connection::open_with_flags(folder.join(FILE_NAME), flags)?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

fn configure(connection: &Connection) -> anyhow::Result<()> {
    connection.busy_timeout(BUSY_WAIT)?;
    // Both only take effect in a file without tables, so they come first. Most rows are columns
    // and chunks of many kilobytes.
    connection.pragma_update(None, "page_size", PAGE_BYTES)?;
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        bail!("this file system does not support a write-ahead log (journal mode {mode})");
    }
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    // The writing thread makes the checkpoints, see `wal`.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    Ok(())
}

fn migrate(connection: &Connection) -> anyhow::Result<()> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match version {
        SCHEMA_VERSION => Ok(connection.execute_batch(ledgers::TABLE)?),
        0 => {
            let transaction = connection.unchecked_transaction()?;
            transaction.execute_batch(include_str!("schema.sql"))?;
            transaction.execute_batch(include_str!("calls.sql"))?;
            transaction.execute_batch(ledgers::TABLE)?;
            transaction.execute(
                "UPDATE counters SET value = ?1 WHERE name = 'since_ms'",
                [unix_ms()],
            )?;
            transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
            Ok(transaction.commit()?)
        }
        ROWS_VERSION => migration::start(connection, SCHEMA_VERSION),
        other => bail!(
            "its schema has version {other}, this program reads version {SCHEMA_VERSION}; use the program that wrote it, or another data folder"
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[track_caller]
    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("exists").permissions().mode() & 0o777
    }

    fn opened(folder: &Path) -> anyhow::Result<(Connection, File)> {
        open_writer(&Folder::open(folder)?)
    }

    #[test]
    fn only_the_owner_reads_the_files() {
        let home = tempfile::tempdir().expect("folder");
        let folder = home.path().join("a/b");
        let first = opened(&folder).expect("opens");
        assert_eq!(mode(&folder), 0o700);
        for name in FILE_NAMES {
            assert_eq!(mode(&folder.join(name)), 0o600, "{name}");
        }
        drop(first);
        fs::set_permissions(folder.join(FILE_NAME), fs::Permissions::from_mode(0o644))
            .expect("ours");
        drop(opened(&folder).expect("opens again"));
        assert_eq!(mode(&folder.join(FILE_NAME)), 0o600);
    }

    #[test]
    fn a_link_is_not_followed() {
        for name in FILE_NAMES {
            let folder = tempfile::tempdir().expect("folder");
            let other = tempfile::tempdir().expect("folder");
            let victim = other.path().join("victim");
            for exists in [false, true] {
                if exists {
                    fs::write(&victim, "text").expect("writes");
                    fs::set_permissions(&victim, fs::Permissions::from_mode(0o644)).expect("ours");
                } else {
                    std::os::unix::fs::symlink(&victim, folder.path().join(name)).expect("links");
                }
                let error = format!("{:#}", opened(folder.path()).expect_err("refused"));
                assert!(error.contains(name) && error.contains("link"), "{error}");
                assert_eq!(victim.exists(), exists);
            }
            assert_eq!(mode(&victim), 0o644, "{name}");
        }
    }

    #[test]
    fn a_reader_cannot_write() {
        let folder = tempfile::tempdir().expect("folder");
        let _writer = opened(folder.path()).expect("opens");
        let reader = open_reader(folder.path()).expect("opens");
        assert!(reader.execute("DELETE FROM calls", []).is_err());
    }

    #[test]
    fn a_second_store_is_refused_with_the_pid_of_the_first() {
        let folder = tempfile::tempdir().expect("folder");
        let first = opened(folder.path()).expect("opens");
        let error = format!("{:#}", opened(folder.path()).expect_err("refused"));
        let pid = format!("pid {}", std::process::id());
        assert!(
            error.contains("another store") && error.ends_with(&pid),
            "{error}"
        );
        drop(first);
        opened(folder.path()).expect("opens again");
    }

    #[test]
    fn what_is_no_database_is_named_and_left_alone() {
        let home = tempfile::tempdir().expect("folder");
        let file = home.path().join(FILE_NAME);
        fs::write(
            &file,
            "text that is long enough to be no database at all\n".repeat(9),
        )
        .expect("writes");
        let error = format!("{:#}", opened(home.path()).expect_err("refused"));
        assert_eq!(
            error,
            format!(
                "database {}: the file is not a database; move it away, or use another data folder",
                file.display()
            )
        );
        let error = format!("{:#}", opened(&file).expect_err("refused"));
        assert_eq!(
            error,
            format!("data folder {}: it is a file, not a folder", file.display())
        );
        assert!(
            fs::read_to_string(&file)
                .expect("is there")
                .starts_with("text")
        );
    }

    #[test]
    fn a_newer_file_is_left_alone() {
        let folder = tempfile::tempdir().expect("folder");
        let first = opened(folder.path()).expect("opens");
        first
            .0
            .pragma_update(None, "user_version", 99)
            .expect("writes");
        drop(first);
        let error = opened(folder.path()).expect_err("refused");
        assert!(format!("{error:#}").contains("version 99"), "{error:#}");
    }

    #[test]
    fn a_file_that_is_no_database_is_an_error_with_its_name() {
        let folder = tempfile::tempdir().expect("folder");
        fs::write(
            folder.path().join(FILE_NAME),
            "no database, but long enough to look at".repeat(40),
        )
        .expect("writes");
        let error = opened(folder.path()).expect_err("refused");
        assert!(format!("{error:#}").contains(FILE_NAME), "{error:#}");
    }
}
