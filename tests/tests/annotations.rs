//! Annotations and half calls. Here belongs what is off by default.

use bench::collect::{Row, value};
use bench::traffic::{Close, Conversation, Exchange, Frame as Made, Segment, Side, Vxlan, Wire};
use engine_core::message::Fact;
use engine_core::pipeline::Config;
use tests::engine::{Reader, captured};
use tests::program::repository;

fn config(seed: u64) -> Config {
    let mut config = Config::default();
    config.message.annotate = true;
    config.message.half_calls = true;
    // It differs between two runs of the program.
    config.flow.hash_seed = seed;
    config
}

fn rows(frames: &[Made], seed: u64) -> Vec<Row> {
    let mut reader = Reader::new(&config(seed));
    for frame in frames {
        reader.feed(&captured(frame, usize::MAX));
    }
    let calls = reader.finish().calls.into_iter();
    calls.map(|(row, _)| row).collect()
}

/// Two calls in VXLAN, the second one without its response.
fn traffic() -> Vec<Made> {
    let talk = Conversation::new(vec![
        Exchange::get(1, "/a", "one"),
        Exchange::get(2, "/b", "two"),
    ]);
    let mut segments = talk.segments();
    let answer = segments
        .iter()
        .rposition(|segment| segment.side == Side::Server && !segment.payload.is_empty());
    segments.truncate(answer.expect("the second call is answered"));
    let wire = Wire {
        vxlan: Some(Vxlan::new(77)),
        ..Wire::default()
    };
    segments
        .iter()
        .map(|segment| wire.frame(&talk, segment))
        .collect()
}

#[track_caller]
fn check(row: &Row, expected: &[(&str, &str)]) {
    for (name, text) in expected {
        let found = value(row, &format!("custom_field:{name}"));
        assert_eq!(found, Some(*text), "{name} of {row:?}");
    }
}

#[test]
fn calls_and_half_calls_say_how_they_were_seen() {
    let rows = rows(&traffic(), 0);
    assert_eq!(rows.len(), 2);
    let both = [
        ("client_address", "10.1.0.2"),
        ("client_port", "40000"),
        ("server_address", "10.1.0.1"),
        ("server_port", "80"),
        ("vni", "77"),
        ("encapsulation", "vxlan"),
    ];
    check(&rows[0], &both);
    check(&rows[1], &both);
    check(&rows[0], &[("call_index", "1")]);
    check(&rows[1], &[("call_index", "2"), ("half", "shutdown")]);
    assert_eq!(value(&rows[1], "request_url"), Some("http://api.example/b"));
    assert_eq!(value(&rows[1], "response_code"), None);
    let time = |row: &Row, name: &str| -> u64 {
        let name = format!("custom_field:{name}");
        value(row, &name)
            .expect("there is a time")
            .parse()
            .expect("a number")
    };
    let times = [
        "request_started",
        "request_ended",
        "response_started",
        "response_ended",
    ];
    assert!(times.map(|name| time(&rows[0], name)).is_sorted());
}

#[test]
fn the_same_packets_give_the_same_ids() {
    let id = |row: &Row| value(row, "custom_field:exchange_id").map(str::to_owned);
    let frames = traffic();
    let once: Vec<_> = rows(&frames, 1).iter().map(id).collect();
    assert!(once[0].is_some() && once[0] != once[1]);
    let twice = frames
        .iter()
        .flat_map(|frame| [frame.clone(), frame.clone()]);
    let again: Vec<_> = rows(&twice.collect::<Vec<_>>(), 2).iter().map(id).collect();
    assert_eq!(
        once, again,
        "each packet captured twice, under another seed"
    );
}

/// The times come from the packets, not from the end of the capture or from a clock: the same packets give the same times.
#[test]
fn a_call_that_never_ends_has_the_time_of_its_last_byte() {
    let talk = Conversation {
        close: Close::Open,
        mss: 100,
        ..Conversation::new(vec![Exchange::get(1, "/a", &"long ".repeat(100))])
    };
    let mut segments = talk.segments();
    let data = |segment: &Segment| segment.side == Side::Server && !segment.payload.is_empty();
    let last = segments.iter().rposition(data).expect("there is an answer");
    segments.truncate(last);
    let last = segments.iter().rfind(|segment| data(segment));
    let last = last.expect("the answer has several segments").time;
    let another = Conversation {
        client: ([10, 1, 0, 3], 40_000).into(),
        start: last + 3_600_000_000_000,
        ..Conversation::new(vec![Exchange::get(2, "/b", "two")])
    };
    let frames = |talk: &Conversation, segments: &[Segment]| -> Vec<Made> {
        let frames = segments.iter();
        frames
            .map(|segment| Wire::default().frame(talk, segment))
            .collect()
    };
    let alone = frames(&talk, &segments);
    let mut both = alone.clone();
    both.extend(frames(&another, &another.segments()));
    let [alone, both] = [alone, both].map(|frames| rows(&frames, 0).remove(0));
    check(
        &alone,
        &[
            ("response_ended", &last.to_string()),
            ("incomplete", "true"),
        ],
    );
    assert_eq!(alone, both, "the clock went on by an hour before it ended");
}

/// Rows of the table of facts: names, classes, and what they come from.
#[test]
fn every_fact_is_in_the_table_with_its_class() {
    let path = repository().join("docs/annotations.md");
    let text = std::fs::read_to_string(path).expect("the document is there");
    let table = text.split("## Facts").nth(1).expect("facts");
    let rows: Vec<Vec<&str>> = table
        .lines()
        .take_while(|line| !line.starts_with("## "))
        .filter(|line| line.starts_with("| `") && !line.contains("`custom_field:`"))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    let mut names = Vec::new();
    for row in &rows {
        let classes: Vec<_> = row[1].split(", ").collect();
        for (place, name) in row[0].split(", ").enumerate() {
            let name = name.trim_matches('`');
            let fact = Fact::ALL.iter().find(|fact| fact.name() == name);
            let fact = fact.unwrap_or_else(|| panic!("{name} is no fact"));
            let class = classes.get(place).unwrap_or(&classes[0]);
            assert_eq!(*class, fact.class().name(), "{name}");
            for key in fact.sources().keys() {
                let header = key.split_once(':').map_or(key.as_str(), |(_, name)| name);
                assert!(row[2].contains(header), "{name} comes from {key}");
            }
            names.push(name);
        }
    }
    for fact in Fact::ALL {
        assert!(names.contains(&fact.name()), "{} is missing", fact.name());
    }
}

#[test]
fn every_annotation_is_documented() {
    let path = repository().join("docs/annotations.md");
    let text = std::fs::read_to_string(path).expect("the document is there");
    for row in rows(&traffic(), 0) {
        for name in row
            .iter()
            .filter_map(|(key, _)| key.strip_prefix("custom_field:"))
        {
            assert!(
                text.contains(&format!("`{name}`")),
                "{name} is not in the document"
            );
        }
    }
}
