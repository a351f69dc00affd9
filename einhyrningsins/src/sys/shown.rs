//! What `/proc` shows of a process: the program that it runs, and the signals that it catches.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;

use einhorn_proto::visible_line;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

/// What the kernel appends to the path of a program whose file was removed or replaced.
const DELETED: &[u8] = b" (deleted)";

/// The room for a file of a process; its status has about 1,500 bytes.
const FILE_MAX: usize = 4096;

/// Signals, as a bit for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignalMask(u64);

impl SignalMask {
    #[must_use]
    pub fn contains(self, signal: Signal) -> bool {
        self.0 & (1 << (signal as i32 - 1)) != 0
    }
}

/// The signals for which a process has a handler.
///
/// # Errors
/// ENOENT or ESRCH if it has gone.
///
/// # Source
/// `SigCgt` in `proc_pid_status(5)`: hexadecimal, the lowest bit is signal 1. Everybody may read it, unless `/proc` is
/// mounted with `hidepid`.
pub fn caught_signals(pid: Pid) -> io::Result<SignalMask> {
    signals_in(pid, &["SigCgt"])
}

/// The signals that a process catches, ignores, or blocks to read them in another way: they do it no harm.
///
/// # Errors
/// As [`caught_signals`].
///
/// # Source
/// `SigIgn` and `SigBlk` beside `SigCgt`. `SigBlk` is the main thread's.
pub fn expected_signals(pid: Pid) -> io::Result<SignalMask> {
    signals_in(pid, &["SigCgt", "SigIgn", "SigBlk"])
}

/// Reads a small file of a process. The kernel gives all of it at once: it is made when it is read.
fn read<'a>(pid: Pid, name: &str, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
    let length = File::open(format!("/proc/{pid}/{name}"))?.read(buffer)?;
    Ok(&buffer[..length])
}

/// All signals of these masks.
fn signals_in(pid: Pid, masks: &[&str]) -> io::Result<SignalMask> {
    let mut buffer = [0; FILE_MAX];
    let status = read(pid, "status", &mut buffer)?;
    let mask = |name: &&str| {
        let mut lines = status.split(|byte| *byte == b'\n');
        let mask = lines.find_map(|line| line.strip_prefix(name.as_bytes())?.strip_prefix(b":"))?;
        u64::from_str_radix(str::from_utf8(mask).ok()?.trim(), 16).ok()
    };
    let masks: Option<Vec<_>> = masks.iter().map(mask).collect();
    let masks = masks.ok_or_else(|| io::Error::other("its status lacks a mask of signals"))?;
    Ok(SignalMask(masks.into_iter().fold(0, |all, mask| all | mask)))
}

/// The name of the file that a process executes; `None` if it has gone, or belongs to somebody else.
///
/// # Source
/// `proc_pid_exe(5)`, which only the same user and root may read.
#[must_use]
pub fn program_name(pid: Pid) -> Option<String> {
    let path = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let name = path.file_name()?.as_bytes();
    Some(name_of(name.strip_suffix(DELETED).unwrap_or(name)))
}

/// The name that a process has given itself or, for a script, the script's; `None` if it has gone.
///
/// # Source
/// `proc_pid_comm(5)`: at most 15 bytes, which everybody may read.
#[must_use]
pub fn own_name(pid: Pid) -> Option<String> {
    let mut buffer = [0; FILE_MAX];
    let name = read(pid, "comm", &mut buffer).ok()?;
    Some(name_of(name.trim_ascii_end()))
}

/// A name that a process, or who made its file, has chosen: it may have any character.
fn name_of(name: &[u8]) -> String {
    visible_line(&String::from_utf8_lossy(name)).into_owned()
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_shows_its_names_and_its_handlers() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("server");
        fs::copy("/bin/sh", &program).unwrap();
        let script = "trap : USR2; trap '' HUP; echo ready; read line";
        let mut child = Command::new(&program);
        child.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = child.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let pid = Pid::from_raw(child.id() as i32);
        let caught = caught_signals(pid).unwrap();
        assert!(caught.contains(Signal::SIGUSR2) && !caught.contains(Signal::SIGTERM), "{caught:?}");
        let expected = expected_signals(pid).unwrap();
        let of_interest = [Signal::SIGUSR2, Signal::SIGHUP, Signal::SIGTERM, Signal::SIGUSR1];
        assert_eq!(of_interest.map(|signal| expected.contains(signal)), [true, true, false, false]);
        let names = |pid| [program_name(pid), own_name(pid)];
        assert_eq!(names(pid), ["server", "server"].map(|name| Some(name.to_owned())));
        fs::remove_file(&program).unwrap();
        assert_eq!(program_name(pid).as_deref(), Some("server"), "with its file removed");
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(names(pid), [None, None]);
        assert!(caught_signals(pid).is_err());
    }
}
