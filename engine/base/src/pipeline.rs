//! The configuration of a shard's pipeline and bundler, from the settings.

use engine_core::bundle::{self, Bundler, Compression};
use engine_core::pipeline;

use crate::config::settings::Settings;
use crate::random;

/// The pipeline's configuration, live and from files alike. Its hashes have a seed that nobody can know, so that packets
/// cannot be made for one place of a table; what it gives does not depend on that. The seed of samples is fixed, so that a
/// file always gives the same.
/// `host` is the detail `host` of every line.
pub fn pipeline_config(
    settings: &Settings,
    host: &str,
    kernel_vxlan_ports: &[u16],
    shards: usize,
    rule_sets: usize,
) -> pipeline::Config {
    let mut config = pipeline::Config::default();
    settings.configure(&mut config);
    let is_ours = |port: &u16| !kernel_vxlan_ports.contains(port);
    config.decap.vxlan_ports.retain(is_ours);
    config.message.host = host.to_owned();
    config.flow.hash_seed = random::seed();
    let memory = settings.memory_bytes - backlog_memory(settings);
    match rule_sets {
        0 | 1 => config.within(memory / shards),
        _ => config.within_for_several(memory / shards),
    }
}

/// What collects the lines of one shard.
pub fn bundler(settings: &Settings, compression: Compression, keeps_lines: bool) -> Bundler {
    Bundler::new(bundle::Config {
        bytes: settings.bundle_bytes,
        compression,
        keeps_lines,
        id_seed: random::seed(),
        ..bundle::Config::default()
    })
}

/// The part of the memory limit for bundles that wait for delivery; the rest is for the shards. It is the same whether
/// anything is delivered or not, so that a capture file gives the lines that the live capture gave.
pub fn backlog_memory(settings: &Settings) -> usize {
    settings.memory_bytes / 8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::setting::READ;
    use crate::config::values::Values;

    #[test]
    fn nobody_knows_the_seed_of_the_hashes() {
        let settings = Settings::check(&Values::default(), READ).unwrap();
        let seed = || pipeline_config(&settings, "", &[], 1, 1).flow.hash_seed;
        assert_ne!(seed(), seed());
    }
}
