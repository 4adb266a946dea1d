//! The address of a ClickHouse: `clickhouse[s]://user@host:8123,host2:8123/database?cluster=NAME&ca=FILE&setting=...`.
//!
//! It has no password: that comes from a file or the environment, and is in no log, status or list of arguments.

use std::fmt;
use std::path::PathBuf;

use crate::limits::{CLICKHOUSE_ADDRESSES_MAX, CLICKHOUSE_SETTINGS_MAX};
use crate::percent;

/// Port of HTTP without and with TLS.
const PORTS: [u16; 2] = [8123, 8443];

/// Settings that the store sets itself, because an answer of 204 or a bound depends on them.
const RESERVED: [&str; 14] = [
    "query",
    "query_id",
    "database",
    "user",
    "password",
    "session_id",
    "default_format",
    "compress",
    "decompress",
    "wait_end_of_query",
    "insert_distributed_sync",
    "distributed_foreground_insert",
    "insert_deduplication_token",
    "max_execution_time",
];

/// Where a ClickHouse is, and how it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Whether connections are encrypted.
    pub is_encrypted: bool,
    /// Who the store is to the server.
    pub user: String,
    /// Hosts with their ports, which are tried in turn.
    pub hosts: Vec<(String, u16)>,
    /// The database.
    pub database: String,
    /// The cluster, as `system.clusters` has it; none for a single server.
    pub cluster: Option<String>,
    /// The certificates of the authority that has signed those of the servers, as PEM; none for those of the system.
    pub ca: Option<PathBuf>,
    /// Who sends SQL of users, and may only read; none where these cannot send any.
    pub reader: Option<String>,
    /// Settings of the server that every statement has.
    pub settings: Vec<(String, String)>,
}

/// Why a text is no address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAnAddress(String);

impl fmt::Display for NotAnAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotAnAddress {}

fn wrong<T>(text: impl Into<String>) -> Result<T, NotAnAddress> {
    Err(NotAnAddress(text.into()))
}

impl Address {
    /// Whether a text has the scheme of such an address.
    pub fn is_meant_by(text: &str) -> bool {
        text.starts_with("clickhouse://") || text.starts_with("clickhouses://")
    }

    /// Reads an address.
    ///
    /// # Errors
    /// The text is none. The message does not repeat what may be a password.
    pub fn parse(text: &str) -> Result<Self, NotAnAddress> {
        let (is_encrypted, rest) = match text.split_once("://") {
            Some(("clickhouse", rest)) => (false, rest),
            Some(("clickhouses", rest)) => (true, rest),
            _ => return wrong("expected clickhouse://HOST:8123/DATABASE"),
        };
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = place.split_once('/').unwrap_or((place, ""));
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (decoded(user)?, hosts),
            None => ("default".to_owned(), authority),
        };
        if user.contains(':') {
            return wrong(
                "the address must not have a password: it would be in the list of processes",
            );
        }
        let database = match decoded(database)? {
            name if name.is_empty() => "sniffer".to_owned(),
            name => name,
        };
        let port = PORTS[usize::from(is_encrypted)];
        let hosts: Vec<_> = hosts
            .split(',')
            .map(|host| host_and_port(host, port))
            .collect::<Result<_, _>>()?;
        if hosts.len() > CLICKHOUSE_ADDRESSES_MAX {
            return wrong(format!("at most {CLICKHOUSE_ADDRESSES_MAX} hosts"));
        }
        let mut address = Self {
            is_encrypted,
            user: is_name(user, "user")?,
            hosts,
            database: is_word(database)?,
            cluster: None,
            ca: None,
            reader: None,
            settings: Vec::new(),
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            address.set(&decoded(name)?, decoded(value)?)?;
        }
        Ok(address)
    }

    fn set(&mut self, name: &str, value: String) -> Result<(), NotAnAddress> {
        match name {
            "cluster" => self.cluster = Some(is_name(value, "cluster")?),
            "reader" => self.reader = Some(is_name(value, "reader")?),
            "ca" if !self.is_encrypted => return wrong("ca: for clickhouses:// alone"),
            "ca" => self.ca = Some(value.into()),
            "wait_for_async_insert" if value == "0" => {
                return wrong("wait_for_async_insert=0 would confirm calls that are not stored");
            }
            _ if RESERVED.contains(&name) => {
                return wrong(format!("the store sets {name} itself"));
            }
            _ => {
                if self.settings.len() >= CLICKHOUSE_SETTINGS_MAX {
                    return wrong(format!("at most {CLICKHOUSE_SETTINGS_MAX} settings"));
                }
                let name = is_name(name.to_owned(), "a setting")?;
                self.settings.push((name, value));
            }
        }
        Ok(())
    }

    /// Sets the cluster.
    ///
    /// # Errors
    /// The text is no name.
    pub fn set_cluster(&mut self, name: &str) -> Result<(), NotAnAddress> {
        self.set("cluster", name.to_owned())
    }

    /// Whether no connection leaves this host, as far as the names of the hosts show.
    pub fn is_loopback(&self) -> bool {
        self.hosts.iter().all(|(host, _)| {
            let ip = host.parse::<std::net::IpAddr>();
            host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
        })
    }
}

/// The address as it may be shown.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_encrypted {
            "clickhouses"
        } else {
            "clickhouse"
        };
        write!(f, "{scheme}://{}@", self.user)?;
        for (index, (host, port)) in self.hosts.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            match host.contains(':') {
                true => write!(f, "{comma}[{host}]:{port}")?,
                false => write!(f, "{comma}{host}:{port}")?,
            }
        }
        write!(f, "/{}", self.database)?;
        if let Some(cluster) = &self.cluster {
            write!(f, "?cluster={cluster}")?;
        }
        Ok(())
    }
}

fn host_and_port(text: &str, default: u16) -> Result<(String, u16), NotAnAddress> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let Some((host, port)) = rest.split_once(']') else {
            return wrong("a host that begins with [ lacks its ]");
        };
        (host, port.strip_prefix(':'))
    } else {
        match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    let is_host =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'%');
    if host.is_empty() || !host.bytes().all(is_host) {
        return wrong("expected a host with its port, such as clickhouse:8123");
    }
    let port = match port {
        None => default,
        Some(port) => match port.parse() {
            Ok(port) if port > 0 => port,
            _ => return wrong("expected a port from 1 to 65535"),
        },
    };
    Ok((host.to_owned(), port))
}

/// A name that needs no quotation anywhere.
fn is_name(text: String, what: &str) -> Result<String, NotAnAddress> {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if (1..=128).contains(&text.len()) && text.bytes().all(is_part) {
        return Ok(text);
    }
    wrong(format!(
        "{what}: expected 1 to 128 letters, digits or one of _ - ."
    ))
}

/// A name that needs no quotation in SQL.
fn is_word(text: String) -> Result<String, NotAnAddress> {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if text.len() <= 64
        && text.bytes().all(is_part)
        && !text.starts_with(|c: char| c.is_ascii_digit())
    {
        return Ok(text);
    }
    wrong("database: expected letters, digits or _")
}

fn decoded(text: &str) -> Result<String, NotAnAddress> {
    let Some(bytes) = percent::decoded(text) else {
        return wrong("a % is followed by two hexadecimal digits");
    };
    String::from_utf8(bytes).or_else(|_| wrong("the address is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<&str, &str>) {
        match (Address::parse(text), expected) {
            (Ok(address), Ok(shown)) => assert_eq!(address.to_string(), shown, "{text}"),
            (Err(error), Err(word)) => assert!(error.to_string().contains(word), "{error}"),
            (found, _) => panic!("{text}: {found:?}"),
        }
    }

    #[test]
    fn addresses_are_read_and_shown_without_what_may_be_secret() {
        check("clickhouse://h", Ok("clickhouse://default@h:8123/sniffer"));
        check("clickhouses://w@h/x", Ok("clickhouses://w@h:8443/x"));
        check(
            "clickhouse://w@a:1,[::1]:2,b/db?cluster=c1&max_threads=2",
            Ok("clickhouse://w@a:1,[::1]:2,b:8123/db?cluster=c1"),
        );
        for (text, word) in [
            ("http://h", "expected"),
            ("clickhouse://", "host"),
            ("clickhouse://u:secret@h", "password"),
            ("clickhouse://h:0/", "port"),
            ("clickhouse://h:x/", "port"),
            ("clickhouse://h/a`b", "database"),
            ("clickhouse://h/d?cluster=a'b", "cluster"),
            ("clickhouse://h/d?ca=/x", "clickhouses"),
            ("clickhouse://h/d?wait_for_async_insert=0", "confirm"),
            ("clickhouse://h/d?insert_distributed_sync=0", "itself"),
            ("clickhouse://h/d?a%zz=1", "hexadecimal"),
        ] {
            check(text, Err(word));
        }
        let error = Address::parse("clickhouse://u:secret@h").expect_err("a password");
        assert!(!error.to_string().contains("secret"));
        let address = Address::parse("clickhouses://h/d?ca=%2Fetc%2Fca.pem&async_insert=1");
        let address = address.expect("an address");
        assert_eq!(address.ca, Some("/etc/ca.pem".into()));
        assert_eq!(address.settings, [("async_insert".into(), "1".into())]);
        assert!(
            Address::parse("clickhouse://127.0.0.1:1,localhost/").is_ok_and(|a| a.is_loopback())
        );
        assert!(Address::parse("clickhouse://127.0.0.1:1,h/").is_ok_and(|a| !a.is_loopback()));
    }
}
