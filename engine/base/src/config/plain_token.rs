//! Credentials that a sink sends in the clear.

use super::destination::Destination;
use super::settings::row;
use super::sinks::SinkConfig;
use crate::capture_url::CaptureUrl;
use crate::diagnostic::{Code, Diagnostic};

/// The warning of a token, or of a password, that goes to a capture URL in the clear.
pub fn plain_token(sinks: &[SinkConfig]) -> Option<Diagnostic> {
    sinks.iter().find_map(|sink| {
        let Destination::Url(urls) = &sink.destination else {
            return None;
        };
        let mut headers = sink.credentials.headers.iter();
        let has_token = headers.any(|(name, _)| name.as_str() == "authorization");
        let is_plain = |url: &&CaptureUrl| {
            let is_elsewhere = !url.is_https() && url.socket().is_none() && !url.is_loopback();
            is_elsewhere && (has_token || url.authorization().is_some())
        };
        let url = urls.iter().find(is_plain)?;
        let what = format!(
            "the credentials for {url} are sent over plain HTTP: whoever sees a packet has them"
        );
        let fix = format!("{}=https://{}/message", row::url().name, url.host());
        Some(Diagnostic::new(Code::W107, what).fix(fix))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::values;

    #[test]
    fn a_token_that_is_sent_in_the_clear_is_reported() {
        let warns = |url: &str, header: &str| {
            let given = [
                ("USAGE_LOGGERS_URL", url),
                ("USAGE_LOGGERS_RULES", "allow_http_url"),
                ("SNIFFER_HEADERS", header),
            ];
            let capture = crate::config::capture(&values(&given), false).unwrap();
            plain_token(&capture.sinks).map(|warning| warning.to_string())
        };
        let bearer = "Authorization: Bearer hunter2hunter2hu";
        let warning = warns("http://lake.example/message", bearer).unwrap();
        assert!(!warning.contains("hunter2"), "{warning}");
        let warning = warns("http://me:hunter2@lake.example/message", "").unwrap();
        assert!(!warning.contains("hunter2"), "{warning}");
        assert_eq!(warns("https://lake.example/message", bearer), None);
        assert_eq!(warns("http://localhost:7701/message", bearer), None);
        assert_eq!(warns("http://lake.example/message", "X-Tenant: 7"), None);
    }
}
