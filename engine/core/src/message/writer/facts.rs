//! The facts of a call in its line: those whose sources the rules left as they were.

use super::super::draft::Draft;
use super::super::facts::{Class, Fact};
use super::super::{Output, derive};
use super::LineWriter;
use super::filter::{RuleFilter, set_of};

impl<O: Output> LineWriter<O> {
    /// Puts the facts of a call through the rules.
    #[cold]
    pub(super) fn write_facts(&mut self, draft: &mut Draft, out: &mut Vec<u8>) {
        if self.config.annotate {
            derive::stream(draft);
        } else {
            // What an event or a head shows is an annotation; what a line of messages consists of always belongs to it.
            draft.facts.remove_all();
            draft.facts.set_off(false);
        }
        derive::conversation(draft);
        let Self {
            config,
            set,
            retired,
            ..
        } = self;
        let Some(set) = set_of(set, retired, draft.state.rule_set) else {
            return;
        };
        let mut filter = RuleFilter {
            set,
            findings: &mut draft.state.findings,
            only_tests: draft.state.sampled_out,
        };
        for fact in Fact::ALL {
            let Some((from, value)) = draft.facts.get(*fact) else {
                continue;
            };
            let is_of_rpc = matches!(fact, Fact::RpcService | Fact::RpcMethod);
            if is_of_rpc && draft.state.rpc.is_none() {
                continue;
            }
            let is_kept = config.keep_facts && fact.class() != Class::Text;
            if is_kept || !from.meets(draft.state.changed) {
                filter.write_fact(fact.name(), value, out);
            }
        }
    }
}
