//! The start of a job: finds its program, builds its environment, and spawns its leader.

use std::env;
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, Seek};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use einhyrningsins_supervisor::{Generation, SlotNumber};
use nix::fcntl::AT_FDCWD;
use nix::unistd::Pid;

use super::{JOBS_MAX, JobSpec, RunsAs};
use crate::cli::CommandWords;
use crate::release::{Program, Release, ReleaseError, c_string, is_masters_own, variable};
use crate::sys::memory_file::sealed_file;
use crate::sys::spawn::{SpawnError, SpawnSpec, Spawner};
use crate::workers::Workers;

/// A job cannot run. The text is complete.
#[derive(Debug, thiserror::Error)]
pub(in crate::master) enum StartError {
    #[error("{JOBS_MAX} other jobs have not ended yet")]
    TooMany,
    #[error("{command}: {fault}")]
    Command { command: String, fault: String },
    #[error("the release of generation {0} is not known")]
    Generation(Generation),
    #[error("{}", .0.in_words())]
    Program(ReleaseError),
    #[error("cannot make a file for its standard input: {0}")]
    Input(io::Error),
    #[error("cannot make a pipe for its output: {0}")]
    Output(io::Error),
    #[error(transparent)]
    Spawn(SpawnError),
}

impl From<ReleaseError> for StartError {
    fn from(error: ReleaseError) -> Self {
        Self::Program(error)
    }
}

/// Spawns the leader of a job, which writes to `output`.
pub(super) fn launch(
    spawner: &mut Spawner,
    workers: &Workers,
    spec: &JobSpec<'_>,
    output: BorrowedFd<'_>,
) -> Result<Pid, StartError> {
    let words = spec.command.parse::<CommandWords>();
    let CommandWords(words) =
        words.map_err(|fault| StartError::Command { command: spec.command.to_owned(), fault })?;
    let release = match spec.runs_as {
        RunsAs::Master => None,
        RunsAs::Worker(generation) => {
            Some(workers.release(generation).ok_or(StartError::Generation(generation))?)
        }
    };
    let env = environment(release, spec.env)?;
    let program = find(words.first().map_or(OsStr::new(""), OsString::as_os_str), release, &env)?;
    let argv = words.into_iter().map(c_string).collect::<Result<Vec<_>, _>>()?;
    let stdin = input(spec.stdin).map_err(StartError::Input)?;
    let as_master = || SpawnSpec {
        open_files: workers.options.open_files,
        ..SpawnSpec::new(program.path(), &argv, &env)
    };
    let spec = SpawnSpec {
        program: program.path(),
        executable: program.executable(),
        argv: &argv,
        env: &env,
        stdin: Some(stdin.as_fd()),
        stdout: Some(output),
        stderr: Some(output),
        // What belongs to a slot, or is the master's.
        cpus: None,
        passed: &[],
        ..release.map_or_else(as_master, |release| workers.spec(release, SlotNumber(0)))
    };
    spawner.spawn(&spec).map_err(StartError::Spawn)
}

/// The environment of the release or of the master, without the variables that describe sockets, of which a job has none;
/// then `more`.
fn environment(release: Option<&Release>, more: &[(String, String)]) -> Result<Vec<CString>, ReleaseError> {
    let inherited = match release {
        Some(release) => release.env.clone(),
        None => env::vars_os().map(|(name, value)| variable(name, &value)).collect::<Result<_, _>>()?,
    };
    let is_kept = |variable: &CString| {
        let name = variable.to_bytes().split(|byte| *byte == b'=').next().unwrap_or_default();
        let is_replaced = more.iter().any(|(other, _)| other.as_bytes() == name);
        !is_replaced && !is_masters_own(&String::from_utf8_lossy(name))
    };
    let kept = inherited.into_iter().filter(is_kept).map(Ok);
    kept.chain(more.iter().map(|(name, value)| variable(name.into(), OsStr::new(value)))).collect()
}

/// Finds the program as the job would.
fn find(name: &OsStr, release: Option<&Release>, env: &[CString]) -> Result<Program, ReleaseError> {
    let path = env.iter().find_map(|variable| variable.to_bytes().strip_prefix(b"PATH="));
    let directory = release.and_then(|release| release.directory.as_ref()).map_or(AT_FDCWD, AsFd::as_fd);
    let directory_path = match release {
        Some(release) => release.directory_path.clone(),
        None => env::current_dir().unwrap_or_else(|_| PathBuf::from(".")),
    };
    Program::find_in(path.map(OsStr::from_bytes), name, directory, &directory_path)
}

/// A file to read `content` from. Without any, it needs no memory file, which not every seccomp filter permits.
fn input(content: &[u8]) -> io::Result<File> {
    if content.is_empty()
        && let Ok(nothing) = File::open("/dev/null")
    {
        return Ok(nothing);
    }
    let mut file = File::from(sealed_file("input", content)?);
    file.rewind()?;
    Ok(file)
}
