//! A real haproxy in a namespace, which sends the requests of all clients over few connections to the server behind it.

use std::fs;
use std::net::TcpStream;
use std::path::Path;

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
        Self::start(namespace, port, "", to)
    }

    /// The same, encrypted with the certificate and the key in the first of these files. If there is a second one, it demands
    /// certificates of the authority in that.
    pub fn encrypting(namespace: &Namespace, port: u16, to: &str, files: &[&Path]) -> Result<Self> {
        let mut options = String::new();
        for (file, option) in files.iter().zip(["ssl crt", "verify required ca-file"]) {
            options += &format!(" {option} {}", file.display());
        }
        Self::start(namespace, port, &options, to)
    }

    fn start(namespace: &Namespace, port: u16, options: &str, to: &str) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("haproxy").tempdir()?;
        let file = folder.path().join("haproxy.cfg");
        fs::write(
            &file,
            format!(
                "defaults\n mode http\n http-reuse always\n option forwardfor\n timeout connect 5s\n \
                 timeout client 60s\n timeout server 60s\n\
                 listen front\n bind 127.0.0.1:{port}{options}\n server only {to}\n"
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
