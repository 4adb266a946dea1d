//! Gaps, and flows joined midstream: what is still read and paired.

use super::flow::*;
use crate::flow::FlowEnd;
use crate::limits;

#[test]
fn in_the_middle_reading_begins_at_the_next_message() {
    let ends = |lines: &[String]| {
        lines
            .iter()
            .map(|line| line.rsplit_once(" => ").unwrap().1.to_owned())
            .collect::<Vec<_>>()
    };
    // The rest of a response whose request was before the capture.
    let (lines, counters) = run(
        &[s("rest of a body\r\nmore}"), c(GET), s(OK)],
        usize::MAX,
        FlowEnd::Fin,
        "",
        true,
    );
    assert_eq!(lines, [plain(1, 0, 21)]);
    assert_eq!(
        (counters.bytes_passed_over, counters.resynchronised),
        (21, 2)
    );
    // A whole response first: an orphan, and the next call is whole.
    let (lines, _) = run(&[s(OK), c(GET), s(OK)], 7, FlowEnd::Fin, "", true);
    assert_eq!(
        ends(&lines),
        [
            format!("orphan #1 @0 {OK_LINE} half Gap"),
            format!("@40 {OK_LINE} done")
        ]
    );
    // The rest of a request, its response, and the next call: the first response has no request.
    let (lines, _) = run(
        &[c("tail}"), s(OK), c(GET), s(OK)],
        usize::MAX,
        FlowEnd::Fin,
        "",
        true,
    );
    assert_eq!(
        ends(&lines),
        [
            format!("orphan #1 @0 {OK_LINE} half Gap"),
            format!("@40 {OK_LINE} done")
        ]
    );
}

#[test]
fn a_loss_within_a_known_length_only_subtracts() {
    let post = "POST /p HTTP/1.1\r\nContent-Length: 10\r\n\r\n";
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n";
    let line = |request: &str, response: &str| {
        format!(
            "#1 @0 POST /p 1.1[Content-Length=10] {request} => @0 200[Content-Length=10] {response} done"
        )
    };
    let next = plain(2, post.len() + 10, answer.len() + 10);
    let first = |request: Vec<Event>, response: Vec<Event>| {
        [
            vec![c(post)],
            request,
            vec![s(answer)],
            response,
            vec![c(GET), s(OK)],
        ]
        .concat()
    };
    let all = |text: &str| vec![c(text)];
    let all_s = |text: &str| vec![s(text)];
    check(
        &first(vec![c("abc"), LostC(4), c("hij")], all_s("0123456789")),
        &[&line("abc<4>hij~", "0123456789."), &next],
    );
    check(
        &first(all("abcdefghij"), vec![LostS(3), s("3456"), LostS(3)]),
        &[&line("abcdefghij.", "<3>3456<3>~"), &next],
    );
    check(
        &first(vec![LostC(10)], vec![LostS(10)]),
        &[&line("<10>~", "<10>~"), &next],
    );
    // Within one chunk the framing is known too.
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nab";
    check(
        &[
            c(GET),
            s(chunked),
            LostS(4),
            s("gh\r\n1\r\ni\r\n0\r\n\r\n"),
            c(GET),
            s(OK),
        ],
        &[
            &format!("#1 @0 {GET_LINE} => @0 200[Transfer-Encoding=chunked] ab<4>ghi~ done"),
            &plain(2, GET.len(), chunked.len() + 4 + 15),
        ],
    );
}

#[test]
fn after_a_loss_the_next_message_is_found_and_paired() {
    let half = |n: u64, at: usize| format!("#{n} @{at} {GET_LINE} => -  half Gap");
    // A lost response: the client's next request proves that it was there.
    check(
        &[c(GET), LostS(40), c(GET), s(OK)],
        &[&half(1, 0), &plain(2, 28, 40)],
    );
    // The start of a response is lost; what is left of it is passed over.
    check(
        &[
            c(GET),
            LostS(10),
            s("K\r\nContent-Length: 2\r\n\r\nok"),
            c(GET),
            s(OK),
        ],
        &[&half(1, 0), &plain(2, 28, 36)],
    );
    // Interim bytes lost: only one request waits, so the response is its own.
    check(&[c(GET), LostS(25), s(OK)], &[&plain(1, 0, 25)]);
    // A lost request: its response is an orphan, the next call is whole.
    let orphan = format!("-  => orphan #2 @40 {OK_LINE} half Gap");
    check(
        &[c(GET), s(OK), LostC(28), s(OK), c(GET), s(OK)],
        &[&plain(1, 0, 0), &orphan, &plain(3, 56, 80)],
    );
    // A whole lost call.
    check(
        &[c(GET), s(OK), LostC(28), LostS(40), c(GET), s(OK)],
        &[&plain(1, 0, 0), &plain(2, 56, 80)],
    );
    // The last chunks are lost, and with them the start of the next response.
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nabcdefgh\r\n";
    let cut = format!("#1 @0 {GET_LINE} => @0 200[Transfer-Encoding=chunked] abcdefgh~ done");
    check(
        &[c(GET), s(chunked), LostS(9), c(GET), s(OK)],
        &[&cut, &plain(2, 28, chunked.len() + 9)],
    );
    check(
        &[
            c(GET),
            s(chunked),
            LostS(19),
            s("tail\r\n0\r\n\r\n"),
            c(GET),
            s(OK),
        ],
        &[&cut, &plain(2, 28, chunked.len() + 30)],
    );
}

#[test]
fn losses_among_pipelined_messages_are_never_guessed() {
    let half = |n: u64, at: usize| format!("#{n} @{at} {GET_LINE} => -  half Gap");
    let orphan = |n: u64, at: usize| format!("-  => orphan #{n} @{at} {OK_LINE} half Gap");
    // Three requests wait and a response is lost: whose is the next one?
    let counters = check(
        &[c(&GET.repeat(3)), s(OK), LostS(40), s(OK), c(GET), s(OK)],
        &[
            &plain(1, 0, 0),
            &half(2, 28),
            &half(3, 56),
            &orphan(4, 80),
            &half(5, 84),
            &orphan(6, 120),
        ],
    );
    assert_eq!(counters.pairings_given_up, 1);
    // One waits, so nothing is ambiguous.
    check(
        &[c(&GET.repeat(2)), s(OK), LostS(40), s(OK), c(GET), s(OK)],
        &[&plain(1, 0, 0), &plain(2, 28, 80), &plain(3, 56, 120)],
    );
}

#[test]
fn in_the_middle_a_pair_waits_for_its_confirmation() {
    let half = |n: u64, at: usize| format!("#{n} @{at} {GET_LINE} => -  half Gap");
    let orphan = |n: u64, at: usize| format!("-  => orphan #{n} @{at} {OK_LINE} half Gap");
    let check = |events: &[Event], expected: &[&str], refuted: u64| {
        let counters = check_flow(events, FlowEnd::Fin, true, expected);
        assert_eq!(counters.pairs_refuted, refuted);
    };
    let mut flow = Flow::new("", true, false);
    flow.feed(&c(GET), usize::MAX);
    flow.feed(&s(OK), usize::MAX);
    assert_eq!(flow.http.counters.exchanges_finished, 0, "it waits");
    flow.feed(&c(GET), usize::MAX);
    assert_eq!(flow.http.counters.exchanges_finished, 1, "it is confirmed");
    flow.feed(&s(OK), usize::MAX);
    assert_eq!(
        flow.http.counters.exchanges_finished, 2,
        "and nothing is ambiguous any more"
    );
    flow.end(FlowEnd::Idle);
    // The end without another response confirms, too; a loss before it does not.
    check(&[c(GET), s(OK)], &[&plain(1, 0, 0)], 0);
    check(
        &[c(GET), s(OK), LostS(40)],
        &[&half(1, 0), &orphan(2, 0)],
        1,
    );
    // Requests of before the capture were answered first: all responses are other requests' than it seems.
    check(
        &[c(GET), s(OK), s(OK), s(OK)],
        &[&half(1, 0), &orphan(2, 0), &orphan(3, 40), &orphan(4, 80)],
        1,
    );
    // The next request acknowledges more than this response.
    check(
        &[c(GET), s(OK), LostS(40), c(GET), s(OK)],
        &[&half(1, 0), &orphan(2, 0), &plain(3, 28, 80)],
        1,
    );
}

#[test]
fn a_head_that_is_not_read_keeps_its_place() {
    let oversized = format!(
        "GET /large HTTP/1.1\r\n{}\r\n",
        "a: b\r\n".repeat(limits::HEADERS_MAX + 1)
    );
    let long = format!(
        "GET /long HTTP/1.1\r\na: {}\r\n\r\n",
        "b".repeat(limits::HEAD_BYTES_MAX)
    );
    let refused = "HTTP/1.1 431 Large\r\nContent-Length: 0\r\n\r\n";
    for unread in [&oversized, &long, "no request line\r\n\r\n", "rubbish\r\n"] {
        let lines = |pipelined: &[Event]| {
            let (mut lines, _) = run(pipelined, 1000, FlowEnd::Fin, "80", false);
            lines.sort();
            lines
        };
        let request = format!("#1 @{} {GET_LINE} => -  half Gap", unread.len());
        let first = "-  => orphan #2 @0 431[Content-Length=0] . half Gap".to_owned();
        let pipelined = c(&format!("{unread}{GET}"));
        assert_eq!(
            lines(&[pipelined.clone(), s(refused)]),
            [request.clone(), first.clone()]
        );
        let second = format!("-  => orphan #3 @{} {OK_LINE} half Gap", refused.len());
        assert_eq!(
            lines(&[pipelined, s(refused), s(OK)]),
            [request, first, second]
        );
        // In turn there is no doubt.
        let first = "-  => orphan #1 @0 431[Content-Length=0] . half Gap".to_owned();
        assert_eq!(
            lines(&[c(unread), s(refused), c(GET), s(OK)]),
            [plain(2, unread.len(), refused.len()), first]
        );
    }
}

#[test]
fn heads_that_a_mirror_cuts_are_half_calls() {
    let request = |number: u64, at: usize, target: &str, fields: &str| {
        format!("#{number} @{at} GET {target} 1.1{fields} ~ => -  half Truncated")
    };
    let orphan = |number: u64, at: usize, head: &str| {
        format!("-  => orphan #{number} @{at} {head} ~ half Truncated")
    };
    let whole_line = "GET /a HTTP/1.1\r\nHost: h\r\nX-Lo";
    let (ok, part) = ("HTTP/1.1 200 OK\r\nA: b\r\nServ", "GET /orders/7?x");
    let next = |sent: usize| sent + 40;
    for step in [1, 5, usize::MAX] {
        let lines = |events: &[Event]| run(events, step, FlowEnd::Fin, "80", false);
        let (found, counters) = lines(&[
            c(whole_line),
            CutC(40),
            s(ok),
            CutS(60),
            c(part),
            CutC(40),
            s("HTTP/1.1 404 N"),
            CutS(40),
        ]);
        let (at, answered) = (next(whole_line.len()), ok.len() + 60);
        assert_eq!(
            found,
            [
                request(1, 0, "/a", "[Host=h]"),
                orphan(2, 0, "200[A=b]"),
                request(3, at, "/orders/7?x", ""),
                orphan(4, answered, "404"),
            ],
            "in pieces of {step}"
        );
        assert_eq!((counters.half_truncated, counters.half_gap), (4, 0));
        // A whole request whose response is cut, and the next call.
        let (found, counters) = lines(&[c(GET), s(ok), CutS(60), c(GET), s(OK)]);
        assert_eq!(
            found,
            [
                format!("#1 @0 {GET_LINE} => -  half Truncated"),
                orphan(2, 0, "200[A=b]"),
                plain(3, GET.len(), answered),
            ]
        );
        assert_eq!(counters.half_truncated, 2);
        // Too little to be recognised.
        let (found, counters) = lines(&[c(GET), s("HTTP/1.1 2"), CutS(60)]);
        assert_eq!((found.len(), counters.half_truncated), (1, 0));
    }
}

#[test]
fn a_body_that_should_not_be_there_costs_no_pair() {
    let head = "HEAD /h HTTP/1.1\r\n\r\n";
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\noops\r\n0\r\n\r\n";
    check(
        &[c(head), s(answer), c(GET), s(OK)],
        &[
            "#1 @0 HEAD /h 1.1 . => @0 200[Transfer-Encoding=chunked] . done",
            &plain(2, head.len(), answer.len()),
        ],
    );
}

#[test]
fn without_acknowledgements_the_order_of_capture_confirms() {
    let mut flow = Flow::new("", true, false);
    flow.silent = true;
    for event in [c(GET), s(OK), c(GET), s(OK)] {
        flow.feed(&event, usize::MAX);
    }
    flow.end(FlowEnd::Shutdown);
    assert_eq!(
        flow.http.exchanges.lines,
        [plain(1, 0, 0), plain(2, GET.len(), OK.len())]
    );
}

#[test]
fn a_gap_that_swallows_no_message_changes_nothing() {
    // Ten lost bytes between messages are no message: the pipelined responses keep their order.
    check(
        &[c(&GET.repeat(2)), LostS(10), s(OK), s(OK)],
        &[&plain(1, 0, 10), &plain(2, 28, 50)],
    );
}
