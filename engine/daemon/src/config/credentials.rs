//! What a collector needs in addition to its URL: headers of every POST, and certificates that are trusted. Both may come
//! from files, which are read once, before the process confines itself.

use std::fmt;
use std::path::Path;

use hyper::header::{self, HeaderName, HeaderValue};

use super::settings::{Settings, row};
use super::value::Value;
use crate::diagnostic::{Code, Diagnostic, system_words};

/// Headers that the sniffer sets itself, or that belong to the connection.
const OURS: [HeaderName; 9] = [
    header::CONNECTION,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::EXPECT,
    header::HOST,
    header::TRANSFER_ENCODING,
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static(engine_core::uploads::NAME),
];

/// Headers and certificates.
#[derive(Clone, Default)]
pub struct Credentials {
    /// Of every POST.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// PEM of the certificates that are trusted; none for those of the system.
    pub ca: Option<Vec<u8>>,
}

impl fmt::Debug for Credentials {
    /// Without anything that is secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&HeaderName> = self.headers.iter().map(|(name, _)| name).collect();
        write!(f, "Credentials({names:?}, ca: {})", self.ca.is_some())
    }
}

/// Reads them from the settings and their files.
pub(super) fn credentials(settings: &Settings) -> Result<Credentials, Diagnostic> {
    let headers = match &settings.headers {
        Some(value) => headers(value)?,
        None => Vec::new(),
    };
    let ca = settings.ca.as_deref().map(certificates).transpose()?;
    Ok(Credentials { headers, ca })
}

fn headers(value: &Value) -> Result<Vec<(HeaderName, HeaderValue)>, Diagnostic> {
    let mut headers = Vec::new();
    for line in lines(&value.text) {
        match line.strip_prefix("file://") {
            None => headers.push(parse(line, value, "")?),
            Some(path) => {
                let text = read(path.as_ref(), &value.name)?;
                let text = String::from_utf8_lossy(&text);
                for line in lines(&text) {
                    headers.push(parse(line, value, &format!(" in {path}"))?);
                }
            }
        }
    }
    Ok(headers)
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty())
}

/// One header. No message shows it: what cannot be read may be a secret that lacks its name.
fn parse(line: &str, given: &Value, place: &str) -> Result<(HeaderName, HeaderValue), Diagnostic> {
    let bad = |reason: &str| {
        Diagnostic::new(Code::E002, format!("{}{place}: {reason}", given.written()))
            .fix(given.written_with("'Authorization: Bearer TOKEN'"))
    };
    let (name, text) = (line.split_once(':'))
        .ok_or_else(|| bad("expected NAME: VALUE, such as 'Authorization: Bearer TOKEN'"))?;
    let name = HeaderName::from_bytes(name.trim().as_bytes())
        .map_err(|_| bad("what stands before the colon is no name of a header"))?;
    if OURS.contains(&name) {
        return Err(bad(&format!("the sniffer sets the header {name} itself")));
    }
    let mut text = HeaderValue::from_str(text.trim()).map_err(|_| {
        bad(&format!(
            "the value of {name} has a character that no header may have"
        ))
    })?;
    text.set_sensitive(true);
    Ok((name, text))
}

fn certificates(path: &Path) -> Result<Vec<u8>, Diagnostic> {
    let pem = read(path, &row::ca().long_flag())?;
    let has_one = pem
        .windows(27)
        .any(|part| part == b"-----BEGIN CERTIFICATE-----");
    if !has_one {
        let what = format!("{}: no certificate in it", path.display());
        return Err(Diagnostic::new(Code::E002, what)
            .cause("PEM is expected, which has a line -----BEGIN CERTIFICATE-----")
            .fix("openssl x509 -inform der -in FILE -out FILE.pem    makes it from DER"));
    }
    Ok(pem)
}

fn read(path: &Path, name: &str) -> Result<Vec<u8>, Diagnostic> {
    std::fs::read(path).map_err(|error| {
        let what = format!("{name} {}: {}", path.display(), system_words(&error));
        Diagnostic::new(Code::E002, what)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::capture;
    use crate::config::tests::{URL, values};

    fn read_with(name: &str, text: &str) -> Result<Credentials, Diagnostic> {
        capture(&values(&[URL, (name, text)]), false).map(|capture| capture.credentials)
    }

    #[track_caller]
    fn check(text: &str, expected: &[(&str, &str)]) {
        for name in ["SNIFFER_HEADERS", "SNIFFER_HEADER"] {
            let read = read_with(name, text).unwrap();
            let headers = read.headers.iter();
            let headers = headers.map(|(name, value)| (name.as_str(), value.to_str().unwrap()));
            assert_eq!(headers.collect::<Vec<_>>(), expected);
            assert!(!format!("{read:?}").contains("hunter2"), "{read:?}");
        }
    }

    #[test]
    fn headers_come_from_the_text_and_from_files() {
        check(
            "Authorization: Bearer hunter2",
            &[("authorization", "Bearer hunter2")],
        );
        check(
            "X-A: b:c, d\\nX-E:f\n\n",
            &[("x-a", "b:c, d"), ("x-e", "f")],
        );
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "X-Token: hunter2\r\nX-B: c\n").unwrap();
        let path = file.path().display();
        check(
            &format!("file://{path}"),
            &[("x-token", "hunter2"), ("x-b", "c")],
        );
    }

    #[test]
    fn what_is_no_header_is_refused_without_showing_it() {
        for (text, reason) in [
            ("hunter2", "expected NAME: VALUE"),
            ("hunter2 x: y", "no name of a header"),
            (
                "content-type: hunter2",
                "the sniffer sets the header content-type itself",
            ),
            ("Sniffer-Upload-Marker: hunter2", "itself"),
            ("X-A: hunter2\u{1}", "a character that no header may have"),
            ("file:///nowhere/headers", "no such file"),
        ] {
            let problem = read_with("SNIFFER_HEADERS", text).unwrap_err();
            assert_eq!(problem.code, Code::E002);
            let shown = problem.to_string();
            assert!(
                shown.contains(reason) && !shown.contains("hunter2"),
                "{shown}"
            );
        }
    }

    #[test]
    fn a_file_of_certificates_has_one() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().display().to_string();
        let problem = read_with("SNIFFER_CA", &path).unwrap_err();
        assert!(problem.what.contains("no certificate in it"), "{problem}");
        std::fs::write(file.path(), "text\n-----BEGIN CERTIFICATE-----\n").unwrap();
        assert!(read_with("SNIFFER_CA", &path).unwrap().ca.is_some());
        assert!(read_with("SNIFFER_CA", "/nowhere/ca.pem").is_err());
    }
}
