//! The ledger of a sink in the form in which it is posted to a store (`docs/contract.md`, section 2), so that one that many sniffers
//! deliver to shows what became of all calls. It has the name of this machine, and numbers.

use std::sync::Arc;

use serde::Serialize;

use super::ledger::unpaired;
use super::reporter::Reporter;
use crate::random;
use crate::sink::kind::LedgerSource;
use crate::status::{Calls, Completeness};

/// In the order of the contract, by which a sniffer that sees the post knows that it is no call.
#[derive(Serialize)]
struct Ledger<'a> {
    appliance: &'a str,
    run: &'a str,
    calls: Calls,
    capture: Capture,
}

/// What was captured, and what was not, before there were calls.
#[derive(Serialize)]
struct Capture {
    packets: u64,
    packets_dropped: u64,
    #[serde(flatten)]
    completeness: Completeness,
    half_calls: u64,
}

/// What writes the ledger of each sink, by its number. `appliance` is the name of this machine in lines.
pub fn source(reporter: &Arc<Reporter>, appliance: &str) -> impl Fn(usize) -> LedgerSource {
    let (reporter, appliance) = (Arc::clone(reporter), Arc::<str>::from(appliance));
    let start = random::seed();
    move |sink| -> LedgerSource {
        // Two sinks may lead to one store, which compares the ledgers of a run with each other.
        let run = format!("{start:016x}-{sink}");
        let (reporter, appliance) = (Arc::clone(&reporter), Arc::clone(&appliance));
        Arc::new(move || {
            let calls = reporter.calls_for(sink)?;
            let stages = reporter.stages();
            let ledger = Ledger {
                appliance: &appliance,
                run: &run,
                calls,
                capture: Capture {
                    packets: stages.shard.frames_read,
                    packets_dropped: stages.shard.ring_dropped_full,
                    completeness: Completeness::of(&stages),
                    half_calls: unpaired(&stages).values().sum(),
                },
            };
            serde_json::to_string(&ledger).ok()
        })
    }
}
