//! The predefined rule sets, as lines (`docs/contract.md`, section 4.5). Strict is that of the Java and Node loggers, not the
//! inverted one of the Go logger (D1). `private` is ours.

use super::credentials::PRIVATE;

/// Logs everything.
const DEBUG: &str = "\
allow_http_url
copy_session_field /.*/";

/// Keeps cookies out, masks mail addresses and long numbers.
const STANDARD: &str = r"/request_header:cookie|response_header:set-cookie/ remove
/(request|response)_body|request_param/ replace /[a-zA-Z0-9.!#$%&’*+\/=?^_`{|}~-]+@[a-zA-Z0-9-]+(?:\.[a-zA-Z0-9-]+)/, /x@y.com/
/request_body|request_param|response_body/ replace /[0-9\.\-\/]{9,}/, /xyxy/";

/// Keeps bodies, params, the query and nearly all headers out. The default.
pub(super) const STRICT: &str = r"/request_url/ replace /([^\?;]+).*/, /$1/
/request_body|response_body|request_param:.*|request_header:(?!user-agent).*|response_header:(?!(content-length)|(content-type)).*/ remove";

/// The lines of a predefined set.
pub(super) fn named(name: &str) -> Option<&'static str> {
    match name {
        "debug" => Some(DEBUG),
        "standard" => Some(STANDARD),
        "strict" | "default" => Some(STRICT),
        "private" => Some(&PRIVATE),
        _ => None,
    }
}
