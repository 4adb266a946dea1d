//! Single messages and calls: heads and bodies as they come.

use super::flow::*;
use crate::flow::FlowEnd;

#[test]
fn one_call() {
    let counters = check(&[c(GET), s(OK)], &[&plain(1, 0, 0)]);
    assert_eq!(
        (counters.requests, counters.responses, counters.flows_http),
        (1, 1, 1)
    );
    assert_eq!(counters.bytes_passed_over, 0);
}

#[test]
fn pipelining_in_every_layout() {
    let lines: Vec<String> = (0..3)
        .map(|n| plain(n as u64 + 1, n * GET.len(), n * OK.len()))
        .collect();
    let expected: Vec<&str> = lines.iter().map(String::as_str).collect();
    check(&[c(&GET.repeat(3)), s(&OK.repeat(3))], &expected);
    check(&[c(&GET.repeat(3)), s(OK), s(OK), s(OK)], &expected);
    check(&[c(GET), c(GET), c(GET), s(&OK.repeat(3))], &expected);
    check(&[c(GET), s(OK), c(GET), s(OK), c(GET), s(OK)], &expected);
}

#[test]
fn responses_without_a_body_whatever_their_length_says() {
    let head = "HEAD /x HTTP/1.1\r\nHost: h\r\n\r\n";
    let long = "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n";
    let same = "HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\n\r\n";
    let none = "HTTP/1.1 204 No Content\r\n\r\n";
    check(
        &[
            c(head),
            s(long),
            c(GET),
            s(same),
            c(GET),
            s(none),
            c(GET),
            s(OK),
        ],
        &[
            "#1 @0 HEAD /x 1.1[Host=h] . => @0 200[Content-Length=1234] . done",
            &format!("#2 @29 {GET_LINE} => @41 304[Content-Length=77] . done"),
            &format!("#3 @57 {GET_LINE} => @90 204 . done"),
            &plain(4, 85, 117),
        ],
    );
}

#[test]
fn chunked_bodies() {
    let post = "POST /up HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n6;e=1\r\nhello \r\n5\r\nworld\r\n0\r\nX-Sum: 5\r\n\r\n";
    let response =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n0\r\n\r\nab\r\n0\r\n\r\n";
    check(
        &[c(post), s(response), c(GET), s(OK)],
        &[
            r"#1 @0 POST /up 1.1[Transfer-Encoding=chunked] hello world. => @0 200[Transfer-Encoding=chunked] 0\r\n\r\nab. done",
            &plain(2, post.len(), response.len()),
        ],
    );
}

#[test]
fn bodies_until_the_close() {
    let response = "HTTP/1.0 200 OK\r\n\r\nuntil the end";
    let line = |end: &str| format!("#1 @0 {GET_LINE} => @0 200 until the end{end} done");
    check(&[c(GET), s(response), FinS], &[&line(".")]);
    check(&[c(GET), s(response)], &[&line(".")]);
    check_flow(&[c(GET), s(response)], FlowEnd::Reset, false, &[&line("~")]);
    check_flow(&[c(GET), s(response)], FlowEnd::Idle, false, &[&line("~")]);
    check_flow(
        &[c(GET), s(response), FinS],
        FlowEnd::Reset,
        false,
        &[&line(".")],
    );
    check(
        &[
            c(GET),
            s("HTTP/1.0 200 OK\r\n\r\nuntil"),
            LostS(4),
            s(" end"),
            FinS,
        ],
        &[&format!("#1 @0 {GET_LINE} => @0 200 until<4> end~ done")],
    );
}

#[test]
fn a_body_of_zero_bytes_is_a_body() {
    let post = "POST /z HTTP/1.1\r\nContent-Length: 4\r\n\r\n\0\0\0\0";
    check(
        &[c(post), s(OK)],
        &[r"#1 @0 POST /z 1.1[Content-Length=4] \0\0\0\0. => @0 200[Content-Length=2] ok. done"],
    );
}

#[test]
fn interim_responses_are_passed_over() {
    let post = "POST /p HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    let counters = check(
        &[
            c(post),
            s("HTTP/1.1 100 Continue\r\nX: y\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: l\r\n\r\n"),
            c("hi"),
            s("HTTP/1.1 199 Odd\r\n\r\n"),
            s(OK),
        ],
        &[
            "#1 @0 POST /p 1.1[Expect=100-continue][Content-Length=2] hi. => @88 200[Content-Length=2] ok. done",
        ],
    );
    assert_eq!(counters.responses_interim, 3);
}

/// A head in, and the same head as the exchange shows it.
#[track_caller]
fn check_request(head: &str, shown: &str) {
    check(
        &[C(head.bytes().collect()), s(OK)],
        &[&format!("#1 {shown} . => @0 {OK_LINE} done")],
    );
}

#[test]
fn requests_as_they_come() {
    check_request(
        "\r\n\r\nGET /x HTTP/1.1\r\nHost: h\r\n\r\n",
        "@4 GET /x 1.1[Host=h]",
    );
    check_request(
        "GET /lf HTTP/1.1\nHost: h\nX-A: 1\n\n",
        "@0 GET /lf 1.1[Host=h][X-A=1]",
    );
    check_request("x-custom! /c HTTP/1.1\r\n\r\n", "@0 x-custom! /c 1.1");
    check_request(
        "GET /f HTTP/1.1\r\nX-Long: one\r\n two\r\n\tthree\r\n\r\n",
        "@0 GET /f 1.1[X-Long=one two three]",
    );
    check_request(
        "POST /f HTTP/1.1\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
        "@0 POST /f 1.1[Transfer-Encoding=chunked]",
    );
    check_request(
        "GET /s HTTP/1.1\r\nHost : h\r\nX-Pad:    v  \r\nX-Tab:\tt\t\r\nX-Empty:\r\n\r\n",
        "@0 GET /s 1.1[Host=h][X-Pad=v][X-Tab=t][X-Empty=]",
    );
    check_request(
        "GET /é HTTP/1.1\r\nX-Näme: café\r\n\r\n",
        r"@0 GET /\xc3\xa9 1.1[X-N\xc3\xa4me=caf\xc3\xa9]",
    );
    check_request(
        "GET http://o.example:81/p?q HTTP/1.1\r\nHost: h\r\n\r\n",
        "@0 GET http://o.example:81/p?q 1.1[Host=h]",
    );
    check_request("OPTIONS * HTTP/1.1\r\n\r\n", "@0 OPTIONS * 1.1");
    check_request(
        "OPTIONS HTTP/1.1\r\nHost: h\r\n\r\n",
        "@0 OPTIONS HTTP/1.1 1.1[Host=h]",
    );
    check_request(
        "GET /a b HTTP/1.1\r\nHost: h\r\n\r\n",
        "@0 GET /a b 1.1[Host=h]",
    );
    check_request("GET /old HTTP/1.0\r\n\r\n", "@0 GET /old 1.0");
}

#[test]
fn long_targets_and_many_headers() {
    let target = format!("/{}", "a".repeat(64 * 1024));
    let head = format!("GET {target} HTTP/1.1\r\n\r\n");
    for step in [1, 100, 1460, usize::MAX] {
        let (lines, _) = run(&[c(&head), s(OK)], step, FlowEnd::Fin, "", false);
        assert_eq!(
            lines,
            [format!("#1 @0 GET {target} 1.1 . => @0 {OK_LINE} done")]
        );
    }
    let many: String = (0..1000).map(|n| format!("X-{n}: {n}\r\n")).collect();
    let shown: String = (0..1000).map(|n| format!("[X-{n}={n}]")).collect();
    for step in [1, 1460, usize::MAX] {
        let (lines, _) = run(
            &[c(&format!("GET /m HTTP/1.1\r\n{many}\r\n")), s(OK)],
            step,
            FlowEnd::Fin,
            "",
            false,
        );
        assert_eq!(
            lines,
            [format!("#1 @0 GET /m 1.1{shown} . => @0 {OK_LINE} done")]
        );
    }
}

#[test]
fn responses_as_they_come() {
    for (head, shown) in [
        (
            "HTTP/1.1 499\r\nContent-Length: 0\r\n\r\n",
            "499[Content-Length=0]",
        ),
        (
            "HTTP/1.1 599 \r\nContent-Length: 0\r\n\r\n",
            "599[Content-Length=0]",
        ),
        (
            "HTTP/1.0 799 Odd\nContent-Length: 0\n\n",
            "799[Content-Length=0]",
        ),
        (
            "HTTP/1.1 404 Nicht da: foo\r\nContent-Length: 0\r\n\r\n",
            "404[Content-Length=0]",
        ),
    ] {
        check(
            &[c(GET), s(head), c(GET), s(OK)],
            &[
                &format!("#1 @0 {GET_LINE} => @0 {shown} . done"),
                &plain(2, GET.len(), head.len()),
            ],
        );
    }
}

#[test]
fn an_early_answer_waits_for_its_request() {
    let post = "POST /p HTTP/1.1\r\nContent-Length: 4\r\n\r\n";
    let answer = "HTTP/1.1 413 Big\r\nContent-Length: 0\r\n\r\n";
    let line = |body: &str| {
        format!("#1 @0 POST /p 1.1[Content-Length=4] {body} => @0 413[Content-Length=0] . done")
    };
    check(
        &[c(post), c("ab"), s(answer), c("cd"), c(GET), s(OK)],
        &[&line("abcd."), &plain(2, 43, answer.len())],
    );
    check(&[c(post), c("ab"), s(answer), FinS], &[&line("ab~")]);
}

#[test]
fn halves_say_why() {
    // A client that has no more to send still gets its response.
    check(&[c(GET), FinC, s(OK)], &[&plain(1, 0, 0)]);
    for (end, why) in [
        (FlowEnd::Fin, "Closed"),
        (FlowEnd::Reset, "Closed"),
        (FlowEnd::Reused, "Closed"),
        (FlowEnd::Idle, "Timeout"),
        (FlowEnd::Evicted, "Evicted"),
        (FlowEnd::Shutdown, "Shutdown"),
    ] {
        let line = |n: u64, at: usize| format!("#{n} @{at} {GET_LINE} => -  half {why}");
        check_flow(
            &[c(GET), c(GET)],
            end,
            false,
            &[&line(1, 0), &line(2, GET.len())],
        );
    }
    let half = |why: &str| format!("#1 @0 {GET_LINE} => -  half {why}");
    check_flow(&[c(GET), FinS], FlowEnd::Idle, false, &[&half("Closed")]);
    check_flow(&[c(GET), LostS(400)], FlowEnd::Idle, false, &[&half("Gap")]);
    check_flow(
        &[c(GET), s("HTTP/1.1 200 O")],
        FlowEnd::Reset,
        false,
        &[&half("Closed")],
    );
    check(&[c(GET), s("SSH-2.0-OpenSSH_9.2\r\n")], &[&half("Closed")]);
    let cut = "POST /p HTTP/1.1\r\nContent-Length: 4\r\n\r\nab";
    check_flow(
        &[c(cut)],
        FlowEnd::Idle,
        false,
        &["#1 @0 POST /p 1.1[Content-Length=4] ab~ => -  half Timeout"],
    );
    check_flow(
        &[c(GET), s("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab")],
        FlowEnd::Idle,
        false,
        &[&format!(
            "#1 @0 {GET_LINE} => @0 200[Content-Length=5] ab~ done"
        )],
    );
}

#[test]
fn responses_without_requests() {
    check(
        &[s(OK), c(GET), s(OK)],
        &[
            "-  => orphan #1 @0 200[Content-Length=2] ok. half Gap",
            &format!("#2 @0 {GET_LINE} => @40 {OK_LINE} done"),
        ],
    );
    // An orphan whose request was a HEAD: a length, no body, and then the next response.
    let head_answer = "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n";
    let orphan = "-  => orphan #1 @0 200[Content-Length=1234] . half Gap";
    check(
        &[s(head_answer), c(GET), s(OK)],
        &[orphan, &format!("#2 @0 {GET_LINE} => @41 {OK_LINE} done")],
    );
    let second = format!("-  => orphan #2 @41 {OK_LINE} half Gap");
    check(&[s(head_answer), s(OK)], &[orphan, &second]);
    check(
        &[s("HTTP/1.1 200 OK\r\n\r\n"), c(GET), s(OK)],
        &[
            "-  => orphan #1 @0 200 . half Gap",
            &format!("#2 @0 {GET_LINE} => @19 {OK_LINE} done"),
        ],
    );
    check(
        &[s("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nHTTP/1.1 ")],
        &["-  => orphan #1 @0 200[Content-Length=9] HTTP/1.1 . half Gap"],
    );
}

#[test]
fn contradicting_lengths_are_marked_and_do_not_desync() {
    let next = "GET /x HTTP/1.1\r\nHost: h\r\n\r\n";
    for (fields, body, shown) in [
        (
            "Content-Length: 3\r\nContent-Length: 2",
            "",
            "[Content-Length=3][Content-Length=2] ~",
        ),
        ("Content-Length: -1", "", "[Content-Length=-1] ~"),
        (
            "Content-Length: 18446744073709551615",
            "",
            "[Content-Length=18446744073709551615] ~",
        ),
        (
            "Content-Length: -1",
            "rubbish\r\n",
            "[Content-Length=-1] rubbish\\r\\n~",
        ),
        ("Content-Length: +4", "text", "[Content-Length=+4] text~"),
        (
            "Content-Length: 9\r\nContent-Length: 4",
            "text",
            "[Content-Length=9][Content-Length=4] text~",
        ),
        ("Transfer-Encoding: gzip", "", "[Transfer-Encoding=gzip] ~"),
        (
            "Content-Length: 4\r\nTransfer-Encoding: chunked",
            "1\r\na\r\n0\r\n\r\n",
            "[Content-Length=4][Transfer-Encoding=chunked] a~",
        ),
        (
            "Transfer-Encoding: chunked",
            "10000000000000000\r\nrubbish\r\n",
            "[Transfer-Encoding=chunked] 10000000000000000\\r\\nrubbish\\r\\n~",
        ),
        (
            "Transfer-Encoding: chunked",
            "1\r\naXX\r\n",
            "[Transfer-Encoding=chunked] a~",
        ),
        ("Content-Length: 1, 1", "a", "[Content-Length=1, 1] a."),
    ] {
        let post = format!("POST /p HTTP/1.1\r\n{fields}\r\n\r\n{body}");
        check(
            &[c(&post), s(OK), c(next), s(OK)],
            &[
                &format!("#1 @0 POST /p 1.1{shown} => @0 {OK_LINE} done"),
                &plain(2, post.len(), OK.len()),
            ],
        );
    }
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 4\r\n\r\nabcd\r\n";
    check(
        &[c(GET), s(answer), c(GET), s(OK)],
        &[
            &format!(
                "#1 @0 {GET_LINE} => @0 200[Content-Length=5][Content-Length=4] abcd\\r\\n~ done"
            ),
            &plain(2, GET.len(), answer.len()),
        ],
    );
}

/// A PUT with these fields and these bytes behind them, more requests, and as many responses as the server read requests:
/// the body of the PUT, the methods that are read behind it, and the marks.
#[track_caller]
fn check_reading(fields: &str, bytes: &str, answers: usize, expected: &[&str]) {
    let put = format!("PUT /p HTTP/1.1\r\n{fields}\r\n\r\n");
    let sent = format!("{put}{bytes}");
    let turns = [c(&sent), s(&OK.repeat(answers)), c(GET), s(OK)];
    let at_once = [c(&sent), s(&OK.repeat(answers))];
    for (events, is_followed) in [(&turns[..], true), (&at_once, false)] {
        for step in [1, 7, usize::MAX] {
            let (lines, counters) = run(events, step, FlowEnd::Fin, "80", false);
            let lines: Vec<_> = lines.iter().map(|line| shortened(line, fields)).collect();
            let mut expected: Vec<_> = expected.iter().map(|line| (*line).to_owned()).collect();
            if is_followed {
                expected.push(shortened(
                    &plain(expected.len() as u64 + 1, sent.len(), answers * OK.len()),
                    fields,
                ));
            }
            assert_eq!(lines, expected, "{fields} {bytes} in pieces of {step}");
            assert_eq!(counters.framing_conflicts, 1);
        }
    }
}

/// A line without its fields and places.
fn shortened(line: &str, fields: &str) -> String {
    let fields: String = fields
        .lines()
        .map(|field| {
            let (name, value) = field.split_once(':').unwrap_or_default();
            format!("[{}={}]", name.trim(), value.trim())
        })
        .collect();
    let line = line.replace(&fields, "").replace("[Host=h]", "");
    let words = line.split(' ').filter(|word| !word.starts_with('@'));
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn responses_show_which_length_the_server_read() {
    let ok = "200[Content-Length=2] ok. done";
    let put = |body: &str| format!("#1 PUT /p 1.1 {body}~ => {ok}");
    let within = |number: u64| format!("#{number} DELETE /a 1.1 ~ => {ok}");
    let smuggled = "DELETE /a HTTP/1.1\r\n\r\n";
    let chunks = "1\r\na\r\n0\r\n\r\n";
    let both = |length: usize| format!("Content-Length: {length}\r\nTransfer-Encoding: chunked");
    let bytes = format!("{chunks}{smuggled}");
    let raw = bytes.replace("\r\n", "\\r\\n");
    // It took the length, or the chunks.
    check_reading(&both(bytes.len()), &bytes, 1, &[&put(&raw)]);
    check_reading(&both(bytes.len()), &bytes, 2, &[&put("a"), &within(2)]);
    // A name with a blank behind it, which was another field to the server, or not.
    let blank = format!("Content-Length : {}", smuggled.len());
    let raw = smuggled.replace("\r\n", "\\r\\n");
    check_reading(&blank, smuggled, 2, &[&put(""), &within(2)]);
    check_reading(&blank, smuggled, 1, &[&put(&raw)]);
    check_reading(
        "Transfer-Encoding : chunked",
        &bytes,
        2,
        &[&put("a"), &within(2)],
    );
    // Numbers that are none, and two of them.
    check_reading("Content-Length: +4", "text", 1, &[&put("text")]);
    check_reading(
        "Content-Length: 4x",
        &format!("text{smuggled}"),
        2,
        &[&put("text"), &within(2)],
    );
    let two = "Content-Length: 9\r\nContent-Length: 4";
    check_reading(
        two,
        &format!("text{smuggled}"),
        2,
        &[&put("text"), &within(2)],
    );
    check_reading(two, "some text", 1, &[&put("some text")]);
    check_reading("Content-Length: -1", smuggled, 2, &[&put(""), &within(2)]);
    // No candidate fits: all that was sent is the body.
    check_reading(two, "text!", 1, &[&put("text!")]);
    check_reading("Content-Length: x", "rubbish", 1, &[&put("rubbish")]);
    // Nearly chunked.
    for coding in ["xchunked", "chunked;", "chunked, x", "chunkedx"] {
        let coding = format!("Transfer-Encoding: {coding}");
        check_reading(&coding, chunks, 1, &[&put("a")]);
        check_reading(&coding, "rubbish", 1, &[&put("rubbish")]);
        check_reading(
            &format!("{coding}\r\nContent-Length: 3"),
            "abc",
            1,
            &[&put("abc")],
        );
    }
}

#[test]
fn a_request_that_no_response_proves_is_no_whole_call() {
    let smuggled = "DELETE /a HTTP/1.1\r\n\r\n";
    let put = "PUT /p HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let request = "[Content-Length=5][Transfer-Encoding=chunked]";
    let within = format!("#2 @{} DELETE /a 1.1 ~ => -  half Gap", put.len());
    // One response too few under each reading.
    check(
        &[c(&format!("{put}{smuggled}")), s(OK)],
        &[
            &format!("#1 @0 PUT /p 1.1{request} ~ => @0 {OK_LINE} done"),
            &within,
        ],
    );
}

#[test]
fn a_response_ends_where_its_reading_fits() {
    let chunks = "1\r\na\r\n0\r\n\r\n";
    for (fields, bytes, body) in [
        ("Transfer-Encoding: xchunked", chunks, "a"),
        ("Transfer-Encoding: xchunked", "text", "text"),
        (
            "Transfer-Encoding: chunked;\r\nContent-Length: 4",
            "text",
            "text",
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 4",
            chunks,
            "a",
        ),
        ("Content-Length : 4", "text", "text"),
        ("Content-Length: 4\r\nContent-Length: 9", "text", "text"),
        ("Content-Length: 9\r\nContent-Length: 4", "text", "text"),
        ("Content-Length: 4x", "text!", "text!"),
        ("Content-Length: -4", "text", "text"),
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n{bytes}");
        let first = format!("#1 {GET_LINE} => 200 {body}~ done");
        for step in [1, 7, usize::MAX] {
            for events in [
                &[c(GET), s(&answer), c(GET), s(OK)][..],
                &[c(GET), s(&answer)],
            ] {
                let (lines, _) = run(events, step, FlowEnd::Fin, "80", false);
                assert_eq!(
                    shortened(&lines[0], fields),
                    shortened(&first, ""),
                    "{fields}"
                );
                assert_eq!(lines.len(), events.len() / 2);
                if let Some(second) = lines.get(1) {
                    assert_eq!(*second, plain(2, GET.len(), answer.len()));
                }
            }
        }
    }
}

#[test]
fn what_is_odd_is_read_and_marked() {
    let marked = |number: u64, body: &str| format!("#{number} {GET_LINE} => 200 {body}~ done");
    for (answer, body) in [
        ("HTTP/1.1 200 O\0K\r\nContent-Length: 2\r\n\r\nok", "ok"),
        ("HTTP/1.1 200\0OK\r\nContent-Length: 2\r\n\r\nok", "ok"),
        (
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "ok",
        ),
        (
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nraw",
            "raw",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+2\r\nok\r\n0\r\n\r\n",
            "ok",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\x0b2\x0c\r\nok\r\n0\r\n\r\n",
            "ok",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-2\r\nok",
            "-2\\r\\nok",
        ),
        ("HTTP/1.1 200 OK\r\nContent-\r\nLength: 2\r\n\r\nok", "ok"),
    ] {
        for step in [1, 7, usize::MAX] {
            let events = [c(GET), s(answer), c(GET), s(OK)];
            let (lines, counters) = run(&events, step, FlowEnd::Fin, "80", false);
            let fields = [
                "Content-Length: 2",
                "Transfer-Encoding: chunked",
                "Length: 2",
            ];
            let line = fields
                .iter()
                .fold(lines[0].clone(), |line, field| shortened(&line, field));
            assert_eq!(
                line,
                shortened(&marked(1, body), ""),
                "{answer:?} in pieces of {step}"
            );
            assert_eq!(counters.framing_conflicts, 1, "{answer:?}");
            assert_eq!(lines[1], plain(2, GET.len(), answer.len()));
        }
    }
}

/// Some servers end a line at a bare CR: what is read here as a request is the body of the one before for them.
#[test]
fn a_length_behind_a_bare_cr_is_a_conflict() {
    let inner = "GET /inner HTTP/1.1\r\nHost: h\r\n\r\n";
    let outer = format!(
        "GET /outer HTTP/1.1\r\nX: a\rContent-Length: {}\r\n\r\n",
        inner.len()
    );
    for step in [1, 7, usize::MAX] {
        // The server reads two requests, and answers both; or it reads one.
        for answers in [2, 1] {
            let both = outer.clone() + inner;
            let events = [c(&both), s(&OK.repeat(answers)), c(GET), s(OK)];
            let (lines, counters) = run(&events, step, FlowEnd::Fin, "80", false);
            assert_eq!(counters.framing_conflicts, 1);
            let is_marked = |line: &&String| line.contains('~') || line.contains(" half ");
            let inner = lines.iter().filter(|line| line.contains("/inner"));
            assert_eq!(
                inner.clone().count(),
                inner.filter(is_marked).count(),
                "{lines:#?}"
            );
            let outer = lines.iter().find(|line| line.contains("/outer"));
            assert!(outer.as_ref().is_some_and(is_marked), "{lines:#?}");
            let is_next = |line: &String| line.contains("GET /x") && line.contains("=> @80 200");
            assert!(
                answers == 1 || lines.last().is_some_and(is_next),
                "{lines:#?}"
            );
        }
    }
}

/// So it is in the Host field, in a name, in a fold, and in responses; a CR that hides no length changes nothing.
#[test]
fn a_length_behind_a_bare_cr_is_found_everywhere() {
    let requests = [
        ("Host: h\rContent-Length: 9", 1),
        ("Host: h\r\rtransfer-encoding : chunked", 1),
        ("X\rContent-Length: 9", 1),
        ("X: a\rTransfer-Encoding: chunked\rY: b", 1),
        ("X: a\r\n b\rContent-Length: 9", 1),
        ("X: a\rContent-Lengths: 9", 0),
        ("X: a\rb: c", 0),
        ("X: a\rContent-Length", 0),
        ("Date: 12:30:01", 0),
    ];
    for (line, conflicts) in requests {
        let request = format!("GET /a HTTP/1.1\r\n{line}\r\n\r\n");
        let (_, counters) = run(&[c(&request), s(OK)], usize::MAX, FlowEnd::Fin, "80", false);
        assert_eq!(counters.framing_conflicts, conflicts, "{line:?}");
        let response = format!("HTTP/1.1 200 OK\r\n{line}\r\nContent-Length: 2\r\n\r\nok");
        let (_, counters) = run(
            &[c(GET), s(&response)],
            usize::MAX,
            FlowEnd::Fin,
            "80",
            false,
        );
        assert_eq!(counters.framing_conflicts, conflicts, "response {line:?}");
    }
}

#[test]
fn a_body_longer_than_its_length_does_not_hide_the_next_message() {
    let long = "POST /p HTTP/1.1\r\nContent-Length: 2\r\n\r\n{\"more\":1}";
    check(
        &[c(long), s(OK), c(GET), s(OK)],
        &[
            &format!("#1 @0 POST /p 1.1[Content-Length=2] {{\\\". => @0 {OK_LINE} done"),
            &plain(2, long.len(), OK.len()),
        ],
    );
}

#[test]
fn requests_without_a_version() {
    check(
        &[c("GET /old\r\n"), s("<html>hello</html>"), FinS],
        &["#1 @0 GET /old 0.9 . => -  half Closed"],
    );
    check(
        &[c("GET /old\r\n"), s(OK), FinS],
        &[&format!("#1 @0 GET /old 0.9 . => @0 {OK_LINE} done")],
    );
    check(
        &[c("GET /old\r\nHost: h\r\n\r\n"), s(OK)],
        &[&format!(
            "#1 @0 GET /old 0.9[Host=h] . => @0 {OK_LINE} done"
        )],
    );
    check(
        &[c("GET /old\r\n")],
        &["#1 @0 GET /old 0.9 . => -  half Closed"],
    );
}

#[test]
fn heads_without_their_empty_line() {
    // A server that closes right behind its status line has sent all that it had.
    let cut = "HTTP/1.1 400 Bad Request\r\nA: b\r\n";
    let answered = format!("#1 @0 {GET_LINE} => @0 400[A=b] ~ done");
    check(&[c(GET), s(cut), FinS], &[&answered]);
    let half = format!("#1 @0 {GET_LINE} => -  half Closed");
    check(&[c(GET), s(&cut[..cut.len() - 1]), FinS], &[&half]);
    check_flow(&[c(GET), s(cut)], FlowEnd::Reset, false, &[&half]);
    // A request that was answered before it was over, and one that never will be.
    let begun = "POST /p HTTP/1.1\r\nContent-Length: 4\r\n";
    let line = format!("#1 @0 POST /p 1.1[Content-Length=4] ~ => @0 {OK_LINE} done");
    check(&[c(begun), s(OK), FinS], &[&line]);
    check(&[c(begun), FinC, s(OK)], &[&line]);
    check(
        &[c(begun), s(OK), c("Host: h\r\n\r\nbody"), c(GET), s(OK)],
        &[&line, &plain(2, begun.len() + 15, OK.len())],
    );
}
