//! A container that runs one of the images, until the test ends.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use einhorn_proto::Status;
use nix::sys::signal::Signal;
use serde_json::Value;
use tests::Process;
use tests::load::{Load, Plan};
use tests::process::{Finished, run};
use tests::wait::wait_for;

use super::Engine;
use super::images::Image;
use crate::network;

/// The port that the master of each image listens on.
pub(crate) const PORT: u16 = 8000;

/// A container, with a network that has a loopback interface and nothing else. It is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Container {
    engine: Arc<Engine>,
    name: String,
    /// Whether this has made it and removes it.
    is_ours: bool,
}

impl Container {
    /// Starts `podman run OPTIONS... IMAGE WORDS...`.
    #[track_caller]
    pub(crate) fn run(image: Image, options: &[&str], words: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let engine = Engine::get();
        let name = format!("web-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let container = Self { engine, name, is_ours: true };
        let start = ["run", "--detach", "--name", &container.name].into_iter();
        let line = start.chain(options.iter().copied()).chain([image.name()]).chain(words.iter().copied());
        container.engine.podman(line).assert_code(0);
        container
    }

    /// As [`Self::run`], and waits until the master says that it is ready.
    #[track_caller]
    pub(crate) fn serving(image: Image, options: &[&str], words: &[&str]) -> Self {
        let container = Self::run(image, options, words);
        container.wait_ready();
        container
    }

    /// One that somebody else has made.
    pub(crate) fn of(engine: Arc<Engine>, name: &str) -> Self {
        Self { engine, name: name.to_owned(), is_ours: false }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Runs `podman COMMAND OPTIONS... NAME`.
    #[track_caller]
    pub(crate) fn podman(&self, words: &[&str]) -> Finished {
        self.engine.podman(words.iter().copied().chain([self.name.as_str()]))
    }

    /// A command in the container.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let start = ["podman", "exec", &self.name].into_iter();
        self.engine.command(start.chain(words.iter().copied()))
    }

    /// Runs a command in the container to its end.
    #[track_caller]
    pub(crate) fn exec(&self, words: &[&str]) -> Finished {
        run(self.command(words))
    }

    /// Runs `einhyrningsinsctl WORDS...` in the container.
    #[track_caller]
    pub(crate) fn ctl(&self, words: &[&str]) -> Finished {
        let line: Vec<_> = ["einhyrningsinsctl"].into_iter().chain(words.iter().copied()).collect();
        self.exec(&line)
    }

    #[track_caller]
    pub(crate) fn status(&self) -> Status {
        let answer = self.ctl(&["--json", "status"]);
        answer.assert_code(0);
        let mut answer: Value = serde_json::from_str(&answer.stdout).expect("JSON");
        let data = answer.get_mut("data").map(Value::take).unwrap_or(answer);
        serde_json::from_value(data).expect("a status")
    }

    #[track_caller]
    pub(crate) fn wait_ready(&self) {
        wait_for("a master that is ready", || {
            let probe = self.ctl(&["--timeout", "2", "status", "--ready"]);
            assert!(self.is_running(), "the container has ended\n{}", self.logs());
            (probe.status.code() == Some(0)).then_some(())
        });
    }

    /// A field of `podman inspect`.
    #[track_caller]
    pub(crate) fn inspect(&self, field: &str) -> String {
        let found = self.podman(&["inspect", "--format", &format!("{{{{{field}}}}}")]);
        found.assert_code(0);
        found.stdout.trim().to_owned()
    }

    pub(crate) fn is_running(&self) -> bool {
        self.inspect(".State.Running") == "true"
    }

    /// All that it wrote.
    #[track_caller]
    pub(crate) fn logs(&self) -> String {
        let logs = self.podman(&["logs"]);
        format!("{}{}", logs.stdout, logs.stderr)
    }

    /// Its first process, as this machine sees it.
    #[track_caller]
    pub(crate) fn init(&self) -> Process {
        self.engine.process(self.inspect(".State.Pid").parse().expect("a pid"))
    }

    /// Waits until this command, which somebody has started by [`Self::command`], runs in the container.
    #[track_caller]
    pub(crate) fn wait_runs(&self, words: &[&str]) {
        wait_for(&format!("{words:?} in a container"), || {
            self.engine.processes().iter().any(|process| process.arguments() == words).then_some(())
        });
    }

    /// Sends a signal by `podman kill`.
    #[track_caller]
    pub(crate) fn kill(&self, signal: Signal) {
        self.podman(&["kill", "--signal", signal.as_str()]).assert_code(0);
    }

    /// Waits for its end, which must come by itself, and for the exit code that podman reports.
    #[track_caller]
    pub(crate) fn wait_exit_code(&self, code: i32) {
        let ended = self.podman(&["wait"]);
        ended.assert_code(0);
        assert_eq!(ended.stdout.trim(), code.to_string(), "{}", self.logs());
        assert_eq!(self.inspect(".State.ExitCode"), code.to_string());
    }

    /// Starts clients in its network.
    #[track_caller]
    pub(crate) fn load(&self) -> Load {
        let plan = Plan::new(std::net::SocketAddr::from(([127, 0, 0, 1], PORT)));
        let namespace = format!("/proc/{}/ns/net", self.init().pid());
        network::inside(Path::new(&namespace), || plan.start())
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let logs = self.engine.command(["podman", "logs", &self.name]).output();
            let logs = logs.map(|logs| [logs.stdout, logs.stderr].concat()).unwrap_or_default();
            eprintln!("--- the log of container {}\n{}---", self.name, String::from_utf8_lossy(&logs));
        }
        if self.is_ours {
            let _ = self.engine.command(["podman", "rm", "--force", "--time", "0", &self.name]).output();
        }
    }
}
