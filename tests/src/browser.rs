//! A headless Chromium in a namespace, driven through chromedriver by the WebDriver protocol (W3C WebDriver, level 2).

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::http::request_within;
use crate::network::Namespace;
use crate::process::{Running, eventually};

const ADDRESS: &str = "127.0.0.1:9515";
/// The key under which WebDriver names elements (§12.2).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// How long a script may take, also on a busy machine.
const SCRIPT_TIME: Duration = Duration::from_secs(240);

/// One browser window; closed when dropped.
pub struct Browser<'a> {
    namespace: &'a Namespace,
    session: String,
    _driver: Running,
    _profile: TempDir,
}

impl<'a> Browser<'a> {
    /// Starts chromedriver and a window.
    pub fn open(namespace: &'a Namespace) -> Result<Self> {
        // A new address while a page is loaded makes Chromium give up all its requests (ERR_NETWORK_CHANGED). Those of the links become
        // usable a second or two after these are up (RFC 4862 section 5.4).
        eventually(Duration::from_secs(60), || {
            let tentative = namespace.ip("-6 address show tentative")?;
            ensure!(tentative.trim().is_empty(), "{tentative}");
            Ok(())
        })?;
        let mut command = namespace.command("chromedriver");
        let driver = Running::start(command.arg("--port=9515"))
            .context("apt-get install chromium-driver")?;
        let profile = tempfile::Builder::new().prefix("chromium").tempdir()?;
        let arguments = [
            "--headless=new".to_owned(),
            // Namespaces within namespaces: Chromium's own sandbox cannot be set up by root.
            "--no-sandbox".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--window-size=1280,900".to_owned(),
            format!("--user-data-dir={}", profile.path().display()),
        ];
        let wanted =
            json!({"capabilities": {"alwaysMatch": {"goog:chromeOptions": {"args": arguments}}}});
        let answer = eventually(Duration::from_secs(60), || {
            call(namespace, "POST", "/session", Some(&wanted))
        })?;
        let session = answer["sessionId"]
            .as_str()
            .context("a session has an id")?
            .to_owned();
        Ok(Self {
            namespace,
            session,
            _driver: driver,
            _profile: profile,
        })
    }

    /// Opens a page.
    pub fn visit(&self, url: &str) -> Result<()> {
        self.call("POST", "/url", Some(&json!({"url": url})))
            .map(drop)
    }

    /// Runs a script in the page and returns what it returns.
    pub fn script(&self, source: &str) -> Result<Value> {
        self.call(
            "POST",
            "/execute/sync",
            Some(&json!({"script": source, "args": []})),
        )
    }

    /// Runs a script that is the body of an asynchronous function, and returns what that returns.
    pub fn wait_for_script(&self, source: &str) -> Result<Value> {
        let limits = json!({"script": SCRIPT_TIME.as_millis()});
        self.call("POST", "/timeouts", Some(&limits))?;
        let source = format!(
            "const done = arguments[arguments.length - 1]; \
             (async () => {{ {source} }})().then((value) => done({{ value }}), (error) => done({{ error: String(error?.stack ?? error) }}))"
        );
        let script = json!({"script": source, "args": []});
        let mut answer = self.call("POST", "/execute/async", Some(&script))?;
        if let Some(error) = answer["error"].as_str() {
            bail!("{error}");
        }
        Ok(answer["value"].take())
    }

    /// Makes the window that of another device: its size, whether it is a telephone, whether its colours are dark.
    pub fn emulate(&self, [width, height]: [u32; 2], is_mobile: bool, is_dark: bool) -> Result<()> {
        let scheme = if is_dark { "dark" } else { "light" };
        let commands = [
            (
                "Emulation.setDeviceMetricsOverride",
                json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": is_mobile}),
            ),
            (
                "Emulation.setEmulatedMedia",
                json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]}),
            ),
        ];
        for (command, parameters) in commands {
            let body = json!({"cmd": command, "params": parameters});
            self.call("POST", "/goog/cdp/execute", Some(&body))?;
        }
        Ok(())
    }

    /// Sends keys to the element that has the focus.
    pub fn press(&self, keys: &str) -> Result<()> {
        let active = self.call("GET", "/element/active", None)?;
        let element = active[ELEMENT].as_str().context("an element has an id")?;
        let path = format!("/element/{element}/value");
        self.call("POST", &path, Some(&json!({"text": keys})))
            .map(drop)
    }

    /// Clicks, as a mouse does, on the first element that matches.
    pub fn click(&self, selector: &str) -> Result<()> {
        let element = self.find(selector)?;
        self.call(
            "POST",
            &format!("/element/{element}/click"),
            Some(&json!({})),
        )
        .map(drop)
    }

    /// Types into the first element that matches.
    pub fn type_into(&self, selector: &str, text: &str) -> Result<()> {
        let element = self.find(selector)?;
        self.call(
            "POST",
            &format!("/element/{element}/value"),
            Some(&json!({"text": text})),
        )
        .map(drop)
    }

    /// The visible text of the first element that matches.
    pub fn text(&self, selector: &str) -> Result<String> {
        let element = self.find(selector)?;
        let text = self.call("GET", &format!("/element/{element}/text"), None)?;
        Ok(text.as_str().context("text is a string")?.to_owned())
    }

    /// Types into the first element that matches, in place of what it has.
    pub fn replace(&self, selector: &str, text: &str) -> Result<()> {
        let element = self.find(selector)?;
        self.call(
            "POST",
            &format!("/element/{element}/clear"),
            Some(&json!({})),
        )?;
        self.type_into(selector, text)
    }

    /// Keeps a picture of the window in the folder `BROWSER_PICTURES`, if that is set.
    pub fn picture(&self, name: &str) -> Result<()> {
        let Some(folder) = std::env::var_os("BROWSER_PICTURES") else {
            return Ok(());
        };
        let picture = self.call("GET", "/screenshot", None)?;
        let picture = picture.as_str().context("a picture is text")?;
        let path = std::path::Path::new(&folder).join(format!("{name}.base64"));
        Ok(std::fs::write(path, picture)?)
    }

    /// The title of the page.
    pub fn title(&self) -> Result<String> {
        Ok(self
            .call("GET", "/title", None)?
            .as_str()
            .context("a title is a string")?
            .to_owned())
    }

    fn find(&self, selector: &str) -> Result<String> {
        let query = json!({"using": "css selector", "value": selector});
        let found = self.call("POST", "/element", Some(&query))?;
        Ok(found[ELEMENT]
            .as_str()
            .context("an element has an id")?
            .to_owned())
    }

    fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        call(
            self.namespace,
            method,
            &format!("/session/{}{path}", self.session),
            body,
        )
    }
}

impl Drop for Browser<'_> {
    fn drop(&mut self) {
        // Ends Chromium; the driver itself is ended after that.
        let _ = self.call("DELETE", "", None);
    }
}

fn call(namespace: &Namespace, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
    let body = body.map(Value::to_string).unwrap_or_default();
    let headers = [("Content-Type", "application/json; charset=utf-8")];
    // The driver answers when a script has ended.
    let wait = SCRIPT_TIME + Duration::from_secs(10);
    let answer = namespace
        .inside(|| request_within(wait, ADDRESS, method, path, &headers, body.as_bytes()))?;
    let mut answer: Value =
        serde_json::from_slice(&answer.body).context("WebDriver speaks JSON")?;
    let value = answer["value"].take();
    if let Some(error) = value["error"].as_str() {
        bail!(
            "{method} {path}: {error}: {}",
            value["message"].as_str().unwrap_or_default()
        );
    }
    Ok(value)
}
