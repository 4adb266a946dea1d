//! Rules on whole messages: nothing that a rule hides leaves in any part of a line.

use super::*;

/// Every place where a peer can put a secret, with a canary of its own.
fn nest_of_canaries(coding: &str) -> (Message, Message) {
    let request = "POST http://CANARYuser:CANARYpass@h/p?CANARYquery=CANARYvalue HTTP/1.1\nHost: h\n\
        Cookie: sid=CANARYcookie; CANARYname=1\nAuthorization: Bearer CANARYtoken\nX-CANARYheader: 1\n\
        User-Agent: probe\nReferer: http://x/?CANARYreferer\nTransfer-Encoding: CANARYcoding\n\
        Content-Type: application/x-www-form-urlencoded\n\nf=CANARYfield&CANARYfieldname=1";
    let response = "HTTP/1.1 200 OK\nSet-Cookie: s=CANARYset\nLocation: /?CANARYlocation\nETag: \"CANARYtag\"\n\n\
        {\"k\":\"CANARYbody\",\"b\":\"\u{fffd}CANARYlast\"}";
    let (mut request, mut response) = exchange(request, response);
    request.body = b"f=CANARYfield&CANARYfieldname=1".to_vec();
    if coding == "gzip" {
        for side in [&mut request, &mut response] {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            std::io::Write::write_all(&mut encoder, &side.body).unwrap();
            side.body = encoder.finish().unwrap();
            side.headers
                .push((b"Content-Encoding".to_vec(), b"gzip".to_vec()));
        }
    }
    (request, response)
}

/// No canary in any line, whatever the slices and whether bodies are coded, whole or cut.
#[track_caller]
fn check_hidden(rules: &str, config: &Config, hidden: &[&str]) {
    for (coding, slice, cut) in [
        ("", 1 << 20, 0),
        ("", 1, 0),
        ("", 5, 3),
        ("gzip", 1 << 20, 0),
        ("gzip", 3, 9),
    ] {
        let mut writer = writer("include debug", config.clone());
        // Buffers are reused: what an earlier call left in them must not come out under stricter rules.
        let (mut request, mut response) = nest_of_canaries(coding);
        play(&mut writer, &request, &response, 5, 2, slice);
        assert!(String::from_utf8_lossy(&writer.output().0[0].0).contains("CANARY"));
        writer.output().0.clear();
        writer.set_rules(Arc::new(RuleSet::parse(rules).unwrap()));
        for side in [&mut request, &mut response] {
            side.body.truncate(side.body.len() - cut);
            side.cut = cut > 0;
        }
        play(&mut writer, &request, &response, 5, 2, slice);
        for (line, _) in &writer.output().0 {
            let line = String::from_utf8_lossy(line).to_lowercase();
            for canary in hidden {
                let canary = format!("canary{canary}");
                assert!(!line.contains(&canary), "{rules}: {canary} in {line}");
            }
        }
    }
}

#[test]
fn no_canary_passes_a_preset_or_a_mask() {
    let everything = [""];
    let opted = Config {
        annotate: true,
        form_params: true,
        client_address: true,
        half_calls: true,
        ..config()
    };
    for config in [config(), opted] {
        check_hidden("", &config, &everything);
        check_hidden("include strict", &config, &everything);
        check_hidden("include default skip_compression", &config, &everything);
        // User information and raw framing never leave.
        check_hidden("include debug", &config, &["user", "pass", "coding"]);
        check_hidden(
            "include standard",
            &config,
            &["cookie", "name", "set", "user", "pass"],
        );
        check_hidden("/.*/ stop", &config, &everything);
        check_hidden("/response_body/ stop", &config, &everything);
        check_hidden("/.*/ remove", &config, &everything);
        check_hidden(
            "/.*/ replace /(?i)canary\\w*/, /x/\n/.*:x?-?canary.*/ remove",
            &config,
            &everything,
        );
        check_hidden(
            "/.*/ remove_if_found /(?i)canary/\n/.*:x?-?canary.*/ remove",
            &config,
            &everything,
        );
        check_hidden(
            "/.*/ remove_if /(?is).*canary.*/\n/.*:x?-?canary.*/ remove",
            &config,
            &everything,
        );
        check_hidden(
            "/.*/ remove_unless /\\d+/\n/.*:x?-?canary.*/ remove",
            &config,
            &everything,
        );
        check_hidden(
            "/.*/ remove_unless_found /^\\d+$/\n/.*:x?-?canary.*/ remove",
            &config,
            &everything,
        );
        check_hidden(
            "/.*/ replace /(?<=c)(?i)anary\\w*(?!c)|(?=C)C\\w*/, //\n/.*:x?-?canary.*/ remove",
            &config,
            &everything,
        );
        check_hidden(
            "/request_header:authorization/ stop_if_found /CANARY/",
            &config,
            &everything,
        );
        check_hidden(
            "/request_header:user-agent/ stop_unless /nobody/",
            &config,
            &everything,
        );
    }
    check_hidden("/request_body/ remove", &config(), &["field"]);
    check_hidden("/response_body/ remove", &config(), &["body", "last"]);
    check_hidden(
        "copy_session_field /.*/\n/session_field:.*|request_header:cookie/ remove",
        &config(),
        &["cookie", "name"],
    );
}

#[test]
fn a_part_of_a_secret_does_not_leave() {
    let card = exchange(
        "GET / HTTP/1.1\nHost: h\n\n",
        "HTTP/1.1 200 OK\n\n{\"card\":\"4111-1111-1111-1111\"}",
    );
    let (request, mut response) = card;
    response.body.truncate(20);
    response.cut = true;
    for (rules, withheld) in [
        ("/response_body/ replace /(\\d{4}-){3}\\d{4}/, /card/", true),
        ("include debug", false),
    ] {
        let mut writer = writer(rules, config());
        play(&mut writer, &request, &response, 5, 2, 3);
        assert_eq!(writer.counters().bodies_withheld, u64::from(withheld));
        assert!(writer.output().0[0].1.incomplete);
        let details = only_line(&mut writer);
        let body = if withheld {
            None
        } else {
            Some("{\"card\":\"4111-1111-1")
        };
        assert_eq!(value_of(&details, "response_body"), body);
    }
}

#[test]
fn what_a_mask_hides_in_a_body_is_no_param_and_no_cut_body_leaves() {
    const MASK: &str = "/request_body:$..card/ remove";
    let read = |body: &str, config: Config| {
        let (request, response) = exchange(
            &format!(
                "POST / HTTP/1.1\nHost: h\nContent-Type: application/x-www-form-urlencoded\n\n{body}"
            ),
            "HTTP/1.1 200 OK\n\nok",
        );
        let mut writer = writer(MASK, config);
        play(&mut writer, &request, &response, 5, 2, 7);
        (only_line(&mut writer), *writer.counters())
    };
    let with_params = || Config {
        form_params: true,
        ..config()
    };
    let (details, counters) = read("a=1&card=4111", with_params());
    assert_eq!(value_of(&details, "request_body"), Some("a=1"));
    assert_eq!(value_of(&details, "request_param:a"), Some("1"));
    assert_eq!(value_of(&details, "request_param:card"), None);
    assert_eq!(counters.bodies_unreadable, 0);
    for (body, config) in [
        ("card 4111", with_params()),
        (
            "a=1&card=4111",
            Config {
                body_bytes_max: 11,
                ..with_params()
            },
        ),
    ] {
        let (details, counters) = read(body, config);
        assert_eq!(counters.bodies_unreadable, 1, "{body}");
        assert!(
            !details
                .iter()
                .any(|(key, value)| key == "request_body" || value.contains('4')),
            "{details:?}"
        );
    }
}

#[test]
fn a_rule_for_a_name_applies_to_what_a_reader_takes_for_that_name() {
    const RULES: &str =
        "/request_header:(authorization|x-api-key)/ remove\n/request_param:(password|a_b)/ remove";
    for (target, header) in [
        ("/", "Authorization\u{b}"),
        ("/", "Authorization\0"),
        ("/", "Authorization\u{a0}"),
        ("/", "\0Authorization"),
        ("/", "Authorization\0X"),
        ("/", "X_Api-Key"),
        ("/?+password=CANARY", "X"),
        ("/?a=1&%20password=CANARY", "X"),
        ("/?password%00x=CANARY", "X"),
        ("/??password=CANARY", "X"),
        ("/?a.b=CANARY", "X"),
        ("/?a+b=CANARY", "X"),
        ("/?a[b=CANARY", "X"),
        ("/?x=1;password=CANARY", "X"),
        ("/?x;y=1;+PASSWORD=CANARY", "X"),
        ("/?x=1&amp;password=CANARY", "X"),
        ("/?password=CANARY;x=1", "X"),
    ] {
        let value = if header == "X" { "1" } else { "CANARY" };
        let (mut request, response) = exchange(
            &format!("GET {target} HTTP/1.1\nHost: h\n{header}: {value}\n\n"),
            "HTTP/1.1 200 OK\n\nok",
        );
        for bytes in [false, true] {
            if bytes {
                // The no-break space of Latin-1 is no UTF-8.
                for (name, _) in &mut request.headers {
                    name.retain(|byte| *byte != 0xc2);
                }
            }
            let mut writer = writer(RULES, config());
            play(&mut writer, &request, &response, 5, 2, 7);
            let line = String::from_utf8_lossy(&writer.output().0[0].0);
            assert!(!line.contains("CANARY"), "{target} {header:?}: {line}");
        }
    }
    // Whether a rule drops the call is decided by both readings, too; a pair that no rule concerns stays whole.
    let read = |rules: &str| {
        let (request, response) = exchange(
            "GET /?x=1;y=2 HTTP/1.1\nHost: h\n\n",
            "HTTP/1.1 200 OK\n\nok",
        );
        let mut writer = writer(rules, config());
        play(&mut writer, &request, &response, 5, 2, 7);
        writer.output().0.pop().map(|(line, _)| pairs(&line))
    };
    assert_eq!(read("/request_param:y/ stop_if /2/"), None);
    let details = read("/request_param:z/ remove").unwrap();
    assert_eq!(value_of(&details, "request_param:x"), Some("1;y=2"));
    let details = read("/request_param:y/ replace /3/, /4/").unwrap();
    assert_eq!(value_of(&details, "request_param:x"), Some("1;y=2"));
    let details = read("/request_param:y/ replace /2/, /4/").unwrap();
    assert_eq!(value_of(&details, "request_param:x"), None);
}

/// Some receivers end a line at a bare CR, and read what is behind it as a header of its own.
#[test]
fn a_header_behind_a_bare_cr_is_one_for_the_rules() {
    const RULES: &str = "/request_header:(authorization|cookie)|response_header:set-cookie/ remove\n\
        /request_header:token/ remove_if /[a-z]+/\n/request_header:x-card/ replace /[0-9]+/, /*/\n\
        /request_header:x-no-log/ stop";
    let read = |request: &str, response: &str| {
        let (mut request, mut response) = exchange(
            &format!("GET / HTTP/1.1\n{request}\nHost: h\nAccept: *\n\n"),
            &format!("HTTP/1.1 200 OK\nServer: s\n{response}\n\nok"),
        );
        for (name, value) in request.headers.iter_mut().chain(&mut response.headers) {
            for byte in name.iter_mut().chain(value) {
                *byte = if *byte == b'^' { b'\r' } else { *byte };
            }
        }
        let config = Config {
            realip_header: Some("x-real-ip".into()),
            ..config()
        };
        let mut writer = writer(RULES, config);
        play(&mut writer, &request, &response, 5, 2, 7);
        writer.output().0.pop().map(|(line, _)| pairs(&line))
    };
    for (request, response) in [
        ("X: a^Authorization: CANARY", "X: 1"),
        ("X: a^authorization : CANARY", "X: 1"),
        ("X: a^^ Authorization:CANARY^b", "X: 1"),
        ("X: a^Y: b: c^Cookie: CANARY", "X: 1"),
        ("X^Authorization: CANARY", "X: 1"),
        ("^Authorization: CANARY", "X: 1"),
        ("Cookie: a=b^X: CANARY", "X: 1"),
        ("X: a^X-Card: CANARY1", "X: 1"),
        ("Token: canary^x", "X: 1"),
        ("X: 1", "X: a^Set-Cookie: CANARY"),
        ("X: 1", "X^Set-Cookie: CANARY"),
    ] {
        let details = read(request, response).unwrap();
        let line = format!("{details:?}").to_lowercase();
        assert!(!line.contains("canary"), "{request} {response}: {line}");
        for kept in ["request_header:accept", "response_header:server"] {
            assert!(
                value_of(&details, kept).is_some(),
                "{request} {response}: {line}"
            );
        }
    }
    assert_eq!(read("X: a^X-No-Log: 1", "X: 1"), None);
    // So it is in headers that are not written themselves.
    for request in ["Host: h^X-No-Log: 1", "X-Real-IP: 1.2.3.4^X-No-Log: 1"] {
        assert_eq!(read(request, "X: 1"), None, "{request}");
    }
    // What no rule concerns is as it was sent.
    let details = read("X: a^Y: b", "X: c^d").unwrap();
    assert_eq!(value_of(&details, "request_header:x"), Some("a\rY: b"));
    assert_eq!(value_of(&details, "response_header:x"), Some("c\rd"));
}

/// The line of a call with this request body under a body limit of 64 bytes, and what was counted.
fn limited(
    rules: &str,
    head: &str,
    body: &[u8],
    cut: bool,
) -> (Option<Vec<(String, String)>>, Counters) {
    let (mut request, response) = exchange(
        &format!("POST / HTTP/1.1\nHost: h\n{head}\n"),
        "HTTP/1.1 200 OK\n\nok",
    );
    request.body = body.to_vec();
    request.cut = cut;
    let config = Config {
        body_bytes_max: 64,
        form_params: true,
        ..config()
    };
    let mut writer = writer(rules, config);
    play(&mut writer, &request, &response, 5, 2, 7);
    let line = writer.output().0.pop();
    (line.map(|(line, _)| pairs(&line)), *writer.counters())
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, text).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn half_a_secret_at_the_body_limit_does_not_leave() {
    const STANDARD: &str = "include debug\ninclude standard";
    // Behind the limit there is a little, or more than is looked at.
    for behind in [0, 40, 20_000] {
        let behind = " ".repeat(behind);
        for (secret, half) in [
            ("4111111111111111", "411111"),
            ("jane.q.public@example.com", "jane"),
        ] {
            for before in [30, 40, 47, 50, 55, 58, 63] {
                let body = format!("{:before$}{secret}{behind}", "");
                for coded in [false, true] {
                    let (head, bytes) = if coded {
                        ("Content-Encoding: gzip\n", gzip(body.as_bytes()))
                    } else {
                        ("", body.clone().into_bytes())
                    };
                    let (details, counters) = limited(STANDARD, head, &bytes, false);
                    let details = details.unwrap();
                    let left = value_of(&details, "request_body").unwrap_or_default();
                    assert!(!left.contains(half), "{before} {coded}: {left}");
                    assert!(left.len() <= 64 && left.len() >= before, "{left}");
                    let is_cut = body.len() > 64;
                    assert_eq!(counters.bodies_limited, u64::from(is_cut));
                }
            }
        }
    }
    // A match that is longer than what is looked at.
    let long = format!("{{\"a\":1,\"photo\":\"{}\"}}", "x".repeat(20_000));
    let rule = "/request_body/ replace /\"photo\":\"[^\"]*\"/, /\"photo\":\"\"/";
    let (details, _) = limited(rule, "", long.as_bytes(), false);
    let details = details.unwrap();
    assert_eq!(value_of(&details, "request_body"), Some("{\"a\":1,"));
    let rule = "/request_body/ replace /(\"photo\":\"[^\"]*)\"/, /$1/";
    let (details, _) = limited(rule, "", long.as_bytes(), false);
    assert_eq!(
        value_of(&details.unwrap(), "request_body"),
        Some("{\"a\":1,")
    );
    // What cannot be decided for a part of a body.
    let rule = "/request_body/ replace /(?<=x)y/, /z/";
    let (details, counters) = limited(rule, "", long.as_bytes(), false);
    assert_eq!(value_of(&details.unwrap(), "request_body"), None);
    assert_eq!((counters.rules_unseen, counters.rules_doubts), (1, 0));
}

#[test]
fn what_is_not_there_counts_as_found() {
    let long = "x".repeat(20_000) + "secret";
    let short = "x".repeat(70) + "secret";
    let torn = "x";
    let coded = "Content-Encoding: br\n";
    let unknown = "Content-Encoding: sdch\n";
    for (rule, head, body, cut, kept) in [
        ("stop_if_found /secret/", "", &long[..], false, false),
        ("stop_if_found /other/", "", &long, false, false),
        ("stop_if_found /other/", "", &short, false, true),
        ("stop_if_found /secret/", "", &short, false, false),
        ("stop_if_found /other/", "", torn, true, false),
        ("stop_if_found /other/", "", torn, false, true),
        ("stop_if_found /other/", coded, torn, false, false),
        ("stop_if_found /other/", unknown, torn, false, false),
        ("stop", unknown, torn, false, false),
        ("stop_if /a.*/", "", &long, false, true),
        ("stop_if /x.*y/", "", &long, false, false),
        ("stop_unless_found /xx/", "", &long, false, true),
        ("stop_unless_found /secret/", "", &long, false, false),
        ("stop_unless_found /x/", "", torn, true, false),
        ("stop_unless /x+/", "", &long, false, false),
    ] {
        let (details, counters) = limited(
            &format!("/request_body/ {rule}"),
            head,
            body.as_bytes(),
            cut,
        );
        assert_eq!(details.is_some(), kept, "{rule} {head} {}", body.len());
        assert_eq!(counters.calls_stopped, u64::from(!kept), "{rule}");
    }
    for (rule, body, kept) in [
        ("remove_if_found /other/", &long[..], false),
        ("remove_if_found /other/", &short, true),
        ("remove_unless_found /xx/", &long, true),
        ("remove_unless_found /secret/", &long, false),
    ] {
        let rule = format!("/request_body/ {rule}");
        let (details, _) = limited(&rule, "", body.as_bytes(), false);
        let left = value_of(details.as_ref().unwrap(), "request_body").is_some();
        assert_eq!(left, kept, "{rule}");
    }
    // A body that was given up because memory was short.
    let mut writer = writer(
        "/request_body/ stop_if_found /other/",
        Config {
            open_bytes_max: 1000,
            ..config()
        },
    );
    let draft = request_only(&mut writer, &[b'x'; 10_000]);
    writer.finish(draft);
    assert_eq!(writer.counters().calls_stopped, 1);
    assert_eq!(writer.counters().bodies_shed, 1);
}

#[test]
fn fields_that_the_body_limit_cuts_are_no_params() {
    const FORM: &str = "Content-Type: application/x-www-form-urlencoded\n";
    let body = format!("a=1&b={}&card=4111111111111111&z=1", "x".repeat(45));
    let rule = "include debug\n/request_param:card/ replace /[0-9]{13,}/, /x/";
    let (details, _) = limited(rule, FORM, body.as_bytes(), false);
    let details = details.unwrap();
    assert_eq!(value_of(&details, "request_param:a"), Some("1"));
    assert!(value_of(&details, "request_param:b").is_some());
    assert_eq!(value_of(&details, "request_param:card"), None);
    for (rule, stopped) in [
        ("/request_param:z/ stop", true),
        ("/.*:z/ stop_if /2/", true),
        ("/z|b$/ stop", true),
        ("/request_header:z/ stop", false),
        ("/request_body:z/ stop", false),
        ("/request_(header|url).*/ stop_if_found /nothing/", false),
    ] {
        let (details, _) = limited(rule, FORM, body.as_bytes(), false);
        assert_eq!(details.is_none(), stopped, "{rule}");
        let (details, _) = limited(rule, FORM, b"a=1", false);
        assert!(details.is_some(), "{rule}");
        let (details, _) = limited(rule, FORM, b"a=1", true);
        assert_eq!(details.is_none(), stopped, "{rule}");
    }
}

#[test]
fn text_that_rules_cannot_read_does_not_leave() {
    const STANDARD: &str = "include debug\ninclude standard";
    let wide = |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_le_bytes).collect() };
    let card = "{\"card\":\"4111111111111\"}";
    for (rules, head, body, left) in [
        (STANDARD, "", wide(card), false),
        (
            STANDARD,
            "Content-Type: text/plain; charset=utf-16\n",
            wide(card),
            false,
        ),
        ("include debug", "", wide(card), true),
        (
            STANDARD,
            "Content-Type: text/plain; charset=utf-7\n",
            b"+ADQ-".to_vec(),
            false,
        ),
        (
            STANDARD,
            "Content-Type: text/plain; charset=ISO-8859-1\n",
            b"\xe9".to_vec(),
            true,
        ),
        (
            STANDARD,
            "Content-Type: text/plain; charset=Shift_JIS\n",
            b"\x83\\".to_vec(),
            true,
        ),
        (
            "/request_body:$.card/ remove",
            "Content-Type: application/json; charset=Shift_JIS\n",
            b"{\"x\":\"\x83\\\",\"card\":\"1\",\"y\":\"\x83\\\"}".to_vec(),
            false,
        ),
        (
            "/request_body:$.x/ remove",
            "",
            b"{\"card\":1}".to_vec(),
            true,
        ),
    ] {
        let (details, counters) = limited(rules, head, &body, false);
        let details = details.unwrap();
        assert_eq!(
            value_of(&details, "request_body").is_some(),
            left,
            "{rules} {head}"
        );
        assert_eq!(
            counters.bodies_unreadable,
            u64::from(!left),
            "{rules} {head}"
        );
    }
    let (details, _) = limited(
        "/request_body/ stop_if_found /4111/",
        "",
        &wide(card),
        false,
    );
    assert!(details.is_none());
    let form = "Content-Type: application/x-www-form-urlencoded; charset=utf-16\n";
    let (details, _) = limited(
        "/request_param:card/ remove",
        form,
        &wide("a=1&card=4"),
        false,
    );
    let details = details.unwrap();
    assert!(
        !details
            .iter()
            .any(|(key, _)| key.starts_with("request_param"))
    );
}
