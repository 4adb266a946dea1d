//! Remote procedure calls: their messages as text, whatever the slices, and what bounds and rules make of them.

use super::*;

/// One side: headers, body, trailers.
#[derive(Clone, Default)]
pub(super) struct Half {
    headers: Vec<(&'static str, &'static str)>,
    body: Vec<u8>,
    trailers: Vec<(&'static str, &'static str)>,
    /// Where bytes of the body are missing, and how many.
    gap: Option<(usize, usize)>,
}

impl Half {
    pub(super) fn new(content_type: &'static str, body: Vec<u8>) -> Self {
        Self {
            headers: vec![("content-type", content_type)],
            body,
            ..Self::default()
        }
    }

    fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.push((name, value));
        self
    }

    fn trailer(mut self, name: &'static str, value: &'static str) -> Self {
        self.trailers.push((name, value));
        self
    }

    fn play(
        &self,
        writer: &mut LineWriter<Lines>,
        draft: &mut Result<Box<Draft>, Unwritten>,
        side: Side,
        slice: usize,
    ) {
        let mut pass = |from: usize, to: usize| {
            for bytes in self.body[from..to].chunks(slice) {
                writer.body(draft, side, bytes, Timestamp::from_nanos(7));
            }
        };
        match self.gap {
            None => pass(0, self.body.len()),
            Some((at, length)) => {
                pass(0, at);
                writer.missing(draft, side, length as u64);
                for bytes in self.body[at + length..].chunks(slice) {
                    writer.body(draft, side, bytes, Timestamp::from_nanos(7));
                }
            }
        }
        if !self.trailers.is_empty() {
            writer.trailers(draft, side, &fields(&self.trailers), 0);
        }
        writer.end(draft, side, BodyEnd::Complete, Timestamp::from_nanos(8));
    }
}

fn fields<'a>(pairs: &[(&'a str, &'a str)]) -> Vec<Header<'a>> {
    let pairs = pairs.iter();
    pairs
        .map(|(name, value)| Header::new(name.as_bytes(), value.as_bytes()))
        .collect()
}

pub(super) struct Call {
    request: Half,
    response: Half,
    status: u16,
    pub(super) rules: &'static str,
    pub(super) config: Config,
    pub(super) path: &'static str,
}

impl Call {
    pub(super) fn new(request: Half, response: Half) -> Self {
        Self {
            request,
            response,
            status: 200,
            rules: "",
            config: Config {
                annotate: true,
                ..config()
            },
            path: "/acme.Pay/Charge",
        }
    }

    /// Its details, with the counters.
    fn read(&self, slice: usize) -> (Vec<(String, String)>, Counters, RpcCounts) {
        let rules = format!("include debug\n{}", self.rules);
        let mut writer = writer(&rules, self.config.clone());
        let flow = flow();
        let origin = Origin {
            flow: &flow,
            client_is_originator: true,
            call_index: 1,
            message: MessageId::on_stream(1),
            time: Timestamp::ZERO,
        };
        let headers = fields(&self.request.headers);
        let head = RequestHead::new(b"POST", self.path.as_bytes(), Version::Http2, &headers);
        let mut draft = writer.request(&head, &origin);
        self.request
            .play(&mut writer, &mut draft, Side::Request, slice);
        let headers = fields(&self.response.headers);
        let head = ResponseHead::new(self.status, Version::Http2, &headers);
        writer.response(&mut draft, &head, &origin);
        self.response
            .play(&mut writer, &mut draft, Side::Response, slice);
        writer.finish(draft);
        assert_eq!(writer.open_bytes(), 0);
        let (counters, rpc) = (*writer.counters(), writer.rpc_counts());
        let line = writer.output().0.pop();
        (
            line.map(|(line, _)| pairs(&line)).unwrap_or_default(),
            counters,
            rpc,
        )
    }

    /// Its details, the same for all slices.
    fn details(&self) -> Vec<(String, String)> {
        let (whole, _, _) = self.read(usize::MAX);
        for slice in [1, 2, 3, 5, 6, 7, 64] {
            assert_eq!(self.read(slice).0, whole, "in slices of {slice}");
        }
        whole
    }

    #[track_caller]
    pub(super) fn check(&self, expected: &[(&str, Option<&str>)]) {
        let details = self.details();
        for (key, value) in expected {
            assert_eq!(value_of(&details, key), *value, "{key} of {details:?}");
        }
    }
}

fn envelope(flags: u8, message: &[u8]) -> Vec<u8> {
    let mut bytes = vec![flags];
    bytes.extend((message.len() as u32).to_be_bytes());
    bytes.extend(message);
    bytes
}

pub(super) fn envelopes(messages: &[&[u8]]) -> Vec<u8> {
    messages
        .iter()
        .flat_map(|message| envelope(0, message))
        .collect()
}

/// `{"1":TEXT}`.
fn text_message(text: &str) -> Vec<u8> {
    assert!(text.len() < 128);
    [&[0x0a, text.len() as u8], text.as_bytes()].concat()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

const GRPC: &str = "application/grpc";

fn ok() -> Half {
    let body = envelopes(&[&text_message("ok")]);
    Half::new(GRPC, body).trailer("grpc-status", "0")
}

#[test]
fn messages_are_elements_and_facts_count_them() {
    let request =
        Half::new(GRPC, envelopes(&[b"\x0a\x05world\x10\xd2\x09", b""])).with("te", "trailers");
    let response = Half::new("application/grpc+proto", Vec::new())
        .trailer("grpc-status", "5")
        .trailer("grpc-message", "no%20such");
    Call::new(request, response).check(&[
        ("request_body", Some(r#"[{"1":"world","2":1234},{}]"#)),
        ("response_body", None),
        ("response_header:grpc-message", Some("no%20such")),
        ("custom_field:rpc_system", Some("grpc")),
        ("custom_field:rpc_service", Some("acme.Pay")),
        ("custom_field:rpc_method", Some("Charge")),
        ("custom_field:rpc_status_code", Some("5")),
        ("custom_field:rpc_status", Some("NOT_FOUND")),
        ("custom_field:rpc_request_messages", Some("2")),
        ("custom_field:rpc_request_message_bytes", Some("10")),
        ("custom_field:rpc_response_messages", Some("0")),
        ("custom_field:rpc_response_message_bytes", Some("0")),
        ("custom_field:incomplete", None),
        ("custom_field:stream_end", None),
    ]);
}

#[test]
fn a_stream_of_responses_has_times_and_an_end() {
    let stream = envelopes(&[&text_message("a"), &text_message("b")]);
    let response = Half::new(GRPC, stream).trailer("grpc-status", "0");
    Call::new(ok(), response).check(&[
        ("response_body", Some(r#"[{"1":"a"},{"1":"b"}]"#)),
        ("custom_field:first_event", Some("7")),
        ("custom_field:last_event", Some("7")),
        ("custom_field:stream_end", Some("done")),
    ]);
}

#[test]
fn elements_by_subtype() {
    for (subtype, message, element) in [
        ("application/grpc+json", "{\"a\": [1]}", "{\"a\": [1]}"),
        ("application/grpc+json", "{\"a\": [1", r#""{\"a\": [1""#),
        ("application/grpc+flat", "x\"y", r#""x\"y""#),
    ] {
        let request = Half::new(subtype, envelopes(&[message.as_bytes(), b"1"]));
        let last = if subtype.ends_with("json") {
            "1"
        } else {
            "\"1\""
        };
        let expected = format!("[{element},{last}]");
        Call::new(request, ok()).check(&[("request_body", Some(&expected))]);
    }
}

#[test]
fn compression_is_undone_message_by_message() {
    let long = text_message(&"long ".repeat(20));
    let element = format!(r#"{{"1":"{}"}}"#, "long ".repeat(20));
    let zstd = zstd::bulk::compress(&long, 3).unwrap();
    for (coding, coded) in [
        ("gzip", gzip(&long)),
        ("deflate", zlib(&long)),
        ("zstd", zstd),
    ] {
        let body = [envelope(1, &coded), envelope(0, &long)].concat();
        let call = Call::new(Half::new(GRPC, body).with("grpc-encoding", coding), ok());
        call.check(&[
            ("request_body", Some(&format!("[{element},{element}]"))),
            ("custom_field:rpc_request_encoding", Some(coding)),
            ("custom_field:rpc_request_message_bytes", Some("204")),
        ]);
        assert_eq!(call.read(1).2.undecodable, 0);
    }
    for (coding, coded) in [
        ("snappy", b"???".to_vec()),
        ("gzip", b"no gzip".to_vec()),
        ("gzip", gzip(&long)[..20].to_vec()),
        ("identity", gzip(&long)),
    ] {
        let body = [envelope(1, &coded), envelope(0, b"\x08\x01")].concat();
        let call = Call::new(Half::new(GRPC, body).with("grpc-encoding", coding), ok());
        let length = (coded.len() + 2).to_string();
        call.check(&[
            ("request_body", Some(r#"[null,{"1":1}]"#)),
            ("custom_field:rpc_request_messages", Some("2")),
            ("custom_field:rpc_request_message_bytes", Some(&length)),
        ]);
        let counts = call.read(1).2;
        assert_eq!((counts.messages, counts.undecodable), (3, 1), "{coding}");
    }
}

#[test]
fn what_is_cut_at_the_end_is_left_out() {
    let whole = envelopes(&[b"\x08\x01"]);
    let huge = [&whole[..], &[0, 0xff, 0xff, 0xff, 0xff], b"\x0a"].concat();
    let part = [&whole[..], &[0, 0]].concat();
    let odd = [&whole[..], &envelope(4, b"\x08\x02"), &whole].concat();
    for body in [huge, part, odd] {
        Call::new(Half::new(GRPC, body), ok()).check(&[
            ("request_body", Some(r#"[{"1":1}]"#)),
            ("custom_field:rpc_request_messages", Some("1")),
            ("custom_field:incomplete", Some("true")),
        ]);
    }
}

#[test]
fn a_hole_costs_the_message_that_it_is_in() {
    let body = envelopes(&[b"\x08\x01", &text_message("hole"), b"\x08\x03"]);
    for (gap, text) in [
        // Within the second message, up to its end, and across the next prefix.
        ((14, 2), r#"[{"1":1},null,{"1":3}]"#),
        ((14, 4), r#"[{"1":1},null,{"1":3}]"#),
        ((14, 6), r#"[{"1":1}]"#),
        // Within a prefix.
        ((8, 2), r#"[{"1":1}]"#),
    ] {
        let request = Half {
            gap: Some(gap),
            ..Half::new(GRPC, body.clone())
        };
        let mut call = Call::new(request, ok());
        call.check(&[
            ("request_body", Some(text)),
            ("custom_field:missing_bytes", Some(&gap.1.to_string())),
        ]);
        // A rule that needs the value does not get a part of it.
        call.rules = "/request_body/ replace /hole/, /x/";
        call.check(&[("request_body", None)]);
    }
}

#[test]
fn the_body_limit_cuts_the_text_and_counts_go_on() {
    let long = text_message(&"x".repeat(100));
    let body = envelopes(&[&long, &long, &long]);
    let mut call = Call::new(Half::new(GRPC, body), ok());
    call.config.body_bytes_max = 150;
    let details = call.details();
    let text = value_of(&details, "request_body").unwrap();
    let element = format!(r#"{{"1":"{}"}}"#, "x".repeat(100));
    assert_eq!(text, &format!("[{element},{element}")[..150]);
    call.check(&[
        ("custom_field:rpc_request_messages", Some("3")),
        ("custom_field:rpc_request_message_bytes", Some("306")),
        ("custom_field:incomplete", None),
    ]);
    assert!(value_of(&details, "custom_field:request_body_bytes").is_some());
    assert_eq!(call.read(9).1.bodies_limited, 1);
    // One message that is longer than the limit.
    let huge = [&[0x0a, 0x80, 0x80, 0x40], "y".repeat(1 << 20).as_bytes()].concat();
    call.request = Half::new(GRPC, envelopes(&[&huge, b"\x08\x01"]));
    let (details, counters, counts) = call.read(1000);
    let expected = format!("[{{\"1\":\"{}", "y".repeat(150));
    assert_eq!(value_of(&details, "request_body"), Some(&expected[..150]));
    assert_eq!((counters.bodies_limited, counts.messages), (1, 3));
}

#[test]
fn bombs_take_no_more_than_the_limit() {
    let bomb = gzip(&[0x0a; 16 << 20]);
    let body: Vec<u8> = std::iter::repeat_n(envelope(1, &bomb), 20)
        .flatten()
        .collect();
    let request = Half::new(GRPC, body).with("grpc-encoding", "gzip");
    let mut call = Call::new(request, ok());
    call.config.body_bytes_max = 10_000;
    let (details, counters, counts) = call.read(1400);
    let length = value_of(&details, "request_body").unwrap().len();
    assert!(length <= 10_000, "{length}");
    assert_eq!((counters.bodies_limited, counts.messages), (1, 21));
}

#[test]
fn trailers_of_grpc_web_are_headers() {
    let trailers = b"grpc-status: 7\r\nGrpc-Message:not%20allowed\r\nx-extra: a:b\r\n\r\nodd";
    let messages = envelopes(&[b"\x08\x01", b"\x08\x02"]);
    let plain = [&messages[..], &envelope(0x80, trailers)].concat();
    let coded = [&messages[..], &envelope(0x81, &gzip(trailers))].concat();
    let expected = [
        ("response_body", Some(r#"[{"1":1},{"1":2}]"#)),
        ("response_header:grpc-status", Some("7")),
        ("response_header:grpc-message", Some("not%20allowed")),
        ("response_header:x-extra", Some("a:b")),
        ("custom_field:rpc_system", Some("grpc_web")),
        ("custom_field:rpc_status", Some("PERMISSION_DENIED")),
        ("custom_field:rpc_response_messages", Some("2")),
        ("custom_field:incomplete", None),
    ];
    let web = "application/grpc-web+proto";
    for body in [plain.clone(), coded] {
        let response = Half::new(web, body).with("grpc-encoding", "gzip");
        Call::new(Half::new(web, messages.clone()), response).check(&expected);
    }
    // As pieces of base64, each padded.
    let base64: Vec<u8> = plain.chunks(10).flat_map(encode).collect();
    let text = "application/grpc-web-text";
    let request = Half::new(text, encode(&messages));
    Call::new(request.clone(), Half::new(text, base64)).check(&expected);
    // With a coding of the whole body.
    let response = Half::new(web, gzip(&plain)).with("content-encoding", "gzip");
    Call::new(request.clone(), response).check(&expected);
    // Bad base64 ends the body there.
    let broken = [
        encode(&messages[..7]),
        b"*".to_vec(),
        encode(&messages[7..]),
    ]
    .concat();
    Call::new(request.clone(), Half::new(text, broken)).check(&[
        ("response_body", Some(r#"[{"1":1}]"#)),
        ("custom_field:incomplete", Some("true")),
    ]);
    // A rule for a header meets the trailer.
    let mut call = Call::new(request, Half::new(web, plain));
    call.rules = "/response_header:(x-extra|grpc-message)/ remove";
    call.check(&[
        ("response_header:x-extra", None),
        ("response_header:grpc-message", None),
        ("response_header:grpc-status", Some("7")),
    ]);
    call.rules = "/response_header:grpc-status/ stop_if /7/";
    assert_eq!(call.details(), []);
}

fn encode(bytes: &[u8]) -> Vec<u8> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let groups = bytes.chunks(3).flat_map(|group| {
        let bits = (0..3).fold(0_u32, |bits, at| {
            bits << 8 | u32::from(group.get(at).copied().unwrap_or_default())
        });
        let letter = move |at: usize| {
            if at > group.len() {
                b'='
            } else {
                LETTERS[(bits >> (18 - 6 * at) & 63) as usize]
            }
        };
        (0..4).map(letter)
    });
    groups.collect()
}

#[test]
fn streams_of_connect_end_with_a_document() {
    let kind = "application/connect+json";
    let messages = envelopes(&[b"{\"n\":1}", b"{\"n\":2}"]);
    for (end, status) in [
        ("{}", "OK"),
        ("{\"metadata\":{\"code\":[\"x\"]}}", "OK"),
        (
            "{\"error\":{\"message\":\"m\",\"code\":\"canceled\"}}",
            "CANCELLED",
        ),
    ] {
        let body = [&messages[..], &envelope(2, end.as_bytes())].concat();
        let call = Call::new(Half::new(kind, messages.clone()), Half::new(kind, body));
        call.check(&[
            ("request_body", Some("[{\"n\":1},{\"n\":2}]")),
            (
                "response_body",
                Some(&format!("[{{\"n\":1}},{{\"n\":2}},{end}]")),
            ),
            ("custom_field:rpc_system", Some("connect")),
            ("custom_field:rpc_status", Some(status)),
            ("custom_field:rpc_response_messages", Some("2")),
        ]);
    }
    let kind = "application/connect+proto";
    let body = [envelopes(&[b"\x08\x01"]), envelope(3, &gzip(b"{}"))].concat();
    let response = Half::new(kind, body).with("connect-content-encoding", "gzip");
    Call::new(Half::new(kind, envelopes(&[b""])), response).check(&[
        ("request_body", Some("[{}]")),
        ("response_body", Some("[{\"1\":1},{}]")),
        ("custom_field:rpc_response_encoding", Some("gzip")),
        ("custom_field:rpc_status_code", Some("0")),
    ]);
}

#[test]
fn unary_calls_of_connect_have_no_envelope() {
    let kind = "application/proto";
    let request = Half::new(kind, b"\x08\x01\x08\x02".to_vec());
    let response = Half::new(kind, gzip(b"\x0a\x02ok")).with("content-encoding", "gzip");
    let mut call = Call::new(request, response);
    call.check(&[
        ("request_body", Some("{\"1\":[1,2]}")),
        ("response_body", Some("{\"1\":\"ok\"}")),
        ("custom_field:rpc_system", Some("connect")),
        ("custom_field:rpc_status", Some("OK")),
        ("custom_field:rpc_request_messages", None),
    ]);
    call.status = 404;
    call.response = Half::new("application/json", b"{\"code\":\"not_found\"}".to_vec());
    let expected = [
        ("response_body", Some("{\"code\":\"not_found\"}")),
        ("custom_field:rpc_status", Some("NOT_FOUND")),
        ("custom_field:rpc_status_code", Some("5")),
    ];
    call.check(&expected);
    call.request = Half::new("application/json", b"{}".to_vec());
    call.request.headers.push(("connect-protocol-version", "1"));
    call.check(&expected);
    call.rules = "/response_body:$.code/ remove";
    call.check(&[
        ("response_body", Some("{}")),
        ("custom_field:rpc_status", None),
    ]);
    call.rules = "";
    call.response = Half::new("text/html", b"<code>not_found</code>".to_vec());
    call.check(&[("custom_field:rpc_status", None)]);
}

#[test]
fn a_response_of_another_type_is_a_body_like_any_other() {
    let html = Half::new("text/html", b"<p>503</p>".to_vec());
    Call::new(ok(), html).check(&[
        ("response_body", Some("<p>503</p>")),
        ("custom_field:rpc_system", Some("grpc")),
        ("custom_field:rpc_response_messages", None),
    ]);
    // The request decides: what it does not ask for is no remote procedure call.
    let plain = Half::new("application/json", b"{}".to_vec());
    Call::new(plain, ok()).check(&[("custom_field:rpc_system", None)]);
    // Without a type the response is what the request is.
    let mut response = ok();
    response.headers.clear();
    Call::new(ok(), response).check(&[("response_body", Some(r#"[{"1":"ok"}]"#))]);
}

#[test]
fn rules_meet_the_text_that_is_sent() {
    let card = text_message("4111111111111111");
    let nested = [&[0x12, card.len() as u8], &card[..]].concat();
    let request = Half::new(GRPC, envelopes(&[&nested, &nested]));
    let mut call = Call::new(request, ok());
    for (rules, expected) in [
        (
            "/request_body/ replace /[0-9]{13,16}/, /xxxx/",
            Some(r#"[{"2":{"1":"xxxx"}},{"2":{"1":"xxxx"}}]"#),
        ),
        (
            "/request_body:$.2.1/ remove",
            Some(r#"[{"2":{}},{"2":{}}]"#),
        ),
        (
            "/request_body:$[0].2/ remove",
            Some(r#"[{},{"2":{"1":"4111111111111111"}}]"#),
        ),
        ("/request_body/ remove", None),
        ("/request_body/ remove_if_found /4111/", None),
    ] {
        call.rules = rules;
        call.check(&[
            ("request_body", expected),
            ("custom_field:rpc_request_messages", None),
            ("custom_field:rpc_response_messages", Some("1")),
        ]);
    }
    call.rules = "/request_body/ stop_if_found /4111/";
    assert_eq!(call.details(), []);
}

#[test]
fn raw_messages_are_their_bytes() {
    let request = Half::new(GRPC, envelopes(&[&text_message("a"), &text_message("b")]));
    let mut call = Call::new(request, ok());
    call.config.protobuf_raw = true;
    call.check(&[
        ("request_body", Some("\n\u{1}a\n\u{1}b")),
        ("custom_field:rpc_request_messages", Some("2")),
    ]);
    call.request = Half::new("application/grpc+json", envelopes(&[b"{}"]));
    call.check(&[("request_body", Some("[{}]"))]);
    call.request = Half::new("application/proto", text_message("a"));
    call.check(&[("request_body", Some("\n\u{1}a"))]);
}

/// The response shows what the request is whose type is not known: before its end, after it, or never.
#[test]
fn the_type_of_the_response_counts_where_that_of_the_request_is_unknown() {
    let check =
        |content_type: &str, is_late: bool, rules: &str, expected: &[(&str, Option<&str>)]| {
            for slice in [1, 3, usize::MAX] {
                let config = Config {
                    annotate: true,
                    ..config()
                };
                let mut writer = writer(&format!("include debug\n{rules}"), config);
                let flow = flow();
                let origin = Origin {
                    flow: &flow,
                    client_is_originator: true,
                    call_index: 1,
                    message: MessageId::on_stream(1),
                    time: Timestamp::ZERO,
                };
                let head = RequestHead {
                    unknown_fields: 2,
                    ..RequestHead::new(b"POST", b"/acme.Pay/Charge", Version::Http2, &[])
                };
                let mut draft = writer.request(&head, &origin);
                let body = envelopes(&[&text_message("one"), &text_message("two")]);
                let (first, rest) = body.split_at(if is_late { 9 } else { body.len() });
                for bytes in first.chunks(slice) {
                    writer.body(&mut draft, Side::Request, bytes, Timestamp::ZERO);
                }
                let end = |writer: &mut LineWriter<Lines>, draft: &mut _, side| {
                    writer.end(draft, side, BodyEnd::Complete, Timestamp::ZERO);
                };
                if !is_late {
                    end(&mut writer, &mut draft, Side::Request);
                }
                let header = Header::new(b"content-type", content_type.as_bytes());
                let head = ResponseHead {
                    unknown_fields: 1,
                    ..ResponseHead::new(200, Version::Http2, std::slice::from_ref(&header))
                };
                writer.response(&mut draft, &head, &origin);
                let answer = envelopes(&[&text_message("ok")]);
                writer.body(&mut draft, Side::Response, &answer, Timestamp::ZERO);
                if is_late {
                    for bytes in rest.chunks(slice) {
                        writer.body(&mut draft, Side::Request, bytes, Timestamp::ZERO);
                    }
                    end(&mut writer, &mut draft, Side::Request);
                }
                end(&mut writer, &mut draft, Side::Response);
                writer.finish(draft);
                assert_eq!(writer.open_bytes(), 0);
                let line = writer.output().0.first();
                let details = line.map(|(line, _)| pairs(line)).unwrap_or_default();
                for (key, value) in expected {
                    assert_eq!(value_of(&details, key), *value, "{key} of {details:?}");
                }
            }
        };
    for is_late in [false, true] {
        check(
            GRPC,
            is_late,
            "",
            &[
                ("request_body", Some(r#"[{"1":"one"},{"1":"two"}]"#)),
                ("response_body", Some(r#"[{"1":"ok"}]"#)),
                ("custom_field:rpc_system", Some("grpc")),
                ("custom_field:rpc_method", Some("Charge")),
                ("custom_field:operation", Some("acme.Pay/Charge")),
                ("custom_field:rpc_request_messages", Some("2")),
                ("custom_field:incomplete", None),
            ],
        );
        check(
            GRPC,
            is_late,
            "/request_body:$.1/ remove\n/request_url/ remove",
            &[
                ("request_body", Some("[{},{}]")),
                ("custom_field:rpc_method", None),
                ("custom_field:operation", None),
                ("custom_field:rpc_request_messages", None),
            ],
        );
        check(
            GRPC,
            is_late,
            "/request_body/ stop_if_found /two/",
            &[("request_method", None)],
        );
        for other in ["application/json", "application/octet-stream"] {
            check(
                other,
                is_late,
                "",
                &[
                    ("request_method", Some("POST")),
                    ("request_body", None),
                    ("custom_field:rpc_system", None),
                    ("custom_field:rpc_method", None),
                    ("custom_field:operation", None),
                ],
            );
        }
    }
}
