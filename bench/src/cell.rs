//! One cell of the matrix: what is measured, and how.

use std::fs;

use anyhow::{Context as _, Result, bail};

use crate::collect::PostBuffer;
use crate::load;
use crate::traffic::Wire;
use crate::tx::SenderKind;

/// Fifty rules as somebody may have them.
const REALISTIC: &str = include_str!("../rules/realistic.txt");

/// What does not change between the rates of one cell of the matrix.
#[derive(Clone, Debug)]
pub struct Cell {
    /// What kind of traffic it is, for the results.
    pub traffic: String,
    /// Traffic, but for the number of connections when `rate` chooses it.
    pub shape: load::Shape,
    /// New connections a minute, instead of a number of calls on each.
    pub flows_per_minute: Option<f64>,
    /// `plain` or `vxlan`, for the results.
    pub wire: String,
    /// Bundles are compressed.
    pub compression: bool,
    /// Name of the rule set, for the results.
    pub rules: String,
    /// Its text.
    pub rules_text: String,
}

/// How to measure.
#[derive(Clone, Debug)]
pub struct Method {
    /// Length of the measured traffic.
    pub seconds: f64,
    /// Length of the warm-up.
    pub warm_up: f64,
    /// How frames get onto the wire.
    pub sender: SenderKind,
    /// CPU of the sender, which also pays for the kernel's way to the tap.
    pub sender_cpu: Option<usize>,
    /// CPUs of sniffer and collector, as taskset(1) takes them.
    pub engine_cpus: Option<String>,
    /// CPU of the collector.
    pub collector_cpu: Option<usize>,
    /// Priority of the sniffer, as nice(1) takes it.
    pub nice: i32,
    /// Bytes of one ring.
    pub ring: String,
    /// Further arguments of `sniffer run`.
    pub arguments: Vec<String>,
    /// Where POSTs wait until the traffic is over; none: they are checked as they come.
    pub post_buffer: Option<PostBuffer>,
}

/// The text of a named rule set; `realistic` has fifty rules, `bodiless` those of them that are not on bodies: it has to
/// cost what no rules cost.
pub fn rules(name: &str, compression: bool) -> Result<String> {
    let mut text = match name {
        "debug" | "standard" | "strict" => format!("allow_http_url\ninclude {name}\n"),
        "headers" => "allow_http_url\n/request_body|response_body/ remove\n".to_owned(),
        "realistic" => REALISTIC.to_owned(),
        "bodiless" => {
            let lines = REALISTIC.lines().filter(|line| !line.contains("_body"));
            lines.map(|line| format!("{line}\n")).collect()
        }
        path => fs::read_to_string(path).with_context(|| {
            format!("{path} is no rule set: debug, standard, strict, headers, realistic, bodiless or a file")
        })?,
    };
    if !compression {
        text.push_str("skip_compression\n");
    }
    Ok(text)
}

/// `plain` or `vxlan`.
pub fn wire(name: &str) -> Result<Wire> {
    match name {
        "plain" => Ok(Wire::default()),
        "vxlan" => Ok(load::mirrored(123)),
        _ => bail!("{name} is no wire: plain or vxlan"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_rule_sets_parse() {
        for name in [
            "debug",
            "standard",
            "strict",
            "headers",
            "realistic",
            "bodiless",
        ] {
            for compression in [true, false] {
                let text = rules(name, compression).unwrap();
                let set = engine_core::rules::RuleSet::parse(&text)
                    .unwrap_or_else(|error| panic!("{name}: {error:?}"));
                assert_eq!(set.skip_compression(), !compression, "{name}");
                assert!(set.allow_http_url(), "{name}");
            }
        }
    }

    #[test]
    fn the_realistic_set_has_fifty_rules() {
        let text = rules("realistic", true).unwrap();
        let rules = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        assert_eq!(rules.count(), 50);
    }
}
