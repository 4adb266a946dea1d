//! The tuning of the host: each knob of `tuning/knobs` that can be read, compared with what is advised.
//!
//! The table has the advised values and the reasons, and is the one that `tuning/apply` works through; here is only how a
//! value is read: `/proc/sys`, `/sys`, and ethtool requests to the driver. A value that cannot be read (a container without
//! `/sys`, a driver without the setting) gives no finding.

use std::fs;
use std::path::Path;

use engine_sys::{cpu, ethtool};

use super::finding::{Finding, Level};

/// Group, knob, advised value, reason.
const TABLE: &str = include_str!("../../../../tuning/knobs");

/// The rule by which the frequency of the cores is chosen.
const GOVERNOR: &str = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor";

#[derive(Clone, Copy, Debug)]
struct Knob<'a> {
    group: &'a str,
    name: &'a str,
    advised: &'a str,
    reason: &'a str,
}

fn knobs() -> impl Iterator<Item = Knob<'static>> {
    let lines = TABLE.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| {
        let mut columns = line.splitn(4, '|');
        Some(Knob {
            group: columns.next()?,
            name: columns.next()?,
            advised: columns.next()?,
            reason: columns.next()?,
        })
    })
}

pub(super) fn findings(interfaces: Vec<String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for knob in knobs() {
        match knob.group {
            "sysctl" => findings.extend(sysctl(knob, |now, advised| now >= advised)),
            "uring" => findings.extend(sysctl(knob, |now, advised| now == advised)),
            "governor" => findings.extend(governor(knob)),
            "rings" | "offload" | "queues" => {
                findings.extend(
                    interfaces
                        .iter()
                        .filter_map(|name| of_interface(knob, name)),
                );
            }
            // A matter of choice, or not to be judged by one reading (irq, rss, mirror).
            _ => {}
        }
    }
    findings
}

fn finding(
    knob: Knob<'_>,
    topic: &str,
    is_good: bool,
    now: &str,
    advised: &str,
    fix: String,
) -> Finding {
    if is_good {
        return Finding::new(Level::Ok, topic, now);
    }
    let text = format!("{now}, advised {advised}");
    let undo = format!("{fix}    (all at once, and back: tuning/apply, tuning/undo)");
    Finding::new(Level::Warn, topic, text)
        .why(knob.reason)
        .fix(undo)
}

fn sysctl(knob: Knob<'_>, is_good: impl Fn(u64, u64) -> bool) -> Option<Finding> {
    let path = Path::new("/proc/sys").join(knob.name.replace('.', "/"));
    let now = fs::read_to_string(path).ok()?;
    let good = is_good(now.trim().parse().ok()?, knob.advised.parse().ok()?);
    let fix = format!("sysctl -w {}={}", knob.name, knob.advised);
    Some(finding(
        knob,
        knob.name,
        good,
        now.trim(),
        knob.advised,
        fix,
    ))
}

fn governor(knob: Knob<'_>) -> Option<Finding> {
    let now = fs::read_to_string(GOVERNOR).ok()?;
    let now = now.trim();
    let fix = format!("cpupower frequency-set -g {}", knob.advised);
    Some(finding(
        knob,
        "CPU governor",
        now == knob.advised,
        now,
        knob.advised,
        fix,
    ))
}

fn of_interface(knob: Knob<'_>, name: &str) -> Option<Finding> {
    let (what, now, advised, fix) = match knob.group {
        "rings" => {
            let ring = ethtool::receive_ring(name).ok()?;
            (
                "receive ring",
                ring.now.to_string(),
                ring.max.to_string(),
                format!("ethtool -G {name} rx {}", ring.max),
            )
        }
        "offload" => {
            let on = ethtool::merges_segments(name).ok()?;
            (
                "generic receive offload",
                if on { "on" } else { "off" }.to_owned(),
                knob.advised.to_owned(),
                format!("ethtool -K {name} gro on"),
            )
        }
        _ => {
            // A virtual interface has queues, and no interrupts to spread.
            if !Path::new("/sys/class/net")
                .join(name)
                .join("device")
                .exists()
            {
                return None;
            }
            let queues = ethtool::receive_queues(name).ok()?;
            let advised = queues.max.min(cpu::allowed().len() as u32).max(queues.now);
            (
                "receive queues",
                queues.now.to_string(),
                advised.to_string(),
                format!("ethtool -L {name} combined {advised}"),
            )
        }
    };
    let topic = format!("{name} {what}");
    Some(finding(knob, &topic, now == advised, &now, &advised, fix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole() {
        let groups: Vec<&str> = knobs().map(|knob| knob.group).collect();
        for group in [
            "sysctl", "uring", "governor", "rings", "offload", "queues", "irq", "rss", "mirror",
        ] {
            assert!(groups.contains(&group), "{group}");
        }
        assert!(knobs().all(|knob| knob.reason.len() > 20 && !knob.advised.is_empty()));
        let lines = TABLE.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(lines, knobs().count(), "every line is a knob");
    }

    #[test]
    fn a_value_below_the_advice_is_reported_with_the_way_back() {
        let knob = Knob {
            group: "sysctl",
            name: "kernel.threads-max",
            advised: "18446744073709551615",
            reason: "a test",
        };
        let low = sysctl(knob, |now, advised| now >= advised).unwrap();
        assert_eq!(low.level, Level::Warn);
        assert!(low.fix.unwrap().contains("tuning/undo"));
        let good = sysctl(knob, |now, advised| now < advised).unwrap();
        assert_eq!((good.level, good.fix), (Level::Ok, None));
        let nowhere = Knob {
            name: "no.such",
            ..knob
        };
        assert_eq!(sysctl(nowhere, |_, _| true), None);
    }
}
