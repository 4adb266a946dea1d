//! What every kind of sink can do. A kind is a folder of its own that implements these three traits, a
//! [`Destination`](crate::config::Destination), and an arm in [`Sinks::of`](super::Sinks::of); nothing else names it.
//!
//! None of this is called per bundle: what the shards call is an [`Outlet`].

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use engine_core::bundle::Compression;

use super::outlet::Outlet;
use super::spool::View;
use super::stats::Snapshot;
use crate::diagnostic::{Console, Diagnostic};
use crate::sandbox::Plan;

/// A sink as the settings describe it.
pub trait Sink {
    /// How bundles should be compressed for it. It must take plain ones as well, which overload and other sinks may
    /// cause.
    fn compression(&self) -> Compression;

    /// Whether it needs the lines as they are, also where another sink has them compressed.
    fn needs_lines(&self) -> bool {
        false
    }

    /// Where it connects to, as far as that is known now: none of that traffic is to be captured.
    fn endpoints(&self) -> Vec<SocketAddr> {
        Vec::new()
    }

    /// Reads what the sandbox will hide, and starts the processes that it will not let it start. Comes first.
    ///
    /// # Errors
    ///
    /// A process cannot be started.
    fn prepare(&mut self) -> Result<(), Diagnostic> {
        Ok(())
    }

    /// Adds the ports and files that it needs while it runs.
    fn plan(&self, _plan: &mut Plan) {}

    /// Tries whether it could deliver, without sending any call, to each place. None where there is nothing to try.
    fn probes(&self) -> Vec<Probe> {
        Vec::new()
    }

    /// Starts its threads, and gives an outlet for each shard. `console` takes the messages about it.
    ///
    /// # Errors
    ///
    /// What the kernel refuses, or a file that cannot be read.
    fn start(self: Box<Self>, shards: usize, console: Console) -> io::Result<Started>;
}

/// Writes the ledger of a sink as it is now, in the form of `docs/contract.md`, section 2; on the thread of the sink.
pub type LedgerSource = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// A sink that was just started.
pub struct Started {
    /// By shard.
    pub outlets: Vec<Outlet>,
    /// The rest of it.
    pub running: Box<dyn Running>,
}

/// A sink while it runs.
pub trait Running: Send {
    /// What reads its counters.
    fn monitor(&self) -> Arc<dyn Monitor>;

    /// What it does, for the sentence at the start: `sending to https://lake.example/message`.
    fn description(&self) -> String;

    /// Adds the system calls that it makes, as far as that depends on this kernel.
    fn plan_calls(&self, _plan: &mut Plan) {}

    /// Posts what `source` writes, now and then and at the end, where this sink was set up for it.
    fn post_ledgers(&self, _source: LedgerSource) {}

    /// Its spool, where it has one.
    fn spool(&self) -> Option<View> {
        None
    }

    /// Reads certificates and keys again; what was read, where there is something to read. What cannot be used changes nothing.
    ///
    /// # Errors
    ///
    /// What is wrong with them.
    fn reload(&self) -> Result<Option<String>, Diagnostic> {
        Ok(None)
    }

    /// Delivers what it has, until `deadline` at the latest. Shards push nothing any longer. Returns at once.
    fn begin_stop(&mut self, _deadline: Instant) {}

    /// Whether [`wait`](Self::wait) would return at once. Until then another [`begin_stop`](Self::begin_stop) may set an earlier
    /// deadline.
    fn has_ended(&self) -> bool {
        true
    }

    /// Returns when the sink has ended; what it could not deliver is counted as dropped.
    fn wait(self: Box<Self>);
}

/// Reads the counters of a sink, on any thread, also after its end.
pub trait Monitor: Send + Sync {
    /// All counters of one moment.
    fn snapshot(&self) -> Snapshot;
}

/// Whether a sink could deliver now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// What was tried: `capture URL`.
    pub topic: &'static str,
    /// What was found.
    pub text: String,
    /// Where it failed: what that means, and what to do.
    pub problem: Option<(&'static str, String)>,
}
