//! Making the world fail: system calls that return errors, and limits that are low.

use std::ffi::OsString;
use std::fmt;
use std::num::ParseIntError;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::str::FromStr;

use nix::errno::Errno;
use nix::libc::c_long;
use nix::sys::signal::Signal;

use crate::binaries;
use crate::process::{Captured, Process};
use crate::wait;

/// A wrapper for [`crate::MasterBuilder::under`] that makes system calls of the program fail, its children left
/// alone: `inject` is strace's, for instance `accept4:error=EMFILE:when=1..5`.
///
/// What was traced is written to `log`.
#[must_use]
pub fn strace_wrapper(inject: &str, log: &Path) -> Vec<OsString> {
    let mut words: Vec<OsString> = vec!["strace".into()];
    // The tracer is a grandchild, so the program itself has the pid that was started.
    words.push("-D".into());
    words.extend(strace_options(inject, log));
    words
}

/// A wrapper that starts the program under a limit as `prlimit` takes it, for instance `--nofile=20`.
#[must_use]
pub fn limit_wrapper(limit: &str) -> Vec<OsString> {
    vec!["prlimit".into(), limit.into()]
}

/// A wrapper that starts the program under a seccomp filter, as a container runtime does: it makes system calls fail, in
/// all that the program starts too.
#[must_use]
pub fn filter_wrapper<'a>(rules: impl IntoIterator<Item = &'a Refusal>) -> Vec<OsString> {
    let mut words = vec![binaries::worker("filter").into_os_string()];
    words.extend(rules.into_iter().map(|rule| rule.to_string().into()));
    words.push("--".into());
    words
}

/// A system call that a filter makes fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// For the reader of a command line, without a colon.
    pub name: String,
    /// The number of the call.
    pub call: c_long,
    /// Only with these values of arguments, which are counted from 0.
    pub arguments: Vec<(u8, u64)>,
    /// What it returns.
    pub errno: Errno,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.call)?;
        for (argument, value) in &self.arguments {
            write!(f, ",{argument}={value}")?;
        }
        write!(f, ":{}", self.errno as i32)
    }
}

impl FromStr for Refusal {
    type Err = ParseIntError;

    /// The reverse of `Display`.
    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        let (name, rest) = text.split_once(':').unwrap_or(("", text));
        let (what, errno) = rest.split_once(':').unwrap_or((rest, ""));
        let mut words = what.split(',');
        let call = words.next().unwrap_or_default().parse()?;
        let arguments = words.map(|word| {
            let (argument, value) = word.split_once('=').unwrap_or((word, ""));
            Ok((argument.parse()?, value.parse()?))
        });
        let arguments = arguments.collect::<Result<_, ParseIntError>>()?;
        Ok(Self { name: name.to_owned(), call, arguments, errno: Errno::from_raw(errno.parse()?) })
    }
}

fn strace_options(inject: &str, log: &Path) -> Vec<OsString> {
    let calls = inject.split(':').next().unwrap_or_default();
    vec![
        "-qq".into(),
        "-o".into(),
        log.into(),
        "-e".into(),
        format!("trace={calls}").into(),
        "-e".into(),
        format!("inject={inject}").into(),
    ]
}

/// System calls of a running process fail for as long as this lives.
#[derive(Debug)]
pub struct Strace {
    tracer: Child,
    traced: Process,
}

impl Strace {
    /// Begins to make system calls of `process` fail, as [`strace_wrapper`] does.
    ///
    /// # Panics
    /// If there is no strace, or it may not trace.
    #[track_caller]
    #[must_use]
    pub fn attach(process: Process, inject: &str, log: &Path) -> Self {
        Self::attach_with(&[], process, inject, log)
    }

    /// The same for the children that `process` makes from now on, too.
    ///
    /// # Panics
    /// As [`Self::attach`].
    #[track_caller]
    #[must_use]
    pub fn attach_to_family(process: Process, inject: &str, log: &Path) -> Self {
        Self::attach_with(&["-f"], process, inject, log)
    }

    #[track_caller]
    fn attach_with(options: &[&str], process: Process, inject: &str, log: &Path) -> Self {
        let stderr = Captured::new();
        let mut command = Command::new("strace");
        command.args(options).args(strace_options(inject, log)).arg("-p").arg(process.pid().to_string());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr.writer());
        let tracer = command.spawn().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
        let mut strace = Self { tracer, traced: process };
        let attached = wait::within(wait::patience(), || {
            if strace.tracer.try_wait().is_ok_and(|status| status.is_some()) {
                return Some(false);
            }
            strace.is_attached().then_some(true)
        });
        assert_eq!(attached, Some(true), "strace does not attach: {}", stderr.text());
        strace
    }

    fn is_attached(&self) -> bool {
        self.traced.status("TracerPid").is_some_and(|pid| pid == self.tracer.id().to_string())
    }

    /// Ends the faults; the process goes on untraced.
    pub fn detach(self) {}
}

impl Drop for Strace {
    fn drop(&mut self) {
        // On SIGINT strace detaches in good order, where SIGKILL would leave the process in a stop.
        if let Some(tracer) = Process::of(self.tracer.id() as i32) {
            tracer.signal(Signal::SIGINT);
        }
        let ended = || self.tracer.try_wait().is_ok_and(|status| status.is_some()).then_some(());
        if wait::within(wait::patience(), ended).is_none() {
            // A process that the kernel holds cannot be detached from. Whoever failed for that has to end all the same.
            let _ = self.tracer.kill();
            let _ = self.tracer.wait();
        }
    }
}

/// Sets a limit of a running process: `limit` as `prlimit` takes it, for instance `--nofile=20`.
///
/// # Panics
/// If it cannot.
#[track_caller]
pub fn prlimit(process: Process, limit: &str) {
    let mut command = Command::new("prlimit");
    command.arg("--pid").arg(process.pid().to_string()).arg(limit);
    crate::process::run(command).assert_code(0);
}
