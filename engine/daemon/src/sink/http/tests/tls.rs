//! Collectors behind https.

use super::*;

/// A server's configuration, and the authority that signed it as PEM.
fn certificate(name: &str) -> (Arc<ServerConfig>, Vec<u8>) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    (Arc::new(config), made.cert.pem().into_bytes())
}

#[test]
fn https_is_encrypted_and_verified() {
    both(|driver| {
        let (config, pem) = certificate("localhost");
        let server = Server::on(TcpListener::bind("127.0.0.1:0").unwrap(), Some(config), ok);
        let url = format!("https://localhost:{}/message", server.address.port());
        let mut bed = Bed::new(driver, &url, |config| {
            config.roots = Roots::Pem(pem.clone());
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
            let mut bed = Bed::new(driver, url, |config| config.roots = roots);
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
    bed.wait("down", |snapshot| snapshot.down);
    assert_eq!(bed.stop(Duration::ZERO).counters.calls_dropped_shutdown, 1);
}
