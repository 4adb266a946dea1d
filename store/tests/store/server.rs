//! A ClickHouse server of the tests: Debian's 18.16, with its own folder, configuration and ports, on the loopback alone.
//!
//! All tests of a process share one, each with a database of its own. It ends with the process. `CLICKHOUSE_UNDER_TEST` has the port of
//! another one (`tests/modern`).

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use store::backend::clickhouse::{Address, Password, Target};

use crate::client::PATIENCE;

/// The password of the user `writer`.
const PASSWORD: &str = "p'a\\s&s %";

/// A database without tables on the server.
pub(crate) fn database() -> Target {
    static DATABASES: AtomicU32 = AtomicU32::new(0);
    let number = DATABASES.fetch_add(1, Ordering::Relaxed);
    Target {
        address: Address::parse(&format!(
            "clickhouse://writer@127.0.0.1:{}/t{number}",
            port()
        ))
        .expect("an address"),
        password: Password::new(PASSWORD),
        reader_password: Password::default(),
    }
}

/// Whether it is another server than 18.16.
pub(crate) fn is_other() -> bool {
    std::env::var_os("CLICKHOUSE_UNDER_TEST").is_some()
}

/// The port of the server, which is started at the first use.
pub(crate) fn port() -> u16 {
    static PORT: OnceLock<u16> = OnceLock::new();
    *PORT.get_or_init(start)
}

fn start() -> u16 {
    if let Some(other) = std::env::var_os("CLICKHOUSE_UNDER_TEST") {
        let port = other.to_str().and_then(|port| port.parse().ok());
        return port.expect("CLICKHOUSE_UNDER_TEST has a port");
    }
    let folder = folder();
    let [http, tcp] = free_ports();
    configure(&folder, http, tcp);
    let (started, starting) = mpsc::channel();
    // The server gets the signal when the thread ends that started it: this one never does.
    thread::spawn(move || {
        let server = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "clickhouse-server"])
            .arg(format!(
                "--config-file={}",
                folder.join("config.xml").display()
            ))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        started
            .send(server.as_ref().map(|_| ()).map_err(ToString::to_string))
            .expect("the test waits");
        if let Ok(mut server) = server {
            drop(server.wait());
        }
        loop {
            thread::park();
        }
    });
    starting
        .recv()
        .expect("starts")
        .expect("setpriv and clickhouse-server are installed");
    let end = Instant::now() + PATIENCE;
    while !answers(http) {
        assert!(
            Instant::now() < end,
            "the server does not answer (is clickhouse-server installed?)"
        );
        thread::sleep(Duration::from_millis(100));
    }
    http
}

fn answers(port: u16) -> bool {
    use std::io::{Read as _, Write as _};
    let Ok(mut socket) = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else {
        return false;
    };
    let mut answer = String::new();
    let asked = socket.write_all(b"GET /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    asked
        .and_then(|()| socket.read_to_string(&mut answer))
        .is_ok()
        && answer.contains("Ok.")
}

fn free_ports() -> [u16; 2] {
    // Both are bound at the same time, so they differ.
    let listeners = [(); 2].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port"));
    listeners.map(|listener| listener.local_addr().expect("an address").port())
}

/// A folder of this process. Those of processes that have ended are removed.
fn folder() -> PathBuf {
    let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clickhouse");
    fs::create_dir_all(&all).expect("a folder");
    for entry in fs::read_dir(&all).expect("a folder").flatten() {
        let process = Path::new("/proc").join(entry.file_name());
        if !process.exists() {
            drop(fs::remove_dir_all(entry.path()));
        }
    }
    let folder = all.join(std::process::id().to_string());
    fs::create_dir_all(&folder).expect("a folder");
    folder
}

fn configure(folder: &Path, http: u16, tcp: u16) {
    let at = folder.display();
    let config = format!(
        "<yandex>
<logger><level>warning</level><log>{at}/log</log><errorlog>{at}/errors</errorlog></logger>
<http_port>{http}</http_port><tcp_port>{tcp}</tcp_port><listen_host>127.0.0.1</listen_host>
<path>{at}/data/</path><tmp_path>{at}/tmp/</tmp_path><format_schema_path>{at}/schemas/</format_schema_path>
<users_config>{at}/users.xml</users_config>
<default_profile>default</default_profile><default_database>default</default_database>
<mark_cache_size>67108864</mark_cache_size><max_concurrent_queries>100</max_concurrent_queries>
<compression><case><min_part_size>0</min_part_size><min_part_size_ratio>0</min_part_size_ratio><method>zstd</method></case></compression>
</yandex>"
    );
    let password = PASSWORD.replace('&', "&amp;");
    let users = format!(
        "<yandex>
<profiles><default></default></profiles><quotas><default></default></quotas>
<users><writer><password>{password}</password><networks><ip>127.0.0.1</ip></networks><profile>default</profile><quota>default</quota></writer></users>
</yandex>"
    );
    fs::write(folder.join("config.xml"), config).expect("written");
    fs::write(folder.join("users.xml"), users).expect("written");
}
