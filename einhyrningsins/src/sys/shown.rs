//! The program that a process executes, as `/proc` shows it.

use std::fs;
use std::os::unix::ffi::OsStrExt;

use einhorn_proto::visible_line;
use nix::unistd::Pid;

/// What the kernel appends to the path of a program whose file was removed or replaced.
const DELETED: &[u8] = b" (deleted)";

/// The name of the file that a process executes; `None` if it has gone, or belongs to somebody else.
///
/// # Source
/// `proc_pid_exe(5)`, which only the same user and root may read.
#[must_use]
pub fn program_name(pid: Pid) -> Option<String> {
    let path = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let name = path.file_name()?.as_bytes();
    let name = String::from_utf8_lossy(name.strip_suffix(DELETED).unwrap_or(name));
    Some(visible_line(&name).into_owned())
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_shows_its_program_also_when_the_file_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("server");
        fs::copy("/bin/sh", &program).unwrap();
        let mut child =
            Command::new(&program).args(["-c", "read line"]).stdin(Stdio::piped()).spawn().unwrap();
        let pid = Pid::from_raw(child.id() as i32);
        assert_eq!(program_name(pid).as_deref(), Some("server"));
        fs::remove_file(&program).unwrap();
        assert_eq!(program_name(pid).as_deref(), Some("server"), "with its file removed");
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(program_name(pid), None);
    }
}
