//! Making the world fail: system calls that return errors, and limits that are low.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;

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
