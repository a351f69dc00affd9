//! A daemon under test, with everything of its own.

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use einhorn_proto::{MasterState, Status, WorkerState, WorkerStatus};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::control::{Control, typed};
use crate::process::{Captured, Finished, Process};
use crate::{binaries, process, wait};

/// Variables that would reach a master or a worker from whoever runs the tests.
const STRIPPED: &[&str] = &[
    "EINHORN_FD_COUNT",
    "EINHORN_FDS",
    "EINHORN_MASTER_PID",
    "EINHORN_SOCK_PATH",
    "EINHORN_SOCK_FD",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
];

/// A command line for a daemon, not run yet.
#[derive(Debug)]
pub struct MasterBuilder {
    directory: TempDir,
    wrapper: Vec<OsString>,
    options: Vec<OsString>,
    own_socket: bool,
    bind: bool,
    workers: u32,
    timer_acks: Option<f64>,
    program: Vec<OsString>,
    environment: Vec<(OsString, Option<OsString>)>,
    working_directory: Option<PathBuf>,
    stderr: Option<Stdio>,
}

impl Default for MasterBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl MasterBuilder {
    /// One worker, `serve`, on a free port of the loopback, in manual ack mode.
    ///
    /// # Panics
    /// If there is no place for temporary files.
    #[must_use]
    pub fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("einhorn-test-").tempdir();
        Self {
            directory: directory.expect("a temporary directory"),
            wrapper: Vec::new(),
            options: Vec::new(),
            own_socket: true,
            bind: true,
            workers: 1,
            timer_acks: None,
            program: vec![binaries::worker("serve").into_os_string()],
            environment: Vec::new(),
            working_directory: None,
            stderr: None,
        }
    }

    /// A file of the test, in a directory that goes with the master.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// How many workers (`-n`).
    #[must_use]
    pub fn workers(mut self, count: u32) -> Self {
        self.workers = count;
        self
    }

    /// Workers count as up after `seconds` alive (`--ack-mode`), instead of when they say so (`-m`).
    #[must_use]
    pub fn timer_acks(mut self, seconds: f64) -> Self {
        self.timer_acks = Some(seconds);
        self
    }

    /// An option, or its value.
    #[must_use]
    pub fn option(mut self, option: impl AsRef<OsStr>) -> Self {
        self.options.push(option.as_ref().to_owned());
        self
    }

    /// Options and their values.
    #[must_use]
    pub fn options<S: AsRef<OsStr>>(mut self, options: impl IntoIterator<Item = S>) -> Self {
        self.options.extend(options.into_iter().map(|option| option.as_ref().to_owned()));
        self
    }

    /// No `-b` but those among the options.
    #[must_use]
    pub fn without_bind(mut self) -> Self {
        self.bind = false;
        self
    }

    /// No `-d`: the options, or the master, say where the control socket is.
    #[must_use]
    pub fn without_socket(mut self) -> Self {
        self.own_socket = false;
        self
    }

    /// A variable of the master's environment.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.as_ref().to_owned(), Some(value.as_ref().to_owned())));
        self
    }

    /// A variable that the master's environment lacks.
    #[must_use]
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.as_ref().to_owned(), None));
        self
    }

    /// The master's directory.
    #[must_use]
    pub fn current_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.working_directory = Some(directory.into());
        self
    }

    /// Another worker program, with its arguments.
    #[must_use]
    pub fn program<S: AsRef<OsStr>>(mut self, program: impl IntoIterator<Item = S>) -> Self {
        self.program = program.into_iter().map(|word| word.as_ref().to_owned()).collect();
        self
    }

    /// The worker program `serve`, with these knobs (see its own documentation).
    #[must_use]
    pub fn serve<S: AsRef<OsStr>>(self, knobs: impl IntoIterator<Item = S>) -> Self {
        let mut program = vec![binaries::worker("serve").into_os_string()];
        program.extend(knobs.into_iter().map(|knob| knob.as_ref().to_owned()));
        self.program(program)
    }

    /// Starts the master as the argument of another program, which must become it (`prlimit`, `strace -D`).
    #[must_use]
    pub fn under<S: AsRef<OsStr>>(mut self, wrapper: impl IntoIterator<Item = S>) -> Self {
        self.wrapper.extend(wrapper.into_iter().map(|word| word.as_ref().to_owned()));
        self
    }

    /// Another standard error than a file that the harness keeps.
    #[must_use]
    pub fn stderr(mut self, stderr: Stdio) -> Self {
        self.stderr = Some(stderr);
        self
    }

    /// The control socket that [`Self::without_socket`] takes away.
    fn socket(&self) -> PathBuf {
        self.file("einhorn.sock")
    }

    /// The command line, as it would be run.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut words = self.wrapper.clone();
        words.push(binaries::einhyrningsins().into_os_string());
        words.extend(["-n".into(), self.workers.to_string().into()]);
        if self.own_socket {
            words.extend(["-d".into(), self.socket().into_os_string()]);
        }
        if self.bind {
            words.extend(["-b".into(), "127.0.0.1:0".into()]);
        }
        match self.timer_acks {
            Some(seconds) => words.extend(["--ack-mode".into(), seconds.to_string().into()]),
            None => words.push("-m".into()),
        }
        words.extend(self.options.iter().cloned());
        words.extend(self.program.iter().cloned());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        if let Some(directory) = &self.working_directory {
            command.current_dir(directory);
        }
        for name in STRIPPED {
            command.env_remove(name);
        }
        for (name, value) in &self.environment {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
    }

    /// Runs a master that is expected to end by itself, to its end.
    #[track_caller]
    #[must_use]
    pub fn run_to_end(&self) -> Finished {
        process::run(self.command())
    }

    /// Starts the master, and waits until its control socket answers.
    ///
    /// # Panics
    /// With its log, if it ends before, or does not answer within the deadline.
    #[track_caller]
    #[must_use]
    pub fn start_unready(mut self) -> Master {
        let mut command = self.command();
        let line = format!("{command:?}");
        let (stdout, stderr) = (Captured::new(), Captured::new());
        command.stdin(Stdio::null()).stdout(stdout.writer());
        command.stderr(self.stderr.take().unwrap_or_else(|| stderr.writer()));
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot run {line}: {error}"));
        // What was lent to the child must not stay open here: a pipe would never end.
        drop(command);
        let mut master = Master {
            socket: self.socket(),
            directory: self.directory,
            line,
            process: Process::of(child.id() as i32),
            child,
            stdout,
            stderr,
            started: Vec::new(),
        };
        if self.own_socket {
            master.wait_answering();
        }
        master
    }

    /// Starts the master, and waits until all its workers are up.
    ///
    /// # Panics
    /// As [`Self::start_unready`].
    #[track_caller]
    #[must_use]
    pub fn start(self) -> Master {
        let workers = self.workers;
        let mut master = self.start_unready();
        master.wait_up(workers);
        master
    }
}

/// A running daemon. It and its workers are killed when it is dropped.
#[derive(Debug)]
pub struct Master {
    directory: TempDir,
    socket: PathBuf,
    line: String,
    child: Child,
    process: Option<Process>,
    stdout: Captured,
    stderr: Captured,
    /// Workers that were seen, to be killed at the end even when the master has gone before them.
    started: Vec<Process>,
}

impl Master {
    /// A command line to fill in.
    #[must_use]
    pub fn builder() -> MasterBuilder {
        MasterBuilder::new()
    }

    /// Its process, as it was started.
    ///
    /// # Panics
    /// If it ended at once.
    #[track_caller]
    #[must_use]
    pub fn process(&self) -> Process {
        self.process.unwrap_or_else(|| panic!("the master ended at once\n{self}"))
    }

    /// Its control socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Says where its control socket is, if the harness did not choose it, and waits until it answers.
    #[track_caller]
    pub fn at_socket(&mut self, socket: impl Into<PathBuf>) {
        self.socket = socket.into();
        self.wait_answering();
    }

    /// A file in the directory that goes with it.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// What it has written to standard error: its log, and what its workers wrote there.
    #[must_use]
    pub fn log(&self) -> String {
        self.stderr.text()
    }

    /// Waits until its log holds `text`.
    #[track_caller]
    pub fn wait_log(&mut self, text: &str) {
        self.wait(&format!("{text:?} in the log"), |master| master.log().contains(text).then_some(()));
    }

    /// A raw connection to its control socket.
    #[track_caller]
    #[must_use]
    pub fn control(&self) -> Control {
        Control::connect(&self.socket)
    }

    /// How the pool is.
    #[track_caller]
    pub fn status(&mut self) -> Status {
        let status = self.control().status();
        self.remember(&status);
        status
    }

    /// The address of its first listener.
    #[track_caller]
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.addresses()[0]
    }

    /// The addresses of all its listeners.
    #[track_caller]
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let listeners = self.control().status().listeners;
        listeners
            .iter()
            .map(|listener| {
                let text = &listener.address;
                text.parse().unwrap_or_else(|_| panic!("{text:?} in status is no address\n{self}"))
            })
            .collect()
    }

    /// Runs the control client on its socket.
    #[track_caller]
    #[must_use]
    pub fn ctl<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Finished {
        process::run(self.ctl_command(args))
    }

    /// The control client on its socket, not run yet.
    #[must_use]
    pub fn ctl_command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(binaries::einhyrningsinsctl());
        command.arg("-d").arg(&self.socket).args(args);
        command
    }

    /// Runs an upgrade to its end, and asserts that it was done.
    #[track_caller]
    pub fn upgrade(&mut self) -> einhorn_proto::UpgradeReport {
        let reply = self.control().ask("upgrade", &[]);
        assert_eq!(reply.ok, Some(true), "the upgrade failed: {}\n{self}", reply.message);
        self.status();
        typed(reply)
    }

    /// Sends a signal to the master.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        assert!(self.process().signal(signal), "the master is gone\n{self}");
    }

    /// Waits until it has ended.
    #[track_caller]
    pub fn wait_exit(&mut self) -> ExitStatus {
        self.wait("the master's exit", |master| master.child.try_wait().ok().flatten())
    }

    /// Waits until it has ended with `code`.
    #[track_caller]
    pub fn wait_exit_code(&mut self, code: i32) {
        let status = self.wait_exit();
        assert_eq!(status.code(), Some(code), "{status}\n{self}");
    }

    /// Asserts that it lives, supervises and serves with `workers`.
    #[track_caller]
    pub fn assert_well(&mut self, workers: u32) {
        self.wait_up(workers);
        let report = crate::load::Plan {
            fresh: 1,
            keep_alive: 0,
            requests_max: 3,
            ..crate::load::Plan::new(self.address())
        };
        let report = report.start().run_to_end();
        assert!(report.failed() == 0 && report.requests == 3, "it does not serve\n{report}{self}");
    }

    /// Waits until `workers` are up, none starts or drains, and nothing is under way.
    #[track_caller]
    pub fn wait_up(&mut self, workers: u32) -> Status {
        self.wait_status(&format!("{workers} workers up"), |status| {
            let master = &status.master;
            let counts = (master.wanted, master.up, master.starting, master.draining);
            counts == (workers, workers, 0, 0) && master.state == MasterState::Running
        })
    }

    /// Waits until `status` is as it should be, and gives it.
    #[track_caller]
    pub fn wait_status(&mut self, what: &str, mut condition: impl FnMut(&Status) -> bool) -> Status {
        self.wait(what, |master| {
            let status = master.status();
            condition(&status).then_some(status)
        })
    }

    /// Waits until a worker is as it should be, and gives it.
    #[track_caller]
    pub fn wait_worker(
        &mut self,
        what: &str,
        mut condition: impl FnMut(&WorkerStatus) -> bool,
    ) -> WorkerStatus {
        self.wait(what, |master| master.status().workers.into_iter().find(&mut condition))
    }

    /// Its live workers that are up, as processes, by slot.
    #[track_caller]
    pub fn workers_up(&mut self) -> Vec<Process> {
        let workers = self.status().workers.into_iter();
        workers
            .filter(|worker| worker.state == WorkerState::Up)
            .filter_map(|worker| Process::of(worker.pid))
            .collect()
    }

    /// Waits for `condition`, and fails at once if the master ends meanwhile and that was not it.
    #[track_caller]
    pub fn wait<T>(&mut self, what: &str, mut condition: impl FnMut(&mut Self) -> Option<T>) -> T {
        let mut ended = false;
        let found = wait::within(wait::patience(), || {
            // Asked first: what the condition finds then counts, even of a master that has ended.
            ended = self.child.try_wait().is_ok_and(|status| status.is_some());
            match condition(self) {
                Some(value) => Some(Some(value)),
                None => ended.then_some(None),
            }
        });
        match found.flatten() {
            Some(value) => value,
            None if ended => panic!("the master ended while the test waited for {what}\n{self}"),
            None => panic!("waited {:?} in vain for {what}\n{self}", wait::patience()),
        }
    }

    #[track_caller]
    fn wait_answering(&mut self) {
        self.wait("an answer on the control socket", |master| {
            Control::try_connect(&master.socket).ok().map(drop)
        });
        self.status();
    }

    fn remember(&mut self, status: &Status) {
        for worker in &status.workers {
            if let Some(process) = Process::of(worker.pid)
                && !self.started.contains(&process)
            {
                self.started.push(process);
            }
        }
    }
}

impl std::fmt::Display for Master {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "--- {}\n--- its log\n{}", self.line, self.log())?;
        let stdout = self.stdout.text();
        if stdout.is_empty() { f.write_str("---") } else { write!(f, "--- its standard output\n{stdout}---") }
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{self}");
        }
        let mut doomed = self.started.clone();
        if let Some(process) = self.process {
            // Stopped, it neither spawns nor reaps: the list of its workers is whole and their pids stay theirs.
            process.signal(Signal::SIGSTOP);
            wait::within(wait::patience(), || (!process.is_alive() || process.is_stopped()).then_some(()));
            doomed.extend(process.descendants());
        }
        for worker in &doomed {
            worker.signal(Signal::SIGKILL);
        }
        // Ours and not yet waited for, so the pid cannot be somebody else's.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
