//! Heads that reference loggers were given.

use super::flow::*;
use crate::flow::FlowEnd;

/// Every message of the vectors is read as one call, except the named ones.
#[test]
fn the_vectors_of_the_reference_loggers() {
    for vector in crate::rules::tests::vectors("message-vectors.json") {
        let name = vector["name"].as_str().unwrap();
        if vector.get("request_b64").is_none() {
            continue; // Long bodies, compressed: the message writer's business.
        }
        let (request, response) = (
            decode_base64(&vector["request_b64"]),
            decode_base64(&vector["response_b64"]),
        );
        let (lines, counters) = run(
            &[C(request.clone()), S(response.clone()), FinS],
            usize::MAX,
            FlowEnd::Fin,
            "80",
            false,
        );
        let done = lines.iter().filter(|line| line.ends_with(" done")).count();
        let no_call = [
            "bad/response-empty",
            "bad/response-http2",
            "bad/response-bad-code",
            "bad/response-headers-cut",
        ];
        let interim = response.starts_with(b"HTTP/1.1 100 ");
        let odd = name == "bad/request-http2-preface" || name == "bad/request-headers-cut";
        if no_call.contains(&name) || interim || odd {
            assert_eq!(done, 0, "{name}: {lines:?}");
        } else {
            let clean = name.starts_with("bad/") || counters.bytes_passed_over == 0;
            assert!(done == 1 && lines.len() == 1 && clean, "{name}: {lines:?}");
        }
        for step in [1, 3, 50] {
            let (cut, _) = run(
                &[C(request.clone()), S(response.clone()), FinS],
                step,
                FlowEnd::Fin,
                "80",
                false,
            );
            assert_eq!(cut, lines, "{name} in pieces of {step}");
        }
    }
}

fn decode_base64(value: &serde_json::Value) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bits = 0_u32;
    let mut count = 0;
    let mut bytes = Vec::new();
    for byte in value
        .as_str()
        .unwrap_or_default()
        .bytes()
        .filter(|&byte| byte != b'=')
    {
        bits = bits << 6 | ALPHABET.iter().position(|&letter| letter == byte).unwrap() as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}
