//! The ledger of all processes that have used a spool, in words.

use super::Lifetime;
use crate::quantity::thousands;

impl Lifetime {
    /// The totals; nothing where they are those of one process.
    pub(super) fn words(&self) -> Option<String> {
        let calls = &self.calls;
        let recovered = match calls.recovered {
            0 => String::new(),
            calls => format!(" + {} found without a ledger", thousands(calls)),
        };
        (self.processes > 1).then(|| {
            format!(
                "{} seen{recovered} by {} processes → {} sent · {} stopped · {} sampled out · {}{} · {} lost at a kill · {} in flight     {}",
                thousands(calls.seen),
                thousands(self.processes),
                thousands(calls.sent),
                thousands(calls.stopped),
                thousands(calls.sampled),
                calls.dropped_text(),
                calls.spooled_text(" · "),
                thousands(self.killed),
                thousands(calls.in_flight),
                calls.balance_text()
            )
        })
    }
}
