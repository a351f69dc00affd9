//! `list`: the masters that one may talk to, found by the usual paths of control sockets.
//!
//! It asks every master at once, within one limit of time, so that a silent one delays nobody. A master that may be an
//! impostor is shown and not asked.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use einhorn_proto::{self as proto, DEFAULT_DIRECTORY, MasterState, MasterStatus, Status, default_path};
use nix::errno::Errno;
use nix::unistd::geteuid;
use serde::Serialize;
use serde_json::value::to_raw_value;

use super::line::Line;
use super::{Context, Own, Typed, typed};
use crate::connection::{Connection, Fault};
use crate::error::Error;
use crate::interrupt::Interrupts;
use crate::table::{Align, Span, Style, Table};
use crate::trust::{Owner, Trust};
use crate::wait::{Ended, Wait};

pub(super) const OWN: Own =
    Own { aliases: &["ls"], ..Own::of::<List>("list", "List the masters that you may control", DETAILS) };

const DETAILS: &str = "\
Looks at the socket of -d, -c or EINHYRNINGSINS_SOCKET, at einhorn.sock and einhorn-*.sock in /tmp and in \
XDG_RUNTIME_DIR, and at *.sock in /run/einhyrningsins, in the directory einhyrningsins of XDG_RUNTIME_DIR, and in their \
subdirectories. Does not show masters whose sockets you may not open.";

/// The directory of the masters that systemd starts; the units in contrib make it.
const RUN: &str = "/run/einhyrningsins";

/// How long all masters together may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// How many sockets are looked at; any user may make more of them in /tmp.
const SOCKETS_MAX: usize = 256;

#[derive(Debug, clap::Args)]
struct List {}

impl Typed for List {
    fn request(&self) -> Option<proto::Command> {
        None
    }

    fn name(&self) -> &'static str {
        OWN.name
    }

    fn run(&self, context: &mut Context<'_>) -> Result<(), Error> {
        let sockets = sockets(context.session.socket());
        let deadline = Instant::now() + context.answer.timeout.unwrap_or(PATIENCE);
        let trust = context.session.trust();
        let found: Vec<Found> = thread::scope(|scope| {
            let looks: Vec<_> = sockets
                .iter()
                .map(|socket| {
                    let look = move || Found::at(socket, trust, deadline);
                    thread::Builder::new().spawn_scoped(scope, look).map_err(|_| look)
                })
                .collect();
            // Without a thread, one after the other.
            let found = looks.into_iter().map(|look| match look {
                Ok(look) => look.join().ok().flatten(),
                Err(look) => look(),
            });
            found.flatten().collect()
        });
        if context.answer.json {
            return found.iter().try_for_each(|found| {
                let data = to_raw_value(found).ok();
                let message = found.in_words();
                context.line(Line::last(self.name(), Some(found.has_answered()), &message), data.as_deref())
            });
        }
        match found.as_slice() {
            [] => context.output.text("no master found"),
            found => context.output.lines(&table(found).lines()),
        }
    }
}

/// What is at a socket.
#[derive(Debug, Serialize)]
struct Found {
    socket: String,
    /// The state of the master, or what is wrong.
    state: &'static str,
    /// Why it is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The user that listens.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    up: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wanted: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    program: Vec<String>,
}

impl Found {
    /// Looks at `socket`; `None` if there is nothing that one may talk to.
    fn at(socket: &Path, trust: &Trust, deadline: Instant) -> Option<Self> {
        let mut found = Self {
            socket: socket.display().to_string(),
            state: "unreadable",
            reason: None,
            user: None,
            name: None,
            pid: None,
            up: None,
            wanted: None,
            program: Vec::new(),
        };
        match found.ask(socket, trust, deadline) {
            Ok(master) => found.describe(master),
            Err(Fault::Broken(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                found.state = "dead";
            }
            // No socket, no stream socket, or not ours to open.
            Err(Fault::Broken(error)) if error.raw_os_error() != Some(Errno::ECONNRESET as i32) => {
                return None;
            }
            Err(Fault::Ended(Ended::Deadline)) => found.state = "silent",
            Err(Fault::Garbage(why)) => found.reason = Some(why),
            Err(Fault::Broken(_) | Fault::Closed | Fault::Ended(_)) => {
                found.reason = Some("the connection broke before the answer".to_owned());
            }
        }
        Some(found)
    }

    /// Asks the master for its status, unless it may be an impostor.
    fn ask(
        &mut self,
        socket: &Path,
        trust: &Trust,
        deadline: Instant,
    ) -> Result<Option<MasterStatus>, Fault> {
        let interrupts = Interrupts::none();
        let wait = Wait { deadline: Some(deadline), interrupts: &interrupts, is_for_reader: true };
        let mut connection = Connection::open(socket, &wait)?;
        let peer = connection.peer().map_err(|errno| Fault::Broken(errno.into()))?.uid();
        self.user = Some(Owner(peer).name());
        if let Some(doubt) = trust.doubt(peer, socket).filter(|doubt| !doubt.is_slight()) {
            (self.state, self.reason) = ("not trusted", Some(doubt.to_string()));
            return Ok(None);
        }
        let id = connection.next_id();
        connection.send(&id, &proto::Command::Status, &wait)?;
        let reply = connection.next_reply(&id, &wait)?;
        match reply.data.as_deref().and_then(typed::<Status>) {
            Some(status) => Ok(Some(status.master)),
            None => Err(Fault::Garbage("its status is not one that this client knows".to_owned())),
        }
    }

    fn describe(&mut self, master: Option<MasterStatus>) {
        let Some(master) = master else { return };
        self.state = match master.state {
            MasterState::Starting => "starting",
            MasterState::Running => "running",
            MasterState::Upgrading => "upgrading",
            MasterState::Stopping => "stopping",
        };
        self.name = master.name;
        self.pid = Some(master.pid);
        (self.up, self.wanted) = (Some(master.up), Some(master.wanted));
        self.program = master.command;
    }

    fn has_answered(&self) -> bool {
        self.pid.is_some()
    }

    fn in_words(&self) -> String {
        let reason = self.reason.iter().map(|reason| format!(": {reason}"));
        [self.socket.clone(), ", ".to_owned(), self.state.to_owned()].into_iter().chain(reason).collect()
    }

    fn style(&self) -> Style {
        match self.state {
            "running" => Style::Good,
            "starting" | "upgrading" | "stopping" => Style::Busy,
            _ => Style::Bad,
        }
    }
}

fn table(found: &[Found]) -> Table {
    let mut table = Table::new(&[
        ("NAME", Align::Left),
        ("PID", Align::Right),
        ("STATE", Align::Left),
        ("UP", Align::Right),
        ("USER", Align::Left),
        ("SOCKET", Align::Left),
        ("PROGRAM", Align::Left),
    ]);
    for master in found {
        let up = master.up.zip(master.wanted).map(|(up, wanted)| format!("{up} of {wanted}"));
        table.row(vec![
            Span::plain(master.name.as_deref().unwrap_or_default()),
            Span::plain(&master.pid.map(|pid| pid.to_string()).unwrap_or_default()),
            Span::new(master.state, master.style()),
            Span::plain(&up.unwrap_or_default()),
            Span::plain(master.user.as_deref().unwrap_or_default()),
            Span::plain(&master.socket),
            Span::plain(&shell_words::join(&master.program)),
        ]);
        if let Some(reason) = &master.reason {
            table.note(vec![Span::new(&format!("      {reason}"), Style::Bad)]);
        }
    }
    table
}

/// The sockets to look at, each once: `chosen` and those of root and of this user before the others, which may be many.
pub(super) fn sockets(chosen: &Path) -> Vec<PathBuf> {
    let mut paths = vec![chosen.to_owned(), default_path(DEFAULT_DIRECTORY, None, "sock")];
    paths.extend(entries(Path::new(DEFAULT_DIRECTORY), is_einhorns));
    paths.extend(below(Path::new(RUN)));
    let runtime = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    if let Some(runtime) = runtime {
        paths.extend(entries(&runtime, is_einhorns));
        paths.extend(below(&runtime.join("einhyrningsins")));
    }
    let mut seen = BTreeSet::new();
    let mut sockets: Vec<(bool, PathBuf)> = Vec::new();
    for path in paths {
        let Ok(metadata) = fs::metadata(&path) else { continue };
        if metadata.file_type().is_socket() && seen.insert((metadata.dev(), metadata.ino())) {
            let is_own = path == chosen || [0, geteuid().as_raw()].contains(&metadata.uid());
            sockets.push((!is_own, path));
        }
    }
    sockets.sort();
    sockets.truncate(SOCKETS_MAX);
    sockets.into_iter().map(|(_, path)| path).collect()
}

/// Files whose names say that they are sockets, in `directory` and in the directories in it.
fn below(directory: &Path) -> Vec<PathBuf> {
    let directories = entries(directory, |_| true).into_iter().filter(|path| path.is_dir());
    let inner = directories.flat_map(|directory| entries(&directory, is_socket));
    entries(directory, is_socket).into_iter().chain(inner).collect()
}

fn entries(directory: &Path, is_wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| path.file_name().and_then(OsStr::to_str).is_some_and(&is_wanted)).collect()
}

fn is_socket(name: &str) -> bool {
    name.ends_with(".sock")
}

fn is_einhorns(name: &str) -> bool {
    name == "einhorn.sock" || name.starts_with("einhorn-") && is_socket(name)
}
