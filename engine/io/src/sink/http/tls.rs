//! Encryption: whose certificates are trusted, who we are, and what is wrong with a certificate that is not accepted, in words.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError,
    RootCertStore, SignatureScheme,
};

use super::certificate::{Certificate, date};

/// Which authorities may have signed the collector's certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Roots {
    /// The system's authorities, or Mozilla's where the system has none, as in a slim container.
    #[default]
    System,
    /// These alone, as PEM.
    Pem(Vec<u8>),
    /// These alone.
    Certificates(Vec<CertificateDer<'static>>),
}

impl Roots {
    /// The system's authorities as they are now, for a process that cannot read them later. Those that cannot be read
    /// are left out: what they signed will be refused, with a message.
    pub(super) fn of_system() -> Self {
        match rustls_native_certs::load_native_certs().certs {
            none if none.is_empty() => Self::System,
            certificates => Self::Certificates(certificates),
        }
    }
}

/// Whom the collector's certificate must come from, and our own.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Trust {
    /// Which authorities may have signed the collector's certificate.
    pub roots: Roots,
    /// Our certificate and its key, both as PEM.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl fmt::Debug for Trust {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { roots, identity } = self;
        write!(f, "Trust({roots:?}, identity: {})", identity.is_some())
    }
}

/// The configuration that new connections take, which another thread may replace.
#[derive(Clone, Debug)]
pub(super) struct Current(Arc<Mutex<Arc<ClientConfig>>>);

impl Current {
    pub(super) fn new(trust: &Trust) -> io::Result<Self> {
        let config = client_config(trust)?;
        Ok(Self(Arc::new(Mutex::new(config))))
    }

    pub(super) fn get(&self) -> Arc<ClientConfig> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Takes another one. What cannot be used changes nothing.
    pub(super) fn replace(&self, trust: &Trust) -> io::Result<()> {
        let config = client_config(trust)?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }
}

/// TLS 1.2 and 1.3 with this trust.
pub(super) fn client_config(trust: &Trust) -> io::Result<Arc<ClientConfig>> {
    let (store, trusted) = match &trust.roots {
        Roots::System => system(rustls_native_certs::load_native_certs().certs),
        Roots::Certificates(certificates) => system(certificates.clone()),
        Roots::Pem(text) => pem(text)?,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Verifier::new(store, trusted, &provider)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match &trust.identity {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let (chain, key) = identity(chain, key)?;
            let config = builder.with_client_auth_cert(chain, key);
            config.map_err(|error| {
                let words = match error {
                    Error::InconsistentKeys(_) => {
                        "the key is not that of the certificate".to_owned()
                    }
                    other => other.to_string(),
                };
                invalid(format!("the client certificate cannot be used: {words}"))
            })?
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn invalid(error: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// A certificate with those behind it, and its key.
fn identity(chain: &[u8], key: &[u8]) -> io::Result<Identity> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
    let chain = chain.map_err(|error| invalid(format!("the client certificate: {error}")))?;
    if chain.is_empty() {
        return Err(invalid("no client certificate in the PEM text".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|error| invalid(format!("the key of the client certificate: {error}")))?;
    Ok((chain, key))
}

type Trusted = Vec<CertificateDer<'static>>;

fn system(certificates: Trusted) -> (RootCertStore, Trusted) {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(certificates.iter().cloned());
    if store.is_empty() {
        store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    (store, certificates)
}

fn pem(text: &[u8]) -> io::Result<(RootCertStore, Trusted)> {
    let mut store = RootCertStore::empty();
    let mut trusted = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(text) {
        let certificate = certificate.map_err(|error| invalid(error.to_string()))?;
        store
            .add(certificate.clone())
            .map_err(|error| invalid(error.to_string()))?;
        trusted.push(certificate);
    }
    if store.is_empty() {
        return Err(invalid("no certificate in the PEM text".to_owned()));
    }
    Ok((store, trusted))
}

/// Verifies as webpki does, and accepts in addition a certificate that is itself among the trusted ones. webpki refuses
/// that where the certificate is one of an authority or has its name in the subject only, and those that
/// `openssl req -x509` makes are both. Whoever has such a certificate's key is who is trusted; its name and its dates are
/// checked as those of any other.
#[derive(Debug)]
struct Verifier {
    webpki: Arc<WebPkiServerVerifier>,
    trusted: Trusted,
}

impl Verifier {
    fn new(
        store: RootCertStore,
        trusted: Trusted,
        provider: &Arc<CryptoProvider>,
    ) -> io::Result<Self> {
        let builder =
            WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider.clone());
        Ok(Self {
            webpki: builder.build().map_err(io::Error::other)?,
            trusted,
        })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.webpki.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        let Err(error) = verified else {
            return verified;
        };
        let is_trusted = self.trusted.iter().any(|trusted| trusted == end_entity);
        let Some(certificate) = Certificate::read(end_entity) else {
            return Err(error);
        };
        let fault = if is_trusted {
            fault_of_trusted(end_entity, &certificate, server_name, now)
        } else {
            Some(Fault::of(&error, &certificate, server_name, now))
        };
        match fault {
            None => Ok(ServerCertVerified::assertion()),
            Some(fault) => {
                let fault = OtherError(Arc::new(fault));
                Err(Error::InvalidCertificate(CertificateError::Other(fault)))
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

/// What is wrong with a certificate that is trusted by itself: only its dates and its name can be.
fn fault_of_trusted(
    der: &CertificateDer<'_>,
    certificate: &Certificate<'_>,
    name: &ServerName<'_>,
    now: UnixTime,
) -> Option<Fault> {
    let wanted = name.to_str();
    let is_named = if certificate.has_names {
        let parsed = ParsedCertificate::try_from(der);
        parsed.is_ok_and(|parsed| rustls::client::verify_server_name(&parsed, name).is_ok())
    } else {
        let subject = certificate.subject();
        subject.is_some_and(|subject| subject.eq_ignore_ascii_case(&wanted))
    };
    Fault::of_dates(certificate, now).or_else(|| {
        (!is_named).then(|| Fault::OtherName {
            names: certificate.subject().into_iter().collect(),
            wanted: wanted.into_owned(),
        })
    })
}

/// What is wrong with a certificate.
#[derive(Debug)]
enum Fault {
    Expired {
        on: String,
        days: i64,
    },
    NotYetValid {
        from: String,
    },
    OtherName {
        names: Vec<String>,
        wanted: String,
    },
    /// It has no list of names; the name of its subject is not looked at.
    Nameless,
    SelfSigned,
    UnknownIssuer(Option<String>),
    Other(String),
}

impl Fault {
    fn of(
        error: &Error,
        certificate: &Certificate<'_>,
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Self {
        use CertificateError as Certificates;
        let Error::InvalidCertificate(error) = error else {
            return Self::Other(error.to_string());
        };
        let of_name = |names: Vec<String>| Self::OtherName {
            names,
            wanted: name.to_str().into_owned(),
        };
        if let Some(fault) = Self::of_dates(certificate, now) {
            return fault;
        }
        match error {
            Certificates::NotValidForName | Certificates::NotValidForNameContext { .. }
                if !certificate.has_names =>
            {
                Self::Nameless
            }
            Certificates::NotValidForName => of_name(certificate.subject().into_iter().collect()),
            Certificates::NotValidForNameContext { presented, .. } => {
                let names = presented.iter().map(|name| plain_name(name));
                of_name(names.collect())
            }
            _ if certificate.is_self_signed() => Self::SelfSigned,
            Certificates::UnknownIssuer => Self::UnknownIssuer(certificate.issuer()),
            other => Self::Other(other.to_string()),
        }
    }

    fn of_dates(certificate: &Certificate<'_>, now: UnixTime) -> Option<Self> {
        let now = i64::try_from(now.as_secs()).ok()?;
        if now > certificate.not_after {
            let days = (now - certificate.not_after) / (24 * 60 * 60);
            let on = date(certificate.not_after);
            return Some(Self::Expired { on, days });
        }
        (now < certificate.not_before).then(|| Self::NotYetValid {
            from: date(certificate.not_before),
        })
    }
}

/// `DnsName("a.example")` as rustls lists it.
fn plain_name(listed: &str) -> String {
    let quoted = listed
        .split_once('"')
        .and_then(|(_, rest)| rest.split_once('"'));
    let inner = listed
        .split_once('(')
        .and_then(|(_, rest)| rest.rsplit_once(')'));
    quoted.or(inner).map_or(listed, |(name, _)| name).to_owned()
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired { on, days: 0 } => write!(f, "its certificate expired on {on}"),
            Self::Expired { on, days: 1 } => write!(f, "its certificate expired on {on}, a day ago"),
            Self::Expired { on, days } => {
                write!(f, "its certificate expired on {on}, {days} days ago")
            }
            Self::NotYetValid { from } => write!(
                f,
                "its certificate is not valid before {from}; is the clock of this machine right?"
            ),
            Self::OtherName { names, wanted } if names.is_empty() => {
                write!(f, "its certificate is not for {wanted}")
            }
            Self::OtherName { names, wanted } => write!(
                f,
                "its certificate is for {}, not for {wanted}",
                names.join(", ")
            ),
            Self::Nameless => f.write_str(
                "its certificate lists no names; make it with subjectAltName=DNS:NAME, or trust it by itself: --ca FILE",
            ),
            Self::SelfSigned => f.write_str(
                "its certificate is self-signed and not trusted; to trust it, save it as PEM: --ca FILE",
            ),
            Self::UnknownIssuer(issuer) => {
                f.write_str("the issuer of its certificate is unknown")?;
                if let Some(issuer) = issuer {
                    write!(f, " ({issuer})")?;
                }
                f.write_str("; for a private authority, with its certificate as PEM: --ca FILE")
            }
            Self::Other(text) => write!(f, "its certificate is not accepted: {text}"),
        }
    }
}

impl std::error::Error for Fault {}

/// Why a handshake failed.
pub(super) fn words(error: &io::Error) -> String {
    let cause = error
        .get_ref()
        .and_then(|cause| cause.downcast_ref::<Error>());
    match (cause, error.kind()) {
        (Some(Error::InvalidCertificate(CertificateError::Other(fault))), _) => fault.to_string(),
        (Some(Error::InvalidMessage(_)), _) => {
            "what answers on this port is not encrypted; is it an http:// URL?".to_owned()
        }
        (Some(Error::AlertReceived(alert)), _) => match alert {
            AlertDescription::HandshakeFailure | AlertDescription::ProtocolVersion => {
                "no version or cipher of TLS in common".to_owned()
            }
            AlertDescription::UnrecognisedName => {
                "it does not know this name (server name indication)".to_owned()
            }
            other => refusal(*other)
                .unwrap_or_else(|| format!("it ended the handshake with the alert {other:?}")),
        },
        (Some(other), _) => other.to_string(),
        (None, io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {
            "it closed the connection during the TLS handshake; is it an http:// URL?".to_owned()
        }
        (None, _) => error.to_string(),
    }
}

/// Why the other end does not accept our certificate, or the lack of one.
fn refusal(alert: AlertDescription) -> Option<String> {
    let why = match alert {
        AlertDescription::CertificateRequired => return Some(DEMAND.to_owned()),
        AlertDescription::CertificateExpired => "it has expired",
        AlertDescription::CertificateRevoked => "it is revoked",
        AlertDescription::UnknownCA => "its issuer is unknown there",
        AlertDescription::DecryptError => "a signature is not that of the issuer or the key",
        AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::AccessDenied => "no reason given",
        _ => return None,
    };
    Some(format!(
        "it does not accept the client certificate (--tls-cert): {why}"
    ))
}

/// What is missing where no certificate of ours was sent.
const DEMAND: &str = "it demands a client certificate: --tls-cert FILE --tls-key FILE";

/// The same once the handshake is over for us, which in TLS 1.3 is before the other end looks at our certificate: the alert is
/// then the first that is received.
pub(super) fn late_refusal(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        // An error within an I/O error is no source of it.
        let inner = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        let inner = inner.and_then(|inner| inner.downcast_ref::<Error>());
        if let Some(Error::AlertReceived(alert)) = inner.or_else(|| error.downcast_ref()) {
            return refusal(*alert);
        }
        next = error.source();
    }
    None
}

/// What nginx has in its answer 400 where it does not accept our certificate, or the lack of one.
pub(super) fn refusal_in(body: &[u8]) -> Option<String> {
    let has = |text: &str| body.windows(text.len()).any(|part| part == text.as_bytes());
    if has("No required SSL certificate was sent") {
        return Some(DEMAND.to_owned());
    }
    has("The SSL certificate error").then(|| {
        "it does not accept the client certificate (--tls-cert): expired, or not signed by whom it trusts"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_always_roots_and_a_bad_file_is_refused() {
        let config = |roots| {
            let identity = None;
            client_config(&Trust { roots, identity })
        };
        assert!(config(Roots::System).is_ok());
        assert!(config(Roots::of_system()).is_ok());
        assert!(config(Roots::Pem(b"nonsense".to_vec())).is_err());
        let broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(config(Roots::Pem(broken.to_vec())).is_err());
    }

    #[test]
    fn a_client_certificate_has_its_own_key() {
        let pair = || {
            let key = rcgen::KeyPair::generate().unwrap();
            let params = rcgen::CertificateParams::new(["me".to_owned()]).unwrap();
            let certificate = params.self_signed(&key).unwrap();
            (
                certificate.pem().into_bytes(),
                key.serialize_pem().into_bytes(),
            )
        };
        let (ours, other) = (pair(), pair());
        let config = |identity: (Vec<u8>, Vec<u8>)| {
            client_config(&Trust {
                roots: Roots::System,
                identity: Some(identity),
            })
        };
        let current = Current::new(&Trust::default()).unwrap();
        let before = current.get();
        for (chain, key, expected) in [
            (&ours.0, &other.1, "not that of the certificate"),
            (&ours.1, &ours.1, "no client certificate"),
            (&ours.0, &ours.0, "the key of the client certificate"),
        ] {
            let identity = Some((chain.clone(), key.clone()));
            let roots = Roots::System;
            let error = current.replace(&Trust { roots, identity }).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
        assert!(Arc::ptr_eq(&before, &current.get()), "as it was");
        let both = [ours.0.clone(), ours.1.clone()].concat();
        assert!(
            config((both.clone(), both)).is_ok(),
            "one file may have both"
        );
        assert!(config(ours).is_ok());
    }

    #[test]
    fn names_are_shown_without_their_type() {
        for (listed, expected) in [
            ("DnsName(\"a.example\")", "a.example"),
            ("IpAddress(127.0.0.1)", "127.0.0.1"),
            ("b.example", "b.example"),
        ] {
            assert_eq!(plain_name(listed), expected);
        }
    }
}
