//! The index of a bundle, compared with its lines. Here belongs the question whether an entry is what parsing its line would give.

use bench::collect::{Row, value};
use bench::seed::Seed;
use bench::traffic::{Accidents, Conversation, Shape, Wire, frames};
use engine_core::bundle::{self, Bundle, Bundler, CallEntry, CallFlags, Compression, Encoding};
use engine_core::message::ShedPolicy;
use engine_core::pipeline::{Config, Pipeline};
use engine_core::rules::RuleSet;
use engine_core::time::Timestamp;
use tests::engine::captured;

/// Lines and index of everything that a lossy capture of some conversations gives under `rules`, and how many calls the
/// pipeline counted as written.
fn bundles(rules: &str, policy: ShedPolicy) -> (Vec<Bundle>, u64) {
    let seed = &mut Seed::new(7);
    let talks: Vec<_> = (0..20)
        .map(|_| {
            let talk = Conversation::seeded(seed, &Shape::default());
            (talk, Wire::default())
        })
        .collect();
    let accidents = Accidents {
        lose_per_mille: 20,
        ..Accidents::harmless()
    };
    let mut config = Config::default();
    config.message.annotate = true;
    config.message.half_calls = true;
    config.message.body_bytes_max = 600;
    let rules = RuleSet::parse(rules).expect("rules").into();
    let bundler = Bundler::new(bundle::Config {
        bytes: 10_000,
        compression: Compression::Fast,
        keeps_lines: true,
        ..bundle::Config::default()
    });
    let mut pipeline = Pipeline::new(&config, rules, bundler);
    pipeline.set_shed_policy(policy);
    let mut last = Timestamp::ZERO;
    let mut bundles = Vec::new();
    for frame in frames(&talks, &accidents, seed) {
        let frame = captured(&frame, usize::MAX);
        last = last.max(frame.time);
        pipeline.feed(&frame);
        bundles.extend(std::iter::from_fn(|| pipeline.output().pop()));
    }
    pipeline.finish(last);
    pipeline.output().close();
    bundles.extend(std::iter::from_fn(|| pipeline.output().pop()));
    (bundles, pipeline.ledger().message.lines_written)
}

/// An entry as the slow way makes it, from the text of its line. `SHED` stands in no line.
fn parsed(line: &str, offset: usize) -> CallEntry {
    let row: Row = serde_json::from_str(line).expect("an array of pairs");
    let number = |name: &str| value(&row, name).map(|text| text.parse().expect("a number"));
    let annotated = |name: &str| number(&format!("custom_field:{name}"));
    let started = annotated("request_started").or(annotated("response_started"));
    let ended = annotated("response_ended").or(annotated("request_ended"));
    let id = value(&row, "custom_field:exchange_id").expect("every call has an id");
    let mut entry = CallEntry {
        exchange_id: u128::from_str_radix(id, 16).expect("hexadecimal digits"),
        started_nanos: started.expect("a call has a time"),
        ended_nanos: ended.expect("a call has a time"),
        offset: offset as u32,
        length: line.len() as u32,
        status: number("response_code").map_or(0, |code| code as u16),
        flags: CallFlags::default(),
    };
    for (name, flag) in [
        ("half", CallFlags::UNPAIRED),
        ("incomplete", CallFlags::INCOMPLETE),
        ("missing_bytes", CallFlags::MISSING),
        ("request_body_bytes", CallFlags::TRUNCATED),
        ("response_body_bytes", CallFlags::TRUNCATED),
    ] {
        if value(&row, &format!("custom_field:{name}")).is_some() {
            entry.flags = entry.flags | flag;
        }
    }
    entry
}

/// Compares all of it, and returns the flags that occurred.
#[track_caller]
fn check(rules: &str, policy: ShedPolicy, may_be_shed: bool) -> Vec<CallFlags> {
    let (bundles, written) = bundles(rules, policy);
    assert!(bundles.len() > 3, "{}", bundles.len());
    let mut found = Vec::new();
    for bundle in &bundles {
        assert_eq!(bundle.encoding, Encoding::Deflated);
        let lines = bundle.plain_lines().expect("they are kept");
        let text = std::str::from_utf8(lines).expect("JSON is UTF-8");
        assert_eq!(bundle.line_bytes, lines.len() as u64);
        assert_eq!(bundle.calls as usize, bundle.index.len());
        let mut offset = 0;
        let mut entries = bundle.index.iter();
        for line in text.lines() {
            let entry = entries.next().expect("an entry for each line");
            let mut expected = parsed(line, offset);
            if entry.flags.contains(CallFlags::SHED) {
                assert!(may_be_shed, "{entry:?}");
                expected.flags = expected.flags | CallFlags::SHED;
            }
            assert_eq!(*entry, expected, "{line}");
            assert_eq!(entry.line(lines), Some(line.as_bytes()));
            offset += line.len() + 1;
            found.push(entry.flags);
        }
        assert!(entries.next().is_none(), "more entries than lines");
    }
    assert_eq!(found.len() as u64, written);
    found
}

#[test]
fn an_entry_is_what_its_line_says() {
    let found = check("include debug", ShedPolicy::default(), false);
    for flag in [
        CallFlags::default(),
        CallFlags::UNPAIRED,
        CallFlags::INCOMPLETE,
        CallFlags::MISSING,
        CallFlags::TRUNCATED,
    ] {
        let with = found.iter().filter(|flags| flags.contains(flag)).count();
        assert!(with > 0, "no call is {flag:?}");
    }
    assert!(found.contains(&CallFlags::default()), "none is complete");
}

#[test]
fn truncation_by_the_shed_policy_has_a_flag() {
    let policy = ShedPolicy {
        truncated: ShedPolicy::CALLS,
        body_bytes_max: 50,
        ..ShedPolicy::default()
    };
    let found = check("include debug", policy, true);
    let shed = found.iter().filter(|flags| flags.contains(CallFlags::SHED));
    assert!(shed.count() > 0);
}

/// The index holds no value that a rule keeps out of the line.
#[test]
fn a_hidden_response_code_is_in_no_entry() {
    for rule in ["remove", "replace /[0-9]{3}/, /9$0/"] {
        let rules = format!("include debug\n/response_code/ {rule}");
        let (bundles, _) = bundles(&rules, ShedPolicy::default());
        let mut entries = bundles.iter().flat_map(|bundle| &bundle.index);
        assert!(entries.all(|entry| entry.status == 0), "{rule}");
    }
}
