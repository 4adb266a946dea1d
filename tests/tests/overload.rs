//! A shard that cannot keep up, in the whole program: a rule takes more time for each call than there is. What is shed must
//! be logged, counted to the call, and must end with the load. Here belongs what needs a full ring.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bench::collect::{Row, value};
use bench::seed::Seed;
use bench::traffic::{Accidents, Conversation, Exchange, Frame, Wire, frames};
use engine_core::limits::OVERLOAD_BODY_BYTES;
use nix::sys::signal::Signal;
use serde_json::Value;
use tests::capture::{Capture, find};
use tests::process::{PATIENCE, eventually};
use tests::scene::Scene;
use tests::truth;

/// Bytes of a body: more than what truncated ones keep.
const BODY_BYTES: usize = 6000;

/// Frames that a new virtual cable carries by itself, at most.
const NOISE_MAX: u64 = 50;

/// The exit code when calls were dropped.
const INCOMPLETE: i32 = 8;

/// How long it may take until shedding ends: the status shows it for some seconds more.
const RECOVERY: Duration = Duration::from_secs(120);

/// Changes nothing, but takes many steps of a backtracking pattern.
const SLOW_RULE: &str = "/request_header:x-slow/ remove_if_found /(a+)+(?=x)bc/";

/// Letters of the header that it looks at: each doubles the work, and one more exceeds the bound on the work of a call.
const SLOW_LETTERS: usize = 15;

fn exchange(number: u64, is_slow: bool) -> Exchange {
    let text = format!("{number} ").repeat(BODY_BYTES);
    let exchange = Exchange::get(
        number,
        &format!("/calls/{number}"),
        text.get(..BODY_BYTES).unwrap_or_default(),
    );
    let slow = (
        "X-Slow".to_owned(),
        format!("{}bc", "a".repeat(SLOW_LETTERS)),
    );
    Exchange {
        request_headers: is_slow.then_some(slow).into_iter().collect(),
        ..exchange
    }
}

/// One call on a connection of its own, some fourteen frames.
fn call(number: u64, is_slow: bool) -> Vec<Frame> {
    let [.., a, b] = number.to_be_bytes();
    let talk = Conversation {
        client: SocketAddr::from((Ipv4Addr::new(10, 1, a, b), 40_000)),
        server: SocketAddr::from((Ipv4Addr::new(10, 2, 0, 1), 80)),
        ..Conversation::new(vec![exchange(number, is_slow)])
    };
    frames(
        &[(talk, Wire::default())],
        &Accidents::none(),
        &mut Seed::new(number),
    )
}

/// What went over the cable.
#[derive(Default)]
struct Sender {
    calls: u64,
    frames: u64,
    /// The last of the calls that are slow for the rule.
    slow: u64,
}

impl Sender {
    fn send(
        &mut self,
        scene: &Scene,
        calls: u64,
        frames_per_second: u32,
        is_slow: bool,
    ) -> Result<()> {
        let first = self.calls + 1;
        self.calls += calls;
        if is_slow {
            self.slow = self.calls;
        }
        let frames: Vec<Frame> = (first..=self.calls)
            .flat_map(|number| call(number, is_slow))
            .collect();
        self.frames += frames.len() as u64;
        scene.send(&frames, frames_per_second)?;
        Ok(())
    }
}

fn overload<'a>(status: &'a Value, key: &str) -> &'a Value {
    &status["capture"]["overload"][key]
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

fn dropped(status: &Value, reason: &str) -> u64 {
    number(&status["capture"]["calls"]["dropped"][reason])
}

fn recovered(capture: &Capture<'_>) -> Result<()> {
    eventually(RECOVERY, || {
        let status = capture.status()?;
        ensure!(overload(&status, "step") == "none", "{status}");
        Ok(())
    })
}

/// Checks that a body is whole, or truncated at the limit with its full length annotated; returns whether it is truncated.
fn check_row(row: &Row, number: u64, is_slow: bool) -> Result<bool> {
    let exchange = exchange(number, is_slow);
    let Some(difference) = truth::difference(&exchange, row) else {
        return Ok(false);
    };
    let cut = String::from_utf8(exchange.response_body.plain[..OVERLOAD_BODY_BYTES].to_vec())?;
    ensure!(
        truth::difference_of_heads(&exchange, row).is_none()
            && value(row, "response_body") == Some(cut.as_str())
            && value(row, "custom_field:response_body_bytes") == Some(&BODY_BYTES.to_string()),
        "{difference}"
    );
    Ok(true)
}

/// Every call that was sent is delivered or counted as shed: nothing is lost, since shedding starts in time.
#[test]
fn what_is_given_up_is_counted_to_the_call_and_taken_up_again() -> Result<()> {
    /// Calls a second: several times what the rule has time for, and fewer than are shed at no cost.
    const RATE: u64 = if cfg!(debug_assertions) { 1200 } else { 5000 };
    let scene = Scene::without_nginx()?;
    let collector = &scene.collector;
    let rules = format!("include debug\n{SLOW_RULE}");
    let settings = [
        ("NET_DEVICE", "s0"),
        ("APP_PORTS", "80"),
        ("SNIFFER_SHARDS", "1"),
        ("SNIFFER_PCAP_BUFFER_SIZE", "32M"),
        ("SNIFFER_COMPRESSION", "1"),
        ("SNIFFER_ANNOTATE", "true"),
        ("USAGE_LOGGERS_RULES", &rules),
    ];
    let capture = scene.capture(&settings)?;
    let mut sender = Sender::default();
    sender.send(&scene, 5, 2_000, false)?;

    let mut steps = BTreeSet::new();
    let frames_per_second = RATE as u32 * call(1, true).len() as u32;
    let mut shed_percent = 0;
    for _ in 0..12 {
        sender.send(&scene, RATE / 2, frames_per_second, true)?;
        let status = capture.status()?;
        let step = overload(&status, "step").as_str().context("a step")?;
        steps.insert(step.to_owned());
        shed_percent = shed_percent.max(number(overload(&status, "shed_percent")));
    }
    eprintln!("{steps:?}, up to {shed_percent} % shed");
    ensure!(shed_percent >= 20, "{steps:?}");

    recovered(&capture)?;
    sender.send(&scene, 10, 2_000, false)?;
    let status = eventually(PATIENCE, || {
        let status = capture.status()?;
        let calls = &status["capture"]["calls"];
        ensure!(number(&calls["seen"]) == sender.calls, "{status}");
        ensure!(number(&calls["in_flight"]) == 0, "{status}");
        Ok(status)
    })?;
    assert_eq!(find(&status["capture"]["packets"], "dropped"), Some(0));
    let shed = dropped(&status, "overload");
    assert!(shed > 0, "{status}");
    assert_eq!(number(overload(&status, "calls_shed")), shed);
    assert_eq!(
        number(&status["capture"]["calls"]["sent"]) + shed,
        sender.calls
    );

    eventually(PATIENCE, || {
        let log = capture.log();
        ensure!(log.contains("keeping up again"), "{log}");
        Ok(())
    })?;
    assert!(capture.log().contains("W070") && capture.log().contains("cannot keep up"));
    capture.stop_with(INCOMPLETE)?;
    assert_eq!(collector.counts().broken, 0, "{:?}", collector.errors());
    let rows = collector.rows();
    assert_eq!(rows.len() as u64 + shed, sender.calls);
    let mut truncated = 0;
    for (number, row) in truth::by_number(&rows)? {
        let is_slow = (6..=sender.slow).contains(&number);
        let is_cut = check_row(row, number, is_slow)?;
        ensure!(!is_cut || is_slow, "call {number} is cut, too");
        truncated += u64::from(is_cut);
    }
    assert!(truncated > 0);
    assert_eq!(truncated, number(overload(&status, "bodies_truncated")));
    eprintln!(
        "{} calls sent: {} whole, {truncated} truncated, {shed} shed",
        sender.calls,
        rows.len() as u64 - truncated
    );
    Ok(())
}

/// A ring that overflows tears calls apart. Its drops are counted apart from the ledger, which balances all the same, and
/// no line is torn.
#[test]
fn what_a_full_ring_drops_is_counted_beside_the_ledger() -> Result<()> {
    let scene = Scene::without_nginx()?;
    let collector = &scene.collector;
    let settings = [
        ("NET_DEVICE", "s0"),
        ("APP_PORTS", "80"),
        ("SNIFFER_SHARDS", "1"),
        ("SNIFFER_PCAP_BUFFER_SIZE", "512K"),
        ("SNIFFER_ANNOTATE", "true"),
    ];
    let capture = scene.capture(&settings)?;
    let mut sender = Sender::default();
    capture.signal(Signal::SIGSTOP)?;
    sender.send(&scene, 300, 20_000, false)?;
    capture.signal(Signal::SIGCONT)?;
    let status = eventually(PATIENCE, || {
        let status = capture.status()?;
        let packets = &status["capture"]["packets"];
        let (received, dropped) = (number(&packets["received"]), number(&packets["dropped"]));
        ensure!(dropped > 0, "{status}");
        // Some frames more: the kernel's filter keeps what it cannot judge, and the ends of a cable announce themselves.
        let more = (received + dropped).checked_sub(sender.frames);
        ensure!(more.is_some_and(|more| more <= NOISE_MAX), "{status}");
        // A stall ends before shedding can start.
        ensure!(capture.log().contains("ring full"), "{status}");
        Ok(status)
    });
    let status = status.with_context(|| format!("{} frames sent", sender.frames))?;
    assert!(status.to_string().contains("W070"), "{status}");

    recovered(&capture)?;
    // A busy machine may stall the capture once more, so that further calls are lost.
    const TRIALS: usize = 10;
    let mut is_whole = false;
    for _ in 0..TRIALS {
        let lost = sender.calls;
        sender.send(&scene, 20, 2_000, false)?;
        let came = eventually(PATIENCE / 10, || {
            let rows = collector.rows();
            let numbered = truth::by_number(&rows)?;
            let after = (lost + 1..=sender.calls).filter(|number| numbered.contains_key(number));
            ensure!(after.count() == 20, "{} lines", rows.len());
            Ok(())
        });
        is_whole = came.is_ok();
        if is_whole {
            break;
        }
    }
    ensure!(is_whole, "calls are lost while there is no load");
    let status = capture.status()?;
    let calls = &status["capture"]["calls"];
    assert_eq!(
        number(&calls["seen"]),
        number(&calls["sent"]) + dropped(&status, "overload") + number(&calls["in_flight"]),
        "{status}"
    );
    assert!(number(&calls["seen"]) < sender.calls, "{status}");
    // Drops of the ring are no calls, and calls are missing for them.
    capture.stop_with(INCOMPLETE)?;
    assert_eq!(collector.counts().broken, 0, "{:?}", collector.errors());
    Ok(())
}
