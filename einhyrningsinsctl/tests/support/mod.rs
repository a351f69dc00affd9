//! A master that says what a test has it say, and the real client to listen to it.

#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

pub(crate) mod terminal;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use serde_json::{Value, json};
use socket2::SockRef;
use tempfile::TempDir;

/// How long anything may take before the test is called hung.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// One part for each connection, in the order in which they come.
pub(crate) type Part = Box<dyn FnOnce(Peer) + Send>;

pub(crate) fn part(play: impl FnOnce(Peer) + Send + 'static) -> Part {
    Box::new(play)
}

/// A listening socket whose connections are played by the script of a test.
pub(crate) struct Master {
    directory: TempDir,
    end: Receiver<()>,
}

impl Master {
    /// Plays `parts`, and then listens no more.
    pub(crate) fn play(parts: Vec<Part>) -> Self {
        Self::in_directory(tempfile::tempdir().unwrap(), parts)
    }

    /// Comes back at the same socket, once it has ended.
    pub(crate) fn play_again(self, parts: Vec<Part>) -> Self {
        std::fs::remove_file(self.socket()).unwrap();
        Self::in_directory(self.directory, parts)
    }

    fn in_directory(directory: TempDir, parts: Vec<Part>) -> Self {
        let listener = UnixListener::bind(directory.path().join("socket")).unwrap();
        let (told, end) = channel();
        thread::spawn(move || {
            for play in parts {
                let (stream, _) = listener.accept().unwrap();
                play(Peer::new(stream));
            }
            // A child that another test has just forked may have a copy of it for a moment.
            SockRef::from(&listener).shutdown(Shutdown::Both).unwrap();
            let _ = told.send(());
        });
        Self { directory, end }
    }

    /// A master that plays one part.
    pub(crate) fn once(play: impl FnOnce(Peer) + Send + 'static) -> Self {
        Self::play(vec![part(play)])
    }

    /// A master that gives one last reply to every request of one connection.
    pub(crate) fn answering(ok: bool, message: &str, data: Value) -> Self {
        let message = message.to_owned();
        Self::once(move |mut peer| {
            while let Some(request) = peer.request() {
                peer.last(&request, ok, &message, &data);
            }
        })
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Waits for the script to end, after which nobody listens; fails if the script did.
    pub(crate) fn wait(&self) {
        let end = self.end.recv_timeout(DEADLINE);
        end.expect("the master's script has failed or is not at its end");
    }

    /// [`Self::wait`], as the last step of a test.
    pub(crate) fn finish(self) {
        self.wait();
    }

    /// The client, told to talk to this master.
    pub(crate) fn client(&self, args: &[&str]) -> Client {
        let socket = self.socket();
        let args = [&["-d", socket.to_str().unwrap()], args].concat();
        Client::spawn(Command::new(client_program()).args(args))
    }

    /// The client under its other name, told to talk to this master.
    pub(crate) fn einhornsh(&self, args: &[&str]) -> Client {
        let socket = self.socket();
        let args = [&["-d", socket.to_str().unwrap()], args].concat();
        Client::spawn(Command::new(self.einhornsh_program()).args(args))
    }

    /// The client's other name: a link to it, as an installation has it.
    pub(crate) fn einhornsh_program(&self) -> PathBuf {
        let link = self.directory().join("einhornsh");
        if !link.exists() {
            symlink(client_program(), &link).unwrap();
        }
        link
    }
}

/// The master's side of one connection.
pub(crate) struct Peer {
    reader: BufReader<UnixStream>,
}

/// Hangs up, whoever else has a copy of the connection.
impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.reader.get_ref().shutdown(Shutdown::Both);
    }
}

impl Peer {
    fn new(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        Self { reader: BufReader::new(stream) }
    }

    /// The next request; `None` if the client has gone.
    pub(crate) fn request(&mut self) -> Option<Value> {
        match self.line().as_str() {
            "" => None,
            line => Some(serde_json::from_str(line).expect("a request is JSON")),
        }
    }

    /// The next request as it was written, with its newline.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).expect("the client neither asks nor goes");
        line
    }

    /// The next request, which must be `command`.
    pub(crate) fn expect(&mut self, command: &str) -> Value {
        let request = self.request().expect("the client went");
        assert_eq!(request["command"], command);
        request
    }

    /// Waits until the client has gone, whatever it still says.
    pub(crate) fn await_end(mut self) {
        let mut rest = Vec::new();
        // A reset is an end too: it comes when the client did not read all.
        let _ = self.reader.read_to_end(&mut rest);
    }

    pub(crate) fn last(&mut self, request: &Value, ok: bool, message: &str, data: &Value) {
        let mut reply = json!({ "message": message, "request_id": request["id"], "ok": ok });
        if !data.is_null() {
            reply["data"] = data.clone();
        }
        self.say(&format!("{reply}\n"));
    }

    pub(crate) fn progress(&mut self, request: &Value, message: &str, data: &Value) {
        let reply = json!({ "message": message, "request_id": request["id"], "wait": true, "data": data });
        self.say(&format!("{reply}\n"));
    }

    pub(crate) fn say(&mut self, text: &str) {
        self.say_bytes(text.as_bytes());
    }

    pub(crate) fn say_bytes(&mut self, bytes: &[u8]) {
        self.reader.get_mut().write_all(bytes).unwrap();
    }

    /// Says `text` unless nobody listens any more.
    pub(crate) fn try_say(&mut self, text: &str) -> bool {
        self.reader.get_mut().write_all(text.as_bytes()).is_ok()
    }
}

/// Answers `ehlo`, and then plays `play`.
pub(crate) fn greeting(play: impl FnOnce(Peer) + Send + 'static) -> Part {
    part(move |mut peer| {
        let request = peer.expect("ehlo");
        peer.last(&request, true, "Welcome to web", &Value::Null);
        play(peer);
    })
}

/// Waits for `command`, and says `message` as its last reply, which is that it was done.
pub(crate) fn answer(peer: &mut Peer, command: &str, message: &str) {
    let request = peer.expect(command);
    peer.last(&request, true, message, &Value::Null);
}

pub(crate) fn client_program() -> &'static str {
    env!("CARGO_BIN_EXE_einhyrningsinsctl")
}

/// A running client.
pub(crate) struct Client {
    pub(crate) child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
}

/// What a client left behind.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Client {
    /// Starts it with pipes all round.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = lines_of(child.stdout.take().unwrap());
        let stderr = lines_of(child.stderr.take().unwrap());
        Self { child, stdout, stderr }
    }

    /// Sends a line to its standard input.
    pub(crate) fn type_line(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// The next line on its standard output.
    pub(crate) fn line(&mut self) -> String {
        self.stdout.recv_timeout(DEADLINE).expect("no further line came")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    /// Closes its standard input and waits for its end.
    pub(crate) fn finish(mut self) -> Outcome {
        drop(self.child.stdin.take());
        let stdout = rest_of(&self.stdout);
        let stderr = rest_of(&self.stderr);
        let status = end_of(&mut self.child, &stdout);
        Outcome { status, stdout, stderr }
    }
}

/// A test that fails leaves nobody behind.
impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Outcome {
    /// Checks exit code, standard output and standard error, in full.
    #[track_caller]
    pub(crate) fn expect(&self, code: i32, stdout: &str, stderr: &str) {
        assert_eq!(
            (self.status.code(), self.stdout.as_str(), self.stderr.as_str()),
            (Some(code), stdout, stderr)
        );
    }
}

/// Waits for the end of `client`, under the deadline, and returns how it ended. What it has `shown` is told if it
/// does not.
///
/// The wait leaves it to be reaped here: its pid is nobody else's as long as it may have to be killed.
pub(crate) fn end_of(client: &mut Child, shown: &str) -> ExitStatus {
    let pid = Id::Pid(Pid::from_raw(i32::try_from(client.id()).unwrap()));
    let (told, end) = channel();
    thread::spawn(move || {
        let _ = told.send(waitid(pid, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT));
    });
    match end.recv_timeout(DEADLINE) {
        Ok(ended) => drop(ended.unwrap()),
        Err(_) => panic!("the client does not end, after it showed: {shown}"),
    }
    client.wait().unwrap()
}

/// Waits for the end of a client whose standard error is a pipe; what it says there is less than a pipe holds.
pub(crate) fn code_and_stderr(mut client: Child) -> (Option<i32>, String) {
    let code = end_of(&mut client, "").code();
    let mut said = String::new();
    client.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    (code, said)
}

fn lines_of(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (told, lines) = channel();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines() {
            if told.send(line.unwrap()).is_err() {
                break;
            }
        }
    });
    lines
}

fn rest_of(lines: &Receiver<String>) -> String {
    let mut text = String::new();
    loop {
        match lines.recv_timeout(DEADLINE) {
            Ok(line) => text.push_str(&format!("{line}\n")),
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return text,
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                panic!("the client hangs, after it said: {text}");
            }
        }
    }
}
