//! The configuration of a shard's pipeline and bundler, from the settings.

use engine_core::bundle::{self, Bundler, Compression};
use engine_core::limits::{
    REPLACED_GROWTH_BYTES_MAX, RULES_BEYOND_BYTES, RULES_SHARE_DIVISOR, SHARD_MEMORY_BYTES_MIN,
};
use engine_core::pipeline;

use crate::config::settings::Settings;
use crate::config::{Reading, Rules};
use crate::diagnostic::{Code, Diagnostic};
use crate::random;

/// The part of the memory limit that is for rules.
#[derive(Clone, Copy, Debug, Default)]
pub struct RulesShare {
    /// All of it.
    bytes: usize,
    /// Of it, what the searches of each rule set may keep in each shard, those of the rules that it has replaced included.
    searches: usize,
    /// Rule sets that lines are written under at once.
    sets: usize,
    shards: usize,
}

/// Buffers of a shard while a long value is replaced.
const LONG_BUFFERS: usize = 5;

/// The part of the memory limit that is set aside for these buffers, at most.
const LONG_BUFFERS_DIVISOR: usize = 8;

/// The part of what the searches need that they have at least. With less than all, states are forgotten and made again.
const SEARCHES_DIVISOR: usize = 4;

/// Bytes for the rules of each shard that are there however small the limit is, as each shard has [`SHARD_MEMORY_BYTES_MIN`].
const SHARD_RULES_BYTES_MIN: usize = 1 << 20;

impl RulesShare {
    /// The share of these rules: what they need, and room for others that replace them while calls are open that began before. Refused
    /// where the shards would not have enough.
    pub fn of(settings: &Settings, sets: &[Rules], shards: usize) -> Result<Self, Diagnostic> {
        let limit = settings.memory_bytes;
        let need = Need::of(sets);
        let writers = shards * sets.len();
        let least = need.least(writers);
        let of_shards = shards.saturating_mul(SHARD_MEMORY_BYTES_MIN);
        let all = limit - backlog_memory(settings);
        let room = (all.saturating_sub(of_shards))
            .max(limit / 4)
            .max(shards * SHARD_RULES_BYTES_MIN);
        if least > room {
            // Seven eighths are for the shards and the rules.
            let limit = least.saturating_add(of_shards).saturating_mul(8) / 7;
            let fix = format!("SNIFFER_MEMORY_LIMIT={}M", limit.div_ceil(MIB));
            return Err(too_large(sets, least, room, fix));
        }
        let buffers = match sets.iter().all(|rules| rules.set.rules().is_empty()) {
            true => 0,
            false => long_buffers(settings, shards).min(limit / LONG_BUFFERS_DIVISOR),
        };
        // Compiled patterns twice: while others replace them, both are there.
        let beside = (need.compiled.saturating_mul(2)).saturating_add(need.beginnings) + buffers;
        let wanted = need.searches.saturating_mul(writers).saturating_add(beside);
        let bytes = wanted.max(limit / RULES_SHARE_DIVISOR).min(room);
        let rest = bytes.saturating_sub(beside) / writers.max(1);
        Ok(Self {
            bytes,
            searches: rest.max(need.searches / SEARCHES_DIVISOR),
            sets: sets.len(),
            shards,
        })
    }

    /// Whether these rules can replace those that it was computed for.
    pub fn check(&self, sets: &[Rules]) -> Result<(), Diagnostic> {
        let need = Need::of(sets);
        let least = need.least(self.sets * self.shards);
        if need.searches / SEARCHES_DIVISOR > self.searches || least > self.bytes {
            let fix = "restart the capture: the part of the rules is computed at its start";
            return Err(too_large(sets, least, self.bytes, fix.to_owned()));
        }
        Ok(())
    }
}

/// What rule sets need.
struct Need {
    /// Compiled patterns of all sets.
    compiled: usize,
    beginnings: usize,
    /// What the searches of one set keep in one shard: twice what they need, the half of it being for the rules that it replaced.
    searches: usize,
}

impl Need {
    fn of(sets: &[Rules]) -> Self {
        let mut need = Self {
            compiled: 0,
            beginnings: 0,
            searches: 0,
        };
        for rules in sets {
            let memory = rules.set.memory();
            need.compiled = need.compiled.saturating_add(memory.compiled);
            need.beginnings = need.beginnings.saturating_add(memory.beginnings);
            need.searches = need.searches.max(memory.searches.saturating_mul(2));
        }
        need
    }

    /// What there has to be for this number of writers.
    fn least(&self, writers: usize) -> usize {
        let searches = self.searches / SEARCHES_DIVISOR;
        (self.compiled).saturating_add(searches.saturating_mul(writers))
    }
}

fn long_buffers(settings: &Settings, shards: usize) -> usize {
    let mut config = pipeline::Config::default();
    settings.configure(&mut config);
    let beyond = RULES_BEYOND_BYTES + REPLACED_GROWTH_BYTES_MAX;
    let longest = config.message.body_bytes_max.saturating_add(beyond);
    longest.saturating_mul(LONG_BUFFERS * shards)
}

const MIB: usize = 1 << 20;

fn too_large(sets: &[Rules], least: usize, room: usize, fix: String) -> Diagnostic {
    let what = format!(
        "the rules need {} MiB of memory, and SNIFFER_MEMORY_LIMIT leaves {} MiB for them",
        least.div_ceil(MIB),
        room / MIB
    );
    let largest = sets.iter().max_by_key(|rules| rules.set.memory().compiled);
    let largest = largest.and_then(|rules| Some((rules, rules.set.largest()?)));
    let cause = largest.map_or_else(String::new, |(rules, rule)| {
        let (name, line) = (&rules.name, rule.line);
        format!("most of it is for line {line} of {name}: {}", rule.shown())
    });
    Diagnostic::new(Code::E002, what).cause(cause).fix(fix)
}

/// The pipeline's configuration where calls are read from files: one shard, and no tunnel of the kernel beside it.
///
/// # Errors
///
/// The rules need more memory than the limit leaves for them.
pub fn of_files(reading: &Reading) -> Result<pipeline::Config, Diagnostic> {
    let Reading {
        settings,
        rules,
        host,
    } = reading;
    let share = RulesShare::of(settings, std::slice::from_ref(rules), 1)?;
    Ok(pipeline_config(settings, host, &[], 1, share))
}

/// The pipeline's configuration, live and from files alike. Its hashes have a seed that nobody can know, so that packets
/// cannot be made for one place of a table; what it gives does not depend on that. The seed of samples is fixed, so that a
/// file always gives the same.
/// `host` is the detail `host` of every line.
pub fn pipeline_config(
    settings: &Settings,
    host: &str,
    kernel_vxlan_ports: &[u16],
    shards: usize,
    rules: RulesShare,
) -> pipeline::Config {
    let mut config = pipeline::Config::default();
    settings.configure(&mut config);
    let is_ours = |port: &u16| !kernel_vxlan_ports.contains(port);
    config.decap.vxlan_ports.retain(is_ours);
    config.message.host = host.to_owned();
    config.flow.hash_seed = random::seed();
    if rules.sets > 0 {
        config.message.rules_bytes_max = rules.searches;
    }
    // With many shards and a small limit the parts that each has at least are more than the limit.
    let memory = (settings.memory_bytes - backlog_memory(settings)).saturating_sub(rules.bytes);
    match rules.sets {
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

/// The part of the memory limit for bundles that wait for delivery; the rest is for the rules and the shards. It is the same whether
/// anything is delivered or not, so that a capture file gives the lines that the live capture gave.
pub fn backlog_memory(settings: &Settings) -> usize {
    settings.memory_bytes / 8
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use engine_core::rules::RuleSet;

    use super::*;
    use crate::config::setting::READ;
    use crate::config::values::Values;

    #[test]
    fn nobody_knows_the_seed_of_the_hashes() {
        let settings = Settings::check(&Values::default(), READ).unwrap();
        let seed = || {
            pipeline_config(&settings, "", &[], 1, RulesShare::default())
                .flow
                .hash_seed
        };
        assert_ne!(seed(), seed());
    }

    fn rules(text: &str) -> Rules {
        Rules {
            set: Arc::new(RuleSet::parse(text).unwrap()),
            name: "test.rules".to_owned(),
        }
    }

    /// Patterns of a third of a megabyte each, compiled.
    fn large() -> Rules {
        let pattern = "/request_body/ replace /[ab]*a[ab]{3000}c/, /x/\n";
        rules(&("/request_url/ remove\n".to_owned() + &pattern.repeat(40)))
    }

    #[test]
    fn the_memory_of_the_rules_is_within_the_limit() {
        let mut settings = Settings::check(&Values::default(), READ).unwrap();
        let small = [rules("include standard")];
        for (limit, shards) in [(16, 1), (16, 8), (16, 64), (64, 2), (512, 4)] {
            settings.memory_bytes = limit * MIB;
            let share = RulesShare::of(&settings, &small, shards).unwrap();
            let need = Need::of(&small);
            assert!(share.bytes >= settings.memory_bytes / RULES_SHARE_DIVISOR);
            assert!(share.bytes >= need.compiled + share.searches * shards);
            let part = if limit > 16 { 1 } else { SEARCHES_DIVISOR };
            assert!(share.searches >= need.searches / part);
            let config = pipeline_config(&settings, "", &[], shards, share);
            assert_eq!(config.message.rules_bytes_max, share.searches);
            // Two eighths of a shard's memory are those of open exchanges.
            let of_shard = config.message.open_bytes_max * 4;
            let all = of_shard * shards + share.bytes + backlog_memory(&settings);
            assert!(
                of_shard <= SHARD_MEMORY_BYTES_MIN || all <= settings.memory_bytes,
                "{all} of {limit} MiB"
            );
            assert!(share.check(&small).is_ok());
            let other = [rules("include strict")];
            assert!(share.check(&other).is_ok(), "other rules can replace them");
        }
        settings.memory_bytes = 16 * MIB;
        let share = RulesShare::of(&settings, &small, 1).unwrap();
        assert!(share.check(&[large()]).is_err());
    }

    #[test]
    fn rules_that_need_too_much_are_refused_with_the_limit_that_is_enough() {
        let mut settings = Settings::check(&Values::default(), READ).unwrap();
        settings.memory_bytes = 16 * MIB;
        let refused = RulesShare::of(&settings, &[large()], 2).unwrap_err();
        let cause = refused.cause.unwrap();
        assert!(cause.contains("line 2 of test.rules"), "{cause}");
        let fix = refused.fix.unwrap();
        let limit = fix.strip_prefix("SNIFFER_MEMORY_LIMIT=");
        let limit = limit.and_then(|text| text.strip_suffix('M')).unwrap();
        settings.memory_bytes = limit.parse::<usize>().unwrap() * MIB;
        assert!(RulesShare::of(&settings, &[large()], 2).is_ok(), "{fix}");
        settings.memory_bytes -= 4 * MIB;
        assert!(RulesShare::of(&settings, &[large()], 2).is_err(), "{fix}");
    }
}
