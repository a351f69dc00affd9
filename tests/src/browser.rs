//! A headless Chromium that a test drives, by WebDriver.
//!
//! # Source
//! <https://www.w3.org/TR/webdriver2/>, and chromedriver's own commands for what that lacks.

use std::io::Write;
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::process::{Captured, Process};
use crate::serving::Answer;
use crate::wait;

/// How long a command may take: a browser that starts reads hundreds of megabytes.
const COMMAND_MAX: Duration = Duration::from_secs(120);

/// A browser with one page. It goes when it is dropped.
#[derive(Debug)]
pub struct Browser {
    driver: Child,
    process: Process,
    port: u16,
    session: String,
}

impl Browser {
    /// Starts one.
    ///
    /// # Panics
    /// If chromedriver or Chromium does not start.
    #[track_caller]
    #[must_use]
    pub fn start() -> Self {
        let output = Captured::new();
        let mut command = Command::new("chromedriver");
        command.arg("--port=0").stdin(Stdio::null()).stdout(output.writer()).stderr(output.writer());
        let driver = command.spawn().expect("chromedriver");
        let process = Process::of(driver.id().cast_signed()).expect("a child");
        let port = wait::wait_for("chromedriver to listen", || {
            let text = output.text();
            let (_, port) = text.split_once("started successfully on port ")?;
            port.split('.').next()?.parse().ok()
        });
        let mut browser = Self { driver, process, port, session: String::new() };
        let arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"];
        let options = json!({ "browserName": "chrome", "goog:loggingPrefs": { "browser": "ALL" },
                              "goog:chromeOptions": { "args": arguments } });
        let session =
            browser.send("POST", "/session", &json!({ "capabilities": { "alwaysMatch": options } }));
        let id = session["sessionId"].as_str().unwrap_or_else(|| panic!("no session: {session}"));
        browser.session = format!("/session/{id}");
        browser
    }

    /// Opens an address.
    #[track_caller]
    pub fn open(&self, address: &str) {
        self.command("/url", &json!({ "url": address }));
    }

    /// What a script returns.
    #[track_caller]
    pub fn run(&self, script: &str) -> Value {
        self.command("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Whether a script returns something that counts as true.
    #[track_caller]
    #[must_use]
    pub fn holds(&self, condition: &str) -> bool {
        self.run(&format!("return Boolean({condition})")) == true
    }

    /// Waits until a condition holds.
    ///
    /// # Panics
    /// If it does not, with the page's text.
    #[track_caller]
    pub fn wait(&self, condition: &str) {
        if wait::within(wait::patience(), || self.holds(condition).then_some(())).is_none() {
            panic!("waited in vain for {condition}; the page:\n{}\n{:?}", self.text("body"), self.log());
        }
    }

    /// The text that a person sees in an element.
    #[track_caller]
    #[must_use]
    pub fn text(&self, selector: &str) -> String {
        let text = self.run(&format!("return document.querySelector({}).innerText", json!(selector)));
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Sets the size of the window, and whether the person prefers dark pages.
    #[track_caller]
    pub fn show_on(&self, width: u32, height: u32, is_dark: bool) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.tool("Emulation.setDeviceMetricsOverride", &size);
        let scheme = if is_dark { "dark" } else { "light" };
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        self.tool("Emulation.setEmulatedMedia", &json!({ "features": [feature] }));
    }

    /// What the page has complained of since the last call.
    #[track_caller]
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        let entries = self.command("/se/log", &json!({ "type": "browser" }));
        entries.as_array().into_iter().flatten().map(|entry| entry["message"].to_string()).collect()
    }

    /// A command of the browser's developer tools.
    #[track_caller]
    fn tool(&self, command: &str, parameters: &Value) -> Value {
        self.command("/goog/cdp/execute", &json!({ "cmd": command, "params": parameters }))
    }

    #[track_caller]
    fn command(&self, path: &str, body: &Value) -> Value {
        self.send("POST", &format!("{}{path}", self.session), body)
    }

    /// Sends a command, and returns its value.
    #[track_caller]
    fn send(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = body.to_string();
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("chromedriver");
        stream.set_read_timeout(Some(COMMAND_MAX)).expect("a time-out");
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).expect("chromedriver");
        let answer = Answer::read(stream);
        let value = answer.json();
        assert_eq!(answer.status, 200, "{path} {body}: {value}");
        value["value"].clone()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.process.kill_with_descendants();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
