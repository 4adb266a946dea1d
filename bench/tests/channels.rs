//! Idle channels of gRPC: what each holds between two calls, with its header tables, and that its next call is read whole.
//!
//! `CHANNELS=100000 cargo test -p bench --test channels -- --nocapture` is the same for so many, and takes a minute or two;
//! `bench/README.md` has figures.

use bench::load::{EPOCH, FIRST_NUMBER, Load, Shape};
use engine_core::decap::{Frame, LinkType};
use engine_core::message::{Notes, Output};
use engine_core::pipeline::{Config, Pipeline};
use engine_core::rules::RuleSet;
use engine_core::time::Timestamp;

/// Bytes of memory that a channel may hold with the heads of this traffic, which have some 600 bytes of fields in both tables, the
/// same in all: with what they share, 100 000 channels hold 128 MB at most.
const CHANNEL_BYTES_MAX: i64 = 1_240;

/// Bytes that all channels share, whatever their number.
const SHARED_BYTES_MAX: i64 = 4_000_000;

/// Channels of a test run: enough for what all of them share to be small beside them.
const CHANNELS: usize = 20_000;

/// Time between frames, so that all channels are idle for less time than flows may be.
const FRAME_NANOS: u64 = 100_000;

/// Counts lines in which something is unknown or missing.
#[derive(Default)]
struct Lines {
    whole: u64,
    others: u64,
}

impl Output for Lines {
    fn line(&mut self, line: &[u8], notes: &Notes) {
        let text = String::from_utf8_lossy(line);
        let is_whole = !notes.incomplete
            && !notes.unpaired
            && ["request_url", "grpc-status", "user-agent", "x-call-number"]
                .iter()
                .all(|name| text.contains(name));
        self.whole += u64::from(is_whole);
        self.others += u64::from(!is_whole);
    }
}

#[test]
fn idle_channels_keep_their_tables_in_little_memory() {
    let given = std::env::var("CHANNELS").ok();
    let channels = given.map_or(CHANNELS, |text| text.parse().expect("a number of channels"));
    let shape = Shape {
        connections: channels,
        calls_per_connection: u64::MAX,
        body_bytes: 200,
        protocol: "grpc".parse().expect("a protocol"),
        ..Shape::default()
    };
    let calls = channels as u64;
    let mut load = Load::new(shape, FIRST_NUMBER, 2 * calls);
    let rules = RuleSet::parse("include debug").expect("a preset");
    let mut held = 0;
    let mut pipeline = None;
    held += allocation_counter::measure(|| {
        let new = Pipeline::new(&Config::default(), rules.into(), Lines::default());
        pipeline = Some(new);
    })
    .bytes_current;
    let mut pipeline = pipeline.expect("it was made");
    let at_start = held;
    let (mut frame, mut frames) = (Vec::new(), 0);
    for round in 1..=2 {
        load.pause_after(round * calls);
        while load.next_frame(&mut frame) {
            let captured = Frame {
                time: Timestamp::from_nanos(EPOCH + frames * FRAME_NANOS),
                link: LinkType::Ethernet,
                bytes: &frame,
                wire_len: frame.len() as u32,
                vlan: None,
            };
            held += allocation_counter::measure(|| pipeline.feed(&captured)).bytes_current;
            frame.clear();
            frames += 1;
        }
        let ledger = pipeline.ledger();
        let http = ledger.http;
        assert_eq!(http.exchanges_finished, round * calls, "{http:?}");
        let (unknown, shed) = (http.http2_fields_unknown, http.http2_tables_shed);
        let each = (held - at_start) / channels as i64;
        println!(
            "{channels} channels after {round} calls each: {:.1} MB, {each} bytes each; {shed} lost their tables, {unknown} unknown fields",
            (held - at_start) as f64 / 1e6,
        );
        let most = CHANNEL_BYTES_MAX * channels as i64 + SHARED_BYTES_MAX;
        assert!(held - at_start <= most, "{each} bytes for each channel");
        assert_eq!((unknown, shed), (0, 0), "all tables are kept");
    }
    let lines = pipeline.output();
    assert_eq!((lines.whole, lines.others), (2 * calls, 0));
}
