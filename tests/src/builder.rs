//! A command line for a daemon under test.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::master::Master;
use crate::process::Finished;
use crate::{binaries, process};

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
    "FDSTORE",
    "EINHYRNINGSINS_SOCKET",
];

/// A command line for a daemon, not run yet.
#[derive(Debug)]
pub struct MasterBuilder {
    directory: TempDir,
    /// What to call the daemon by, and whether that makes it speak as einhorn.
    daemon: PathBuf,
    is_einhorn: bool,
    wrapper: Vec<OsString>,
    options: Vec<OsString>,
    own_socket: bool,
    bind: bool,
    workers: u32,
    has_number: bool,
    timer_acks: Option<f64>,
    /// Whether `-m` is an option, where nothing else says how workers ack.
    has_ack_mode: bool,
    program: Vec<OsString>,
    environment: Vec<(OsString, Option<OsString>)>,
    working_directory: Option<PathBuf>,
    stderr: Option<Stdio>,
}

/// A directory that goes with its owner, and whose name tells who has left it behind if it does not.
#[track_caller]
pub(crate) fn temporary_directory() -> TempDir {
    tempfile::Builder::new().prefix("einhorn-test-").tempdir().expect("a temporary directory")
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
        Self {
            directory: temporary_directory(),
            daemon: binaries::einhyrningsins(),
            is_einhorn: false,
            wrapper: Vec::new(),
            options: Vec::new(),
            own_socket: true,
            bind: true,
            workers: 1,
            has_number: true,
            timer_acks: None,
            has_ack_mode: true,
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

    /// Calls the daemon as einhorn, through a link of that name. Files that it puts where einhorn does are in the
    /// test's directory, where the harness looks for the control socket too.
    ///
    /// # Panics
    /// If the link cannot be made.
    #[must_use]
    pub fn einhorn(mut self) -> Self {
        let link = self.file("einhorn");
        symlink(&self.daemon, &link).expect("a link");
        self.daemon = link;
        self.is_einhorn = true;
        let directory = self.directory.path().to_owned();
        self.env("TMPDIR", directory)
    }

    /// Another file of the daemon than the one that was built.
    #[must_use]
    pub fn daemon(mut self, path: impl Into<PathBuf>) -> Self {
        self.daemon = path.into();
        self
    }

    /// How many workers (`-n`).
    #[must_use]
    pub fn workers(mut self, count: u32) -> Self {
        self.workers = count;
        self
    }

    /// No `-n`: the options file has it, and gives as many workers as [`Self::workers`].
    #[must_use]
    pub fn without_number(mut self) -> Self {
        self.has_number = false;
        self
    }

    /// Workers count as up after `seconds` alive (`--ack-mode`), instead of when they say so (`-m`).
    #[must_use]
    pub fn timer_acks(mut self, seconds: f64) -> Self {
        self.timer_acks = Some(seconds);
        self
    }

    /// No `-m`: the options file says how workers ack.
    #[must_use]
    pub fn without_ack_mode(mut self) -> Self {
        self.has_ack_mode = false;
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
        words.push(self.daemon.clone().into_os_string());
        if self.has_number {
            words.extend(["-n".into(), self.workers.to_string().into()]);
        }
        if self.own_socket {
            words.extend(["-d".into(), self.socket().into_os_string()]);
        }
        if self.bind {
            words.extend(["-b".into(), "127.0.0.1:0".into()]);
        }
        match self.timer_acks {
            Some(seconds) => words.extend(["--ack-mode".into(), seconds.to_string().into()]),
            None if self.is_einhorn => words.extend(["-m".into(), "manual".into()]),
            None if self.has_ack_mode => words.push("-m".into()),
            None => {}
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
        let command = self.command();
        let socket = self.socket();
        let mut master = Master::launch(command, self.stderr.take(), socket, self.directory);
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
