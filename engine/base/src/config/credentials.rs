//! What a collector needs in addition to its URL: headers of every POST, certificates that are trusted, and one of our own with
//! its key. They may come from files, which are read before the process confines itself. Those of certificates and keys can be
//! read again, by a process that may.

use std::fmt;
use std::path::{Path, PathBuf};

use hyper::header::{self, HeaderName, HeaderValue};

use super::setting::Row;
use super::settings::{Settings, row};
use super::value::Value;
use super::values::Values;
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
    /// Where certificates and key are read from.
    pub files: TlsFiles,
    /// What these files had.
    pub pems: Pems,
    /// The name that the collector's certificate must be for; none for the host of its URL.
    pub server_name: Option<String>,
}

/// The files of certificates and of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Of those that are trusted; none for those of the system.
    pub ca: Option<PathBuf>,
    /// Of our own.
    pub certificate: Option<PathBuf>,
    /// Of its key.
    pub key: Option<PathBuf>,
}

/// What is in [`TlsFiles`], as PEM.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Pems {
    /// Those that are trusted.
    pub ca: Option<Vec<u8>>,
    /// Our own.
    pub certificate: Option<Vec<u8>>,
    /// Its key.
    pub key: Option<Vec<u8>>,
}

impl TlsFiles {
    /// Those that there are, in a fixed order.
    pub fn list(&self) -> Vec<PathBuf> {
        let all = [&self.ca, &self.certificate, &self.key];
        all.into_iter().flatten().cloned().collect()
    }

    /// What `contents`, one for each of [the list](Self::list), are.
    pub fn pems(&self, contents: Vec<Vec<u8>>) -> Result<Pems, Diagnostic> {
        let mut contents = contents.into_iter();
        let mut next = |path: &Option<PathBuf>| path.as_ref().and_then(|_| contents.next());
        let pems = Pems {
            ca: next(&self.ca),
            certificate: next(&self.certificate),
            key: next(&self.key),
        };
        for (path, pem, kind) in [
            (&self.ca, &pems.ca, "CERTIFICATE"),
            (&self.certificate, &pems.certificate, "CERTIFICATE"),
            (&self.key, &pems.key, "PRIVATE KEY"),
        ] {
            if let (Some(path), Some(pem)) = (path, pem) {
                check_pem(path, pem, kind)?;
            }
        }
        Ok(pems)
    }
}

impl fmt::Debug for Pems {
    /// Without anything that is secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let there = [&self.ca, &self.certificate, &self.key].map(Option::is_some);
        write!(f, "Pems({there:?})")
    }
}

impl fmt::Debug for Credentials {
    /// Without anything that is secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&HeaderName> = self.headers.iter().map(|(name, _)| name).collect();
        write!(f, "Credentials({names:?}, {:?})", self.files)
    }
}

/// Reads them from the settings and their files.
pub(super) fn credentials(settings: &Settings) -> Result<Credentials, Diagnostic> {
    let file = |path: &Option<PathBuf>, row: &Row| Some((path.clone()?, row.long_flag()));
    let given = Given {
        headers: settings.headers.as_ref(),
        ca: file(&settings.ca, row::ca()),
        certificate: file(&settings.tls_cert, row::tls_cert()),
        key: file(&settings.tls_key, row::tls_key()),
        server_name: settings.tls_server_name.clone(),
    };
    given.read(row::tls_cert())
}

/// Those of a sink that was named: its own, and the authorities of the capture URL where it has none.
pub(super) fn of_sink(
    settings: &Settings,
    values: &Values,
    sink: &str,
) -> Result<Credentials, Diagnostic> {
    let file = |row: &Row| {
        let value = values.of_sink(row, sink)?;
        Some((PathBuf::from(&value.text), value.name.clone()))
    };
    let common = || Some((settings.ca.clone()?, row::ca().long_flag()));
    let server_name = values.of_sink(row::sink_tls_server_name(), sink);
    let given = Given {
        headers: values.of_sink(row::sink_headers(), sink),
        ca: file(row::sink_ca()).or_else(common),
        certificate: file(row::sink_tls_cert()),
        key: file(row::sink_tls_key()),
        server_name: server_name.map(|value| value.text.clone()),
    };
    given.read(row::sink_tls_cert())
}

/// A file, and the setting that names it.
type NamedFile = Option<(PathBuf, String)>;

/// What the settings have for one destination.
struct Given<'a> {
    headers: Option<&'a Value>,
    ca: NamedFile,
    certificate: NamedFile,
    /// Without one the key is in the file of the certificate.
    key: NamedFile,
    server_name: Option<String>,
}

impl Given<'_> {
    /// `certificate` is the setting that a key without a certificate lacks.
    fn read(self, certificate: &Row) -> Result<Credentials, Diagnostic> {
        if let (Some((_, name)), None) = (&self.key, &self.certificate) {
            let what = format!("{name} needs a certificate");
            let fix = format!("{} {}", certificate.long_flag(), certificate.metavar);
            return Err(Diagnostic::new(Code::E002, what).fix(fix));
        }
        let key = self.key.or_else(|| self.certificate.clone());
        let named = [&self.ca, &self.certificate, &key];
        let contents = named.into_iter().flatten();
        let contents: Result<_, _> = contents.map(|(path, name)| read(path, name)).collect();
        let path = |file: NamedFile| file.map(|(path, _)| path);
        let files = TlsFiles {
            ca: path(self.ca),
            certificate: path(self.certificate),
            key: path(key),
        };
        Ok(Credentials {
            headers: self.headers.map(headers).transpose()?.unwrap_or_default(),
            pems: files.pems(contents?)?,
            files,
            server_name: self.server_name,
        })
    }
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

/// Whether a file has what it should, as PEM.
fn check_pem(path: &Path, pem: &[u8], kind: &str) -> Result<(), Diagnostic> {
    let text = String::from_utf8_lossy(pem);
    let problem = |what: &str| Diagnostic::new(Code::E002, format!("{}: {what}", path.display()));
    let mut begins = text.lines().filter(|line| line.starts_with("-----BEGIN "));
    let wanted = format!("{kind}-----");
    if begins
        .clone()
        .any(|line| line.contains("ENCRYPTED") && line.ends_with(&wanted))
    {
        return Err(
            problem("its key is encrypted, and nobody is there to type a password")
                .fix("openssl pkey -in FILE -out KEY    decrypts it; protect KEY by its mode"),
        );
    }
    if begins.any(|line| line.trim_end().ends_with(&wanted)) {
        return Ok(());
    }
    Err(match kind {
        "CERTIFICATE" => problem("no certificate in it")
            .cause("PEM is expected, which has a line -----BEGIN CERTIFICATE-----")
            .fix("openssl x509 -inform der -in FILE -out FILE.pem    makes it from DER"),
        _ => problem("no key in it")
            .cause("PEM is expected, which has a line -----BEGIN PRIVATE KEY-----")
            .fix("--tls-key FILE    where the key is in a file of its own"),
    })
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
        capture(&values(&[URL, (name, text)]), false)
            .map(|mut capture| capture.sinks.remove(0).credentials)
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
        assert!(read_with("SNIFFER_CA", &path).unwrap().pems.ca.is_some());
        assert!(read_with("SNIFFER_CA", "/nowhere/ca.pem").is_err());
    }

    #[test]
    fn a_client_certificate_has_a_key() {
        let file = |text: &str| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), text).unwrap();
            file
        };
        let certificate = "-----BEGIN CERTIFICATE-----\n";
        let key = "-----BEGIN EC PRIVATE KEY-----\n";
        let both = file(&format!("{certificate}{key}"));
        let read = read_with("SNIFFER_TLS_CERT", &both.path().display().to_string()).unwrap();
        assert_eq!(read.pems.certificate, read.pems.key);
        assert!(!format!("{read:?}").contains("BEGIN"));
        let alone = file(certificate);
        let encrypted = file("-----BEGIN ENCRYPTED PRIVATE KEY-----\n");
        let check = |key: Option<&tempfile::NamedTempFile>, expected: &str| {
            let path = |file: &tempfile::NamedTempFile| file.path().display().to_string();
            let mut pairs = vec![("SNIFFER_TLS_CERT", path(&alone))];
            pairs.extend(key.map(|key| ("SNIFFER_TLS_KEY", path(key))));
            let mut given: Vec<(&str, &str)> = vec![URL];
            given.extend(pairs.iter().map(|(name, text)| (*name, text.as_str())));
            let problem = capture(&values(&given), false).unwrap_err();
            assert!(problem.what.contains(expected), "{problem}");
        };
        check(None, "no key in it");
        check(Some(&alone), "no key in it");
        check(Some(&encrypted), "its key is encrypted");
        let problem = read_with("SNIFFER_TLS_KEY", "/nowhere").unwrap_err();
        assert!(problem.what.contains("needs a certificate"), "{problem}");
        assert_eq!(problem.fix.as_deref(), Some("--tls-cert FILE"));
    }
}
