//! The report of a check: which program it has become in the end, and in which surroundings. If the command is a script
//! that sets these for the program that it executes, the master executes that program by itself, so that no shell runs in
//! its process.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::{fs, io};

use nix::fcntl::open;
use nix::sys::stat::{Mode, fstat, stat};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::{DIRECTORY, c_strings};
use crate::forms;
use crate::release::ProgramFile;
use crate::sys::attributes::Attributes;
use crate::sys::inherit::Inherited;
use crate::sys::spawn::FIRST_SOCKET;
use crate::sys::surroundings::Surroundings;

/// The options of a check, in its command line: its state is at the first descriptor of a worker.
pub(super) const CHECK_OPTIONS: [&str; 3] = ["--upgrade-check", "--with-state-fd", "3"];

const _: () = assert!(FIRST_SOCKET == 3);

/// What a program reports that has passed its check.
///
/// An older master reads it too. So a new field would not be heeded; what else a script may change goes into `others`, in
/// which an older master finds a name that it does not know, and executes the script.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Report {
    program: ProgramFile,
    #[serde(with = "forms::written")]
    argv: Vec<CString>,
    surroundings: Surroundings,
    /// Device and inode of the directory.
    directory: (u64, u64),
    others: Attributes,
}

/// The program that a check has become, to be executed in the same way.
#[derive(Debug)]
pub(super) struct Proven {
    pub(super) file: ProgramFile,
    pub(super) path: CString,
    pub(super) directory: OwnedFd,
    pub(super) surroundings: Surroundings,
    /// The command line of the check.
    argv: Vec<CString>,
}

/// What a check was given.
#[derive(Debug)]
pub(super) struct Given<'a> {
    pub(super) environment: &'a [CString],
    pub(super) stderr: &'a fs::File,
    /// Its process.
    pub(super) pid: Pid,
}

impl Report {
    /// That of this process; `None` if it runs the file that was given, by device and inode. `inherited` are its descriptors
    /// beside the standard ones and the state.
    ///
    /// # Errors
    /// Without `/proc`.
    pub(super) fn unless(given: (u64, u64), inherited: Inherited) -> io::Result<Option<Self>> {
        let program = ProgramFile::running()?;
        if (program.device, program.inode) == given {
            return Ok(None);
        }
        let mut others = Attributes::own();
        let left = inherited.unclaimed();
        if !left.is_empty() {
            others.add("open descriptors", format!("{left:?}"));
        }
        let line = fs::read("/proc/self/cmdline")?;
        let words = line.split_inclusive(|byte| *byte == 0);
        let directory = stat(".")?;
        Ok(Some(Self {
            program,
            argv: words.filter_map(|word| CStr::from_bytes_with_nul(word).ok()).map(CStr::to_owned).collect(),
            surroundings: Surroundings::own(),
            directory: (directory.st_dev, directory.st_ino),
            others,
        }))
    }

    /// What to execute directly.
    ///
    /// # Errors
    /// Why the command must be executed again instead.
    pub(super) fn proven(self, given: &Given<'_>) -> Result<Proven, String> {
        let Self { program, argv, surroundings, directory, others } = self;
        let mut own = Attributes::own();
        own.add_standard_error(given.stderr);
        let differences = others.differences(&own);
        if !differences.is_empty() {
            return Err(format!("it changes the {}", differences.join(", the ")));
        }
        if with_options(&argv, []).is_none() {
            return Err("it does not pass its arguments on as they are".to_owned());
        }
        let set = surroundings.environment.iter().filter(|variable| !given.environment.contains(variable));
        if let Some(name) = set.filter_map(|variable| names_process(variable, given.pid)).next() {
            return Err(format!("it sets {name} to the number of its process"));
        }
        let path = surroundings.directory.as_deref().unwrap_or(Path::new(""));
        let opened = open(path, DIRECTORY, Mode::empty()).ok();
        let is_same = |opened: &OwnedFd| {
            fstat(opened.as_fd()).is_ok_and(|found| (found.st_dev, found.st_ino) == directory)
        };
        let Some(directory) = opened.filter(is_same) else {
            return Err("the master cannot open the directory that it changes to".to_owned());
        };
        let path = CString::new(program.path.as_os_str().as_bytes()).unwrap_or_default();
        Ok(Proven { file: program, path, directory, surroundings, argv })
    }
}

impl Proven {
    /// The command line for the state in `fd`.
    pub(super) fn arguments(&self, fd: RawFd) -> anyhow::Result<Vec<CString>> {
        let options = c_strings(["--with-state-fd".into(), fd.to_string().into()].into_iter())?;
        Ok(with_options(&self.argv, options).unwrap_or_default())
    }
}

/// The command line of a check, with other options.
fn with_options(argv: &[CString], options: impl IntoIterator<Item = CString>) -> Option<Vec<CString>> {
    let is_options = |words: &[CString]| {
        words.iter().zip(CHECK_OPTIONS).all(|(word, option)| word.to_bytes() == option.as_bytes())
    };
    let at = argv.windows(CHECK_OPTIONS.len()).position(is_options)?;
    let (before, rest) = (argv[..at].iter().cloned(), argv[at + CHECK_OPTIONS.len()..].iter().cloned());
    Some(before.chain(options).chain(rest).collect())
}

/// The name of a variable that has the number of this process in its value: in the master, it would be another one.
fn names_process(variable: &CString, pid: Pid) -> Option<String> {
    let text = variable.to_string_lossy();
    let (name, value) = text.split_once('=')?;
    let mut numbers = value.split(|c: char| !c.is_ascii_digit());
    numbers.any(|number| number == pid.to_string()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(texts: &[&str]) -> Vec<CString> {
        texts.iter().map(|text| CString::new(*text).unwrap()).collect()
    }

    /// A report of this process, as if it were the check that a script has become.
    fn report(edit: impl FnOnce(&mut Report)) -> Report {
        let mut report = Report::unless((0, 0), Inherited::default()).unwrap().unwrap();
        report.argv = strings(&["/opt/e", "--upgrade-check", "--with-state-fd", "3", "-n", "2"]);
        edit(&mut report);
        report
    }

    /// What the master makes of a report, as it was written and read.
    fn judge(report: &Report) -> Result<Proven, String> {
        let stderr = fs::File::from(io::stderr().as_fd().try_clone_to_owned().unwrap());
        let environment = strings(&["GIVEN=4711"]);
        let given = Given { environment: &environment, stderr: &stderr, pid: Pid::from_raw(4711) };
        let report: Report = serde_json::from_slice(&serde_json::to_vec(report).unwrap()).unwrap();
        report.proven(&given)
    }

    #[test]
    fn a_program_of_its_own_has_nothing_to_report() {
        let ProgramFile { device, inode, .. } = ProgramFile::running().unwrap();
        assert!(Report::unless((device, inode), Inherited::default()).unwrap().is_none());
    }

    #[test]
    fn what_a_script_sets_is_set_by_the_master() {
        let report = report(|report| report.surroundings.umask = 0o027);
        let proven = judge(&report).unwrap();
        assert_eq!(proven.surroundings, report.surroundings);
        assert_eq!(proven.file, report.program);
        assert!(proven.file.is_at(&proven.path));
        assert_eq!(proven.arguments(30).unwrap(), strings(&["/opt/e", "--with-state-fd", "30", "-n", "2"]));
    }

    #[test]
    fn what_the_master_does_not_set_is_named() {
        type Edit = fn(&mut Report);
        let cases: [(Edit, &str); 6] = [
            (|report| report.others.add("nice value", "99".into()), "it changes the nice value"),
            (|report| report.others.add("colour", "red".into()), "it changes the colour"),
            (|report| drop(report.argv.remove(1)), "it does not pass its arguments on as they are"),
            (
                |report| {
                    report.surroundings.environment =
                        strings(&["GIVEN=4711", "X=14711", "LOG=/run/a-4711.log"]);
                },
                "it sets LOG to the number of its process",
            ),
            (|report| report.directory.1 += 1, "the master cannot open the directory that it changes to"),
            (
                |report| report.surroundings.directory = None,
                "the master cannot open the directory that it changes to",
            ),
        ];
        for (edit, why) in cases {
            assert_eq!(judge(&report(edit)).map(drop), Err(why.to_owned()));
        }
    }
}
