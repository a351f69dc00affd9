//! Rollback of a re-exec: executes the old image again if the new one crashes right after its exec.
//!
//! Between its exec and the moment when it has taken everything over, a new image changes nothing. The state
//! that the old image left is still true, and every descriptor is still open and inheritable. A crash in that
//! time can therefore be undone by executing the old image in the same process; it finds its own state and
//! continues. A handler does so for the signals of a crash, and [`Rollback::run`] for failures that the program
//! itself detects.
//!
//! It works once. The image that was returned to arms nothing, so two images that both crash do not alternate;
//! a second crash ends the process as usual. Nothing helps against SIGKILL.

use std::env;
use std::ffi::{CString, OsString, c_char, c_int};
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStringExt;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// The signals of a crash. A panic ends in SIGABRT.
pub(super) const CRASHES: [Signal; 7] = [
    Signal::SIGSEGV,
    Signal::SIGABRT,
    Signal::SIGBUS,
    Signal::SIGILL,
    Signal::SIGFPE,
    Signal::SIGSYS,
    Signal::SIGTRAP,
];

/// The option that gives the old image the reason for its return.
const OPTION: &str = "--returned=";

/// Room for the reason, in bytes, including its NUL.
const REASON_BYTES_MAX: usize = 512;

/// The stack of the handler, which makes a single system call.
const STACK_BYTES: usize = 64 * 1024;

/// Everything that the exec needs, allocated beforehand, because a signal handler must not allocate.
struct Plan {
    image: RawFd,
    /// The same file as a path, for where a seccomp filter refuses to execute a descriptor.
    path: *const c_char,
    /// Ends in null, as does `envp`.
    argv: Vec<*const c_char>,
    envp: Vec<*const c_char>,
    /// Where the reason goes within the second argument; REASON_BYTES_MAX bytes, all NUL.
    reason: *mut u8,
}

/// What the handler carries out; null if nothing is armed.
static PLAN: AtomicPtr<Plan> = AtomicPtr::new(ptr::null_mut());

/// An armed rollback. Dropping it disarms the handler.
#[derive(Debug)]
pub struct Rollback {
    before: Vec<(Signal, SigAction)>,
    stack_before: libc::stack_t,
}

impl Rollback {
    /// From now on, a crash executes `image` again. The old image gets the environment of this process, its
    /// name, and the two options that it needs: `--returned=SIGNAL` and `--with-state-fd=STATE`. Other
    /// arguments are left out, because only the new program may understand them.
    ///
    /// # Errors
    /// Passes on what the kernel returns; nothing is armed then.
    pub fn arm(image: RawFd, state: RawFd) -> Result<Self, Errno> {
        let plan = Box::into_raw(Box::new(Plan::new(image, state)));
        let stack = Box::leak(vec![0_u8; STACK_BYTES].into_boxed_slice());
        let wanted = libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: STACK_BYTES };
        let mut armed = Self {
            before: Vec::new(),
            stack_before: libc::stack_t { ss_sp: ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 },
        };
        // SAFETY: the new stack is leaked memory of its own, and the old one is written to a live place.
        Errno::result(unsafe { libc::sigaltstack(&raw const wanted, &raw mut armed.stack_before) })?;
        PLAN.store(plan, Ordering::SeqCst);
        // SA_RESETHAND: a crash in the handler ends the process. SA_NODEFER: the signal is not blocked in the
        // handler, and therefore not in the image that it executes.
        let flags = SaFlags::SA_ONSTACK | SaFlags::SA_RESETHAND | SaFlags::SA_NODEFER;
        let action = SigAction::new(SigHandler::Handler(on_crash), flags, SigSet::empty());
        for signal in CRASHES {
            // SAFETY: the handler does only what a handler may do: atomics, and system calls on memory that
            // stays allocated for the life of the process.
            let before = unsafe { sigaction(signal, &action) }?;
            armed.before.push((signal, before));
        }
        Ok(armed)
    }

    /// Rolls back now and passes the old image the reason. Returns only if the exec fails.
    pub fn run(&self, why: &str) -> Errno {
        run_armed(why)
    }
}

/// Rolls back if a rollback is armed. If this function returns, its result says why it did not.
pub fn run_armed(why: &str) -> Errno {
    let plan = PLAN.swap(ptr::null_mut(), Ordering::SeqCst);
    // SAFETY: null, or made by `Box::into_raw` in `arm`; it is never freed, and by the swap it is ours alone.
    match unsafe { plan.as_ref() } {
        Some(plan) => plan.execute(why.as_bytes()),
        None => Errno::ENOENT,
    }
}

impl Drop for Rollback {
    fn drop(&mut self) {
        PLAN.store(ptr::null_mut(), Ordering::SeqCst);
        for (signal, before) in &self.before {
            // SAFETY: restores a disposition that was valid before.
            let _ = unsafe { sigaction(*signal, before) };
        }
        // SAFETY: restores the previous stack. The one that it replaces is leaked, so a handler that is running
        // on it can finish.
        unsafe { libc::sigaltstack(&raw const self.stack_before, ptr::null_mut()) };
    }
}

impl Plan {
    /// Allocates arguments and environment. They are leaked, like the plan itself, because a handler may use
    /// them at any time.
    fn new(image: RawFd, state: RawFd) -> Self {
        let returned = Box::leak(vec![0; OPTION.len() + REASON_BYTES_MAX].into_boxed_slice());
        let (option, reason) = returned.split_at_mut(OPTION.len());
        option.copy_from_slice(OPTION.as_bytes());
        let name = leak(env::args_os().next().unwrap_or_default());
        let state = leak(format!("--with-state-fd={state}").into());
        let argv = vec![name, option.as_ptr().cast(), state, ptr::null()];
        let variables = env::vars_os().map(|(mut name, value)| {
            name.push("=");
            name.push(value);
            leak(name)
        });
        let envp = variables.chain([ptr::null()]).collect();
        let path = leak(format!("/proc/self/fd/{image}").into());
        Self { image, path, argv, envp, reason: reason.as_mut_ptr() }
    }

    /// Executes the old image; returns the errno if that fails. A handler calls it, so it allocates nothing.
    fn execute(&self, why: &[u8]) -> Errno {
        let bytes = why.len().min(REASON_BYTES_MAX - 1);
        // SAFETY: `reason` has REASON_BYTES_MAX bytes, of which the last stays NUL. Only the caller that took
        // the plan out of `PLAN` writes there, and it can be taken only once.
        unsafe { ptr::copy_nonoverlapping(why.as_ptr(), self.reason, bytes) };
        let (argv, envp) = (self.argv.as_ptr(), self.envp.as_ptr());
        let (image, no_path, flags) = (self.image, c"".as_ptr(), libc::AT_EMPTY_PATH);
        // SAFETY: both arrays end in null, and their strings are never freed and end in NUL.
        unsafe { libc::syscall(libc::SYS_execveat, image, no_path, argv, envp, flags) };
        let errno = Errno::last();
        if !matches!(errno, Errno::ENOSYS | Errno::EPERM) {
            return errno;
        }
        // SAFETY: as above, and the path is such a string too. The call itself is safe in a handler.
        unsafe { libc::execve(self.path, argv, envp) };
        Errno::last()
    }
}

/// Carries the plan out, unless it was taken already. If the exec fails, the process crashes: the disposition
/// of the signal is the default again.
extern "C" fn on_crash(signal: c_int) {
    let plan = PLAN.swap(ptr::null_mut(), Ordering::SeqCst);
    // SAFETY: null, or made by `Box::into_raw` in `arm`; it is never freed, and by the swap it is ours alone.
    let Some(plan) = (unsafe { plan.as_ref() }) else { return };
    let name =
        CRASHES.iter().find(|crash| **crash as c_int == signal).map_or("a signal", |crash| crash.as_str());
    plan.execute(name.as_bytes());
}

fn leak(word: OsString) -> *const c_char {
    // Arguments and variables of a process contain no NUL.
    CString::new(word.into_vec()).unwrap_or_default().into_raw()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsRawFd;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Output};

    use super::*;

    const MARKER: &str = "EINHYRNINGSINS_TEST_CRASH";

    /// Runs the test `name` in its own process, which crashes by `how`, and returns how the process ended.
    fn crash(name: &str, how: &str) -> Output {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args([
            &format!("sys::rollback::tests::{name}"),
            "--exact",
            "--nocapture",
            "--test-threads=1",
        ]);
        command.env(MARKER, how).env("KEPT", "as it was").output().unwrap()
    }

    /// In the process that will crash: arms a rollback to a shell, which prints its arguments.
    fn armed() -> Rollback {
        let image = File::open("/bin/sh").unwrap();
        let armed = Rollback::arm(image.as_raw_fd(), 0).unwrap();
        std::mem::forget(image);
        armed
    }

    #[test]
    fn a_crash_executes_the_old_image_and_passes_it_the_signal() {
        let name = "a_crash_executes_the_old_image_and_passes_it_the_signal";
        if let Ok(how) = env::var(MARKER) {
            let _armed = armed();
            let signal: Signal = how.parse().unwrap();
            nix::sys::signal::raise(signal).unwrap();
            unreachable!("the process survived {how}");
        }
        for signal in CRASHES {
            // The shell does not know the option, complains and exits with 2.
            let output = crash(name, signal.as_str());
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{signal}: {said}");
            assert!(said.contains("--returned") || said.contains("Illegal option"), "{signal}: {said}");
        }
    }

    #[test]
    fn a_second_crash_ends_the_process() {
        if env::var_os(MARKER).is_some() {
            let armed = armed();
            PLAN.store(ptr::null_mut(), Ordering::SeqCst);
            std::mem::forget(armed);
            std::process::abort();
        }
        let output = crash("a_second_crash_ends_the_process", "abort");
        assert_eq!(output.status.signal(), Some(libc::SIGABRT));
    }

    #[test]
    fn a_crash_after_disarming_is_an_ordinary_crash() {
        if env::var_os(MARKER).is_some() {
            drop(armed());
            std::process::abort();
        }
        let output = crash("a_crash_after_disarming_is_an_ordinary_crash", "abort");
        assert_eq!(output.status.signal(), Some(libc::SIGABRT));
    }

    #[test]
    fn a_return_without_a_crash_reports_its_failure() {
        if env::var_os(MARKER).is_some() {
            let armed = Rollback::arm(12_345, 0).unwrap();
            assert_eq!(armed.run("there is no such descriptor"), Errno::EBADF);
            assert_eq!(armed.run("once is enough"), Errno::ENOENT);
            drop(armed);
            let _never_returns = self::armed().run("because");
            unreachable!();
        }
        let output = crash("a_return_without_a_crash_reports_its_failure", "go");
        assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
