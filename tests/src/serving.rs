//! `einhyrningsinsctl serve` under test, and a client of HTTP that sends exactly what it is told.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::process::{Captured, Process};
use crate::{binaries, wait};

/// A server on TCP. Killed when dropped, and what it has said is shown if the test fails.
#[derive(Debug)]
pub struct Serving {
    child: Child,
    process: Process,
    stdout: Captured,
    stderr: Captured,
    address: SocketAddr,
    token: String,
}

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    /// The status of HTTP; 0 if there was no answer.
    pub status: u16,
    /// The headers, by their names in small letters.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: String,
}

impl Serving {
    /// Serves the master at `socket`, on a port that is free, with a token of its own.
    #[track_caller]
    #[must_use]
    pub fn start(socket: &Path) -> Self {
        Self::start_with(socket, &[])
    }

    /// The same with further options.
    #[track_caller]
    #[must_use]
    pub fn start_with(socket: &Path, options: &[&str]) -> Self {
        let mut command = Command::new(binaries::einhyrningsinsctl());
        command.arg("-d").arg(socket).args(["serve", "--listen", "127.0.0.1:0"]).args(options);
        Self::run(command)
    }

    /// Runs a command line that serves, and waits until it does.
    ///
    /// # Panics
    /// If it ends, or prints no address of TCP.
    #[track_caller]
    #[must_use]
    pub fn run(mut command: Command) -> Self {
        let (stdout, stderr) = (Captured::new(), Captured::new());
        command.stdin(Stdio::null()).stdout(stdout.writer()).stderr(stderr.writer());
        let mut child = command.spawn().expect("a client");
        let process = Process::of(child.id().cast_signed()).expect("a child");
        let line = wait::wait_for("the address of serve", || {
            let ended = child.try_wait().ok().flatten();
            assert!(ended.is_none(), "serve ended: {ended:?}\n{}", stderr.text());
            stdout.text().lines().next().map(str::to_owned).filter(|_| stdout.text().ends_with('\n'))
        });
        let at = line.split_once("http://").map_or("", |(_, at)| at);
        let (address, rest) = at.split_once('/').unwrap_or((at, ""));
        let address = address.parse().unwrap_or_else(|error| panic!("{error} in {line:?}"));
        let token = rest.split_once("#token=").map_or("", |(_, token)| token);
        let token = token.chars().take_while(char::is_ascii_alphanumeric).collect();
        Self { child, process, stdout, stderr, address, token }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of the page, with the token.
    #[must_use]
    pub fn page(&self) -> String {
        format!("http://{}/#token={}", self.address, self.token)
    }

    /// The token that it has made.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Its process.
    #[must_use]
    pub fn process(&self) -> Process {
        self.process
    }

    /// What it has written to standard output.
    #[must_use]
    pub fn output(&self) -> String {
        self.stdout.text()
    }

    /// What it has written to standard error.
    #[must_use]
    pub fn log(&self) -> String {
        self.stderr.text()
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// If it has ended.
    pub fn signal(&self, signal: Signal) {
        assert!(self.process.signal(signal), "serve has ended: {}", self.log());
    }

    /// Waits for its end, which is to have this exit code.
    ///
    /// # Panics
    /// If it has another.
    #[track_caller]
    pub fn wait_exit_code(&mut self, code: i32) {
        let status = wait::wait_for("the end of serve", || self.child.try_wait().ok().flatten());
        assert_eq!(status.code(), Some(code), "{status}: {}", self.log());
    }

    /// Asks for a path, with the token.
    #[track_caller]
    #[must_use]
    pub fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path}"), &[("Authorization", &format!("Bearer {}", self.token))])
    }

    /// Asks with this method and path, and these headers. One of the host is added if there is none.
    #[track_caller]
    #[must_use]
    pub fn ask(&self, line: &str, headers: &[(&str, &str)]) -> Answer {
        let mut head = format!("{line} HTTP/1.1\r\nConnection: close\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head.push_str(&format!("Host: {}\r\n", self.address));
        }
        headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        self.send(&format!("{head}\r\n"))
    }

    /// Sends this text, and reads until the connection is closed.
    #[track_caller]
    #[must_use]
    pub fn send(&self, text: &str) -> Answer {
        let mut stream = self.connect();
        // It may be closed before all is sent.
        let _ = stream.write_all(text.as_bytes());
        Answer::read(stream)
    }

    /// A connection.
    ///
    /// # Panics
    /// If there is none.
    #[track_caller]
    #[must_use]
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect_timeout(&self.address, wait::patience()).expect("a connection");
        stream.set_read_timeout(Some(wait::patience())).expect("a time-out");
        stream
    }

    /// Begins to read its events.
    #[track_caller]
    #[must_use]
    pub fn events(&self) -> Events {
        let mut stream = self.connect();
        let (address, token) = (self.address, &self.token);
        let request =
            format!("GET /events HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("a reader");
        Events(BufReader::new(stream))
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- serve has said\n{}{}---", self.stdout.text(), self.stderr.text());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Answer {
    /// Reads an answer, to its own end or that of the connection; what a reset cuts off is missing.
    #[must_use]
    pub fn read(mut stream: impl Read) -> Self {
        let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
        loop {
            let answer = Self::parse(&bytes);
            if answer.is_whole() {
                return answer;
            }
            match stream.read(&mut buffer) {
                Ok(0) | Err(_) => return answer,
                Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            }
        }
    }

    fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        let headers = head.lines().skip(1).filter_map(|line| line.split_once(':'));
        let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
        Self { status, headers: headers.collect(), body: body.to_owned() }
    }

    /// Whether it has a body as long as it says.
    fn is_whole(&self) -> bool {
        let length = self.headers.get("content-length").and_then(|length| length.parse().ok());
        length.is_some_and(|length: usize| length > 0 && self.body.len() >= length)
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// If it is none.
    #[track_caller]
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A reader of events.
#[derive(Debug)]
pub struct Events(BufReader<TcpStream>);

impl Events {
    /// The next event: its name and its data. `None` if the connection has ended.
    ///
    /// # Panics
    /// If none comes in time.
    #[track_caller]
    pub fn hear(&mut self) -> Option<(String, Value)> {
        let mut name = None;
        loop {
            let mut line = String::new();
            match self.0.read_line(&mut line) {
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock) => panic!("no event in time"),
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
            if let Some(given) = line.strip_prefix("event: ") {
                name = Some(given.trim().to_owned());
            }
            if let (Some(data), Some(name)) = (line.strip_prefix("data: "), &name) {
                return Some((name.clone(), serde_json::from_str(data).expect("JSON")));
            }
        }
    }

    /// The data of the next event of this name that `condition` likes.
    ///
    /// # Panics
    /// If none comes.
    #[track_caller]
    pub fn wait(&mut self, wanted: &str, mut condition: impl FnMut(&Value) -> bool) -> Value {
        loop {
            let (name, data) = self.hear().unwrap_or_else(|| panic!("the connection ended before {wanted}"));
            if name == wanted && condition(&data) {
                return data;
            }
        }
    }
}
