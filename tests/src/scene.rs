//! The usual scene of a test with a live capture: a lab whose server has an nginx, a collector, and the place of capture.

use std::net::TcpListener;

use anyhow::{Result, ensure};
use bench::collect::Collector;
use bench::send::send;
use bench::traffic::Frame;

use crate::capture::Capture;
use crate::network::{Lab, Namespace};
use crate::nginx::{Nginx, curl};
use crate::process::PATIENCE;

/// The namespace of the capture and its collector.
#[derive(Clone, Copy)]
enum Place {
    Server,
    Appliance,
}

/// Everything around a capture; removed when dropped, in this order.
pub struct Scene {
    /// The capture URL, on the loopback of the namespace that is captured in.
    pub collector: Collector,
    place: Place,
    _nginx: Option<Nginx>,
    /// The network.
    pub lab: Lab,
}

impl Scene {
    /// Captures on the server, where nginx answers.
    pub fn new() -> Result<Self> {
        let lab = Lab::new()?;
        let nginx = Nginx::start(&lab.server)?;
        Self::at(Place::Server, lab, Some(nginx))
    }

    /// Captures on the server, where nothing listens: for made frames.
    pub fn without_nginx() -> Result<Self> {
        Self::at(Place::Server, Lab::new()?, None)
    }

    /// Captures on the appliance, to which the server's traffic is mirrored in network 77, at its address `to`.
    pub fn mirrored(to: &str) -> Result<Self> {
        let lab = Lab::new()?;
        let nginx = Nginx::start(&lab.server)?;
        lab.mirror(77, to)?;
        Self::at(Place::Appliance, lab, Some(nginx))
    }

    fn at(place: Place, lab: Lab, nginx: Option<Nginx>) -> Result<Self> {
        let listener = namespace(&lab, place).inside(|| TcpListener::bind("127.0.0.1:0"))?;
        Ok(Self {
            collector: Collector::serve(listener)?,
            place,
            _nginx: nginx,
            lab,
        })
    }

    /// Starts `sniffer run` with these settings; what it captures goes to the collector.
    pub fn capture(&self, settings: &[(&str, &str)]) -> Result<Capture<'_>> {
        let namespace = namespace(&self.lab, self.place);
        Capture::start(namespace, &self.collector.url(), settings)
    }

    /// Gets `path` from nginx as the client, over IPv4 and on a connection of its own.
    pub fn get(&self, path: &str) -> Result<String> {
        curl(&self.lab.client, &[&format!("http://10.77.0.1{path}")])
    }

    /// Sends made frames as the client, at this rate. Returns their number.
    pub fn send(&self, frames: &[Frame], per_second: u32) -> Result<usize> {
        self.lab.client.inside(|| send("c0", frames, per_second))
    }

    /// Waits until the collector has this many lines.
    pub fn wait_for_lines(&self, lines: u64) -> Result<()> {
        ensure!(
            self.collector.wait_for_lines(lines, PATIENCE),
            "not {lines} lines: {:?}",
            self.collector.counts()
        );
        Ok(())
    }
}

fn namespace(lab: &Lab, place: Place) -> &Namespace {
    match place {
        Place::Server => &lab.server,
        Place::Appliance => &lab.appliance,
    }
}
