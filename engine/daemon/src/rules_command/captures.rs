//! The calls of capture files before and after the rules.
//!
//! Two pipelines read the same packets, one without rules. Only this prints what the rules hide, for their author, and only to
//! standard output.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use engine_core::message::{Notes, Output};
use engine_core::pipeline::{FilePipeline, Shared};
use engine_core::rules::RuleSet;
use engine_core::time::Timestamp;

use super::comparison::{Comparison, Form, Outcomes};
use crate::config::Reading;
use crate::config::command_line::RulesTestFlags;
use crate::diagnostic::{Console, Diagnostic, Exit};
use crate::pipeline;
use crate::quantity::thousands;
use crate::read;
use crate::rule_trial::{Detail, is_added_later};
use crate::timeline::{self, Next, Timeline};

/// Packet time between two checks for idle flows.
const TICK: Duration = Duration::from_millis(100);

/// Finished calls of one pipeline, by their id.
#[derive(Default)]
struct Calls(VecDeque<(String, Vec<Detail>)>);

impl Output for Calls {
    fn line(&mut self, line: &[u8], _: &Notes) {
        const ID: &str = "custom_field:exchange_id";
        // A line that is not a list of pairs would be a bug; it then counts as a call without details.
        let mut details: Vec<Detail> = serde_json::from_slice(line).unwrap_or_default();
        let id = details.iter().find(|(key, _)| key == ID);
        let id = id.map(|(_, value)| value.clone()).unwrap_or_default();
        details.retain(|(key, _)| !is_added_later(key));
        self.0.push_back((id, details));
    }
}

/// Reads the files and shows what the rules of `reading` do.
pub(super) fn run(
    mut reading: Reading,
    form: Form,
    flags: &RulesTestFlags,
    console: Console,
) -> Result<Exit, Diagnostic> {
    read::confine(&flags.files, false, &reading.settings, console);
    reading.settings.annotate = true;
    let config = pipeline::of_files(&reading)?;
    let none = RuleSet::parse("# none").unwrap_or_default();
    let calls_before = Rc::new(RefCell::new(Calls::default()));
    let calls_after = Rc::new(RefCell::new(Calls::default()));
    let mut reader = Reader {
        before: FilePipeline::new(
            &config,
            Arc::new(none),
            Rc::clone(&calls_before) as Shared<'_>,
        ),
        after: FilePipeline::new(
            &config,
            Arc::clone(&reading.rules.set),
            Rc::clone(&calls_after) as Shared<'_>,
        ),
        calls_before,
        calls_after,
        comparison: Comparison::new(&reading.rules, form, flags.calls),
    };
    let files = timeline::files::files(&flags.files, false)?;
    let mut timeline = Timeline::new(&timeline::Reading {
        paths: &flags.files,
        files: &files,
        follow: false,
        stop: Arc::default(),
        console,
    });
    let last = reader.read(&mut timeline);
    timeline.close_all();
    reader.finish(last)?;
    Ok(if timeline.findings().unreadable > 0 {
        Exit::Source
    } else {
        Exit::Done
    })
}

struct Reader {
    before: FilePipeline<'static>,
    after: FilePipeline<'static>,
    /// What `before` and `after` wrote.
    calls_before: Rc<RefCell<Calls>>,
    calls_after: Rc<RefCell<Calls>>,
    comparison: Comparison,
}

impl Reader {
    /// Reads all packets; returns the time of the latest.
    fn read(&mut self, timeline: &mut Timeline) -> Timestamp {
        let (mut last, mut next_tick) = (Timestamp::ZERO, Timestamp::ZERO);
        loop {
            match timeline.next_packet() {
                Next::Packet(frame) => {
                    self.before.feed(&frame);
                    self.after.feed(&frame);
                    last = last.max(frame.time);
                    if last >= next_tick {
                        self.before.tick(last);
                        self.after.tick(last);
                        next_tick = last.after(TICK);
                    }
                    self.show();
                }
                Next::Nothing => timeline.wait(),
                Next::End => return last,
            }
        }
    }

    fn finish(mut self, now: Timestamp) -> Result<(), Diagnostic> {
        self.before.finish(now);
        self.after.finish(now);
        self.show();
        let counters = self.after.ledger().message;
        let mut bodies = String::new();
        for (count, what) in [
            (
                counters.bodies_unreadable,
                "left out: a mask had to look into them and could not read them",
            ),
            (
                counters.bodies_withheld,
                "left out: a rule had to see them, and a piece was not captured",
            ),
            (
                counters.bodies_undecodable,
                "left out: their content coding is unknown or broken",
            ),
        ] {
            if count > 0 {
                let noun = if count == 1 { "body" } else { "bodies" };
                let _ = writeln!(bodies, "{} {noun} {what}", thousands(count));
            }
        }
        let outcomes = Outcomes {
            stopped: counters.calls_stopped - counters.calls_emptied,
            emptied: counters.calls_emptied,
            sampled: counters.calls_sampled,
        };
        self.comparison.finish(&outcomes, &bodies)
    }

    /// Shows the calls that were completed by the last frame. Both pipelines complete them in the same order.
    fn show(&mut self) {
        loop {
            let Some((id, before)) = self.calls_before.borrow_mut().0.pop_front() else {
                return;
            };
            let after = {
                let calls = &mut self.calls_after.borrow_mut().0;
                let is_kept = calls.front().is_some_and(|(other, _)| *other == id);
                is_kept.then(|| calls.pop_front()).flatten()
            };
            let after = after.map(|(_, details)| details);
            let matches = self.after.rule_matches();
            self.comparison.show(&before, after.as_deref(), matches);
        }
    }
}
