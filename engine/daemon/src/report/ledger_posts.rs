//! The ledger of a capture for the store of the same all-in-one, which shows what was lost beside the calls that it has: posted
//! once a minute and at the end, over a connection that the supervisor passes on, to `/ledger` (`docs/contract.md`, section 2).
//!
//! The numbers are sums since the start, so that a post that fails needs no other: the next one has all of it.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;

use super::reporter::Reporter;
use crate::limits::{LEDGER_EVERY, LEDGER_WAIT};
use crate::random;
use crate::supervised;

/// The thread that posts.
pub struct LedgerPosts {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl LedgerPosts {
    /// Starts it, for the sink with this number, which is the store. `appliance` is the name of this machine in lines.
    ///
    /// # Errors
    ///
    /// No thread can be started.
    pub fn start(reporter: Arc<Reporter>, sink: usize, appliance: String) -> io::Result<Self> {
        let (stop, stopped) = channel();
        let run = format!("{:016x}", random::seed());
        let thread = std::thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || {
                loop {
                    let waited = stopped.recv_timeout(LEDGER_EVERY);
                    let body = body(&reporter, sink, &appliance, &run);
                    // Without a store, the next one has all of it.
                    let _ = body.map_or(Ok(()), |body| post(&body));
                    if waited != Err(RecvTimeoutError::Timeout) {
                        return;
                    }
                }
            })?;
        Ok(Self { stop, thread })
    }

    /// Posts once more, and ends it.
    pub fn end(self) {
        drop(self.stop);
        // A panic there was reported by its own thread.
        let _ = self.thread.join();
    }
}

fn body(reporter: &Reporter, sink: usize, appliance: &str, run: &str) -> Option<String> {
    let calls = reporter.calls_for(sink)?;
    let ledger = serde_json::json!({"appliance": appliance, "run": run, "calls": calls});
    Some(ledger.to_string())
}

fn post(body: &str) -> io::Result<()> {
    let mut stream = supervised::connect_to_store()?;
    stream.set_read_timeout(Some(LEDGER_WAIT))?;
    stream.set_write_timeout(Some(LEDGER_WAIT))?;
    let head = format!(
        "POST /ledger HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    // The store commits before it answers, and this process may end next.
    let mut answer = [0; 64];
    stream.read(&mut answer).map(drop)
}
