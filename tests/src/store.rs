//! `sniffer store` in a namespace, with a database that survives it.

use std::path::Path;
use std::process::Command;

use anyhow::Result;
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::clock::clock;
use crate::http::{Answer, request};
use crate::network::Namespace;
use crate::process::{PATIENCE, Running};
use crate::program::sniffer;

/// The port of its capture URL.
pub const STORE_PORT: u16 = 7701;

/// `sniffer store` on the usual ports, with its data in this folder.
pub fn command(data: &Path) -> Command {
    let address = format!("127.0.0.1:{STORE_PORT}");
    let mut command = sniffer(&["store", "--store", &address, "--ui", "127.0.0.1:7700"]);
    command.arg("--data").arg(data);
    command
}

/// Posts lines to the store of a namespace.
pub fn post(namespace: &Namespace, lines: &str) -> Result<Answer> {
    let address = format!("127.0.0.1:{STORE_PORT}");
    let fields = [("Content-Type", "application/ndjson")];
    namespace.inside(|| request(&address, "POST", "/message", &fields, lines.as_bytes()))
}

/// A store with a database that survives it.
pub struct Store<'a> {
    namespace: &'a Namespace,
    data: TempDir,
    process: Option<Running>,
}

impl<'a> Store<'a> {
    /// Starts it.
    pub fn start(namespace: &'a Namespace) -> Result<Self> {
        let mut store = Self {
            namespace,
            data: tempfile::tempdir()?,
            process: None,
        };
        store.set_running(true, 0)?;
        Ok(store)
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Starts it with a wall clock that differs by so many hours, or kills it.
    pub fn set_running(&mut self, is_running: bool, hours: i64) -> Result<()> {
        match (self.process.take(), is_running) {
            (Some(process), false) => {
                process.signal(Signal::SIGKILL)?;
                process.end(PATIENCE)?;
            }
            (None, true) => {
                let mut command = command(self.data.path());
                if hours != 0 {
                    command.envs(clock(hours)?);
                }
                let mut process = Running::start(&mut self.namespace.enter(&command))?;
                process.wait_for_log("store ready", PATIENCE)?;
                self.process = Some(process);
            }
            (process, _) => self.process = process,
        }
        Ok(())
    }

    /// Calls that it has stored, each bundle once, after it has ended.
    pub fn calls(&self) -> Result<u64> {
        let path = self.data.path().join("calls.sqlite");
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let database = rusqlite::Connection::open_with_flags(path, flags)?;
        let count = "SELECT value FROM counters WHERE name = 'calls_received'";
        let calls: i64 = database.query_row(count, [], |row| row.get(0))?;
        Ok(calls.try_into()?)
    }

    /// The URLs of the calls that it has stored, after it has ended.
    pub fn urls(&self) -> Result<Vec<String>> {
        let database = ::store::backend::sqlite::query::open(self.data.path())?;
        let mut select = database.prepare("SELECT url FROM calls")?;
        let urls = select.query_map([], |row| row.get(0))?;
        Ok(urls.collect::<Result<_, _>>()?)
    }

    /// Ends it in order.
    pub fn stop(&mut self) -> Result<()> {
        if let Some(process) = self.process.take() {
            process.terminate(PATIENCE)?;
        }
        Ok(())
    }
}
