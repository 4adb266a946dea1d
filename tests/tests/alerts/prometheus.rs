//! Alerts of a real Prometheus that scrapes the program while their causes are made: those that no recorded scrape can show, since
//! they are of a time without scrapes, or of counters that grow all the time.
//!
//! The rules are those of the repository with seconds for minutes, in their windows and in the time for which they have to hold.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bench::collect::Behaviour;
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tests::network::Namespace;
use tests::nginx::curl;
use tests::process::{PATIENCE, Running, eventually};
use tests::program::repository;
use tests::scene::Scene;

use super::RULES;
use crate::metrics::{PORT, rough_traffic};

const ADDRESS: &str = "127.0.0.1:9090";

/// The time for which a bundle has to wait for `SnifferOutputSlow`, which stays as it is, and as much again.
const SLOW: Duration = Duration::from_secs(120);

/// A Prometheus that scrapes the sniffer of a namespace each second.
struct Prometheus<'a> {
    namespace: &'a Namespace,
    _running: Running,
    _folder: TempDir,
}

impl<'a> Prometheus<'a> {
    fn start(namespace: &'a Namespace) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let rules = fs::read_to_string(repository().join(RULES))?;
        fs::write(folder.path().join("rules.yml"), in_seconds(&rules))?;
        let settings = folder.path().join("prometheus.yml");
        fs::write(
            &settings,
            format!(
                "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
                 rule_files: [rules.yml]\n\
                 scrape_configs: [{{job_name: sniffer, static_configs: [{{targets: ['{PORT}']}}]}}]\n"
            ),
        )?;
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", settings.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={ADDRESS}"))
            .arg("--log.level=warn");
        let prometheus = Self {
            namespace,
            _running: Running::start(&mut namespace.enter(&command))?,
            _folder: folder,
        };
        eventually(2 * PATIENCE, || {
            let up = prometheus.get("query?query=up")?;
            let value = &up["data"]["result"][0]["value"][1];
            ensure!(value == "1", "the sniffer is not scraped: {up}");
            Ok(())
        })?;
        Ok(prometheus)
    }

    fn get(&self, path: &str) -> Result<Value> {
        let answer = curl(
            self.namespace,
            &[&format!("http://{ADDRESS}/api/v1/{path}")],
        )?;
        Ok(serde_json::from_str(&answer)?)
    }

    /// Names of the alerts that fire.
    fn firing(&self) -> Result<BTreeSet<String>> {
        let answer = self.get("alerts")?;
        let alerts = answer["data"]["alerts"].as_array().context("no alerts")?;
        let firing = alerts.iter().filter(|alert| alert["state"] == "firing");
        Ok(firing
            .filter_map(|alert| alert["labels"]["alertname"].as_str())
            .map(str::to_owned)
            .collect())
    }

    /// Does something again and again until an alert fires.
    fn fires_after(
        &self,
        alert: &str,
        patience: Duration,
        mut cause: impl FnMut() -> Result<()>,
    ) -> Result<()> {
        eventually(patience, || {
            cause()?;
            // Twice between two scrapes.
            std::thread::sleep(Duration::from_millis(500));
            let firing = self.firing()?;
            ensure!(firing.contains(alert), "{alert} does not fire: {firing:?}");
            Ok(())
        })
    }
}

/// Rules with seconds for minutes.
fn in_seconds(rules: &str) -> String {
    let lines = rules.lines().map(|line| {
        let held = line.trim_start().starts_with("for: ");
        let line = line.replace("m]", "s]");
        match line.strip_suffix('m') {
            Some(minutes) if held => format!("{minutes}s\n"),
            _ => format!("{line}\n"),
        }
    });
    lines.collect()
}

#[test]
fn a_full_ring_and_an_end_fire_their_alerts() -> Result<()> {
    let scene = Scene::without_nginx()?;
    let settings = [
        ("NET_DEVICE", "s0"),
        ("SNIFFER_SHARDS", "1"),
        ("SNIFFER_PCAP_BUFFER_SIZE", "512K"),
    ];
    let capture = scene.capture(&settings)?;
    let prometheus = Prometheus::start(&scene.lab.server)?;
    let before = prometheus.firing()?;
    ensure!(!before.contains("SnifferPacketsDropped"), "{before:?}");
    let traffic = rough_traffic(3, 0);
    // A capture that does not run reads nothing from its ring.
    prometheus.fires_after("SnifferPacketsDropped", 2 * PATIENCE, || {
        capture.signal(Signal::SIGSTOP)?;
        scene.send(&traffic, 50_000)?;
        capture.signal(Signal::SIGCONT)
    })?;
    capture.terminate()?;
    prometheus.fires_after("SnifferDown", PATIENCE, || Ok(()))
}

#[test]
fn a_slow_output_and_short_memory_fire_their_alerts() -> Result<()> {
    /// Bodies that begin and do not end, more together than the memory for them; no more than a listener holds that accepts none.
    const BODIES: usize = 100;
    let scene = Scene::without_nginx()?;
    let settings = [
        ("NET_DEVICE", "s0"),
        ("SNIFFER_SHARDS", "1"),
        ("SNIFFER_MEMORY_LIMIT", "16M"),
    ];
    let capture = scene.capture(&settings)?;
    let prometheus = Prometheus::start(&scene.lab.server)?;
    let listen = || TcpListener::bind("10.77.0.1:80");
    let mut open = Vec::new();
    prometheus.fires_after("SnifferMemory", 2 * PATIENCE, || {
        // Those of the time before end, and as many begin.
        open.clear();
        let listener = scene.lab.server.inside(listen)?;
        let mut connections = Vec::new();
        for _ in 0..BODIES {
            let connect = || TcpStream::connect("10.77.0.1:80");
            let mut connection = scene.lab.client.inside(connect)?;
            let head = "POST /hello HTTP/1.1\r\nHost: shop\r\nContent-Length: 900000\r\n\r\n";
            connection.write_all(head.as_bytes())?;
            connection.write_all(&[b'x'; 50_000])?;
            connections.push(connection);
        }
        open.push((listener, connections));
        Ok(())
    })?;
    drop(open);
    scene.collector.set_behaviour(Behaviour::Refuse(503));
    scene.send(&rough_traffic(3, 0), 5_000)?;
    prometheus.fires_after("SnifferOutputSlow", SLOW, || Ok(()))?;
    capture.terminate()?;
    Ok(())
}
