//! `sniffer rules test`: each call of capture files before and after the rules, and how often each rule matched.
//!
//! Two pipelines read the same packets, one without rules. Only this command prints what the rules hide, for their author,
//! and only to standard output.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use engine_core::message::{Notes, Output};
use engine_core::pipeline::{FilePipeline, Shared};
use engine_core::rules::{Rule, RuleSet};
use engine_core::time::Timestamp;

use crate::config::command_line::RulesTestFlags;
use crate::config::{self, Reading};
use crate::diagnostic::{Console, Diagnostic, Exit};
use crate::invocation::Invocation;
use crate::pipeline;
use crate::printer::printable;
use crate::quantity::{plural, thousands};
use crate::read;
use crate::timeline::{self, Next, Timeline};

/// Characters of a value that are shown.
const VALUE_COLUMNS: usize = 160;

/// Characters that are shown before the first difference of two values.
const CONTEXT_COLUMNS: usize = 40;

/// Packet time between two checks for idle flows.
const TICK: Duration = Duration::from_millis(100);

/// A detail: key and value.
type Detail = (String, String);

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
        details.retain(|(key, _)| !key.starts_with("custom_field:") && key != "host");
        self.0.push_back((id, details));
    }
}

/// `sniffer rules test`.
pub fn command(flags: &RulesTestFlags, invocation: &Invocation) -> Result<Exit, Diagnostic> {
    let mut values = invocation.values()?;
    flags.settings.apply(&mut values);
    let reading = config::reading(&values)?;
    read::confine(&flags.files, false, &reading.settings, invocation.console);
    run(&flags.files, reading, flags.calls, invocation.console)
}

/// Reads the files and shows what the rules of `reading` do; at most `shown_max` calls in full.
fn run(
    paths: &[PathBuf],
    mut reading: Reading,
    shown_max: Option<u64>,
    console: Console,
) -> Result<Exit, Diagnostic> {
    reading.settings.annotate = true;
    let rules = Arc::clone(&reading.rules.set);
    let config = pipeline::of_files(&reading)?;
    let none = RuleSet::parse("# none").unwrap_or_default();
    let calls_before = Rc::new(RefCell::new(Calls::default()));
    let calls_after = Rc::new(RefCell::new(Calls::default()));
    let mut comparison = Comparison {
        before: FilePipeline::new(
            &config,
            Arc::new(none),
            Rc::clone(&calls_before) as Shared<'_>,
        ),
        after: FilePipeline::new(
            &config,
            Arc::clone(&rules),
            Rc::clone(&calls_after) as Shared<'_>,
        ),
        calls_before,
        calls_after,
        rules,
        hits: Vec::new(),
        dropped: 0,
        calls: 0,
        shown_max: shown_max.unwrap_or(u64::MAX),
    };
    let files = timeline::files::files(paths, false)?;
    let mut timeline = Timeline::new(&timeline::Reading {
        paths,
        files: &files,
        follow: false,
        stop: Arc::default(),
        console,
    });
    let last = comparison.read(&mut timeline);
    timeline.close_all();
    comparison.finish(last, &reading.rules.name)?;
    Ok(if timeline.findings().unreadable > 0 {
        Exit::Source
    } else {
        Exit::Done
    })
}

struct Comparison {
    before: FilePipeline<'static>,
    after: FilePipeline<'static>,
    /// What `before` and `after` wrote.
    calls_before: Rc<RefCell<Calls>>,
    calls_after: Rc<RefCell<Calls>>,
    rules: Arc<RuleSet>,
    /// Matches per rule as of the last call.
    hits: Vec<u64>,
    dropped: u64,
    calls: u64,
    shown_max: u64,
}

impl Comparison {
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

    fn finish(&mut self, now: Timestamp, name: &str) -> Result<(), Diagnostic> {
        self.before.finish(now);
        self.after.finish(now);
        self.show();
        let counters = self.after.ledger().message;
        let mut text = format!(
            "{}: {} kept, {} stopped, {} with nothing left, {} sampled out\n",
            plural(self.calls, "call"),
            thousands(self.calls - self.dropped),
            thousands(counters.calls_stopped - counters.calls_emptied),
            thousands(counters.calls_emptied),
            thousands(counters.calls_sampled),
        );
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
                let bodies = if count == 1 { "body" } else { "bodies" };
                let _ = writeln!(text, "{} {bodies} {what}", thousands(count));
            }
        }
        let _ = writeln!(text, "\n{:>10}  hits per rule of {name}", "");
        let hits = self.after.rule_matches();
        for (index, rule) in self.rules.rules().iter().enumerate() {
            let count = hits.get(index).copied().unwrap_or(0);
            let _ = writeln!(
                text,
                "{:>10}  line {}: {}",
                thousands(count),
                rule.line,
                rule.shown()
            );
        }
        super::write(&text)
    }

    /// Shows the calls that were completed by the last frame. Both pipelines complete them in the same order.
    fn show(&mut self) {
        loop {
            let Some((id, before)) = self.calls_before.borrow_mut().0.pop_front() else {
                return;
            };
            self.calls += 1;
            let after = {
                let calls = &mut self.calls_after.borrow_mut().0;
                let is_kept = calls.front().is_some_and(|(other, _)| *other == id);
                is_kept.then(|| calls.pop_front()).flatten()
            };
            let after = after.map(|(_, details)| details);
            self.dropped += u64::from(after.is_none());
            let acted = self.acted();
            if self.calls > self.shown_max {
                continue;
            }
            let text = self.call(&before, after.as_deref(), &acted);
            // A closed pipe ends nothing: the hits are still counted.
            let _ = super::write(&text);
        }
    }

    /// The rules that matched since the last call: `line 2 ×3`.
    fn acted(&mut self) -> Vec<String> {
        let now = self.after.rule_matches().to_vec();
        self.hits.resize(now.len(), 0);
        let acted = |(rule, (now, then)): (&Rule, (&u64, &u64))| {
            (now > then).then(|| match now - then {
                1 => format!("line {}", rule.line),
                count => format!("line {} ×{count}", rule.line),
            })
        };
        let rules = self.rules.rules().iter();
        let acted = rules
            .zip(now.iter().zip(&self.hits))
            .filter_map(acted)
            .collect();
        self.hits = now;
        acted
    }

    fn call(&self, before: &[Detail], after: Option<&[Detail]>, acted: &[String]) -> String {
        let value = |key: &str| {
            let detail = before.iter().find(|(other, _)| other == key);
            detail.map_or("-", |(_, value)| value.as_str())
        };
        let mut text = format!(
            "call {}  {} {}  {}",
            self.calls,
            printable(value("request_method"), 20),
            printable(value("request_url"), VALUE_COLUMNS),
            printable(value("response_code"), 3),
        );
        if after.is_none() {
            text.push_str("  DROPPED");
        }
        if !acted.is_empty() {
            let _ = write!(text, "  ({})", acted.join(", "));
        }
        text.push('\n');
        for line in after
            .map(|after| compare(before, after))
            .unwrap_or_default()
        {
            let _ = writeln!(text, "  {line}");
        }
        text.push('\n');
        text
    }
}

/// A line for each detail: `-` removed, `~` changed with `>` the new value, `+` added, otherwise kept.
fn compare(before: &[Detail], after: &[Detail]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut after = after;
    let line = |mark: char, key: &str, value: &str| {
        format!("{mark} {:<32} {value}", printable(key, VALUE_COLUMNS))
            .trim_end()
            .to_owned()
    };
    for (index, (key, value)) in before.iter().enumerate() {
        let later = before.get(index + 1..).unwrap_or_default();
        // Only session fields are made by rules.
        while let Some(((added, text), rest)) = after.split_first()
            && added != key
            && !later.iter().any(|(other, _)| other == added)
        {
            lines.push(line('+', added, &cut(text, 0)));
            after = rest;
        }
        let left = after.split_first().filter(|((other, _), _)| other == key);
        match left {
            Some(((_, text), rest)) if text == value => {
                lines.push(line(' ', key, &cut(value, 0)));
                after = rest;
            }
            // What is left may be what became of a later detail of that name.
            Some(((_, text), rest))
                if !later.iter().any(|(other, old)| other == key && old == text) =>
            {
                let same = value
                    .chars()
                    .zip(text.chars())
                    .take_while(|(a, b)| a == b)
                    .count();
                lines.push(line('~', key, &cut(value, same)));
                lines.push(line('>', "", &cut(text, same)));
                after = rest;
            }
            _ => lines.push(line('-', key, &cut(value, 0))),
        }
    }
    lines.extend(
        after
            .iter()
            .map(|(key, value)| line('+', key, &cut(value, 0))),
    );
    lines
}

/// The part of a value around a difference, on one line.
fn cut(value: &str, difference: usize) -> String {
    let skipped = match value.chars().count() > VALUE_COLUMNS {
        true => difference.saturating_sub(CONTEXT_COLUMNS),
        false => 0,
    };
    let rest: String = value.chars().skip(skipped).collect();
    let mark = if skipped > 0 { "…" } else { "" };
    format!("{mark}{}", printable(&rest, VALUE_COLUMNS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(before: &[(&str, &str)], after: &[(&str, &str)], expected: &[&str]) {
        let details = |pairs: &[(&str, &str)]| -> Vec<Detail> {
            pairs
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect()
        };
        let lines = compare(&details(before), &details(after));
        let words: Vec<String> = lines
            .iter()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(words, expected);
    }

    #[test]
    fn details_are_marked() {
        check(
            &[("a", "1"), ("b", "2")],
            &[("a", "1"), ("b", "2")],
            &["a 1", "b 2"],
        );
        check(
            &[("a", "1"), ("b", "2")],
            &[("b", "3")],
            &["- a 1", "~ b 2", "> 3"],
        );
        check(&[("a", "1"), ("a", "2")], &[("a", "2")], &["- a 1", "a 2"]);
        check(
            &[("a", "1"), ("now", "2")],
            &[("a", "1"), ("s", "x"), ("now", "2")],
            &["a 1", "+ s x", "now 2"],
        );
        check(&[("a", "1")], &[], &["- a 1"]);
    }

    #[test]
    fn long_values_are_cut_to_their_difference() {
        let long = "x".repeat(500);
        let cut = cut(&format!("{long}secret"), 500);
        assert!(cut.contains("secret") && cut.chars().count() < 200, "{cut}");
    }
}
