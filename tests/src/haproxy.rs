//! A real haproxy in a namespace, which sends the requests of all clients over few connections to the server behind it.

use std::fs;
use std::net::TcpStream;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::network::Namespace;
use crate::process::{PATIENCE, Running, eventually};

/// A reverse proxy on the loopback; ended when dropped.
pub struct Haproxy {
    _process: Running,
    _folder: TempDir,
}

impl Haproxy {
    /// Passes requests to `port` of the loopback on to `to`. Connections to the server are shared by all clients.
    pub fn proxying(namespace: &Namespace, port: u16, to: &str) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("haproxy").tempdir()?;
        let file = folder.path().join("haproxy.cfg");
        fs::write(
            &file,
            format!(
                "defaults\n mode http\n http-reuse always\n option forwardfor\n timeout connect 5s\n \
                 timeout client 60s\n timeout server 60s\n\
                 listen front\n bind 127.0.0.1:{port}\n server only {to}\n"
            ),
        )?;
        let mut command = namespace.command("haproxy");
        command.arg("-db").arg("-f").arg(&file);
        let process = Running::start(&mut command).context("apt-get install haproxy")?;
        let connects = || -> Result<()> {
            namespace.inside(|| TcpStream::connect(("127.0.0.1", port)))?;
            Ok(())
        };
        eventually(PATIENCE, connects).with_context(|| process.stderr())?;
        Ok(Self {
            _process: process,
            _folder: folder,
        })
    }
}
