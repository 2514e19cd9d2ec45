//! A browser without a window, led by the few commands of `WebDriver` that are needed here, in JSON over loopback.
//!
//! It runs in the network namespace of the thread that starts it, in a namespace of processes of its own: when the driver is
//! killed, so is all that it started.

use std::process::Command;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::bed::http::free_port;
use crate::bed::process::Process;
use crate::bed::{eventually, tool};

/// How long a page may take, and whatever is done to it.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// Whether pages may run scripts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scripts {
    /// As most people have it.
    Run,
    /// As some people have it; tests can run theirs all the same.
    Off,
}

/// What a person has told the browser to prefer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// Dark on light.
    Light,
    /// Light on dark.
    Dark,
}

/// Keys, as `WebDriver` numbers them.
pub(crate) const TAB: char = '\u{e004}';
/// Enter.
pub(crate) const ENTER: char = '\u{e007}';
/// Out of it.
pub(crate) const ESCAPE: char = '\u{e00c}';
/// To the right.
pub(crate) const RIGHT: char = '\u{e014}';

/// A browser with one window. Dropping it ends it.
pub(crate) struct Browser {
    runtime: Runtime,
    client: Client,
    session: String,
    _driver: Process,
    profile: TempDir,
}

impl Browser {
    /// A fresh one, 1280 by 900.
    pub(crate) fn start(scripts: Scripts) -> Self {
        qosd::tls::install_provider();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be had");
        let client = Client::builder().no_proxy().tls_certs_only([]).timeout(LIMIT * 3).build().expect("a client like any other");
        let profile = tempfile::tempdir().expect("there is a place for temporary files");
        let port = free_port();
        let mut command = Command::new("/usr/bin/unshare");
        command.args(["--pid", "--fork", "--kill-child", "--mount-proc", "--"]).arg(tool("chromedriver")).arg(format!("--port={port}"));
        // What it keeps without a profile goes there, too.
        command.env("HOME", profile.path()).env("TMPDIR", profile.path());
        let driver = Process::start(&mut command);
        let url = format!("http://127.0.0.1:{port}");
        let mut browser = Self { runtime, client, session: url.clone(), _driver: driver, profile };
        eventually(LIMIT, || browser.ask(Method::GET, "/status", None));
        let profile = browser.profile.path().join("profile");
        let begun = browser.post("/session", &capabilities(scripts, &profile.display().to_string()));
        browser.session = format!("{url}/session/{}", begun["sessionId"].as_str().expect("a session has a name"));
        browser.sized(1280, 900);
        browser
    }

    /// Opens an address, and waits until all of it is there.
    pub(crate) fn open(&self, url: &str) {
        self.post("/url", &json!({ "url": url }));
    }

    /// Where it is.
    pub(crate) fn address(&self) -> String {
        self.ask(Method::GET, "/url", None).ok().and_then(|url| url.as_str().map(str::to_owned)).expect("a window has an address")
    }

    /// Runs a script in the page, which sees `arguments`, and gives what it returns.
    pub(crate) fn run(&self, script: &str, arguments: &[Value]) -> Value {
        self.post("/execute/sync", &json!({ "script": script, "args": arguments }))
    }

    /// What a script returns, as text; empty if it returns none.
    pub(crate) fn text(&self, script: &str) -> String {
        self.run(script, &[]).as_str().unwrap_or_default().to_owned()
    }

    /// Presses keys, one after the other, whatever has the focus.
    pub(crate) fn press(&self, keys: impl IntoIterator<Item = char>) {
        let both = |key: char| ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key.to_string() }));
        let actions: Vec<_> = keys.into_iter().flat_map(both).collect();
        self.post("/actions", &json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": actions }] }));
    }

    /// What a person has told the browser to prefer.
    pub(crate) fn prefers(&self, scheme: Scheme) {
        let value = if scheme == Scheme::Dark { "dark" } else { "light" };
        self.tool("Emulation.setEmulatedMedia", &json!({ "features": [{ "name": "prefers-color-scheme", "value": value }] }));
    }

    /// A window of this size.
    pub(crate) fn sized(&self, width: u32, height: u32) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.tool("Emulation.setDeviceMetricsOverride", &metrics);
    }

    /// A picture of what is seen, as PNG.
    pub(crate) fn picture(&self) -> Vec<u8> {
        let picture = self.ask(Method::GET, "/screenshot", None).unwrap_or_else(|error| panic!("no picture: {error}"));
        BASE64_STANDARD.decode(picture.as_str().expect("a picture is text")).expect("it is base64")
    }

    /// Errors and warnings of pages on the console, since this was asked last; those of the browser's own pages are its own.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let log = self.post("/se/log", &json!({ "type": "browser" }));
        let entries = log.as_array().expect("a log has entries").iter();
        let of_page = entries.filter(|entry| ["WARNING", "SEVERE"].iter().any(|level| entry["level"] == *level));
        let messages = of_page.filter_map(|entry| entry["message"].as_str());
        messages.filter(|message| !message.starts_with("chrome://")).map(str::to_owned).collect()
    }

    /// A command of the tools for developers.
    fn tool(&self, command: &str, parameters: &Value) {
        self.post("/goog/cdp/execute", &json!({ "cmd": command, "params": parameters }));
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        self.ask(Method::POST, path, Some(body)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, String> {
        let mut request = self.client.request(method, format!("{}{path}", self.session));
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = async { request.send().await?.json::<Value>().await };
        let mut answer = self.runtime.block_on(answer).map_err(|error| error.to_string())?;
        match answer["value"].take() {
            Value::Object(refused) if refused.contains_key("error") => Err(refused["message"].to_string()),
            value => Ok(value),
        }
    }
}

fn capabilities(scripts: Scripts, profile: &str) -> Value {
    let mut arguments = vec![
        "--headless".to_owned(),
        // Its sandbox wants another user than root.
        "--no-sandbox".to_owned(),
        "--disable-gpu".to_owned(),
        "--disable-dev-shm-usage".to_owned(),
        "--disable-background-networking".to_owned(),
        "--no-first-run".to_owned(),
        "--hide-scrollbars".to_owned(),
        format!("--user-data-dir={profile}"),
    ];
    if scripts == Scripts::Off {
        arguments.push("--blink-settings=scriptEnabled=false".to_owned());
    }
    json!({ "capabilities": { "alwaysMatch": {
        "browserName": "chrome",
        "goog:chromeOptions": { "binary": tool("chromium"), "args": arguments },
        "goog:loggingPrefs": { "browser": "ALL" },
    } } })
}
