//! The way back to the image before, for a new image of the master that crashes as soon as it runs.
//!
//! Between its exec and the moment at which it has taken everything over, a new image has changed nothing: the
//! state that the old one left is still true, and each descriptor is still open and not close-on-exec. So a
//! crash then can be undone, by executing the old image again, in the same process: it finds its own state and goes
//! on. A handler does that for the signals by which a program crashes, and [`GoBack::go`] for the failures that
//! the program notices itself.
//!
//! It happens once. The image that was gone back to does not arm anything, so two images that both crash do not
//! take turns; the second crash ends the process as if there were no handler. Against SIGKILL nothing helps.

use std::env;
use std::ffi::{CString, OsString, c_char, c_int};
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStringExt;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// The signals by which a program crashes. Abort is what a panic ends in.
const CRASHES: [Signal; 7] = [
    Signal::SIGSEGV,
    Signal::SIGABRT,
    Signal::SIGBUS,
    Signal::SIGILL,
    Signal::SIGFPE,
    Signal::SIGSYS,
    Signal::SIGTRAP,
];

/// The option that tells the image that is gone back to why.
const OPTION: &str = "--returned=";

/// Room for the reason, in bytes, its NUL included.
const REASON_BYTES_MAX: usize = 512;

/// The stack of the handler: it makes one system call.
const STACK_BYTES: usize = 64 * 1024;

/// All that an exec needs, laid out beforehand: a handler may not allocate.
struct Plan {
    image: RawFd,
    /// Ends in null, as does `envp`.
    argv: Vec<*const c_char>,
    envp: Vec<*const c_char>,
    /// Where in the second of the arguments the reason goes; REASON_BYTES_MAX bytes, all NUL.
    reason: *mut u8,
}

/// What a handler is to do; null if it is not to do anything.
static PLAN: AtomicPtr<Plan> = AtomicPtr::new(ptr::null_mut());

/// The armed way back. Dropping it disarms.
#[derive(Debug)]
pub struct GoBack {
    before: Vec<(Signal, SigAction)>,
    stack_before: libc::stack_t,
}

impl GoBack {
    /// From now on a crash executes `image` again, with the variables of this process, its name, and the two
    /// options that the image needs: `--returned=SIGNAL` and `--with-state-fd=STATE`. What else this process was
    /// called with may be what only the new program knows.
    ///
    /// # Errors
    /// Whatever the kernel says; nothing is armed then.
    pub fn arm(image: RawFd, state: RawFd) -> Result<Self, Errno> {
        let plan = Box::into_raw(Box::new(Plan::new(image, state)));
        let stack = Box::leak(vec![0_u8; STACK_BYTES].into_boxed_slice());
        let wanted = libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: STACK_BYTES };
        let mut armed = Self {
            before: Vec::new(),
            stack_before: libc::stack_t { ss_sp: ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 },
        };
        // SAFETY: the stack is leaked memory of its own, and where the old one is written to is live.
        Errno::result(unsafe { libc::sigaltstack(&raw const wanted, &raw mut armed.stack_before) })?;
        PLAN.store(plan, Ordering::SeqCst);
        // SA_RESETHAND: a crash in the handler ends the process. SA_NODEFER: the signal is not blocked in the
        // handler, and so not in the image that it executes.
        let flags = SaFlags::SA_ONSTACK | SaFlags::SA_RESETHAND | SaFlags::SA_NODEFER;
        let action = SigAction::new(SigHandler::Handler(on_crash), flags, SigSet::empty());
        for signal in CRASHES {
            // SAFETY: the handler does nothing but what a handler may: atomics, and system calls on memory that
            // stays allocated for the life of the process.
            let before = unsafe { sigaction(signal, &action) }?;
            armed.before.push((signal, before));
        }
        Ok(armed)
    }

    /// Goes back now, and tells the image before why. Returns only if that cannot be executed.
    pub fn go(&self, why: &str) -> Errno {
        go_now(why)
    }
}

/// Goes back if a way back is armed; why not, if this returns.
pub fn go_now(why: &str) -> Errno {
    let plan = PLAN.swap(ptr::null_mut(), Ordering::SeqCst);
    // SAFETY: null, or made by `Box::into_raw` in `arm`; it is never freed, and by the swap it is ours alone.
    match unsafe { plan.as_ref() } {
        Some(plan) => plan.execute(why.as_bytes()),
        None => Errno::ENOENT,
    }
}

impl Drop for GoBack {
    fn drop(&mut self) {
        PLAN.store(ptr::null_mut(), Ordering::SeqCst);
        for (signal, before) in &self.before {
            // SAFETY: the disposition that was there before is as good as it was.
            let _ = unsafe { sigaction(*signal, before) };
        }
        // SAFETY: the stack that was there before; the one that is replaced is leaked, so a handler that runs on
        // it at this moment can finish.
        unsafe { libc::sigaltstack(&raw const self.stack_before, ptr::null_mut()) };
    }
}

impl Plan {
    /// Lays out arguments and variables. They are leaked, as the plan itself is: a handler may be at work on them
    /// at any time.
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
        Self { image, argv, envp, reason: reason.as_mut_ptr() }
    }

    /// Executes the image before; the errno if that fails. A handler calls it: it allocates nothing.
    fn execute(&self, why: &[u8]) -> Errno {
        let bytes = why.len().min(REASON_BYTES_MAX - 1);
        // SAFETY: `reason` has REASON_BYTES_MAX bytes, of which the last stays NUL; whoever took the plan out of
        // `PLAN`, which one can once, is the only one to write there.
        unsafe { ptr::copy_nonoverlapping(why.as_ptr(), self.reason, bytes) };
        let (argv, envp) = (self.argv.as_ptr(), self.envp.as_ptr());
        let (image, path, flags) = (self.image, c"".as_ptr(), libc::AT_EMPTY_PATH);
        // SAFETY: both arrays end in null, and their words are never freed and end in NUL.
        unsafe { libc::syscall(libc::SYS_execveat, image, path, argv, envp, flags) };
        Errno::last()
    }
}

/// Carries the plan out, if nobody has yet. What is left to do after a failure is to crash: the disposition of the
/// signal is the default again.
extern "C" fn on_crash(signal: c_int) {
    let plan = PLAN.swap(ptr::null_mut(), Ordering::SeqCst);
    // SAFETY: null, or made by `Box::into_raw` in `arm`; it is never freed, and by the swap it is ours alone.
    let Some(plan) = (unsafe { plan.as_ref() }) else { return };
    let name =
        CRASHES.iter().find(|crash| **crash as c_int == signal).map_or("a signal", |crash| crash.as_str());
    plan.execute(name.as_bytes());
}

fn leak(word: OsString) -> *const c_char {
    // No word of a process has a NUL in it.
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

    /// Runs the test `name` in a process of its own, with `how` to crash there, and tells how that ended.
    fn crash(name: &str, how: &str) -> Output {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args([&format!("sys::go_back::tests::{name}"), "--exact", "--nocapture", "--test-threads=1"]);
        command.env(MARKER, how).env("KEPT", "as it was").output().unwrap()
    }

    /// In the process that is to crash: arms with a shell as the image before, which tells its arguments.
    fn armed() -> GoBack {
        let image = File::open("/bin/sh").unwrap();
        let armed = GoBack::arm(image.as_raw_fd(), 0).unwrap();
        std::mem::forget(image);
        armed
    }

    #[test]
    fn a_crash_executes_the_image_before_and_tells_it_the_signal() {
        let name = "a_crash_executes_the_image_before_and_tells_it_the_signal";
        if let Ok(how) = env::var(MARKER) {
            let _armed = armed();
            let signal: Signal = how.parse().unwrap();
            nix::sys::signal::raise(signal).unwrap();
            unreachable!("{how} was survived");
        }
        for signal in CRASHES {
            // The shell does not know the option, says so, and ends with 2.
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
    fn when_disarmed_a_crash_is_a_crash() {
        if env::var_os(MARKER).is_some() {
            drop(armed());
            std::process::abort();
        }
        let output = crash("when_disarmed_a_crash_is_a_crash", "abort");
        assert_eq!(output.status.signal(), Some(libc::SIGABRT));
    }

    #[test]
    fn one_may_go_back_without_a_crash_and_learns_if_that_fails() {
        if env::var_os(MARKER).is_some() {
            let armed = GoBack::arm(12_345, 0).unwrap();
            assert_eq!(armed.go("there is no such descriptor"), Errno::EBADF);
            assert_eq!(armed.go("once is enough"), Errno::ENOENT);
            drop(armed);
            let _never_returns = self::armed().go("because");
            unreachable!();
        }
        let output = crash("one_may_go_back_without_a_crash_and_learns_if_that_fails", "go");
        assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
