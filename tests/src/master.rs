//! A daemon under test, with everything of its own.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use einhorn_proto::{MasterState, Reply, Status, WorkerState, WorkerStatus};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::builder::MasterBuilder;
use crate::control::{Control, typed};
use crate::load::Load;
use crate::process::{Captured, Finished, Process};
use crate::{binaries, process, wait};

/// Longer than it takes a client to read an answer that was sent.
const ANSWER_READ: Duration = Duration::from_millis(400);

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

    /// Runs `command`, which makes a control socket at `socket`; its standard error goes to `stderr` or is kept.
    ///
    /// # Panics
    /// If it cannot be run.
    #[track_caller]
    pub(crate) fn launch(
        mut command: Command,
        stderr: Option<Stdio>,
        socket: PathBuf,
        directory: TempDir,
    ) -> Self {
        let line = format!("{command:?}");
        let (stdout, kept) = (Captured::new(), Captured::new());
        command.stdin(Stdio::null()).stdout(stdout.writer());
        command.stderr(stderr.unwrap_or_else(|| kept.writer()));
        // Dropped at the end: what was lent to the child must not stay open here, or a pipe would never end.
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot run {line}: {error}"));
        let process = Process::of(child.id() as i32);
        Self { directory, socket, line, child, process, stdout, stderr: kept, started: Vec::new() }
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

    /// The addresses of its listeners on TCP, where there may be others.
    #[track_caller]
    #[must_use]
    pub fn addresses_of_tcp(&self) -> Vec<SocketAddr> {
        let listeners = self.control().status().listeners;
        listeners.iter().filter_map(|listener| listener.address.parse().ok()).collect()
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
        let reply = self.try_upgrade();
        assert_eq!(reply.ok, Some(true), "the upgrade failed: {}\n{self}", reply.message);
        self.status();
        typed(reply)
    }

    /// Runs an upgrade to its end, and gives the last reply.
    #[track_caller]
    pub fn try_upgrade(&self) -> Reply {
        let mut control = self.control();
        // With an id: one that is called as einhorn lets nobody else wait.
        control.send(r#"{"command":"upgrade","id":"upgrade"}"#);
        control.replies().pop().expect("replies has at least one")
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

    /// Kills a worker, and waits until the master knows: from then on, whoever is up in its slot is another.
    ///
    /// # Panics
    /// If it is gone already.
    #[track_caller]
    pub fn kill_worker(&mut self, worker: Process) {
        assert!(worker.signal(Signal::SIGKILL), "{worker:?} is gone\n{self}");
        self.wait_status("the death of a killed worker", |status| {
            status.workers.iter().all(|other| other.pid != worker.pid())
        });
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

    /// Its live workers that are up, as processes that run their program, by slot.
    #[track_caller]
    pub fn workers_up(&mut self) -> Vec<Process> {
        let workers = self.status().workers.into_iter();
        let up = workers.filter(|worker| worker.state == WorkerState::Up);
        let up: Vec<_> = up.filter_map(|worker| Process::of(worker.pid)).collect();
        up.iter().for_each(Process::wait_executed);
        up
    }

    /// Stops the worker that has the most connections (SIGSTOP), with at least one, and waits until every client of
    /// it has waited for longer than an answer takes that was sent before. Gives the worker, and how many connections
    /// it holds: what is lost if it is killed now.
    ///
    /// # Panics
    /// If that does not come about.
    #[track_caller]
    pub fn freeze_busiest(&mut self, load: &Load) -> (Process, usize) {
        let victim = self.wait("a worker that is frozen with connections", |master| {
            let busiest = master.workers_up().into_iter().max_by_key(|worker| worker.connections().len())?;
            assert!(busiest.signal(Signal::SIGSTOP));
            wait::wait_for("the worker to freeze", || busiest.is_stopped().then_some(()));
            let is_holding = !busiest.connections().is_empty();
            (is_holding || !busiest.signal(Signal::SIGCONT)).then_some(busiest)
        });
        // However long the count takes, the master must not kill the worker before it is done.
        let master = self.process();
        master.signal(Signal::SIGSTOP);
        let held = self.wait("every client of the frozen worker to wait", |_| {
            let (held, waiting) = (victim.connections(), load.waiting_longer_than(ANSWER_READ));
            held.is_subset(&waiting).then_some(held.len())
        });
        master.signal(Signal::SIGCONT);
        (victim, held)
    }

    /// Kills these workers, and waits until it knows that they are gone: before that its status is as it was.
    #[track_caller]
    pub fn kill_workers(&mut self, workers: &[Process]) {
        for worker in workers {
            assert!(worker.signal(Signal::SIGKILL), "worker {} is gone already\n{self}", worker.pid());
        }
        self.wait_reaped(workers);
    }

    /// Waits until it knows that these workers are gone.
    #[track_caller]
    pub fn wait_reaped(&mut self, workers: &[Process]) {
        self.wait_status("dead workers to be noticed", |status| {
            !status.workers.iter().any(|listed| workers.iter().any(|worker| worker.pid() == listed.pid))
        });
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
    pub(crate) fn wait_answering(&mut self) {
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
        if let Some(process) = self.process {
            process.kill_with_descendants();
        }
        for worker in &self.started {
            worker.signal(Signal::SIGKILL);
        }
        // Ours and not yet waited for, so the pid cannot be somebody else's.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
