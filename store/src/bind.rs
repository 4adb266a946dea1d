//! The two ports: binding them, and finding the process that holds a port which is taken.

use std::fmt;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;

/// Which of the two listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `POST /message`.
    Capture,
    /// The web page.
    Page,
}

/// A process that listens on a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Process id, as this process sees it.
    pub pid: u32,
    /// Name of the process, from `/proc/PID/comm`.
    pub name: String,
}

/// A port cannot be bound.
#[derive(Debug)]
pub struct BindError {
    /// The listener that needs it.
    pub role: Role,
    /// The address that was to be bound.
    pub address: SocketAddr,
    /// The process that holds it, when it is taken and that process is visible: those of another user are visible to root only.
    pub holder: Option<Holder>,
    /// The error of the kernel.
    pub source: io::Error,
}

impl BindError {
    /// Whether the port is taken, as opposed to forbidden or not an address of this host.
    pub fn is_taken(&self) -> bool {
        self.source.kind() == io::ErrorKind::AddrInUse
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = match self.role {
            Role::Capture => "capture URL",
            Role::Page => "page",
        };
        let port = self.address.port();
        match &self.holder {
            Some(holder) => write!(
                f,
                "{port} ({role}) is taken by pid {} ({})",
                holder.pid, holder.name
            ),
            None if self.is_taken() => write!(f, "{port} ({role}) is taken by another process"),
            None => write!(
                f,
                "cannot listen on {} ({role}): {}",
                self.address, self.source
            ),
        }
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Listens on an address, ready for tokio.
pub(crate) fn listen(role: Role, address: SocketAddr) -> Result<TcpListener, BindError> {
    bind(address)
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .map_err(|source| BindError {
            role,
            address,
            holder: holder_if_taken(address.port(), &source),
            source,
        })
}

/// `[::]` accepts IPv4 as well, since `net.ipv6.bindv6only` is 0 by default. In a kernel without IPv6 it means all of IPv4.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(address) {
        Err(error)
            if address.is_ipv6()
                && address.ip().is_unspecified()
                && error.kind() != io::ErrorKind::AddrInUse =>
        {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port()))
        }
        result => result,
    }
}

fn holder_if_taken(port: u16, error: &io::Error) -> Option<Holder> {
    if error.kind() == io::ErrorKind::AddrInUse {
        holder(port)
    } else {
        None
    }
}

/// Finds the listener's socket in `/proc/net/tcp*`, then the process with a descriptor of that socket.
fn holder(port: u16) -> Option<Holder> {
    let sockets: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| listening_inodes(&table, port))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let processes = fs::read_dir("/proc").ok()?;
    processes.filter_map(Result::ok).find_map(|process| {
        let pid = process.file_name().to_str()?.parse().ok()?;
        has_socket(&process.path(), &sockets).then(|| Holder {
            pid,
            name: name_of(&process.path()),
        })
    })
}

/// Inodes of the sockets in state LISTEN (0A) on a port; columns as in the kernel's `net/ipv4/tcp_ipv4.c`, `get_tcp4_sock`.
fn listening_inodes(table: &str, port: u16) -> Vec<String> {
    let suffix = format!(":{port:04X}");
    let line_inode = |line: &str| {
        let mut columns = line.split_ascii_whitespace();
        let local = columns.nth(1)?;
        let state = columns.nth(1)?;
        let inode = columns.nth(5)?;
        (local.ends_with(&suffix) && state == "0A").then(|| inode.to_owned())
    };
    table.lines().skip(1).filter_map(line_inode).collect()
}

fn has_socket(process: &Path, sockets: &[String]) -> bool {
    let Ok(descriptors) = fs::read_dir(process.join("fd")) else {
        return false;
    };
    descriptors
        .filter_map(Result::ok)
        .filter_map(|descriptor| fs::read_link(descriptor.path()).ok())
        .any(|target| {
            target
                .to_str()
                .is_some_and(|target| sockets.iter().any(|socket| socket == target))
        })
}

fn name_of(process: &Path) -> String {
    fs::read_to_string(process.join("comm"))
        .map_or_else(|_| "?".into(), |name| name.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_kernels_table() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:1E15 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0\n\
             1: 0100007F:1E15 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 20 4 30 10 -1\n\
             2: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1 0 100 0 0 10 0\n";
        assert_eq!(listening_inodes(table, 7701), ["4711"]);
        assert!(listening_inodes("", 7701).is_empty());
    }

    #[test]
    fn the_error_names_the_process_that_holds_the_port() {
        let first = listen(Role::Page, "127.0.0.1:0".parse().expect("address")).expect("free");
        let address = first.local_addr().expect("bound");
        let error = listen(Role::Capture, address).expect_err("taken");
        assert!(error.is_taken());
        assert_eq!(
            error.holder.as_ref().map(|holder| holder.pid),
            Some(std::process::id())
        );
        let text = error.to_string();
        assert!(
            text.starts_with(&format!(
                "{} (capture URL) is taken by pid ",
                address.port()
            )),
            "{text}"
        );
    }
}
