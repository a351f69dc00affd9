//! The factory of workers: keeps releases, listeners and options, and spawns workers from them. It does not
//! decide when.
//!
//! The master's loop calls it to carry out `Spawn`, `ResolveRelease` and `ForgetRelease`; it calls
//! `sys::spawn`.

use std::borrow::Cow;
use std::cell::RefCell;
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::mem::replace;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use einhorn_proto::{IN_BACKGROUND, UpgradeReport};
use einhyrningsins_supervisor::{Generation, SlotNumber};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{Pid, pipe2};
use serde::{Deserialize, Serialize};

use crate::release::{Attributes, ProcessOptions, Recipe, Release, ReleaseError, variable};
use crate::sys::account::Credentials;
use crate::sys::ancillary::refuse_rights;
use crate::sys::journal::{STREAMS_MAX, Stream};
use crate::sys::process::OpenFilesLimit;
use crate::sys::spawn::{FIRST_SOCKET, SpawnError, SpawnSpec, Spawner, Stage};

mod convention;
mod hint;
mod status;

use convention::LastSeen;
pub(crate) use convention::Shown;
pub(crate) use hint::spawn_hint;

/// Everything that a spawn needs, except the spawner.
#[derive(Debug, Serialize, Deserialize)]
pub struct Workers {
    /// The options that releases are resolved from.
    pub recipe: Recipe,
    /// Those that a worker may still be made of: two or three.
    releases: Vec<Release>,
    pub(crate) options: WorkerOptions,
    #[serde(skip)]
    last_seen: RefCell<Option<LastSeen>>,
}

/// What workers are made with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WorkerOptions {
    /// Those of the next release. Each release keeps its own.
    #[serde(flatten)]
    pub attributes: Attributes,
    /// The limit on open files, if the master has raised its own.
    pub open_files: Option<OpenFilesLimit>,
    /// How often a worker must ping after its first ping.
    #[serde(default)]
    pub ping_timeout: Option<Duration>,
    /// Descriptors that a worker gets at the same numbers. The master holds them.
    #[serde(default)]
    pub pass_fds: Vec<RawFd>,
}

/// What a worker is spawned for.
#[derive(Debug)]
pub(crate) enum Place {
    /// This slot.
    Slot(SlotNumber),
    /// The check of its release.
    Trial {
        /// The variables that describe its sockets, in place of those of its release.
        exports: Vec<(String, String)>,
    },
}

/// A spawn that worked.
#[derive(Debug)]
pub(crate) struct Spawned {
    pub(crate) pid: Pid,
    /// Our end of its connection to the control socket.
    pub(crate) control: Option<UnixStream>,
    /// Our end of its standard error; does not block.
    pub(crate) stderr: Option<OwnedFd>,
    /// Why it writes to the master's standard output and error, if it was to write to journald.
    pub(crate) no_stream: Option<io::Error>,
}

/// A generation cannot have workers.
#[derive(Debug)]
pub enum ResolveError {
    /// Its release could not be resolved.
    Release(ReleaseError),
    /// A spawn of it would fail.
    Process(SpawnError),
}

impl ResolveError {
    /// The error and its causes on one line.
    pub fn in_words(&self) -> String {
        match self {
            Self::Release(error) => error.in_words(),
            Self::Process(error) => error.to_string(),
        }
    }

    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Release(error) => error.hint(),
            Self::Process(error) => spawn_hint(error),
        }
    }
}

impl From<ReleaseError> for ResolveError {
    fn from(error: ReleaseError) -> Self {
        Self::Release(error)
    }
}

impl From<SpawnError> for ResolveError {
    fn from(error: SpawnError) -> Self {
        Self::Process(error)
    }
}

/// A spawn that failed.
#[derive(Debug)]
pub(crate) struct SpawnFailure {
    pub(crate) reason: String,
    pub(crate) transient: bool,
}

impl Workers {
    /// Prepares for spawning.
    pub fn new(recipe: Recipe, options: WorkerOptions) -> Self {
        Self { recipe, releases: Vec::new(), options, last_seen: RefCell::default() }
    }

    /// Makes the next release of these. Returns what it would have been made of.
    pub(crate) fn exchange(&mut self, recipe: Recipe, attributes: Attributes) -> (Recipe, Attributes) {
        let before = replace(&mut self.options.attributes, attributes);
        for release in &mut self.releases {
            release.attributes.get_or_insert_with(|| before.clone());
        }
        (replace(&mut self.recipe, recipe), before)
    }

    /// Whether workers of `generation` may write to the file at the absolute `path`. Workers with the master's
    /// own user and groups may write what the master may.
    ///
    /// # Errors
    /// The error that such a worker gets from the kernel.
    pub fn may_write(&self, spawner: &mut Spawner, generation: Generation, path: &Path) -> io::Result<()> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        let release = self.release(generation).filter(|release| release.credentials.is_some());
        let Some(release) = release else { return Ok(()) };
        let spec = SpawnSpec { writes_to: Some(&path), ..self.spec(release, SlotNumber(0)) };
        match spawner.rehearse(&spec) {
            Err(SpawnError { stage: Stage::WritesTo, errno, .. }) => Err(errno.into()),
            _ => Ok(()),
        }
    }

    /// Looks up what `generation` runs, checks that a worker can be made of it, and keeps it until [`Self::forget`].
    /// Its workers get the variables in `exported`.
    pub fn resolve(
        &mut self,
        spawner: &mut Spawner,
        generation: Generation,
        mut exported: Vec<(String, String)>,
    ) -> Result<(), ResolveError> {
        exported.push(("EINHORN_GENERATION".to_owned(), generation.to_string()));
        let release = self.recipe.resolve(generation, &exported, &self.options.attributes)?;
        self.rehearse(spawner, &release)?;
        self.forget(generation);
        self.releases.push(release);
        Ok(())
    }

    /// The newest generation that runs the same as `generation`, if a deploy would have moved a link that leads there.
    pub fn same_as(&self, generation: Generation) -> Option<Generation> {
        let release = self.release(generation)?;
        let before = self.releases.iter().filter(|other| other.generation < generation);
        before.filter(|other| release.is_unmoved_since(other)).map(|other| other.generation).max()
    }

    /// Checks that a worker of `release` can be spawned.
    fn rehearse(&self, spawner: &mut Spawner, release: &Release) -> Result<(), SpawnError> {
        let Attributes { nice, process, .. } = self.attributes(release);
        if release.credentials.is_none() && nice.is_none() && *process == ProcessOptions::default() {
            return Ok(());
        }
        match spawner.rehearse(&self.spec(release, SlotNumber(0))) {
            // The shortage may be over when there is something to spawn.
            Err(error) if error.is_transient() => Ok(()),
            result => result,
        }
    }

    /// Adds to the report of a rollout what to do about what went wrong with a worker.
    pub(crate) fn explain(&self, report: &mut UpgradeReport, stops_groups: bool) {
        if report.left.is_serving() && !stops_groups {
            let hint = "with --stop-group, stop signals go to everything in a worker's process group; or let the worker's \
                        script end in \"exec SERVER\"";
            report.hint = Some(hint.to_owned());
        }
        let Some(death) = &report.death else { return };
        let is_mute = death.pid.is_some() && death.stderr_tail.is_empty();
        if death.may_be_in_background() {
            report.hint = Some(IN_BACKGROUND.to_owned());
        } else if !self.attributes_of(Generation(death.generation)).capture_startup && is_mute {
            let hint = "with --capture-startup, the master shows what a worker wrote before it died";
            report.hint = Some(hint.to_owned());
        }
    }

    pub(crate) fn forget(&mut self, generation: Generation) {
        self.releases.retain(|release| release.generation != generation);
    }

    /// Spawns a worker, one of `live`.
    pub(crate) fn spawn(
        &self,
        spawner: &mut Spawner,
        place: &Place,
        index: u32,
        generation: Generation,
        sockets: &[BorrowedFd<'_>],
        live: usize,
    ) -> Result<Spawned, SpawnFailure> {
        let Some(release) = self.release(generation) else {
            // The supervisor only uses releases that were reported to it, so this is a bug.
            let reason = format!("the release of generation {generation} is not known");
            return Err(SpawnFailure { reason, transient: false });
        };
        let attributes = self.attributes(release);
        let control =
            attributes.control_as_fd.then(connection).transpose().map_err(|error| SpawnFailure {
                reason: format!("cannot create its connection to the control socket: {error}"),
                transient: true,
            })?;
        let is_captured = attributes.capture_startup || matches!(place, Place::Trial { .. });
        let stderr = is_captured.then(pipe_for_reading).transpose().map_err(|errno| SpawnFailure {
            reason: format!("cannot create a pipe for its standard error: {}", io::Error::from(errno)),
            transient: true,
        })?;
        let mut worker_env = vec![number("EINHORN_CHILD_INDEX", index)];
        let (slot, mut env) = match place {
            Place::Slot(slot) => {
                worker_env.push(number("EINHORN_SLOT", slot.0));
                (Some(*slot), Cow::Borrowed(&release.env))
            }
            Place::Trial { exports } => {
                worker_env.push(number("EINHORN_TRIAL", 1_u32));
                (None, Cow::Owned(replaced(&release.env, exports)))
            }
        };
        let stream = attributes.log.identifier(slot).map(|identifier| match live {
            ..=STREAMS_MAX => Stream::open(&identifier),
            _ => Err(io::Error::other(format!("{STREAMS_MAX} workers do already"))),
        });
        let (stream, no_stream) = match stream.transpose() {
            Ok(stream) => (stream, None),
            Err(error) => (None, Some(error)),
        };
        if let Some(stream) = &stream {
            let name = ("JOURNAL_STREAM".to_owned(), stream.name.clone());
            env = Cow::Owned(replaced(&env, &[name]));
        }
        let stream = stream.as_ref().map(|stream| stream.socket.as_fd());
        if control.is_some() {
            let fd = FIRST_SOCKET.unsigned_abs() + u32::try_from(sockets.len()).unwrap_or(0);
            worker_env.push(number("EINHORN_SOCK_FD", fd));
        }
        let mut pid_variables = Vec::new();
        pid_variables.extend((!sockets.is_empty()).then_some("LISTEN_PID"));
        if let Some(timeout) = self.options.ping_timeout {
            let usec = u64::try_from(timeout.as_micros()).unwrap_or(u64::MAX);
            worker_env.push(number("WATCHDOG_USEC", usec));
            pid_variables.push("WATCHDOG_PID");
        }
        let spec = SpawnSpec {
            env: &env,
            worker_env: &worker_env,
            pid_variables: &pid_variables,
            sockets,
            control: control.as_ref().map(|(_, theirs)| theirs.as_fd()),
            stdout: stream,
            stderr: stderr.as_ref().map(|(_, theirs)| theirs.as_fd()).or(stream),
            ..self.spec(release, slot.unwrap_or(SlotNumber(0)))
        };
        match spawner.spawn(&spec) {
            Ok(pid) => Ok(Spawned {
                pid,
                control: control.map(|(ours, _)| ours),
                stderr: stderr.map(|(ours, _)| ours),
                no_stream,
            }),
            Err(error) => Err(SpawnFailure { reason: error.to_string(), transient: error.is_transient() }),
        }
    }

    /// The credentials of `generation`, if they differ from the master's.
    pub fn credentials(&self, generation: Generation) -> Option<&Credentials> {
        self.release(generation)?.credentials.as_ref()
    }

    /// Whether no other release that is kept has workers of the same user and groups as `generation`.
    pub(crate) fn has_new_credentials(&self, generation: Generation) -> bool {
        let others = self.releases.iter().filter(|release| release.generation != generation);
        !others.into_iter().any(|release| release.credentials.as_ref() == self.credentials(generation))
    }

    /// The name of the release of `generation`, while it is kept.
    pub(crate) fn release_name(&self, generation: Generation) -> Option<String> {
        self.release(generation)?.name()
    }

    /// The release of `generation`, while it is kept.
    pub(crate) fn release(&self, generation: Generation) -> Option<&Release> {
        self.releases.iter().find(|release| release.generation == generation)
    }

    /// What workers of `release` are made with.
    pub(crate) fn attributes<'a>(&'a self, release: &'a Release) -> &'a Attributes {
        release.attributes.as_ref().unwrap_or(&self.options.attributes)
    }

    /// The same of `generation`; once its release is not kept any more, what the next one gets.
    pub(crate) fn attributes_of(&self, generation: Generation) -> &Attributes {
        self.release(generation).map_or(&self.options.attributes, |release| self.attributes(release))
    }

    /// What all spawns of `release` in `slot` have in common: everything except sockets, control connection, standard error
    /// and variables of the single worker.
    pub(crate) fn spec<'a>(&'a self, release: &'a Release, slot: SlotNumber) -> SpawnSpec<'a> {
        let Attributes { nice, parent_death_signal, process, .. } = self.attributes(release);
        SpawnSpec {
            directory: release.directory.as_ref().map(AsFd::as_fd),
            executable: release.program.executable(),
            nice: *nice,
            umask: process.umask(),
            passed: &self.options.pass_fds,
            open_files: self.options.open_files,
            limits: &process.limits,
            oom_score_adj: process.oom_score_adj,
            cpus: process.cpus_of(slot),
            credentials: release.credentials.as_ref(),
            no_new_privileges: process.no_new_privileges,
            parent_death_signal: *parent_death_signal,
            ..SpawnSpec::new(release.program.path(), &release.argv, &release.env)
        }
    }
}

/// The variables of `env`, with those of `exports` in place of others of the same name. A name or value with a NUL byte, which
/// no export has, would be left out.
fn replaced(env: &[CString], exports: &[(String, String)]) -> Vec<CString> {
    let is_kept = |variable: &&CString| {
        let name = variable.to_bytes().split(|byte| *byte == b'=').next();
        !exports.iter().any(|(exported, _)| Some(exported.as_bytes()) == name)
    };
    let exported = exports.iter().filter_map(|(name, value)| variable(name.into(), OsStr::new(value)).ok());
    env.iter().filter(is_kept).cloned().chain(exported).collect()
}

/// A connection for a worker: our end, which does not block, and the worker's.
fn connection() -> io::Result<(UnixStream, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    // An older kernel lets them pass, and they are closed.
    let _ = refuse_rights(&ours);
    ours.set_nonblocking(true)?;
    Ok((ours, theirs))
}

/// A pipe for a child's output: our end, which does not block, and the child's, which does, as programs expect.
pub(crate) fn pipe_for_reading() -> Result<(OwnedFd, OwnedFd), Errno> {
    let (ours, theirs) = pipe2(OFlag::O_CLOEXEC)?;
    fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((ours, theirs))
}

fn number(name: &str, value: impl Into<u64>) -> CString {
    // Numbers and the names above contain no NUL, the only possible error.
    variable(OsString::from(name), OsStr::new(&value.into().to_string())).unwrap_or_default()
}

#[cfg(test)]
mod tests;
