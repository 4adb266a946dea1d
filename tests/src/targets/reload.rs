//! Rules that are read again while exchanges are open under earlier ones.

use std::sync::{Arc, LazyLock};

use engine_core::limits::RULE_SETS_MAX;
use engine_core::pipeline::Config;
use engine_core::rules::RuleSet;

use super::turns::conversation;
use crate::engine::{Reader, captured};

/// Rule sets, by number.
static SETS: LazyLock<[Arc<RuleSet>; 6]> = LazyLock::new(|| {
    [
        "include debug",
        "include strict",
        "/.*/ stop_if_found /x/",
        "include debug\n/request_body:$..a/ remove\n/response_body/ replace /[0-9]+/, /n/",
        "sample 50\ninclude debug",
        "/response_body/ stop_unless_found /a/\n/request_header:.*/ remove",
    ]
    .map(|text| Arc::new(RuleSet::parse(text).expect("it parses")))
});

/// The number of reloads, for each of them the number of frames before it and the set, then turns as of `http1`: the ledger
/// balances whatever is open when, and no more sets are kept than are bounded.
pub(super) fn reload(input: &[u8]) {
    let Some((&count, rest)) = input.split_first() else {
        return;
    };
    let (reloads, turns) = rest.split_at(rest.len().min(2 * usize::from(count)));
    let mut reloads = reloads.chunks_exact(2);
    let mut reader = Reader::new(&Config::default());
    let mut next = reloads.next();
    let mut waited = 0;
    for made in conversation(turns) {
        while let Some(&[frames, set]) = next
            && usize::from(frames % 16) <= waited
        {
            reader.set_rules(SETS[usize::from(set) % SETS.len()].clone());
            // More than are kept: exchanges of the oldest are shed, and counted.
            if set >= 0xf0 {
                for _ in 0..RULE_SETS_MAX + 1 {
                    reader.set_rules(SETS[0].clone());
                }
            }
            waited = 0;
            next = reloads.next();
        }
        reader.feed(&captured(&made, usize::MAX));
        waited += 1;
    }
    reader.finish();
}
