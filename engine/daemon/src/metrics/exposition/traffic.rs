//! What was captured, by network and by port, and how long calls took. Every table is bounded where it is filled.

use std::fmt::Display;

use engine_core::decap::VniSeen;
use engine_core::message::{Durations, NetworkCalls, NetworkTable};

use super::text::Text;
use crate::status::Port;

/// What stands for the networks past the bound of the table.
const OTHERS: &str = "other";

/// Name, help and value of a metric of a network.
type NetworkRow = (&'static str, &'static str, fn(&NetworkCalls) -> u64);

/// Nothing where no network was seen.
pub(super) fn networks(page: &mut Text, vnis: &[VniSeen], calls: &NetworkTable) {
    const PACKETS: &str = "sniffer_vni_packets_total";
    if !vnis.is_empty() {
        page.metric(
            PACKETS,
            "Frames of a network in a tunnel; wanted: whether it is one of SNIFFER_MIRROR_VNIS, so that it is read.",
        );
        for seen in vnis {
            let wanted = if seen.wanted { "yes" } else { "no" };
            let labels: [(&str, &dyn Display); 2] = [("vni", &seen.vni), ("wanted", &wanted)];
            page.sample(PACKETS, &labels, seen.frames);
        }
    }
    let rows: [NetworkRow; 3] = [
        (
            "sniffer_vni_calls_total",
            "Calls with a request and a response, by network.",
            |row| row.calls,
        ),
        (
            "sniffer_vni_failed_calls_total",
            "Of these, calls with a status of 500 or more.",
            |row| row.failed,
        ),
        (
            "sniffer_vni_half_calls_total",
            "Requests without response, and responses without request, by network.",
            |row| row.half,
        ),
    ];
    if calls.rows().is_empty() {
        return;
    }
    for (name, help, count) in rows {
        page.metric(name, help);
        for row in calls.rows() {
            page.sample(name, &[("vni", &vni(row))], count(row));
        }
    }
    const SECONDS: &str = "sniffer_vni_call_seconds_total";
    page.metric(
        SECONDS,
        "Time from the first byte of the request to that of the response, summed over sniffer_vni_calls_total.",
    );
    for row in calls.rows() {
        page.sample(
            SECONDS,
            &[("vni", &vni(row))],
            seconds(row.durations.nanos()),
        );
    }
    const NAME: &str = "sniffer_vni_call_duration_seconds";
    page.head(
        NAME,
        "histogram",
        "As sniffer_call_duration_seconds, by network.",
    );
    for row in calls.rows() {
        histogram(page, NAME, &[("vni", &vni(row))], &row.durations);
    }
}

fn vni(row: &NetworkCalls) -> String {
    row.vni
        .map_or_else(|| OTHERS.to_owned(), |vni| vni.to_string())
}

fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

/// Connections by port, without the protocols that no connection of the port had.
pub(super) fn ports(page: &mut Text, ports: &[Port]) {
    const NAME: &str = "sniffer_port_connections_total";
    if ports.is_empty() {
        return;
    }
    page.metric(
        NAME,
        "Connections by the server's port and what they were recognised as.",
    );
    for port in ports {
        for (protocol, count) in port.connections.iter().filter(|(_, count)| **count > 0) {
            let labels: [(&str, &dyn Display); 2] = [("port", &port.port), ("protocol", protocol)];
            page.sample(NAME, &labels, count);
        }
    }
}

/// How long calls took.
pub(super) fn durations(page: &mut Text, durations: &Durations) {
    const NAME: &str = "sniffer_call_duration_seconds";
    page.head(
        NAME,
        "histogram",
        "From the first byte of a request to the first byte of its response, whether the rules keep the call or not.",
    );
    histogram(page, NAME, &[], durations);
}

/// The samples of a histogram with these labels.
fn histogram(page: &mut Text, name: &str, labels: &[(&str, &dyn Display)], durations: &Durations) {
    let bucket = format!("{name}_bucket");
    let with_edge = |page: &mut Text, edge: &dyn Display, count: u64| {
        let labels: Vec<_> = labels.iter().copied().chain([("le", edge)]).collect();
        page.sample(&bucket, &labels, count);
    };
    let mut sum = 0;
    for (edge, count) in Durations::edges().zip(durations.counts()) {
        sum += count;
        with_edge(page, &seconds(edge), sum);
    }
    let all: u64 = durations.counts().iter().sum();
    with_edge(page, &"+Inf", all);
    page.sample(&format!("{name}_sum"), labels, seconds(durations.nanos()));
    page.sample(&format!("{name}_count"), labels, all);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(page: &Text, lines: &[&str]) {
        for line in lines {
            assert!(page.0.contains(&format!("{line}\n")), "{line}: {}", page.0);
        }
    }

    #[test]
    fn a_network_has_its_frames_and_its_calls() {
        let mut page = Text::default();
        networks(&mut page, &[], &NetworkTable::default());
        assert_eq!(page.0, "");
        let seen = [(7, true), (8, false)].map(|(vni, wanted)| VniSeen {
            vni,
            frames: 30,
            wanted,
        });
        let mut calls = NetworkTable::default();
        for vni in [Some(7), None] {
            calls.add(&NetworkCalls {
                vni,
                calls: 4,
                failed: 1,
                half: 2,
                durations: Durations::from_cells(&mut (1..)),
            });
        }
        networks(&mut page, &seen, &calls);
        check(
            &page,
            &[
                "sniffer_vni_packets_total{vni=\"8\",wanted=\"no\"} 30",
                "sniffer_vni_calls_total{vni=\"7\"} 4",
                "sniffer_vni_failed_calls_total{vni=\"other\"} 1",
                "sniffer_vni_half_calls_total{vni=\"7\"} 2",
                "sniffer_vni_call_seconds_total{vni=\"other\"} 0.000000022",
                "# TYPE sniffer_vni_call_duration_seconds histogram",
                "sniffer_vni_call_duration_seconds_bucket{vni=\"7\",le=\"0.000262144\"} 3",
                "sniffer_vni_call_duration_seconds_bucket{vni=\"other\",le=\"+Inf\"} 231",
                "sniffer_vni_call_duration_seconds_count{vni=\"7\"} 231",
            ],
        );
    }

    #[test]
    fn a_port_has_what_was_seen_on_it() {
        let mut page = Text::default();
        ports(&mut page, &[]);
        assert_eq!(page.0, "");
        let connections = [("http".to_owned(), 3), ("tls".to_owned(), 0)];
        let port = Port {
            port: 80,
            connections: connections.into(),
        };
        ports(&mut page, &[port]);
        check(
            &page,
            &["sniffer_port_connections_total{port=\"80\",protocol=\"http\"} 3"],
        );
        assert!(!page.0.contains("tls"), "{}", page.0);
    }

    #[test]
    fn buckets_add_up() {
        let mut page = Text::default();
        let mut cells = 1..;
        durations(&mut page, &Durations::from_cells(&mut cells));
        check(
            &page,
            &[
                "# TYPE sniffer_call_duration_seconds histogram",
                "sniffer_call_duration_seconds_bucket{le=\"0.000131072\"} 1",
                "sniffer_call_duration_seconds_bucket{le=\"0.000262144\"} 3",
                "sniffer_call_duration_seconds_bucket{le=\"68.719476736\"} 210",
                "sniffer_call_duration_seconds_bucket{le=\"+Inf\"} 231",
                "sniffer_call_duration_seconds_count 231",
                "sniffer_call_duration_seconds_sum 0.000000022",
            ],
        );
    }
}
