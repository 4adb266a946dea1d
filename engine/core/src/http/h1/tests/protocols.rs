//! What a flow is recognised as, and what it becomes.

use super::flow::*;
use super::recorder::Recorder;
use crate::decap::Quic;
use crate::flow::{Acked, ByteInfo, Consumer, Direction, FlowEnd};
use crate::http::hand_over::HandOver;
use crate::http::*;
use crate::limits;
use crate::time::Timestamp;

#[test]
fn what_follows_an_upgrade_is_a_tunnel() {
    let upgrade = "GET /ws HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    let mut flow = Flow::new("", false, false);
    flow.feed(&c(upgrade), 7);
    flow.feed(
        &s("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x01\x02"),
        usize::MAX,
    );
    assert!(flow.ignored());
    flow.feed(&c(GET), usize::MAX);
    flow.feed(&s(OK), usize::MAX);
    flow.end(FlowEnd::Reset);
    let line = "#1 @0 GET /ws 1.1[Upgrade=websocket][Connection=Upgrade] . => @0 101[Upgrade=websocket] . done";
    assert_eq!(flow.http.exchanges.lines, [line]);
    assert_eq!(flow.http.counters.flows_tunnelled, 1);
    assert_eq!(
        flow.http.counters.bytes_tunnelled,
        (2 + GET.len() + OK.len()) as u64
    );
}

#[test]
fn what_was_held_behind_an_upgrade_is_in_the_tunnel_too() {
    // Two lengths: what follows the response is held until it is known where the request ends.
    let post = "POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 7\r\n\r\nhello";
    let upgrade = "GET /ws HTTP/1.1\r\nUpgrade: own\r\nConnection: Upgrade\r\n\r\n";
    let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: own\r\n\r\n";
    for step in [1, 5, usize::MAX] {
        let mut flow = Flow::new("", false, false);
        flow.feed(&c(&format!("{post}{upgrade}")), step);
        flow.feed(&s(&format!("{OK}{answer}of the tunnel")), step);
        flow.connection
            .take()
            .unwrap()
            .close(FlowEnd::Fin, &mut flow.http);
        let counters = flow.http.counters;
        assert_eq!(
            (counters.flows_tunnelled, counters.bytes_tunnelled),
            (1, "of the tunnel".len() as u64),
            "in pieces of {step}"
        );
        assert_eq!(flow.http.buffered_bytes(), 0);
    }
}

#[test]
fn connect_is_a_tunnel_once_it_is_granted() {
    let connect = "CONNECT db:443 HTTP/1.1\r\nHost: db:443\r\n\r\n";
    let refused = "HTTP/1.1 407 Who\r\nContent-Length: 0\r\n\r\n";
    let hello = "\x16\x03\x01\0\u{5}hello";
    check(
        &[
            c(connect),
            s(refused),
            c(connect),
            c(hello),
            s("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"),
            c(hello),
        ],
        &[
            "#1 @0 CONNECT db:443 1.1[Host=db:443] . => @0 407[Content-Length=0] . done",
            "#2 @41 CONNECT db:443 1.1[Host=db:443] . => @39 200[Content-Length=9] . done",
        ],
    );
    check(
        &[
            c("CONNECT mail:25 / HTTP/1.0\r\n\r\n"),
            s("HTTP/1.0 200 OK\r\n\r\n220 mail ESMTP\r\n"),
            c("EHLO h\r\n"),
        ],
        &["#1 @0 CONNECT mail:25 / 1.0 . => @0 200 . done"],
    );
}

/// What a CONNECT opened, in pieces of every size: the lines, and the counter of what is in it.
#[track_caller]
fn check_tunnel(events: &[Event], expected: &[&str], named: &str) {
    let connect = "CONNECT a:80 HTTP/1.1\r\n\r\n";
    for step in [1, 5, usize::MAX] {
        let mut flow = Flow::new("", false, false);
        flow.feed(&c(connect), step);
        events.iter().for_each(|event| flow.feed(event, step));
        let sent: u64 = flow.offsets.iter().sum();
        flow.connection
            .take()
            .unwrap()
            .close(FlowEnd::Fin, &mut flow.http);
        assert_eq!(
            flow.http.exchanges.lines[1..],
            *expected,
            "in pieces of {step}"
        );
        let counters = flow.http.counters;
        let mut fields = Counters::FIELDS.iter().zip(counters.values());
        let named = fields.find(|(field, _)| field.name == named).unwrap();
        assert_eq!((named.1, counters.flows_tunnelled), (1, 1));
        assert_eq!(
            (
                counters.flows_http,
                counters.flows_tls,
                counters.flows_other
            ),
            (1, 0, 0)
        );
        if expected.is_empty() {
            let heads = (connect.len() + "HTTP/1.1 200 OK\r\n\r\n".len()) as u64;
            assert_eq!(
                counters.bytes_tunnelled,
                sent - heads,
                "in pieces of {step}"
            );
        }
    }
}

#[test]
fn http_in_a_tunnel_is_read_and_the_rest_is_named() {
    let ok = "HTTP/1.1 200 OK\r\n\r\n";
    let answered = "HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n{\"a\": \"no body\"}";
    let (at, from) = (25, ok.len());
    check_tunnel(
        &[s(ok), c(GET), s(OK), c(GET), s(OK)],
        &[
            &plain(2, at, from),
            &plain(3, at + GET.len(), from + OK.len()),
        ],
        "tunnels_http",
    );
    // Sent before the answer.
    check_tunnel(
        &[c(GET), s(ok), s(OK)],
        &[&plain(2, at, from)],
        "tunnels_http",
    );
    // Answered as any other method.
    check_tunnel(
        &[s(answered), c(GET), s(OK)],
        &[&plain(2, at, answered.len())],
        "tunnels_http",
    );
    let hello = C(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec());
    let reply = S(b"\x16\x03\x03\0\x7a\x02".to_vec());
    check_tunnel(&[s(ok), hello.clone(), reply.clone()], &[], "tunnels_tls");
    check_tunnel(&[hello, s(ok), reply], &[], "tunnels_tls");
    check_tunnel(
        &[s(ok), s("220 mail ESMTP\r\n"), c("EHLO h\r\n")],
        &[],
        "tunnels_other",
    );
}

#[test]
fn bytes_behind_a_refused_connect_are_requests() {
    let connect = "CONNECT a:80 HTTP/1.1\r\n\r\n";
    let refused = "HTTP/1.1 405 No\r\nContent-Length: 2\r\n\r\nno";
    check(
        &[c(connect), c(GET), s(refused), s(OK), c(GET), s(OK)],
        &[
            "#1 @0 CONNECT a:80 1.1 . => @0 405[Content-Length=2] no. done",
            &plain(2, connect.len(), refused.len()),
            &plain(3, connect.len() + GET.len(), refused.len() + OK.len()),
        ],
    );
}

#[test]
fn what_a_server_answers_in_http_is_http() {
    let refused = "HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n";
    let orphan = "-  => orphan #1 @0 400[Content-Length=0] . half Gap";
    let (lines, counters) = (
        |events: &[Event], step| run(events, step, FlowEnd::Fin, "", false).0,
        |events: &[Event]| run(events, 1000, FlowEnd::Fin, "", false).1,
    );
    for first in [
        "rubbish\r\n\r\n",
        "\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03",
        "\0\x01\x02\x03",
    ] {
        for step in [1, 7, 1000] {
            assert_eq!(lines(&[c(first), s(refused)], step), [orphan], "{first}");
            let both = lines(&[c(first), s(refused), c(GET), s(OK)], step);
            assert_eq!(both[0], orphan, "{first}");
            let second = plain(2, first.len(), refused.len());
            assert_eq!(both[1], second, "{first} in pieces of {step}");
        }
        assert_eq!(counters(&[c(first), s(refused)]).flows_http, 1);
    }
    let method = "M".repeat(70_000);
    let request = format!("{method} /x HTTP/1.1\r\nHost: h\r\n\r\n");
    let line = plain(1, 0, 0).replace("GET", &method);
    check(&[c(&request), s(OK)], &[&line]);
    check(&[c(&format!(" \t\r\n{GET}")), s(OK)], &[&plain(1, 4, 0)]);
    let blank = format!("{GET}\r\n \r\n\t\n{GET}");
    check(
        &[c(&blank), s(&OK.repeat(2))],
        &[&plain(1, 0, 0), &plain(2, GET.len() + 7, OK.len())],
    );
}

#[test]
fn quic_is_in_the_table_of_ports() {
    let mut flow = Flow::new("", false, false);
    for opens in [Some(1 << 40), Some(1 << 40), None, Some(2 << 40)] {
        flow.http.quic(&Quic {
            bytes: 1_200,
            opens,
        });
    }
    let counters = flow.http.counters;
    assert_eq!((counters.flows_quic, counters.bytes_quic), (2, 4_800));
    let row = &flow.http.ports_seen.rows()[0];
    let named: Vec<_> = row.by_protocol().filter(|(_, flows)| *flows > 0).collect();
    assert_eq!((row.port, named), (443, vec![(Protocol::Quic, 2)]));
}

#[test]
fn http2_that_is_joined_late_is_named() {
    for ports in ["", "80"] {
        let mut flow = Flow::new(ports, true, false);
        let update = b"\0\0\x04\x08\0\0\0\0\x05\0\x01\0\0".to_vec();
        flow.feed(&S(update.clone()), usize::MAX);
        flow.feed(&C(update), usize::MAX);
        assert!(!flow.ignored());
        let rows = flow.http.ports_seen.rows().iter();
        let named: Vec<_> = rows.flat_map(PortFlows::by_protocol).collect();
        assert!(named.contains(&(Protocol::Http2Midstream, 1)), "{named:?}");
        flow.end(FlowEnd::Fin);
        assert_eq!(flow.http.counters.flows_http2_midstream, 1);
        assert_eq!(flow.http.counters.flows_http2, 1);
    }
}

#[test]
fn one_frame_of_one_side_may_be_anything() {
    let mut flow = Flow::new("", true, false);
    flow.feed(
        &S(b"\0\0\x04\x08\0\0\0\0\x05\0\x01\0\0".to_vec()),
        usize::MAX,
    );
    flow.end(FlowEnd::Fin);
    let counters = flow.http.counters;
    assert_eq!(
        (counters.flows_http2_midstream, counters.flows_other),
        (0, 1)
    );
}

#[test]
fn what_was_collected_goes_to_the_next_reader() {
    let upgrade = "GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\n";
    let switch = "HTTP/1.1 101 Switching Protocols\r\n\r\n\x01\x02";
    for step in [1, 7, usize::MAX] {
        let mut flow = Flow::new("", false, false);
        for event in [c(upgrade), c("GET /early"), s(switch), c("late")] {
            flow.feed(&event, step);
        }
        flow.end(FlowEnd::Fin);
        assert_eq!(flow.http.exchanges.lines.len(), 1);
        let expected = "GET /early\x01\x02late".len() as u64;
        assert_eq!(flow.http.counters.bytes_tunnelled, expected);
    }
}

#[test]
fn requests_that_wait_at_a_hand_over_end_with_the_flow() {
    let upgrade = "GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\n";
    let switch = "HTTP/1.1 101 Switching Protocols\r\n\r\n";
    for (end, reason) in [(FlowEnd::Reset, "Closed"), (FlowEnd::Idle, "Timeout")] {
        let mut flow = Flow::new("", false, false);
        for event in [c(upgrade), c(GET), s(switch)] {
            flow.feed(&event, usize::MAX);
        }
        assert_eq!(flow.http.exchanges.lines.len(), 1);
        flow.end(end);
        let waiting = format!("#2 @{} {GET_LINE} => -  half {reason}", upgrade.len());
        assert_eq!(flow.http.exchanges.lines[1], waiting);
    }
}

#[test]
fn a_reader_goes_on_where_the_one_before_stopped() {
    let mut http = Http::new(Config::default(), Recorder::default());
    let mut waiting = http.exchanges.begin();
    waiting.request_end = ".".to_owned();
    let hand_over = HandOver {
        calls: 3,
        waiting: vec![waiting],
        ..HandOver::of_new_flow(&start(false), Protocol::Detecting)
    };
    let mut connection = super::super::Connection::new(hand_over, &mut http);
    for (direction, offset, text) in [
        (Direction::Originator, 100, GET),
        (Direction::Responder, 50, OK),
    ] {
        let place = ByteInfo {
            direction,
            time: Timestamp::ZERO,
            offset,
            acked: Acked::ABSENT,
        };
        assert_eq!(connection.data(place, text.as_bytes(), &mut http), b"");
    }
    let lines = &http.exchanges.lines;
    assert_eq!(lines[0], "- . => -  half Closed");
    assert_eq!(lines[1], plain(4, 100, 50));
}

/// What a flow is recognised as: the counter of it, and whether it is read further. Returns the table of ports.
#[track_caller]
fn check_protocol(
    ports: &str,
    midstream: bool,
    events: &[Event],
    named: &str,
    ignored: bool,
) -> Vec<(u16, Vec<(Protocol, u64)>)> {
    for step in [1, 5, usize::MAX] {
        let mut flow = Flow::new(ports, midstream, false);
        for event in events {
            flow.feed(event, step);
        }
        assert_eq!(flow.ignored(), ignored, "in pieces of {step}");
        let counted = Counters::FIELDS
            .iter()
            .zip(flow.http.counters.values())
            .find(|(field, _)| field.name == named);
        assert_eq!(
            counted.map(|(_, value)| value),
            Some(1),
            "{named} in pieces of {step}"
        );
        flow.end(FlowEnd::Fin);
    }
    let mut flow = Flow::new(ports, midstream, false);
    events.iter().for_each(|event| flow.feed(event, usize::MAX));
    let rows = flow.http.ports_seen.rows().iter();
    let flows = |row: &PortFlows| row.by_protocol().filter(|(_, flows)| *flows > 0).collect();
    rows.map(|row| (row.port, flows(row))).collect()
}

#[test]
fn what_is_not_http_is_named() {
    let hello = || C(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec());
    let answer = || S(b"\x16\x03\x03\0\x7a\x02".to_vec());
    let rows = check_protocol("", false, &[hello(), answer()], "flows_tls", true);
    assert_eq!(rows, [(80, vec![(Protocol::Tls, 1)])]);
    check_protocol("80", false, &[hello(), answer()], "flows_tls", true);
    let preface = c("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    let settings = S(b"\0\0\0\x04\0\0\0\0\0".to_vec());
    let rows = check_protocol("", false, &[preface, settings], "flows_http2", false);
    assert_eq!(rows, [(80, vec![(Protocol::Http2, 1)])]);
    check_protocol(
        "",
        false,
        &[s("220 mail.example ESMTP\r\n")],
        "flows_other",
        true,
    );
    let ssh = [c("SSH-2.0-x\r\n"), s("SSH-2.0-y\r\n")];
    check_protocol("", false, &ssh, "flows_other", true);
    let binary = [C(vec![0, 1, 2, 3]), S(vec![4, 5])];
    check_protocol("", false, &binary, "flows_other", true);
    let silent = [C(vec![0; limits::UNANSWERED_BYTES_MAX as usize + 1])];
    check_protocol("", false, &silent, "flows_other", true);
    let rows = check_protocol("", false, &[c(GET)], "flows_http", false);
    assert_eq!(rows, [(80, vec![(Protocol::Http1, 1)])]);
    check_protocol(
        "",
        false,
        &[c("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n"), c(GET)],
        "flows_http",
        false,
    );
    check_protocol(
        "",
        false,
        &[
            C(
                b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x01\x02\x03\x04\x05\x06\x07\x08\0\x50\0\x51"
                    .to_vec(),
            ),
            c(GET),
        ],
        "flows_http",
        false,
    );
}

#[test]
fn a_port_list_says_which_flows_are_wanted_and_nothing_else() {
    check_protocol("8080,40001-50000", false, &[], "flows_unwanted", true);
    check_protocol("40000", false, &[c(GET)], "flows_http", false);
    check_protocol("80,40000", false, &[c(GET)], "flows_http", false);
    // On a wanted port HTTP may follow what is not HTTP.
    check_protocol(
        "80",
        false,
        &[c("\x01rubbish\r\n"), c(GET)],
        "flows_http",
        false,
    );
}

#[test]
fn in_the_middle_a_flow_has_to_show_a_start_line() {
    let noise = |from: u8| {
        (0..limits::RESYNC_GIVE_UP_BYTES)
            .map(|n| from.wrapping_add((n % 251) as u8))
            .collect::<Vec<u8>>()
    };
    check_protocol("", true, &[C(noise(3)), S(noise(5))], "flows_other", true);
    check_protocol(
        "",
        true,
        &[S(noise(3)), S(noise(5)), S(noise(9)), c(GET)],
        "flows_http",
        false,
    );
    check_protocol(
        "",
        true,
        &[C(noise(3)), C(noise(5)), s(OK)],
        "flows_http",
        false,
    );
}

#[test]
fn too_many_waiting_requests_end_the_reading() {
    let mut flow = Flow::new("", false, false);
    for _ in 0..=limits::PIPELINE_DEPTH_MAX {
        flow.feed(&c(GET), usize::MAX);
    }
    assert!(flow.ignored());
    assert_eq!(
        flow.http.counters.half_evicted,
        limits::PIPELINE_DEPTH_MAX as u64
    );
    flow.end(FlowEnd::Fin);
}
