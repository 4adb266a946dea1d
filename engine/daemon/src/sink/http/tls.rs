//! The certificate authorities that are trusted to name the collector.

use std::io;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

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

/// TLS 1.2 and 1.3 with these roots.
pub(super) fn client_config(roots: &Roots) -> io::Result<Arc<ClientConfig>> {
    let store = match roots {
        Roots::System => system(rustls_native_certs::load_native_certs().certs),
        Roots::Certificates(certificates) => system(certificates.clone()),
        Roots::Pem(text) => pem(text)?,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(store)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn system(certificates: Vec<CertificateDer<'static>>) -> RootCertStore {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(certificates);
    if store.is_empty() {
        store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    store
}

fn pem(text: &[u8]) -> io::Result<RootCertStore> {
    let invalid = |error: String| io::Error::new(io::ErrorKind::InvalidData, error);
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(text) {
        let certificate = certificate.map_err(|error| invalid(error.to_string()))?;
        store
            .add(certificate)
            .map_err(|error| invalid(error.to_string()))?;
    }
    if store.is_empty() {
        return Err(invalid("no certificate in the PEM text".to_owned()));
    }
    Ok(store)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_always_roots_and_a_bad_file_is_refused() {
        assert!(client_config(&Roots::System).is_ok());
        assert!(client_config(&Roots::of_system()).is_ok());
        assert!(client_config(&Roots::Pem(b"nonsense".to_vec())).is_err());
        let broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(client_config(&Roots::Pem(broken.to_vec())).is_err());
    }
}
