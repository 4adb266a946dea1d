//! A real nginx in a namespace, with a page for each shape of response.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::network::Namespace;
use crate::process::{PATIENCE, Running, eventually, run};

/// Bytes of `/large.bin`: more than one TCP window, less than the body limit.
pub const LARGE_BYTES: usize = 900_000;

/// nginx on port 80 of all addresses; ended when dropped.
pub struct Nginx {
    process: Running,
    _folder: TempDir,
}

/// `/hello` plain · `/created` 201 · `/empty` 204 · `/page.html` a file, with ETag, gzip on request · `/large.bin` ·
/// `/moved` 301 · everything else 404.
const CONFIGURATION: &str = r#"
user root;
master_process off;
pid FOLDER/pid;
error_log stderr;
events { worker_connections 256; }
http {
    access_log off;
    client_body_temp_path FOLDER/body;
    proxy_temp_path FOLDER/proxy;
    fastcgi_temp_path FOLDER/fastcgi;
    uwsgi_temp_path FOLDER/uwsgi;
    scgi_temp_path FOLDER/scgi;
    default_type text/plain;
    types { text/html html; }
    gzip on;
    gzip_min_length 1;
    PROXY
    server {
        listen 80;
        listen [::]:80;
        root FOLDER/root;
        location = /hello { return 200 "hello from nginx\n"; }
        location = /created { return 201 "{\"created\":true}"; }
        location = /empty { return 204; }
        location = /moved { return 301 /hello; }
        location = /script { return 200 "<script>document.title='executed'</script><img src=x onerror=\"document.title='executed'\">"; }
    }
}
"#;

/// What `/page.html` holds.
pub fn page() -> String {
    "<p>a line of the page that nginx compresses</p>\n".repeat(200)
}

/// What `/large.bin` holds: text, so that it is compared byte by byte.
pub fn large() -> String {
    (0..LARGE_BYTES / 10)
        .map(|line| format!("{line:09}\n"))
        .collect()
}

impl Nginx {
    /// Starts it and waits until it answers.
    pub fn start(namespace: &Namespace) -> Result<Self> {
        Self::start_with(namespace, "")
    }

    /// The same, and what comes to `port` goes on to `to`, an address with its port.
    pub fn proxying(namespace: &Namespace, port: u16, to: &str) -> Result<Self> {
        Self::proxying_at_most(namespace, port, to, "64m")
    }

    /// The same, with 413 for bodies that are larger than `size`.
    pub fn proxying_at_most(
        namespace: &Namespace,
        port: u16,
        to: &str,
        size: &str,
    ) -> Result<Self> {
        let server = format!(
            "server {{ listen {port}; client_max_body_size {size}; location / {{ proxy_pass http://{to}; }} }}"
        );
        Self::start_with(namespace, &server)
    }

    /// The same, where `port` is encrypted with the certificate and the key in these files.
    pub fn encrypting(
        namespace: &Namespace,
        port: u16,
        to: &str,
        [certificate, key]: [&Path; 2],
    ) -> Result<Self> {
        let server = format!(
            "server {{ listen {port} ssl; ssl_certificate {}; ssl_certificate_key {}; client_max_body_size 64m; \
             location / {{ proxy_pass http://{to}; }} }}",
            certificate.display(),
            key.display()
        );
        Self::start_with(namespace, &server)
    }

    /// The same, with more servers in the words of its configuration.
    pub fn serving(namespace: &Namespace, servers: &str) -> Result<Self> {
        Self::start_with(namespace, servers)
    }

    /// Reads its files again, certificates included.
    pub fn reload(&self) -> Result<()> {
        self.process.signal(Signal::SIGHUP)
    }

    fn start_with(namespace: &Namespace, proxy: &str) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("nginx").tempdir()?;
        let path = folder.path();
        fs::create_dir(path.join("root"))?;
        fs::write(path.join("root/page.html"), page())?;
        fs::write(path.join("root/large.bin"), large())?;
        let file = path.join("nginx.conf");
        fs::write(
            &file,
            CONFIGURATION
                .replace("FOLDER", &path.display().to_string())
                .replace("PROXY", proxy),
        )?;
        let mut command = namespace.command("nginx");
        command
            .arg("-p")
            .arg(path)
            .arg("-c")
            .arg(&file)
            .args(["-g", "daemon off;"]);
        let process = Running::start(&mut command).context("apt-get install nginx-light")?;
        let answers = || {
            run(namespace
                .command("curl")
                .args(["-fsS", "http://127.0.0.1/hello"]))
            .map(drop)
        };
        eventually(PATIENCE, answers).with_context(|| process.stderr())?;
        Ok(Self {
            process,
            _folder: folder,
        })
    }
}

/// curl with `arguments` inside; returns what it prints.
pub fn curl(namespace: &Namespace, arguments: &[&str]) -> Result<String> {
    let mut command: Command = namespace.command("curl");
    let body = run(command.args(["-sS", "--max-time", "20"]).args(arguments))?;
    ensure!(
        !body.contains("Bad Request"),
        "nginx does not understand {arguments:?}"
    );
    Ok(body)
}
