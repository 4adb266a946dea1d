//! The request of a call, put together again from its details.

use crate::call::Call;

/// The first detail of a name.
pub(crate) fn detail<'a>(call: &'a Call, name: &str) -> Option<&'a str> {
    let detail = call.details.iter().find(|(known, _)| known == name);
    detail.map(|(_, value)| value.as_str())
}

/// The details that begin with a prefix, without it.
pub(super) fn family<'a>(
    call: &'a Call,
    prefix: &'a str,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    let details = call.details.iter();
    details.filter_map(move |(name, value)| Some((name.strip_prefix(prefix)?, value.as_str())))
}

/// The URL with the parameters of the query, as far as the line has them: without those that have no value, and in lower case.
pub(super) fn url(call: &Call) -> String {
    let mut url = detail(call, "request_url").unwrap_or_default().to_owned();
    let mut separator = if url.contains('?') { '&' } else { '?' };
    for (name, value) in family(call, "request_param:") {
        url.push(separator);
        encode(name, &mut url);
        url.push('=');
        encode(value, &mut url);
        separator = '&';
    }
    url
}

/// Percent-encodes all but the unreserved characters of RFC 3986.
fn encode(text: &str, url: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            url.push(char::from(byte));
        } else {
            url.push_str(&format!("%{byte:02X}"));
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::call::Summary;
    use crate::line::Columns;

    /// A call with these details.
    pub(in crate::export) fn call(details: &[(&str, &str)]) -> Call {
        let line = serde_json::to_string(details).expect("JSON");
        let mut columns = Columns::read(&line).expect("a line");
        columns.place_in_time(1_700_000_000_500, true);
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Call {
            summary: Summary::of(7.into(), columns),
            details: details.iter().map(owned).collect(),
            line,
        }
    }

    #[test]
    fn parameters_are_encoded() {
        let made = call(&[
            ("request_url", "http://h/ä"),
            ("request_param:a", "é&"),
            ("request_param:b~", "1/2"),
        ]);
        assert_eq!(url(&made), "http://h/ä?a=%C3%A9%26&b~=1%2F2");
    }
}
