//! The sink that delivers nothing: calls are counted and discarded on their shard (`--no-send`, `skip_submission`).

use std::io;
use std::sync::Arc;

use engine_core::bundle::Compression;

use super::column::Column;
use super::kind::{Monitor, Running, Sink, Started};
use super::outlet::{Discarder, Outlet};
use super::stats::Snapshot;
use crate::diagnostic::Console;
use crate::status::NOWHERE;

/// The sink, and its name in the settings.
pub struct Discard {
    name: String,
    /// The setting or the rule that it comes from.
    reason: String,
}

impl Discard {
    /// The sink `name`, because of `reason`.
    pub fn new(name: String, reason: String) -> Self {
        Self { name, reason }
    }
}

impl Sink for Discard {
    /// Nobody would read it.
    fn compression(&self) -> Compression {
        Compression::Off
    }

    fn start(self: Box<Self>, shards: usize, _console: Console) -> io::Result<Started> {
        let discarders: Vec<Discarder> = (0..shards).map(|_| Discarder::default()).collect();
        let monitor = Counts {
            name: self.name.clone(),
            place: format!("{NOWHERE} ({})", self.reason),
            columns: discarders.iter().map(Discarder::column).collect(),
        };
        Ok(Started {
            outlets: discarders.into_iter().map(Outlet::Discard).collect(),
            running: Box::new(Discarding {
                reason: self.reason,
                monitor: Arc::new(monitor),
            }),
        })
    }
}

/// It has no thread of its own.
struct Discarding {
    reason: String,
    monitor: Arc<Counts>,
}

impl Running for Discarding {
    fn monitor(&self) -> Arc<dyn Monitor> {
        self.monitor.clone()
    }

    fn description(&self) -> String {
        format!("sending nothing ({})", self.reason)
    }

    fn wait(self: Box<Self>) {}
}

/// What the shards counted.
struct Counts {
    name: String,
    place: String,
    columns: Vec<Arc<Column>>,
}

impl Monitor for Counts {
    fn snapshot(&self) -> Snapshot {
        let columns = self.columns.iter();
        Snapshot {
            name: self.name.clone(),
            place: self.place.clone(),
            calls_withheld: columns.map(|column| column.calls_withheld()).sum(),
            ..Snapshot::default()
        }
    }
}
