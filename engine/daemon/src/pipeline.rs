//! The settings as the engine takes them: what a shard's pipeline and its bundler are made with.

use engine_core::bundle::{self, Bundler, Compression};
use engine_core::{decap, http, message, pipeline};

use crate::config::{Capture, CaptureMode, Reading};
use crate::random;

/// The pipeline's configuration, live and from files alike; with fixed seeds, so that a file always gives the same.
pub fn pipeline_config(
    reading: &Reading,
    mode: CaptureMode,
    kernel_vxlan_ports: &[u16],
    shards: usize,
) -> pipeline::Config {
    let memory = reading.memory_bytes - upload_memory(reading);
    let config = pipeline::Config {
        decap: decap::Config {
            vxlan_ports: reading
                .vxlan_ports
                .iter()
                .copied()
                .filter(|port| !kernel_vxlan_ports.contains(port))
                .collect(),
            vnis: reading.vnis.clone(),
            only_tunnelled: mode == CaptureMode::Mirror,
            ..decap::Config::default()
        },
        http: http::Config {
            ports: reading.ports.clone(),
            ..http::Config::default()
        },
        message: message::Config {
            host: reading.host.clone(),
            body_bytes_max: reading.body_bytes_max,
            annotate: reading.annotate,
            half_calls: reading.half_calls,
            form_params: reading.form_params,
            client_address: reading.client_address,
            realip_header: reading.realip_header.clone(),
            ..message::Config::default()
        },
        ..pipeline::Config::default()
    };
    config.within(memory / shards)
}

/// What collects the lines of one shard.
pub fn bundler(config: &Capture, compression: Compression) -> Bundler {
    Bundler::new(bundle::Config {
        bytes: config.bundle_bytes,
        compression,
        id_seed: random::seed(),
        ..bundle::Config::default()
    })
}

/// What of the memory limit is for bundles that wait for delivery; the rest is the shards'. The same whether anything is
/// delivered or not, so that a capture file gives the lines that the live capture gave.
pub fn upload_memory(reading: &Reading) -> usize {
    reading.memory_bytes / 8
}
