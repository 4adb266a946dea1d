//! A ClickHouse server in a namespace: Debian's 18.16, with a folder of its own, on all addresses.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::network::Namespace;
use crate::nginx::curl;
use crate::process::{Ended, PATIENCE, Running, eventually};
use crate::program::sniffer;

/// The port of HTTP.
pub const HTTP_PORT: u16 = 8123;

const PASSWORD: &str = "p'a\\s&s %";

/// A server with the tables of the store; ended when dropped.
pub struct ClickHouse<'a> {
    namespace: &'a Namespace,
    _process: Running,
    folder: TempDir,
}

impl<'a> ClickHouse<'a> {
    /// Starts it and makes the tables.
    pub fn start(namespace: &'a Namespace) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("clickhouse").tempdir()?;
        let at = folder.path().display();
        let config = format!(
            "<yandex>
<logger><level>warning</level><log>{at}/log</log><errorlog>{at}/errors</errorlog></logger>
<http_port>{HTTP_PORT}</http_port><tcp_port>9000</tcp_port><listen_host>0.0.0.0</listen_host>
<path>{at}/data/</path><tmp_path>{at}/tmp/</tmp_path><format_schema_path>{at}/schemas/</format_schema_path>
<users_config>{at}/users.xml</users_config>
<default_profile>default</default_profile><default_database>default</default_database>
<mark_cache_size>67108864</mark_cache_size>
</yandex>"
        );
        let password = PASSWORD.replace('&', "&amp;");
        let users = format!(
            "<yandex>
<profiles><default></default></profiles><quotas><default></default></quotas>
<users><writer><password>{password}</password><networks><ip>::/0</ip></networks><profile>default</profile><quota>default</quota></writer></users>
</yandex>"
        );
        fs::write(folder.path().join("config.xml"), config)?;
        fs::write(folder.path().join("users.xml"), users)?;
        fs::write(folder.path().join("password"), PASSWORD)?;
        let mut command = namespace.command("clickhouse-server");
        command.arg(format!("--config-file={at}/config.xml"));
        let process = Running::start(&mut command).context("apt-get install clickhouse-server")?;
        let server = Self {
            namespace,
            _process: process,
            folder,
        };
        let ping = format!("http://127.0.0.1:{HTTP_PORT}/ping");
        eventually(PATIENCE, || curl(namespace, &["-f", &ping]))?;
        let ended = server.run(&["store", "migrate"])?;
        ensure!(ended.code()? == 0, "{ended:?}");
        Ok(server)
    }

    /// The settings of a store in front of it.
    pub fn settings(&self) -> [String; 4] {
        let password = self.folder.path().join("password");
        [
            "--store-backend".to_owned(),
            format!("clickhouse://writer@127.0.0.1:{HTTP_PORT}/sniffer"),
            "--store-password".to_owned(),
            format!("file://{}", password.display()),
        ]
    }

    /// Runs `sniffer WORDS` with these settings to its end.
    pub fn run(&self, words: &[&str]) -> Result<Ended> {
        let mut command = sniffer(words);
        command.args(self.settings());
        Running::start(&mut self.namespace.enter(&command))?.end(PATIENCE)
    }

    /// The answer to a statement, which is sent over the loopback.
    pub fn sql(&self, statement: &str) -> Result<String> {
        let user = "X-ClickHouse-User: writer";
        let key = format!("X-ClickHouse-Key: {PASSWORD}");
        let url = format!("http://127.0.0.1:{HTTP_PORT}/?database=sniffer");
        let words = [
            "-f",
            "-H",
            user,
            "-H",
            &key,
            "--data-binary",
            statement,
            &url,
        ];
        Ok(curl(self.namespace, &words)?.trim().to_owned())
    }
}
