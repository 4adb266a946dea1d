//! Collectors behind https.

use super::*;

/// A server's configuration, and the authority that signed it as PEM.
pub(super) fn certificate(name: &str) -> (Arc<ServerConfig>, Vec<u8>) {
    made(rcgen::CertificateParams::new([name.to_owned()]).unwrap())
}

/// A self-signed certificate.
fn made(params: rcgen::CertificateParams) -> (Arc<ServerConfig>, Vec<u8>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (
        served(certificate.der().clone(), &key),
        certificate.pem().into_bytes(),
    )
}

fn served(
    certificate: rustls::pki_types::CertificateDer<'static>,
    key: &rcgen::KeyPair,
) -> Arc<ServerConfig> {
    let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    Arc::new(config)
}

/// As `openssl req -x509 -subj /CN=NAME` makes it: one of an authority, with its name in the subject only.
fn of_openssl(name: &str) -> rcgen::CertificateParams {
    let mut params = rcgen::CertificateParams::default();
    let mut subject = rcgen::DistinguishedName::new();
    subject.push(rcgen::DnType::CommonName, name);
    params.distinguished_name = subject;
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params
}

/// What is reported of a server with this certificate, by a capture and by a check; empty if it is trusted.
#[track_caller]
fn trouble(config: Arc<ServerConfig>, roots: Roots) -> String {
    let server = Server::on(TcpListener::bind("127.0.0.1:0").unwrap(), Some(config), ok);
    let url = format!("https://localhost:{}/message", server.address.port());
    let mut bed = Bed::new(Choice::Auto, &url, |config| {
        config.trust.roots = roots.clone();
    });
    bed.push(1, b"x", 1);
    let snapshot = bed.wait("an outcome", |snapshot| {
        snapshot.down || snapshot.counters.calls_sent == 1
    });
    let route = Route::new(CaptureUrl::parse(&url).unwrap(), None);
    let mut config = Config::new(vec![route.clone()]);
    config.trust.roots = roots;
    let found = probe::probe(&config, &route);
    assert_eq!(found.problem.is_some(), snapshot.down, "{}", found.text);
    assert!(found.text.contains(&snapshot.last_error), "{}", found.text);
    if snapshot.down {
        assert_eq!(snapshot.last_error_code, Some(Code::W046));
    }
    drop(bed.stop(Duration::ZERO));
    snapshot.last_error
}

#[test]
fn a_self_signed_certificate_is_trusted_where_it_is_given() {
    let ago = |year| rcgen::date_time_ymd(year, 1, 1);
    let (config, pem) = made(of_openssl("localhost"));
    assert_eq!(trouble(config.clone(), Roots::Pem(pem)), "");
    let shown = trouble(config, Roots::System);
    assert!(
        shown.contains("self-signed") && shown.contains("--ca FILE"),
        "{shown}"
    );
    let (config, pem) = made(of_openssl("elsewhere.example"));
    let shown = trouble(config, Roots::Pem(pem));
    assert!(
        shown.ends_with("its certificate is for elsewhere.example, not for localhost"),
        "{shown}"
    );
    let mut old = of_openssl("localhost");
    (old.not_before, old.not_after) = (ago(2001), ago(2002));
    let (config, pem) = made(old);
    let shown = trouble(config, Roots::Pem(pem));
    assert!(
        shown.contains("its certificate expired on 2002-01-01, "),
        "{shown}"
    );
}

#[test]
fn what_is_wrong_with_a_certificate_is_said_in_words() {
    let authority = of_openssl("our authority");
    let key = rcgen::KeyPair::generate().unwrap();
    let pem = authority.self_signed(&key).unwrap().pem().into_bytes();
    let issuer = rcgen::Issuer::new(authority, key);
    let issued = |name: &str, years: [i32; 2]| {
        let mut params = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
        let [from, to] = years.map(|year| rcgen::date_time_ymd(year, 1, 1));
        (params.not_before, params.not_after) = (from, to);
        let key = rcgen::KeyPair::generate().unwrap();
        served(params.signed_by(&key, &issuer).unwrap().der().clone(), &key)
    };
    let trusted = Roots::Pem(pem);
    let usual = [2001, 2100];
    assert_eq!(trouble(issued("localhost", usual), trusted.clone()), "");
    for (config, roots, expected) in [
        (
            issued("localhost", usual),
            Roots::System,
            "the issuer of its certificate is unknown (our authority)",
        ),
        (
            issued("a.example", usual),
            trusted.clone(),
            "its certificate is for a.example, not for localhost",
        ),
        (
            issued("localhost", [2001, 2002]),
            trusted.clone(),
            "its certificate expired on 2002-01-01",
        ),
        (
            issued("localhost", [2099, 2100]),
            trusted,
            "its certificate is not valid before 2099-01-01",
        ),
    ] {
        let shown = trouble(config, roots);
        assert!(shown.contains(expected), "{shown}");
    }
}

#[test]
fn https_is_encrypted_and_verified() {
    both(|driver| {
        let (config, pem) = certificate("localhost");
        let server = Server::on(TcpListener::bind("127.0.0.1:0").unwrap(), Some(config), ok);
        let url = format!("https://localhost:{}/message", server.address.port());
        let mut bed = Bed::new(driver, &url, |config| {
            config.trust.roots = Roots::Pem(pem.clone());
        });
        let body: Vec<u8> = (0..3_u32 << 20)
            .map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        bed.push(1, &body, 1);
        for id in 2..12 {
            bed.push(id, b"small", 1);
        }
        let report = bed.stop(PATIENCE);
        assert_eq!(report.counters.calls_sent, 11, "{report:?}");
        assert!(connects(&report) <= 2, "kept");
        let received = server.received();
        assert!(received.iter().any(|request| request.body == body));

        // The same server, seen with other eyes: not vouched for, and under another name.
        let other = format!("https://127.0.0.1:{}/message", server.address.port());
        for (url, roots) in [(&url, Roots::System), (&other, Roots::Pem(pem.clone()))] {
            let mut bed = Bed::new(driver, url, |config| config.trust.roots = roots);
            bed.push(1, b"secret", 1);
            let snapshot = bed.wait("down", |snapshot| snapshot.down);
            assert!(
                snapshot.last_error.contains("certificate"),
                "{}",
                snapshot.last_error
            );
            assert_eq!(bed.stop(Duration::ZERO).counters.calls_dropped_shutdown, 1);
            assert_eq!(bed.codes(), ["W046"]);
        }
        assert_eq!(server.received().len(), 11);
    });
}

#[test]
fn a_plain_server_behind_https_is_a_tls_error() {
    let server = Server::start(ok);
    let mut bed = Bed::new(
        Choice::Auto,
        &format!("https://{}/", server.address),
        |config| {
            config.connect_max = Duration::from_millis(300);
        },
    );
    bed.push(1, b"x", 1);
    let snapshot = bed.wait("down", |snapshot| snapshot.down);
    let shown = snapshot.last_error;
    assert!(
        shown.contains("is it an http:// URL?") || shown.starts_with("timed out"),
        "{shown}"
    );
    assert_eq!(bed.stop(Duration::ZERO).counters.calls_dropped_shutdown, 1);
}

/// A server that demands certificates of this authority.
fn demanding(authority: &[u8]) -> (Server, Vec<u8>) {
    use rustls::pki_types::pem::PemObject as _;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    let trusted = rustls::pki_types::CertificateDer::from_pem_slice(authority).unwrap();
    roots.add(trusted).unwrap();
    let builder = rustls::server::WebPkiClientVerifier::builder_with_provider(
        Arc::new(roots),
        provider.clone(),
    );
    let der = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(builder.build().unwrap())
        .with_single_cert(vec![certificate.der().clone()], der)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = Server::on(listener, Some(Arc::new(config)), ok);
    (server, certificate.pem().into_bytes())
}

/// Certificates of one authority.
struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    pem: Vec<u8>,
}

impl Authority {
    fn new() -> Self {
        let params = of_openssl("authority of clients");
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem().into_bytes();
        Self {
            issuer: rcgen::Issuer::new(params, key),
            pem,
        }
    }

    /// A certificate that is valid up to this year, and its key.
    fn issue(&self, year: i32) -> (Vec<u8>, Vec<u8>) {
        let mut params = rcgen::CertificateParams::new(["sniffer".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (
            certificate.pem().into_bytes(),
            key.serialize_pem().into_bytes(),
        )
    }
}

#[test]
fn a_client_certificate_is_sent_and_its_refusal_explained() {
    let (ours, other) = (Authority::new(), Authority::new());
    let (server, pem) = demanding(&ours.pem);
    let url = format!("https://localhost:{}/message", server.address.port());
    for (identity, expected) in [
        (Some(ours.issue(2100)), ""),
        (None, "it demands a client certificate: --tls-cert FILE"),
        (
            Some(ours.issue(2002)),
            "does not accept the client certificate (--tls-cert): it has expired",
        ),
        (
            Some(other.issue(2100)),
            "does not accept the client certificate (--tls-cert): ",
        ),
    ] {
        let trust = Trust {
            roots: Roots::Pem(pem.clone()),
            identity,
        };
        let mut bed = Bed::new(Choice::Auto, &url, |config| config.trust = trust.clone());
        bed.push(1, b"x", 1);
        let snapshot = bed.wait("an outcome", |snapshot| {
            snapshot.down || snapshot.counters.calls_sent == 1
        });
        if expected.is_empty() {
            assert!(!snapshot.down, "{}", snapshot.last_error);
        } else {
            let shown = &snapshot.last_error;
            assert!(shown.contains(expected), "{shown}");
            assert_eq!(snapshot.last_error_code, Some(Code::W046));
        }
        let route = Route::new(CaptureUrl::parse(&url).unwrap(), None);
        let mut config = Config::new(vec![route.clone()]);
        config.trust = trust;
        let found = probe::probe(&config, &route);
        assert!(found.text.contains(expected), "{}", found.text);
        assert_eq!(
            found.problem.is_none(),
            expected.is_empty(),
            "{}",
            found.text
        );
        drop(bed.stop(Duration::ZERO));
    }
}

#[test]
fn the_name_of_the_server_may_be_another_than_that_of_the_url() {
    let (config, pem) = certificate("collector.example");
    let server = Server::on(TcpListener::bind("127.0.0.1:0").unwrap(), Some(config), ok);
    let url = format!("https://{}/message", server.address);
    let mut bed = Bed::new(Choice::Auto, &url, |config| {
        config.trust.roots = Roots::Pem(pem.clone());
        config.server_name = Some("collector.example".to_owned());
    });
    bed.push(1, b"x", 1);
    bed.wait("delivered", |snapshot| snapshot.counters.calls_sent == 1);
    bed.stop(PATIENCE);
    let host = format!("127.0.0.1:{}", server.address.port());
    assert_eq!(server.received()[0].headers["host"], host);
}

#[test]
fn other_certificates_are_used_at_once() {
    both(|driver| {
        let authority = Authority::new();
        let (server, pem) = demanding(&authority.pem);
        let url = format!("https://localhost:{}/message", server.address.port());
        let mut bed = Bed::new(driver, &url, |config| {
            config.trust.roots = Roots::Pem(pem.clone());
        });
        bed.push(1, b"x", 1);
        // Long enough for waits that a test would not sit through.
        bed.wait("down for some time", |snapshot| {
            snapshot.counters.retries >= 4
        });
        let trust = |identity| Trust {
            roots: Roots::Pem(pem.clone()),
            identity: Some(identity),
        };
        let uploader = bed.uploader.as_ref().unwrap();
        let (one, other) = (authority.issue(2100), authority.issue(2100));
        assert!(
            uploader
                .trust(&trust((one.0.clone(), other.1.clone())))
                .is_err()
        );
        uploader.trust(&trust(one)).unwrap();
        bed.wait("delivered", |snapshot| snapshot.counters.calls_sent == 1);
        bed.push(2, b"x", 1);
        let before = bed.wait("delivered", |snapshot| snapshot.counters.calls_sent == 2);
        // A connection of before is not used any longer.
        bed.uploader.as_ref().unwrap().trust(&trust(other)).unwrap();
        bed.push(3, b"x", 1);
        let after = bed.wait("delivered", |snapshot| snapshot.counters.calls_sent == 3);
        assert!(connects(&after) > connects(&before));
        bed.stop(PATIENCE);
    });
}
