//! A wall clock that is set forward and back by hours while a capture delivers, spools and retries.
//!
//! The clock is that of the process alone; the kernel goes on to stamp frames by its own. So the two differ as long as the clock is
//! wrong, which is worse than a machine whose clock was set: a flow that the sniffer holds between two of its turns is idle since
//! hours. What matters is that each call is delivered, once, and that nothing waits for the time that the clock has lost.

use std::collections::BTreeMap;
use std::net::TcpListener;

use anyhow::{Context as _, Result, ensure};
use bench::collect::{Behaviour, Collector, value};
use serde_json::Value;
use tests::capture::Capture;
use tests::clock::SettableClock;
use tests::http::request;
use tests::network::Namespace;
use tests::nginx::{Nginx, curl};
use tests::process::{PATIENCE, eventually};

/// Hours by which the clock differs from the machine's, one after the other.
const CLOCKS: [i64; 6] = [5, -7, 30, -30, 24 * 400, 0];

const RULES: &str = "include debug\nallow_http_url";

/// Makes calls with a number each.
fn call(namespace: &Namespace, made: &mut u64, count: u64) -> Result<()> {
    let numbers = *made..*made + count;
    *made += count;
    namespace.inside(|| {
        for number in numbers {
            let number = number.to_string();
            let headers = [("X-Call-Number", number.as_str())];
            request("127.0.0.1:80", "GET", "/hello", &headers, b"")?;
        }
        Ok(())
    })
}

/// How often a collector has each call. The half of a call that a wrong clock has cut off has no number.
fn delivered(collector: &Collector) -> BTreeMap<u64, usize> {
    let mut found = BTreeMap::new();
    for row in collector.rows() {
        let number = value(&row, "request_header:x-call-number");
        if let Some(number) = number.and_then(|number| number.parse().ok()) {
            *found.entry(number).or_default() += 1;
        }
    }
    found
}

/// Waits until a collector has each of the calls.
fn wait_for_all(capture: &Capture<'_>, collector: &Collector, made: u64) -> Result<()> {
    eventually(PATIENCE, || {
        let there = delivered(collector).len() as u64;
        ensure!(there == made, "{there} of {made}: {}", capture.status()?);
        Ok(())
    })
}

/// What the sink of the capture URL has.
fn default(status: &Value) -> &Value {
    &status["capture"]["sinks"][0]
}

#[test]
fn a_wall_clock_that_is_set_delays_no_call_and_loses_none() -> Result<()> {
    let namespace = Namespace::new("clockjumps")?;
    let _nginx = Nginx::start(&namespace)?;
    let listen = |port: u16| -> Result<Collector> {
        Collector::serve(namespace.inside(|| TcpListener::bind(("127.0.0.1", port)))?)
    };
    let (collector, near) = (listen(7711)?, listen(7712)?);
    let clock = SettableClock::new()?;
    let folder = tempfile::tempdir()?;
    let spool = folder.path().join("spool").display().to_string();
    let near_url = format!("near={}", near.url());
    let mut settings = vec![
        ("NET_DEVICE", "lo"),
        ("APP_PORTS", "80"),
        ("SNIFFER_SPOOL", &spool),
        ("SNIFFER_SINKS", &near_url),
        ("USAGE_LOGGERS_RULES", RULES),
        ("SNIFFER_HALF_CALLS", "true"),
        // The clock's library reads a file each time.
        ("SNIFFER_NO_SANDBOX", "true"),
    ];
    let environment = clock.environment()?;
    settings.extend(
        environment
            .iter()
            .map(|(name, text)| (*name, text.as_str())),
    );
    let capture = Capture::start(&namespace, &collector.url(), &settings)?;
    let mut made = 0;
    for (round, hours) in CLOCKS.into_iter().enumerate() {
        // In turn it takes bundles, refuses them, or does not answer; near takes all.
        let fault = [Behaviour::Refuse(503), Behaviour::Accept, Behaviour::Stall][round % 3];
        collector.set_behaviour(fault);
        // These wait in an open bundle when the clock is set.
        call(&namespace, &mut made, 3)?;
        clock.set(hours)?;
        call(&namespace, &mut made, 3)?;
        wait_for_all(&capture, &near, made).with_context(|| format!("near, {hours:+} h"))?;
        if fault != Behaviour::Accept {
            // On its way to the disk, and tried again.
            eventually(PATIENCE, || {
                let status = capture.status()?;
                let kept = &default(&status)["output"]["spool"]["calls"];
                ensure!(kept.as_u64() > Some(0), "{hours:+} h: {status}");
                Ok(())
            })?;
        }
        collector.set_behaviour(Behaviour::Accept);
        wait_for_all(&capture, &collector, made).with_context(|| format!("{hours:+} h"))?;
        let status = eventually(PATIENCE, || {
            let status = capture.status()?;
            for sink in status["capture"]["sinks"].as_array().context("sinks")? {
                let (calls, spool) = (&sink["calls"], &sink["output"]["spool"]);
                ensure!(calls["in_flight"] == 0 && spool["calls"] == 0, "{sink}");
            }
            Ok(status)
        })?;
        for sink in status["capture"]["sinks"].as_array().context("sinks")? {
            let calls = &sink["calls"];
            assert_eq!(calls["unaccounted"], 0, "{hours:+} h: {sink}");
            let dropped = calls["dropped"].as_object().context("dropped")?;
            ensure!(
                dropped.values().all(|count| count == 0),
                "{hours:+} h: {sink}"
            );
        }
        let alive = curl(&namespace, &["http://127.0.0.1:7702/livez"])?;
        ensure!(alive.contains("true"), "{hours:+} h: {alive}");
    }
    let log = capture.stop()?;
    ensure!(!log.contains("panicked"), "{log}");
    for collector in [&collector, &near] {
        let found = delivered(collector);
        assert_eq!(found.len() as u64, made);
        ensure!(found.values().all(|times| *times == 1), "{found:?}");
    }
    Ok(())
}
