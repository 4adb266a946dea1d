//! The content of a call: a GET as a script in a browser sends it, and a JSON response of a given length.

use super::shape::{Shape, VARIANTS};
use crate::seed::Seed;
use crate::traffic::{Body, Coding, Exchange, Framing};

/// The call number in a template, which is overwritten in each call.
pub(super) const PLACEHOLDER: u64 = 8_765_432_109;

/// The cookie of a client that has the same in all calls.
pub(super) const COOKIE: &str = "sid=pvqhmzkxjrtwbnlcgdfsaeyo; theme=dark";

/// A GET as a script in a browser sends it, with the response of an API.
pub fn exchange(seed: &mut Seed, body_bytes: usize) -> Exchange {
    let header = |name: &str, value: String| (name.to_owned(), value);
    Exchange {
        number: PLACEHOLDER,
        method: "GET".into(),
        host: "shop.internal.example".into(),
        path: format!("/api/v2/orders/n{PLACEHOLDER}"),
        query: vec![
            ("page".into(), seed.within(1..=90).to_string()),
            ("expand".into(), "items".into()),
        ],
        request_headers: vec![
            header(
                "User-Agent",
                "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/131.0".into(),
            ),
            header("Accept", "application/json, text/plain, */*".into()),
            header("Accept-Language", "en-GB,en;q=0.8".into()),
            header("Cookie", format!("sid={}; theme=dark", seed.word(24))),
            header("X-Request-Id", seed.word(32)),
        ],
        request_body: Body::default(),
        interim: Vec::new(),
        status: 200,
        response_headers: vec![
            header("Content-Type", "application/json; charset=utf-8".into()),
            header("Server", "nginx/1.27.2".into()),
            header("Date", "Thu, 01 Jan 2026 00:00:00 GMT".into()),
            header("Cache-Control", "private, max-age=0, no-cache".into()),
            header("ETag", format!("\"{}\"", seed.word(20))),
        ],
        response_body: Body {
            plain: body(seed, body_bytes),
            coding: Coding::Identity,
            framing: Framing::Length,
        },
    }
}

/// The response bodies of traffic of this shape: call `number` has the body at index `number % VARIANTS`.
pub fn bodies(shape: &Shape) -> Vec<String> {
    let mut seed = Seed::new(shape.seed);
    (0..VARIANTS)
        .map(|_| {
            let body = exchange(&mut seed, shape.body_bytes).response_body.plain;
            String::from_utf8(body).expect("JSON is text")
        })
        .collect()
}

/// JSON of exactly `bytes` bytes that ends with [`BODY_END`], or an object of nothing else if that is longer.
fn body(seed: &mut Seed, bytes: usize) -> Vec<u8> {
    const WORDS: [&str; 16] = [
        "pending",
        "shipped",
        "Berlin",
        "Zürich",
        "Portland",
        "cable",
        "lamp",
        "mug",
        "blue",
        "returned",
        "standard",
        "express",
        "invoice",
        "the customer asked for a gift box",
        "left with a neighbour",
        "São Paulo",
    ];
    let mut body = String::from("{\"orders\":[");
    loop {
        let order = format!(
            "{{\"id\":{},\"state\":\"{}\",\"city\":\"{}\",\"total\":{}.{:02},\"note\":\"{}\"}},",
            seed.within(10_000..=99_999),
            seed.pick(&WORDS),
            seed.pick(&WORDS),
            seed.within(1..=500),
            seed.within(0..=99),
            seed.pick(&WORDS),
        );
        if body.len() + order.len() + "null],\"pad\":\"\",".len() + BODY_END.len() > bytes {
            break;
        }
        body.push_str(&order);
    }
    body.push_str("null],\"pad\":\"");
    let pad = bytes.saturating_sub(body.len() + 2 + BODY_END.len());
    body.push_str(&seed.word(pad));
    body.push_str("\",");
    body.push_str(BODY_END);
    if body.len() > bytes {
        return format!("{{{BODY_END}").into_bytes();
    }
    body.into_bytes()
}

/// The end of every body, by which a truncated body is recognised.
pub const BODY_END: &str = "\"complete\":true}";
