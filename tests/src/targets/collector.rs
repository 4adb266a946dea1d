//! What a collector answers, and what a client of the control socket sends.

use std::io::Read as _;

use sniffer::control::{self, Response};
use sniffer::sink::http::answer;

/// Bytes as the answer to a POST: it is taken for an answer once, or for none, and no more of it is read than is bounded.
pub(super) fn answers(input: &[u8]) {
    let read = answer::read(input);
    if let Some(status) = read.status {
        assert!((100..1000).contains(&status));
        let is_interim = status / 100 == 1 && status != 101;
        assert!(!is_interim, "an interim answer is none");
        assert!(memchr::memmem::find(input, b"HTTP/1").is_some());
    } else {
        assert!(!read.is_reusable, "no answer, no further post");
    }
    assert!(read.bytes <= input.len());
    assert!(read.text.chars().count() < 400 && !read.text.contains(char::is_control));
}

/// Bytes as a request to the control socket, and as a response of one: what is read is what a JSON reader reads, and the
/// status is shown whatever it holds.
pub(super) fn control(input: &[u8]) {
    let first = input.split_inclusive(|byte| *byte == b'\n').next();
    if let Some(request) = control::read_request(input) {
        let line = first.expect("a request has a line");
        let same = serde_json::from_slice(line).expect("it is JSON");
        assert_eq!(request, same);
    }
    let Ok(response) = serde_json::from_reader::<_, Response>(input.take(1 << 16)) else {
        return;
    };
    if let Some(status) = &response.status {
        let text = status.render();
        assert!(text.len() <= (1 << 14) + 40 * input.len());
    }
}
