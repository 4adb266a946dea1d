//! A cell of the matrix, and how it is measured.

use std::fs;

use anyhow::{Context as _, Result, bail};

use crate::collect::PostBuffer;
use crate::load;
use crate::traffic::Wire;
use crate::tx::SenderKind;

/// Fifty rules such as a user may have.
const REALISTIC: &str = include_str!("../rules/realistic.txt");

/// A cell of the matrix: everything but the rate.
#[derive(Clone, Debug)]
pub struct Cell {
    /// The name of the kind of traffic, for the results.
    pub traffic: String,
    /// The shape of the traffic; 0 connections if the rate determines their number.
    pub shape: load::Shape,
    /// New connections a minute, instead of a fixed number of calls on each connection.
    pub flows_per_minute: Option<f64>,
    /// `plain` or `vxlan`, for the results.
    pub wire: String,
    /// Whether bundles are compressed.
    pub compression: bool,
    /// The name of the rule set, for the results.
    pub rules: String,
    /// The text of the rule set.
    pub rules_text: String,
}

/// How a trial is measured.
#[derive(Clone, Debug)]
pub struct Method {
    /// Seconds of measured traffic.
    pub seconds: f64,
    /// Seconds of warm-up traffic.
    pub warm_up: f64,
    /// How frames are sent.
    pub sender: SenderKind,
    /// CPU of the sender, which includes the kernel's path to the tap.
    pub sender_cpu: Option<usize>,
    /// CPUs of the sniffer, in the notation of taskset(1).
    pub engine_cpus: Option<String>,
    /// CPU of the collector.
    pub collector_cpu: Option<usize>,
    /// Priority of the sniffer, as for nice(1).
    pub nice: i32,
    /// Size of one ring, as for `--ring-size`.
    pub ring: String,
    /// Further arguments for `sniffer run`.
    pub arguments: Vec<String>,
    /// Where POSTs wait until the traffic has ended; without it they are checked as they arrive.
    pub post_buffer: Option<PostBuffer>,
}

/// The text of a named rule set. `realistic` has fifty rules, `bodiless` those of them that do not apply to bodies and
/// should cost no more than no rules.
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
            format!("{path} is not a rule set: debug, standard, strict, headers, realistic, bodiless or a file")
        })?,
    };
    if !compression {
        text.push_str("skip_compression\n");
    }
    Ok(text)
}

/// The encapsulation with the name `plain` or `vxlan`.
pub fn wire(name: &str) -> Result<Wire> {
    match name {
        "plain" => Ok(Wire::default()),
        "vxlan" => Ok(load::mirrored(123)),
        _ => bail!("{name} is not an encapsulation: plain or vxlan"),
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
