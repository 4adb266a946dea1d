//! The request of a call as a command line for curl in a POSIX shell.
//!
//! It sends what the line has: values that a rule has masked, decoded bodies, no host of its own. Nothing captured can become an
//! option, a file name, a pattern or a command: values stand in single quotes, bodies behind `--data-raw`, the URL behind `--url`
//! with `--globoff`, and only http and https are followed.

use crate::call::Call;
use crate::export::request;

/// Header fields that curl sets itself, or that describe a form of the body which the line does not have.
const LEFT_OUT: [&str; 8] = [
    "host",
    "content-length",
    "content-encoding",
    "transfer-encoding",
    "connection",
    "accept-encoding",
    "expect",
    "te",
];

/// The command.
pub(super) fn command(call: &Call) -> String {
    let method = call.summary.method.as_str();
    let mut words = vec!["curl --globoff --path-as-is --proto '=http,https'".to_owned()];
    let body = request::detail(call, "request_body");
    match (method, body) {
        ("GET" | "", None) | ("POST", Some(_)) => {}
        ("HEAD", None) => words.push("--head".into()),
        (method, _) => words.push(format!("-X {}", quoted(method))),
    }
    let mut has_type = false;
    for (name, value) in request::family(call, "request_header:") {
        if LEFT_OUT.contains(&name) || !is_token(name) {
            continue;
        }
        has_type |= name == "content-type";
        words.push(format!(
            "-H {}",
            quoted(&format!("{name}: {}", one_line(value)))
        ));
    }
    if let Some(body) = body {
        if !has_type {
            words.push("-H 'content-type:'".into());
        }
        words.push(format!("--data-raw {}", quoted(body)));
    }
    words.push(format!("--url {}", quoted(&request::url(call))));
    words.join(" \\\n  ") + "\n"
}

/// A text as one word of a shell.
fn quoted(text: &str) -> String {
    // No argument of a program can have a NUL.
    format!("'{}'", text.replace('\0', "").replace('\'', r"'\''"))
}

fn one_line(text: &str) -> String {
    text.replace(['\r', '\n'], " ")
}

/// RFC 9110, section 5.6.2: so it begins with no `@`, behind which curl would read a file.
fn is_token(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::request::tests::call;

    #[track_caller]
    fn check(details: &[(&str, &str)], expected: &str) {
        let command = command(&call(details)).replace(" \\\n  ", " ");
        let start = "curl --globoff --path-as-is --proto '=http,https' ";
        assert_eq!(command.strip_prefix(start), Some(expected));
    }

    #[test]
    fn a_request_is_written_as_options() {
        check(
            &[
                ("request_method", "GET"),
                ("request_url", "http://h/a"),
                ("request_header:x-id", "it's"),
                ("request_header:content-length", "7"),
                ("request_param:q", "a b&c"),
                ("request_param:n", "1"),
            ],
            "-H 'x-id: it'\\''s' --url 'http://h/a?q=a%20b%26c&n=1'\n",
        );
        check(
            &[
                ("request_method", "PUT"),
                ("request_url", "http://h/a"),
                ("request_body", "@/etc/passwd"),
                ("request_header:content-type", "text/plain"),
            ],
            "-X 'PUT' -H 'content-type: text/plain' --data-raw '@/etc/passwd' --url 'http://h/a'\n",
        );
        check(
            &[("request_method", "HEAD"), ("request_url", "http://h/")],
            "--head --url 'http://h/'\n",
        );
    }

    #[test]
    fn nothing_captured_becomes_an_option_or_a_command() {
        check(
            &[
                ("request_method", "$(id)"),
                ("request_url", "-o/tmp/x"),
                ("request_header:@/etc/passwd", "x"),
                ("request_header:x", "a\r\nb: c"),
                ("request_body", "'; id #\0"),
            ],
            "-X '$(id)' -H 'x: a  b: c' -H 'content-type:' --data-raw ''\\''; id #' --url '-o/tmp/x'\n",
        );
    }
}
