//! Forward proxies: which of them, if any, leads to a capture URL. Named by a setting, or by the variables that other programs
//! read as well.
//!
//! In lower case a variable counts more than in upper case, as for curl. `HTTP_PROXY` does not count where `REQUEST_METHOD` is
//! set: a CGI server puts the header `Proxy` of whoever sends a request there (CVE-2016-5385). A proxy of the environment is for
//! other machines than this one, and `NO_PROXY` makes further exceptions; one that a setting names is for all URLs.

use std::net::IpAddr;

use super::settings::Settings;
use super::value::{Source, Value};
use crate::capture_url::{CaptureUrl, UrlError};
use crate::diagnostic::{Code, Diagnostic};

/// The proxies of the settings and of the environment.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    /// For all URLs, with no exception.
    named: Option<CaptureUrl>,
    http: Option<CaptureUrl>,
    https: Option<CaptureUrl>,
    /// What the proxies of the environment are not for.
    except: Vec<Exception>,
}

impl Proxies {
    /// The proxy that leads to this URL.
    pub fn of(&self, url: &CaptureUrl) -> Option<CaptureUrl> {
        if url.socket().is_some() {
            return None;
        }
        if self.named.is_some() {
            return self.named.clone();
        }
        let is_excepted = url.is_loopback() || self.except.iter().any(|one| one.covers(url));
        let proxy = if url.is_https() {
            &self.https
        } else {
            &self.http
        };
        proxy.clone().filter(|_| !is_excepted)
    }
}

/// Reads them from the settings and from `variable`, which gives a variable of the environment.
pub(super) fn proxies(
    settings: &Settings,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Proxies, Diagnostic> {
    if let Some(value) = &settings.proxy {
        if matches!(value.text.trim(), "off" | "none") {
            return Ok(Proxies::default());
        }
        return Ok(Proxies {
            named: Some(parse(value)?),
            ..Proxies::default()
        });
    }
    let is_cgi = variable("REQUEST_METHOD").is_some();
    let given = |names: &[&str]| {
        let names = names
            .iter()
            .filter(|name| !(is_cgi && **name == "HTTP_PROXY"));
        let value = |name: &&str| {
            let text = variable(name).filter(|text| !text.trim().is_empty())?;
            Some(Value {
                name: (*name).to_owned(),
                text,
                source: Source::Environment,
                is_secret: false,
            })
        };
        names.filter_map(value).next()
    };
    let all = ["all_proxy", "ALL_PROXY"];
    let of = |names: [&str; 2]| {
        let value = given(&names).or_else(|| given(&all));
        value.as_ref().map(parse).transpose()
    };
    let except = given(&["no_proxy", "NO_PROXY"]).map_or_else(Vec::new, |value| {
        let items = value.text.split([',', ' ']).map(str::trim);
        items
            .filter(|item| !item.is_empty())
            .map(Exception::read)
            .collect()
    });
    Ok(Proxies {
        named: None,
        http: of(["http_proxy", "HTTP_PROXY"])?,
        https: of(["https_proxy", "HTTPS_PROXY"])?,
        except,
    })
}

/// The proxy that a value names. A kind that is not supported is an error, since going past it may not be what is wanted.
fn parse(value: &Value) -> Result<CaptureUrl, Diagnostic> {
    CaptureUrl::parse_proxy(&value.text).map_err(|reason| {
        let reason = match reason {
            UrlError::OtherScheme | UrlError::NoSocket => {
                "only proxies that are reached by http:// are supported".to_owned()
            }
            reason => reason.to_string(),
        };
        Diagnostic::new(Code::E002, format!("{}: {reason}", value.written()))
            .fix("--proxy http://[USER:PASSWORD@]HOST:PORT\n--proxy off    goes straight to the capture URL")
    })
}

/// One item of `NO_PROXY`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Exception {
    /// `*`.
    Everything,
    /// A host and all below it; a port where there is one.
    Host(String, Option<u16>),
    /// A network, as an address and the number of its leading bits.
    Network(IpAddr, u32),
}

impl Exception {
    fn read(item: &str) -> Self {
        if item == "*" {
            return Self::Everything;
        }
        let network = |(address, bits): (&str, &str)| {
            Some(Self::Network(address.parse().ok()?, bits.parse().ok()?))
        };
        if let Some(network) = item.split_once('/').and_then(network) {
            return network;
        }
        let is_address = item.parse::<IpAddr>().is_ok();
        let (host, port) = match item.rsplit_once(':') {
            Some((host, port)) if !is_address => (host, port.parse().ok()),
            _ => (item, None),
        };
        let host = host.trim_start_matches("*.").trim_start_matches('.');
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Self::Host(host.to_ascii_lowercase(), port)
    }

    fn covers(&self, url: &CaptureUrl) -> bool {
        match self {
            Self::Everything => true,
            Self::Host(host, port) => {
                let asked = url.host().to_ascii_lowercase();
                let is_address = url.address().is_some();
                let below = asked.strip_suffix(host.as_str());
                let is_below = below
                    .is_some_and(|below| below.is_empty() || (below.ends_with('.') && !is_address));
                is_below && !host.is_empty() && port.is_none_or(|port| port == url.port())
            }
            Self::Network(network, bits) => {
                let address = url.address().map(|address| address.to_canonical());
                address.is_some_and(|address| is_within(address, *network, *bits))
            }
        }
    }
}

fn is_within(address: IpAddr, network: IpAddr, bits: u32) -> bool {
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            let differ = address.to_bits() ^ network.to_bits();
            bits <= 32 && differ.leading_zeros() >= bits
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            let differ = address.to_bits() ^ network.to_bits();
            bits <= 128 && differ.leading_zeros() >= bits
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::setting::RUN;
    use crate::config::tests::values;

    fn read(pairs: &[(&str, &str)]) -> Result<Proxies, Diagnostic> {
        let ours = |pair: &&(&str, &str)| pair.0.starts_with("SNIFFER_");
        let settings: Vec<_> = pairs.iter().filter(ours).copied().collect();
        let settings = Settings::check(&values(&settings), RUN).unwrap();
        let variable = |name: &str| {
            let mut found = pairs.iter().filter(|(known, _)| *known == name);
            found.next().map(|(_, text)| (*text).to_owned())
        };
        proxies(&settings, &variable)
    }

    #[track_caller]
    fn check(pairs: &[(&str, &str)], url: &str, expected: &str) {
        let proxy = read(pairs).unwrap().of(&CaptureUrl::parse(url).unwrap());
        let shown = proxy.map_or_else(String::new, |proxy| proxy.authority());
        assert_eq!(shown, expected, "{pairs:?} {url}");
    }

    #[test]
    fn the_usual_variables_count_in_both_cases() {
        let (plain, tls) = ("http://lake.example/m", "https://lake.example/m");
        check(&[], plain, "");
        check(&[("HTTP_PROXY", "http://p:1")], plain, "p:1");
        check(&[("HTTP_PROXY", "http://p:1")], tls, "");
        check(&[("https_proxy", "p:2")], tls, "p:2");
        check(
            &[("HTTPS_PROXY", "p:2"), ("https_proxy", "p:3")],
            tls,
            "p:3",
        );
        check(&[("ALL_PROXY", "p:4")], plain, "p:4");
        check(&[("ALL_PROXY", "p:4"), ("HTTPS_PROXY", "p:5")], tls, "p:5");
        check(&[("HTTPS_PROXY", "")], tls, "");
        // A header of a request to a CGI server looks like this variable.
        let cgi = ("REQUEST_METHOD", "GET");
        check(&[cgi, ("HTTP_PROXY", "evil:1")], plain, "");
        check(&[cgi, ("http_proxy", "p:1")], plain, "p:1");
        check(&[cgi, ("HTTPS_PROXY", "p:1")], tls, "p:1");
    }

    #[test]
    fn exceptions_are_hosts_domains_addresses_and_networks() {
        for (except, url, is_direct) in [
            ("lake.example", "http://lake.example/", true),
            ("LAKE.example", "http://a.lake.Example/", true),
            (".example", "http://lake.example/", true),
            ("*.example", "http://lake.example/", true),
            ("ake.example", "http://lake.example/", false),
            ("a, lake.example:80", "http://lake.example/", true),
            ("lake.example:81", "http://lake.example/", false),
            ("*", "http://lake.example/", true),
            ("10.1.0.0/16", "http://10.1.2.3/", true),
            ("10.1.0.0/16", "http://10.2.2.3/", false),
            ("10.1.0.0/99", "http://10.1.0.0/", false),
            ("2.3", "http://10.1.2.3/", false),
            ("10.1.2.3", "http://10.1.2.3/", true),
            ("fd00::/8", "http://[fd12::1]/", true),
            ("fd12::1", "http://[fd12::1]/", true),
            ("0.0.0.0/0", "http://lake.example/", false),
        ] {
            let pairs = [("HTTP_PROXY", "p:1"), ("NO_PROXY", except)];
            check(&pairs, url, if is_direct { "" } else { "p:1" });
        }
        let everywhere = [("ALL_PROXY", "p:1")];
        for here in ["http://localhost/", "https://127.0.0.1/", "unix:///s"] {
            check(&everywhere, here, "");
        }
    }

    #[test]
    fn the_setting_counts_alone() {
        let named = [("SNIFFER_PROXY", "http://p:1"), ("NO_PROXY", "*")];
        check(&named, "https://lake.example/", "p:1");
        check(&named, "http://127.0.0.1/", "p:1");
        check(&named, "unix:///s", "");
        let off = [("SNIFFER_PROXY", "off"), ("ALL_PROXY", "p:1")];
        check(&off, "https://lake.example/", "");
    }

    #[test]
    fn a_proxy_of_another_kind_is_refused_without_its_password() {
        for (name, text) in [
            ("SNIFFER_PROXY", "https://me:hunter2@p:1"),
            ("ALL_PROXY", "socks5://me:hunter2@p:1"),
            ("HTTP_PROXY", "http://me:hunter2@"),
        ] {
            let problem = read(&[(name, text)]).unwrap_err();
            assert_eq!(problem.code, Code::E002);
            let shown = problem.to_string();
            assert!(
                shown.contains(name) && !shown.contains("hunter2"),
                "{shown}"
            );
        }
        let shown = format!(
            "{:?}",
            read(&[("ALL_PROXY", "http://me:hunter2@p:1")]).unwrap()
        );
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
