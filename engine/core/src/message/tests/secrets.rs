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
