//! The master's environment variables, read once and never changed.

use std::ffi::OsString;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use crate::sys::InheritedFd;
use crate::{BadVariable, NoSockets};

/// The first descriptor of systemd socket activation, `SD_LISTEN_FDS_START` in `sd_listen_fds(3)`.
const LISTEN_FDS_START: RawFd = 3;

/// More sockets than anybody passes; bounds the memory that a wrong number can take.
const SOCKETS_MAX: RawFd = 10_000;

/// The variables of the contract that do not begin with `EINHORN_`; [`scrub`] removes both sorts.
const FOREIGN_VARIABLES: [&str; 9] = [
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    "NOTIFY_SOCKET",
    "SERVER_STARTER_GENERATION",
    "SERVER_STARTER_PORT",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];

/// One inherited socket, as the variables describe it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HandedSocket {
    pub(crate) fd: InheritedFd,
    pub(crate) name: Option<String>,
    /// The value of `EINHORN_FD_FAMILY_n`, if set: a check against stale variables.
    pub(crate) family: Option<String>,
}

/// The parsed variables.
#[derive(Debug)]
pub(crate) struct Environment {
    pub(crate) sockets: Result<Vec<HandedSocket>, BadVariable>,
    /// Valid only if `sockets` is empty.
    pub(crate) no_sockets: NoSockets,
    pub(crate) master_pid: Result<Option<u32>, BadVariable>,
    /// Whether systemd, or whoever does as it does, passed sockets to this very process.
    is_activated: bool,
    pub(crate) control_fd: Result<Option<InheritedFd>, BadVariable>,
    pub(crate) control_path: Option<PathBuf>,
    pub(crate) notify_socket: Option<OsString>,
    index: Option<u64>,
    slot: Option<u64>,
    is_trial: bool,
    generation: Option<u64>,
    ping_timeout: Option<Duration>,
}

/// The environment of this process, read at the first call.
pub(crate) fn environment() -> &'static Environment {
    static ENVIRONMENT: OnceLock<Environment> = OnceLock::new();
    ENVIRONMENT.get_or_init(|| Environment::read(&|name| std::env::var_os(name), std::process::id()))
}

type Lookup<'a> = &'a dyn Fn(&str) -> Option<OsString>;

impl Environment {
    /// Reads the variables through `get`, for the process `pid`.
    fn read(get: Lookup<'_>, pid: u32) -> Self {
        let (sockets, no_sockets) = match read_sockets(get, pid) {
            Ok(Ok(sockets)) => (Ok(sockets), NoSockets::Unsupervised),
            Ok(Err(none)) => (Ok(Vec::new()), none),
            Err(bad) => (Err(bad), NoSockets::Unsupervised),
        };
        let watched =
            number::<u32>(get, "WATCHDOG_PID").is_ok_and(|watched| watched.is_none_or(|it| it == pid));
        let is_activated = get("LISTEN_FDS").is_some() && number(get, "LISTEN_PID") == Ok(Some(pid));
        Self {
            sockets,
            no_sockets,
            master_pid: number(get, "EINHORN_MASTER_PID"),
            is_activated,
            control_fd: number(get, "EINHORN_SOCK_FD").map(|fd| fd.map(InheritedFd::named_by_variable)),
            control_path: get("EINHORN_SOCK_PATH").filter(|path| !path.is_empty()).map(PathBuf::from),
            notify_socket: get("NOTIFY_SOCKET").filter(|path| !path.is_empty()),
            index: number(get, "EINHORN_CHILD_INDEX").ok().flatten(),
            slot: number(get, "EINHORN_SLOT").ok().flatten(),
            is_trial: number::<u8>(get, "EINHORN_TRIAL") == Ok(Some(1)),
            generation: number(get, "EINHORN_GENERATION").ok().flatten(),
            ping_timeout: number(get, "WATCHDOG_USEC")
                .ok()
                .flatten()
                .filter(|&usec| usec > 0 && watched)
                .map(Duration::from_micros),
        }
    }

    /// See [`is_supervised`]; `parent` is the parent of this process.
    fn is_supervised(&self, parent: u32) -> bool {
        match self.master_pid {
            Ok(Some(master)) => is_or_may_be(parent, master),
            Ok(None) => self.is_activated,
            Err(_) => false,
        }
    }
}

/// Whether `parent` is `master`, or may be: a process whose parent is outside its pid namespace sees 0 for it
/// (`getppid(2)`). The master asks the kernel who sends a message, so nothing depends on this guess.
pub(crate) fn is_or_may_be(parent: u32, master: u32) -> bool {
    parent == master || parent == 0
}

/// The sockets of the first source that has any, or why there are none.
fn read_sockets(get: Lookup<'_>, pid: u32) -> Result<Result<Vec<HandedSocket>, NoSockets>, BadVariable> {
    let mut none = NoSockets::Unsupervised;
    if let Some(count) = number::<usize>(get, "EINHORN_FD_COUNT")? {
        if count > 0 {
            return Ok(Ok(with_names(get, numbered_sockets(get, count)?)));
        }
        none = NoSockets::EmptyHanded { variable: "EINHORN_FD_COUNT" };
    }
    if let Some(list) = text(get, "EINHORN_FDS") {
        let mut sockets = Vec::new();
        for word in list.split_ascii_whitespace() {
            push_socket(&mut sockets, "EINHORN_FDS", word, None)?;
        }
        if !sockets.is_empty() {
            return Ok(Ok(with_names(get, sockets)));
        }
        none = NoSockets::EmptyHanded { variable: "EINHORN_FDS" };
    }
    if let Some(listen_pid) = text(get, "LISTEN_PID")
        && text(get, "LISTEN_FDS").is_some()
    {
        if listen_pid != pid.to_string() {
            return Ok(Err(match none {
                NoSockets::Unsupervised => NoSockets::OtherProcess { pid: listen_pid },
                none => none,
            }));
        }
        let count = number::<RawFd>(get, "LISTEN_FDS")?.unwrap_or(0);
        if !(0..=SOCKETS_MAX).contains(&count) {
            return Err(bad("LISTEN_FDS", &count.to_string(), "is not a number of sockets"));
        }
        if count > 0 {
            let fds = (LISTEN_FDS_START..LISTEN_FDS_START + count).map(InheritedFd::named_by_variable);
            let sockets = fds.map(|fd| HandedSocket { fd, name: None, family: None });
            return Ok(Ok(with_names(get, sockets.collect())));
        }
        if none == NoSockets::Unsupervised {
            none = NoSockets::EmptyHanded { variable: "LISTEN_FDS" };
        }
    }
    Ok(Err(none))
}

/// `EINHORN_FD_0` to `EINHORN_FD_(count - 1)`.
fn numbered_sockets(get: Lookup<'_>, count: usize) -> Result<Vec<HandedSocket>, BadVariable> {
    let mut sockets = Vec::new();
    for number in 0..count {
        let variable = format!("EINHORN_FD_{number}");
        let Some(word) = text(get, &variable) else {
            let why = format!("although EINHORN_FD_COUNT is {count}");
            return Err(BadVariable { name: variable, value: None, why });
        };
        let family = text(get, &format!("EINHORN_FD_FAMILY_{number}"));
        push_socket(&mut sockets, &variable, &word, family)?;
    }
    Ok(sockets)
}

fn push_socket(
    sockets: &mut Vec<HandedSocket>,
    variable: &str,
    word: &str,
    family: Option<String>,
) -> Result<(), BadVariable> {
    let fd = match word.parse::<RawFd>() {
        Ok(fd) if fd >= LISTEN_FDS_START => InheritedFd::named_by_variable(fd),
        Ok(_) => {
            return Err(bad(variable, word, "is not a descriptor above 2, where a worker's sockets begin"));
        }
        Err(_) => return Err(bad(variable, word, "is not a descriptor number")),
    };
    if sockets.iter().any(|socket| socket.fd == fd) {
        return Err(bad(variable, word, "names the same descriptor as an earlier variable"));
    }
    sockets.push(HandedSocket { fd, name: None, family });
    Ok(())
}

/// Adds the names of `LISTEN_FDNAMES`, if they belong to these sockets.
///
/// `LISTEN_PID` does not matter here: a master that sets `EINHORN_` variables sets the names too, and a worker
/// behind a wrapper that forks has both. The names must be for as many descriptors from 3 up as there are
/// sockets.
fn with_names(get: Lookup<'_>, mut sockets: Vec<HandedSocket>) -> Vec<HandedSocket> {
    let Some(names) = text(get, "LISTEN_FDNAMES") else { return sockets };
    let names: Vec<&str> = names.split(':').collect();
    let consecutive = (LISTEN_FDS_START..).zip(&sockets).all(|(fd, socket)| socket.fd.number() == fd);
    if consecutive && names.len() == sockets.len() {
        for (socket, name) in sockets.iter_mut().zip(names) {
            socket.name = (!name.is_empty()).then(|| name.to_owned());
        }
    }
    sockets
}

/// The text of a variable. Invalid UTF-8 cannot be a number or a name, and is shown lossily.
fn text(get: Lookup<'_>, name: &str) -> Option<String> {
    get(name).map(|value| value.to_string_lossy().trim().to_owned())
}

fn number<N: std::str::FromStr>(get: Lookup<'_>, name: &str) -> Result<Option<N>, BadVariable> {
    let Some(value) = text(get, name) else { return Ok(None) };
    value.parse().map(Some).map_err(|_| bad(name, &value, "is not a usable number"))
}

fn bad(name: &str, value: &str, why: &str) -> BadVariable {
    BadVariable { name: name.to_owned(), value: Some(value.to_owned()), why: why.to_owned() }
}

/// The pid of the master that started this process or one of its ancestors (`EINHORN_MASTER_PID`).
///
/// `None` without a master, under systemd's socket activation too. Descendants of a worker inherit the variable;
/// [`is_supervised`] tells whether this process is itself a worker.
///
/// ```
/// match einhorn_child::master_pid() {
///     Some(pid) => println!("the master is process {pid}"),
///     None => println!("no master"),
/// }
/// ```
#[must_use]
pub fn master_pid() -> Option<u32> {
    environment().master_pid.clone().ok().flatten()
}

/// Whether somebody holds sockets for this process and starts its successor: a master, or systemd.
///
/// - Under a master: `EINHORN_MASTER_PID` is the parent of this process. False in a child of a worker, and once
///   the master is gone. In a pid namespace of its own, a worker cannot see its parent, and counts as supervised.
/// - Under systemd's socket activation: `LISTEN_PID` is this process. Here [`master_pid`], [`slot`] and the like
///   return `None`.
///
/// It decides nothing in this crate: [`take`], [`inherit_or_bind`] and [`ack`] look at the variables that they
/// need, and work in both cases.
///
/// ```
/// if !einhorn_child::is_supervised() {
///     println!("no master here: I serve alone, and an upgrade means a restart");
/// }
/// ```
///
/// [`ack`]: crate::ack
/// [`take`]: crate::take
/// [`inherit_or_bind`]: crate::inherit_or_bind
#[must_use]
pub fn is_supervised() -> bool {
    environment().is_supervised(std::os::unix::process::parent_id())
}

/// This worker's index (`EINHORN_CHILD_INDEX`): the lowest number that no other live worker had when it was
/// spawned.
///
/// During an upgrade, while old and new workers run side by side, the index exceeds the number of workers. Use
/// it for what no two live workers may share, and [`slot`] for what a worker leaves to its successor.
///
/// ```
/// let log = format!("server.{}.log", einhorn_child::index().unwrap_or(0));
/// # assert!(log.ends_with(".log"));
/// ```
#[must_use]
pub fn index() -> Option<u64> {
    environment().index
}

/// Whether this is the trial worker of a check (`EINHORN_TRIAL`): its sockets are private, and it serves nobody.
///
/// It runs beside the workers that serve. Ask it before what must not happen twice, such as to take jobs from a queue:
///
/// ```
/// if !einhorn_child::is_trial() {
///     // start to take jobs
/// }
/// ```
///
/// # Source
/// einhyrningsins(1), CHECKS.
pub fn is_trial() -> bool {
    environment().is_trial
}

/// This worker's slot (`EINHORN_SLOT`): its position in the pool, from 0.
///
/// No two workers have the same one, except a worker and its successor for a while.
///
/// The slots may have gaps: when the pool shrinks, the slots of the youngest workers go, whichever they are, and a
/// slot whose workers keep failing is left empty. So a slot may be as large as the number of workers or larger,
/// and slot 0 need not exist. Do not use it as a share of work ("the n-th of N") or for a job that exactly one
/// worker must do; for a file or a port of the worker's own it is right.
///
/// ```
/// let cache = format!("cache-{}.db", einhorn_child::slot().unwrap_or(0));
/// # assert!(cache.ends_with(".db"));
/// ```
#[must_use]
pub fn slot() -> Option<u64> {
    environment().slot
}

/// This worker's generation (`EINHORN_GENERATION`). Each upgrade increases it by one.
///
/// ```
/// let name = match einhorn_child::generation() {
///     Some(generation) => format!("hello, generation {generation}"),
///     None => "hello".to_owned(),
/// };
/// # assert!(name.starts_with("hello"));
/// ```
#[must_use]
pub fn generation() -> Option<u64> {
    environment().generation
}

/// How long the master waits for a [`ping`](crate::ping) before it considers this worker hung (`WATCHDOG_USEC`,
/// as in `sd_watchdog_enabled(3)`); `None` if it expects none.
///
/// Ping two or three times within it, from the loop that does the work. A thread that does nothing but ping goes
/// on when the rest of the worker hangs, and the master never notices. `WATCHDOG_PID`, if set, must name this
/// process.
///
/// ```
/// use std::sync::mpsc::{RecvTimeoutError, channel};
/// use std::time::Duration;
///
/// let (sender, jobs) = channel::<String>();
/// # sender.send("a job".into())?;
/// # drop(sender);
/// let pause = einhorn_child::ping_timeout().map_or(Duration::MAX, |timeout| timeout / 3);
/// loop {
///     match jobs.recv_timeout(pause) {
///         Ok(job) => println!("{job}"),
///         Err(RecvTimeoutError::Timeout) => {}
///         Err(RecvTimeoutError::Disconnected) => break,
///     }
///     einhorn_child::ping()?; // after each job too: a queue that never empties is no reason to be silent
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn ping_timeout() -> Option<Duration> {
    environment().ping_timeout
}

/// Removes the master's variables from the environment of `command`, so that a program that this worker runs
/// does not mistake itself for the worker.
///
/// Descriptors need no such treatment: a [taken](crate::take) one is closed at an exec. This process's own
/// environment stays unchanged, because changing it is unsafe once there are threads.
///
/// ```
/// use std::process::Command;
///
/// let mut command = Command::new("env");
/// command.env("NOTIFY_SOCKET", "/run/somewhere");
/// let output = einhorn_child::scrub(&mut command).output()?;
/// assert!(!String::from_utf8_lossy(&output.stdout).contains("NOTIFY_SOCKET"));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn scrub(command: &mut Command) -> &mut Command {
    let is_einhorns = |name: &OsString| name.as_encoded_bytes().starts_with(b"EINHORN_");
    for name in std::env::vars_os().map(|(name, _)| name).filter(is_einhorns) {
        command.env_remove(name);
    }
    for name in FOREIGN_VARIABLES {
        command.env_remove(name);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    const PID: u32 = 4711;

    fn read(variables: &[(&str, &str)]) -> Environment {
        let get = |name: &str| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| OsString::from(value))
        };
        Environment::read(&get, PID)
    }

    fn descriptors(variables: &[(&str, &str)]) -> Vec<RawFd> {
        read(variables).sockets.unwrap().iter().map(|socket| socket.fd.number()).collect()
    }

    fn names(variables: &[(&str, &str)]) -> Vec<Option<String>> {
        read(variables).sockets.unwrap().into_iter().map(|socket| socket.name).collect()
    }

    #[test]
    fn the_first_source_that_has_sockets_wins() {
        let numbered = [("EINHORN_FD_COUNT", "2"), ("EINHORN_FD_0", "7"), ("EINHORN_FD_1", "5")];
        let listed = [("EINHORN_FDS", "8 9")];
        let listening = [("LISTEN_FDS", "2"), ("LISTEN_PID", "4711")];
        let all = [numbered.as_slice(), &listed, &listening].concat();
        assert_eq!(descriptors(&all), [7, 5]);
        assert_eq!(descriptors(&all[3..]), [8, 9]);
        assert_eq!(descriptors(&all[4..]), [3, 4]);
        let empty_first = [&[("EINHORN_FD_COUNT", "0"), ("EINHORN_FDS", "")], listening.as_slice()].concat();
        assert_eq!(descriptors(&empty_first), [3, 4]);
    }

    #[test]
    fn the_reason_for_no_sockets_is_returned() {
        for (variables, why) in [
            ([("A", "B"), ("LISTEN_FDS", "1")], NoSockets::Unsupervised),
            (
                [("EINHORN_FD_COUNT", "0"), ("EINHORN_MASTER_PID", "1")],
                NoSockets::EmptyHanded { variable: "EINHORN_FD_COUNT" },
            ),
            ([("LISTEN_FDS", "1"), ("LISTEN_PID", "1")], NoSockets::OtherProcess { pid: "1".into() }),
            (
                [("LISTEN_FDS", "0"), ("LISTEN_PID", "4711")],
                NoSockets::EmptyHanded { variable: "LISTEN_FDS" },
            ),
        ] {
            let environment = read(&variables);
            assert_eq!(environment.sockets, Ok(Vec::new()), "for {variables:?}");
            assert_eq!(environment.no_sockets, why, "for {variables:?}");
        }
    }

    #[test]
    fn a_bad_variable_is_named() {
        for (variables, message) in [
            (
                [("EINHORN_FD_COUNT", "x"), ("", "")],
                "EINHORN_FD_COUNT is \"x\", which is not a usable number",
            ),
            (
                [("EINHORN_FD_COUNT", "1"), ("", "")],
                "EINHORN_FD_0 is not set, although EINHORN_FD_COUNT is 1",
            ),
            (
                [("EINHORN_FD_COUNT", "1"), ("EINHORN_FD_0", "0")],
                "EINHORN_FD_0 is \"0\", which is not a descriptor above 2, where a worker's sockets begin",
            ),
            ([("EINHORN_FDS", "3 x"), ("", "")], "EINHORN_FDS is \"x\", which is not a descriptor number"),
            (
                [("EINHORN_FDS", "3 3"), ("", "")],
                "EINHORN_FDS is \"3\", which names the same descriptor as an earlier variable",
            ),
            (
                [("LISTEN_FDS", "-1"), ("LISTEN_PID", "4711")],
                "LISTEN_FDS is \"-1\", which is not a number of sockets",
            ),
            (
                [("LISTEN_FDS", "2147483647"), ("LISTEN_PID", "4711")],
                "LISTEN_FDS is \"2147483647\", which is not a number of sockets",
            ),
        ] {
            let error = read(&variables).sockets.unwrap_err();
            assert_eq!(error.to_string(), message, "for {variables:?}");
        }
    }

    #[test]
    fn names_are_used_only_if_they_belong_to_these_sockets() {
        let numbered = [("EINHORN_FD_COUNT", "2"), ("EINHORN_FD_0", "3"), ("EINHORN_FD_1", "4")];
        let named = |names| [numbered.as_slice(), &[("LISTEN_FDNAMES", names)]].concat();
        assert_eq!(names(&named("web:admin")), [Some("web".to_owned()), Some("admin".to_owned())]);
        assert_eq!(names(&named("web:")), [Some("web".to_owned()), None]);
        assert_eq!(names(&named("web")), [None, None]);
        let elsewhere = [("EINHORN_FDS", "4 5"), ("LISTEN_FDNAMES", "web:admin")];
        assert_eq!(names(&elsewhere), [None, None]);
    }

    #[test]
    fn a_worker_and_an_activated_process_are_supervised_and_their_children_are_not() {
        let master = ("EINHORN_MASTER_PID", "7");
        let activation = [("LISTEN_FDS", "1"), ("LISTEN_PID", "4711")];
        for (variables, parent, supervised) in [
            (&[master][..], 7, true),
            // In a pid namespace of its own.
            (&[master], 0, true),
            // A child of the worker; a worker of a dead master.
            (&[master], 8, false),
            (&[master, activation[0], activation[1]], 1, false),
            (&activation, 1, true),
            (&[activation[0], ("LISTEN_PID", "1")], 1, false),
            (&activation[1..], 1, false),
            (&[("NOTIFY_SOCKET", "/run/notify")], 1, false),
            (&[], 1, false),
        ] {
            assert_eq!(read(variables).is_supervised(parent), supervised, "{variables:?} below {parent}");
        }
    }

    #[test]
    fn the_watchdog_of_another_process_is_ignored() {
        let usec = ("WATCHDOG_USEC", "3000000");
        assert_eq!(read(&[usec]).ping_timeout, Some(Duration::from_secs(3)));
        assert_eq!(read(&[usec, ("WATCHDOG_PID", "4711")]).ping_timeout, Some(Duration::from_secs(3)));
        assert_eq!(read(&[usec, ("WATCHDOG_PID", "1")]).ping_timeout, None);
        assert_eq!(read(&[("WATCHDOG_USEC", "0")]).ping_timeout, None);
    }
}
