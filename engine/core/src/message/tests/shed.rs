//! Bounds of memory, truncation, and the shed policy: what is given up is counted and marked.

use super::*;

#[test]
fn memory_of_open_calls_is_bounded_and_what_is_cut_is_counted() {
    let mut writer = writer(
        "include debug",
        Config {
            open_bytes_max: 1 << 20,
            ..config()
        },
    );
    let drafts: Vec<_> = (0..20_000)
        .map(|_| request_only(&mut writer, &[b'x'; 900]))
        .collect();
    assert!(writer.open_bytes() < 3 << 20, "{}", writer.open_bytes());
    assert!(writer.counters().bodies_shed > 0);
    for draft in drafts {
        writer.finish(draft);
    }
    let counters = *writer.counters();
    assert!(counters.calls_shed > 0 && counters.lines_written > 0);
    assert_eq!(
        counters.calls_seen,
        counters.lines_written + counters.calls_shed
    );
    assert_eq!(writer.open_bytes(), 0);
    // Memory is there again.
    let draft = request_only(&mut writer, b"y");
    writer.finish(draft);
    assert_eq!(writer.counters().calls_shed, counters.calls_shed);
}

#[test]
fn bodies_are_cut_at_the_limit_and_say_so() {
    for rules in [
        "include debug",
        "include debug\n/response_body/ replace /nothing/, //",
    ] {
        let limited = Config {
            body_bytes_max: 10,
            annotate: true,
            ..config()
        };
        let mut writer = writer(rules, limited);
        let (request, response) = exchange(
            "GET / HTTP/1.1\nHost: h\n\n",
            "HTTP/1.1 200 OK\n\n0123456789abcdef",
        );
        play(&mut writer, &request, &response, 5, 2, 3);
        let notes = writer.output().0[0].1;
        assert_eq!((notes.response_body_bytes, notes.truncated), (16, true));
        let details = only_line(&mut writer);
        assert_eq!(value_of(&details, "response_body"), Some("0123456789"));
        assert_eq!(
            value_of(&details, "custom_field:response_body_bytes"),
            Some("16")
        );
        assert_eq!(writer.counters().bodies_limited, 1);
    }
}

/// A response of 16 bytes under a policy of 10, plain and coded: cut and marked, unless a rule has to see it.
#[track_caller]
fn check_truncated(rules: &str, truncated: bool, expected: Option<&str>) {
    for coding in ["", "gzip"] {
        let config = Config {
            annotate: true,
            ..config()
        };
        let mut writer = writer(rules, config);
        let (request, mut response) = exchange(
            "GET / HTTP/1.1\nHost: h\n\n",
            "HTTP/1.1 200 OK\n\n{\"k\":\"0123456\"}",
        );
        if coding == "gzip" {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            std::io::Write::write_all(&mut encoder, &response.body).unwrap();
            response.body = encoder.finish().unwrap();
            let header = (b"Content-Encoding".to_vec(), b"gzip".to_vec());
            response.headers.push(header);
        }
        let policy = ShedPolicy {
            truncated: ShedPolicy::CALLS,
            body_bytes_max: 10,
            ..ShedPolicy::default()
        };
        writer.set_shed_policy(policy);
        play(&mut writer, &request, &response, 5, 2, 3);
        assert_eq!(
            writer.counters().bodies_truncated,
            u64::from(truncated),
            "{rules}"
        );
        assert_eq!(writer.counters().bodies_limited, 0);
        assert_eq!(
            writer.counters().calls_stopped,
            u64::from(expected.is_none())
        );
        let Some(expected) = expected else { continue };
        assert_eq!(writer.output().0[0].1.truncated, truncated);
        let details = only_line(&mut writer);
        assert_eq!(value_of(&details, "response_body"), Some(expected));
        let full = value_of(&details, "custom_field:response_body_bytes");
        assert_eq!(full, truncated.then_some("15"));

        // What begins when the load has fallen is whole again.
        writer.output().0.clear();
        writer.set_shed_policy(ShedPolicy::default());
        play(&mut writer, &request, &response, 5, 2, 3);
        assert!(!writer.output().0[0].1.truncated);
    }
}

#[test]
fn truncated_bodies_evade_no_rule() {
    check_truncated("include debug", true, Some("{\"k\":\"0123"));
    check_truncated(
        "/response_body/ replace /345/, /x/",
        false,
        Some("{\"k\":\"012x6\"}"),
    );
    check_truncated("/response_body:$.k/ remove", false, Some("{}"));
    check_truncated("/response_body/ stop_if_found /6/", false, None);
    check_truncated(
        "/response_body/ stop_unless_found /6/",
        false,
        Some("{\"k\":\"0123456\"}"),
    );
}

#[test]
fn a_share_of_the_calls_of_one_connection_is_shed_and_truncated_and_counted() {
    const CALLS: u64 = 800;
    let flow = flow();
    for shed in [0, 1, 3, 64, 100, 255, ShedPolicy::CALLS] {
        let mut writer = writer("include debug", config());
        let policy = ShedPolicy {
            truncated: shed.midpoint(ShedPolicy::CALLS),
            body_bytes_max: 2,
            shed,
        };
        writer.set_shed_policy(policy);
        for call_index in 1..=CALLS {
            let origin = Origin {
                flow: &flow,
                client_is_originator: true,
                call_index,
                message: MessageId::at(0),
                time: Timestamp::ZERO,
            };
            let request = RequestHead::new(b"GET", b"/", Version::Http11, &[]);
            let response = ResponseHead::new(200, Version::Http11, &[]);
            let mut draft = writer.request(&request, &origin);
            // What begins under policy stays as it began.
            writer.set_shed_policy(ShedPolicy::default());
            writer.response(&mut draft, &response, &origin);
            writer.body(&mut draft, Side::Response, b"text", Timestamp::ZERO);
            writer.finish(draft);
            writer.set_shed_policy(policy);
        }
        let (counters, lines) = (*writer.counters(), writer.output().0.len() as u64);
        assert_eq!((writer.open_calls(), writer.open_bytes()), (0, 0));
        assert_eq!(counters.calls_seen, CALLS);
        assert_eq!(counters.calls_shed_overload + lines, CALLS);
        // Half of the bodies of those that are left are truncated.
        let expected = CALLS * u64::from(shed) / u64::from(ShedPolicy::CALLS);
        for (counted, expected) in [
            (counters.calls_shed_overload, expected),
            (counters.bodies_truncated, (CALLS - expected) / 2),
        ] {
            assert!(
                counted.abs_diff(expected) <= 2,
                "{shed}: {counted} of {CALLS}"
            );
        }
    }
}
