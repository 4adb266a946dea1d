//! A shard that cannot keep up, in the whole program. The program is stopped while packets come, so that its ring fills, and
//! goes on; what it then gives up must be said, counted to the call, and taken up again. Here belongs what needs a full ring.

use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bench::collect::{Row, value};
use bench::seed::Seed;
use bench::send::send;
use bench::traffic::{Accidents, Conversation, Exchange, Frame, Wire, frames};
use engine_core::limits::THIN_BODY_BYTES;
use nix::sys::signal::Signal;
use serde_json::Value;
use tests::network::Lab;
use tests::process::eventually;
use tests::truth;

use crate::netns::{Capture, PATIENCE, collector, find};

/// Bytes of a body: more than what thinned ones keep.
const BODY_BYTES: usize = 6000;

/// Frames that a new cable carries by itself, at most.
const NOISE_MAX: u64 = 50;

/// The exit code that says that calls were dropped.
const INCOMPLETE: i32 = 8;

/// How long it may take until nothing is given up any longer: nine steps of a second or little more.
const RECOVERY: Duration = Duration::from_secs(60);

fn exchange(number: u64) -> Exchange {
    let text = format!("{number} ").repeat(BODY_BYTES);
    Exchange::get(
        number,
        &format!("/calls/{number}"),
        text.get(..BODY_BYTES).unwrap_or_default(),
    )
}

/// One call on a connection of its own, some fourteen frames.
fn call(number: u64) -> Vec<Frame> {
    let [.., a, b] = number.to_be_bytes();
    let talk = Conversation {
        client: SocketAddr::from((Ipv4Addr::new(10, 1, a, b), 40_000)),
        server: SocketAddr::from((Ipv4Addr::new(10, 2, 0, 1), 80)),
        ..Conversation::new(vec![exchange(number)])
    };
    frames(
        &[(talk, Wire::default())],
        &Accidents::none(),
        &mut Seed::new(number),
    )
}

/// What goes over the cable, as it is called for.
#[derive(Default)]
struct Sender {
    calls: u64,
    frames: u64,
    waiting: Vec<Frame>,
}

impl Sender {
    fn send(&mut self, lab: &Lab, count: usize, per_second: u32) -> Result<()> {
        while self.waiting.len() < count {
            self.calls += 1;
            self.waiting.extend(call(self.calls));
        }
        let rest = self.waiting.split_off(count);
        let now = std::mem::replace(&mut self.waiting, rest);
        self.frames += now.len() as u64;
        lab.client.inside(|| send("c0", &now, per_second))?;
        Ok(())
    }

    /// Whole calls, and what is left of one that was begun.
    fn send_calls(&mut self, lab: &Lab, calls: u64, per_second: u32) -> Result<()> {
        for _ in 0..calls {
            self.calls += 1;
            self.waiting.extend(call(self.calls));
        }
        self.send(lab, self.waiting.len(), per_second)
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

/// Whole as it was said, or cut to the limit with its full length beside it; whether it is cut.
fn check_row(row: &Row, number: u64) -> Result<bool> {
    let exchange = exchange(number);
    let Some(difference) = truth::difference(&exchange, row) else {
        return Ok(false);
    };
    let cut = String::from_utf8(exchange.response_body.plain[..THIN_BODY_BYTES].to_vec())?;
    ensure!(
        truth::difference_of_heads(&exchange, row).is_none()
            && value(row, "response_body") == Some(cut.as_str())
            && value(row, "custom_field:response_body_bytes") == Some(&BODY_BYTES.to_string()),
        "{difference}"
    );
    Ok(true)
}

/// Every call that was sent is delivered or counted as shed: nothing is lost, since each frame takes one block of the ring
/// at most, and there are more blocks than frames while the program is stopped.
#[test]
fn what_is_given_up_is_counted_to_the_call_and_taken_up_again() -> Result<()> {
    /// Blocks of the ring, 256 KiB each.
    const BLOCKS: usize = 32;
    let lab = Lab::new()?;
    let collector = collector(&lab.server)?;
    let settings = [
        ("NET_DEVICE", "s0"),
        ("APP_PORTS", "80"),
        ("SNIFFER_SHARDS", "1"),
        ("SNIFFER_PCAP_BUFFER_SIZE", "8M"),
        ("SNIFFER_COMPRESSION", "1"),
        ("SNIFFER_ANNOTATE", "true"),
    ];
    let capture = Capture::start(&lab.server, &collector.url(), &settings)?;
    let mut sender = Sender::default();
    sender.send_calls(&lab, 5, 2_000)?;

    let mut steps: Vec<String> = Vec::new();
    let mut shed_eighths = 0;
    for _ in 0..40 {
        capture.signal(Signal::SIGSTOP)?;
        // Slower than blocks are closed for their age, so that each frame is in one of its own.
        sender.send(&lab, BLOCKS * 5 / 8, 40)?;
        thread::sleep(Duration::from_millis(40));
        capture.signal(Signal::SIGCONT)?;
        thread::sleep(Duration::from_millis(60));
        let status = capture.status()?;
        let step = overload(&status, "step").as_str().context("a step")?;
        if steps.last().is_none_or(|last| last != step) {
            steps.push(step.to_owned());
        }
        shed_eighths = number(overload(&status, "shed_eighths"));
        if shed_eighths >= 4 {
            break;
        }
    }
    ensure!(shed_eighths >= 4, "{steps:?}");
    steps.retain(|step| step != "none");
    assert_eq!(steps, ["compression_off", "bodies_thinned", "calls_shed"]);
    sender.send_calls(&lab, 300, 10_000)?;

    recovered(&capture)?;
    let before = sender.calls;
    sender.send_calls(&lab, 10, 2_000)?;
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
    assert!(number(overload(&status, "bundles_plain")) > 0, "{status}");
    assert_eq!(
        number(&status["capture"]["calls"]["sent"]) + shed,
        sender.calls
    );

    eventually(PATIENCE, || {
        let said = capture.said();
        ensure!(said.contains("keeping up again"), "{said}");
        Ok(())
    })?;
    assert!(capture.said().contains("W070") && capture.said().contains("cannot keep up"));
    capture.stop_with(INCOMPLETE)?;
    assert_eq!(collector.tally().broken, 0, "{:?}", collector.complaints());
    let rows = collector.rows();
    assert_eq!(rows.len() as u64 + shed, sender.calls);
    let mut thinned = 0;
    for (number, row) in truth::by_number(&rows)? {
        let is_cut = check_row(row, number)?;
        ensure!(!is_cut || number <= before, "call {number} is cut again");
        thinned += u64::from(is_cut);
    }
    assert!(thinned > 0);
    assert_eq!(thinned, number(overload(&status, "bodies_thinned")));
    eprintln!(
        "{} calls sent: {} whole, {thinned} cut, {shed} shed",
        sender.calls,
        rows.len() as u64 - thinned
    );
    Ok(())
}

/// A ring that overflows tears calls apart. Its drops stand beside the ledger, which balances all the same, and no line is
/// torn.
#[test]
fn what_a_full_ring_drops_is_counted_beside_the_ledger() -> Result<()> {
    let lab = Lab::new()?;
    let collector = collector(&lab.server)?;
    let settings = [
        ("NET_DEVICE", "s0"),
        ("APP_PORTS", "80"),
        ("SNIFFER_SHARDS", "1"),
        ("SNIFFER_PCAP_BUFFER_SIZE", "512K"),
        ("SNIFFER_ANNOTATE", "true"),
    ];
    let capture = Capture::start(&lab.server, &collector.url(), &settings)?;
    let mut sender = Sender::default();
    capture.signal(Signal::SIGSTOP)?;
    sender.send_calls(&lab, 300, 20_000)?;
    capture.signal(Signal::SIGCONT)?;
    let status = eventually(PATIENCE, || {
        let status = capture.status()?;
        let packets = &status["capture"]["packets"];
        let (received, dropped) = (number(&packets["received"]), number(&packets["dropped"]));
        ensure!(dropped > 0, "{status}");
        // Some frames more: the kernel's filter keeps what it is in doubt about, and the ends of a cable say hello.
        let more = (received + dropped).checked_sub(sender.frames);
        ensure!(more.is_some_and(|more| more <= NOISE_MAX), "{status}");
        ensure!(capture.said().contains("cannot keep up"), "{status}");
        Ok(status)
    });
    let status = status.with_context(|| format!("{} frames sent", sender.frames))?;
    assert!(status.to_string().contains("W070"), "{status}");

    recovered(&capture)?;
    let lost = sender.calls;
    sender.send_calls(&lab, 20, 2_000)?;
    eventually(PATIENCE, || {
        let rows = collector.rows();
        let numbered = truth::by_number(&rows)?;
        let after = (lost + 1..=sender.calls).filter(|number| numbered.contains_key(number));
        ensure!(after.count() == 20, "{} lines", rows.len());
        Ok(())
    })?;
    let status = capture.status()?;
    let calls = &status["capture"]["calls"];
    assert_eq!(
        number(&calls["seen"]),
        number(&calls["sent"]) + dropped(&status, "overload") + number(&calls["in_flight"]),
        "{status}"
    );
    assert!(number(&calls["seen"]) < sender.calls, "{status}");
    // Drops of the ring are no calls.
    let is_complete = dropped(&status, "overload") == 0;
    capture.stop_with(if is_complete { 0 } else { INCOMPLETE })?;
    assert_eq!(collector.tally().broken, 0, "{:?}", collector.complaints());
    Ok(())
}
