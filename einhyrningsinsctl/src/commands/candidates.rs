//! `__complete`: what may stand at a place of the command line, for the completions of shells.

use std::path::Path;
use std::time::Duration;

use clap::ValueEnum;
use einhorn_proto::{self as proto, Status, WorkerStatus};

use super::{Context, Own, Typed, list, typed};
use crate::error::Error;
use crate::options::path_in;
use crate::session::Session;

pub(super) const OWN: Own = Own {
    is_hidden: true,
    ..Own::of::<Candidates>(NAME, "List what may stand at a place of a command line", "")
};

const NAME: &str = "__complete";

/// Nobody waits longer for a completion. What is left of half a second is for the start of this program.
const PATIENCE: Duration = Duration::from_millis(400);

/// What to list.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum What {
    /// The slots of the master.
    Slots,
    /// The pids of its workers.
    Pids,
    /// Control sockets.
    Sockets,
    /// Names of masters, as `-c` takes them.
    Names,
}

#[derive(Debug, clap::Args)]
struct Candidates {
    what: What,

    /// The command line so far, which may name the master
    #[arg(last = true)]
    line: Vec<String>,
}

impl Typed for Candidates {
    fn request(&self) -> Option<proto::Command> {
        None
    }

    fn name(&self) -> &'static str {
        NAME
    }

    /// Prints a candidate a line, and behind a tab what it is. What cannot be found out is left out.
    fn run(&self, context: &mut Context<'_>) -> Result<(), Error> {
        let found = match self.what {
            What::Slots => self
                .workers(context, |worker| Some((worker.slot.0?.to_string(), format!("pid {}", worker.pid)))),
            What::Pids => self.workers(context, |worker| {
                let slot = worker.slot.0.map_or_else(|| "on trial".to_owned(), |slot| format!("slot {slot}"));
                Some((worker.pid.to_string(), slot))
            }),
            What::Sockets => {
                let sockets = list::sockets(context.session.socket());
                sockets.iter().map(|socket| (socket.display().to_string(), String::new())).collect()
            }
            What::Names => {
                let sockets = list::sockets(context.session.socket());
                sockets
                    .iter()
                    .filter_map(|socket| Some((name_of(socket)?, socket.display().to_string())))
                    .collect()
            }
        };
        found.iter().try_for_each(|(candidate, what)| {
            let line = format!("{candidate}\t{what}");
            context.output.text(line.trim_end())
        })
    }
}

impl Candidates {
    /// The workers of the master that the line names.
    fn workers(
        &self,
        context: &Context<'_>,
        candidate: impl Fn(&WorkerStatus) -> Option<(String, String)>,
    ) -> Vec<(String, String)> {
        let session = &*context.session;
        let socket = path_in(&self.line).unwrap_or_else(|| session.socket().to_owned());
        let mut session = Session::new(session.program(), socket, session.trust().clone()).in_background();
        let reply = session.request(&proto::Command::Status, Some(PATIENCE), &mut |_| Ok(()));
        let status = reply.ok().and_then(|reply| typed::<Status>(reply.data.as_deref()?));
        let workers = status.iter().flat_map(|status| &status.workers);
        workers
            .filter_map(|worker| {
                let (candidate, what) = candidate(worker)?;
                Some((candidate, format!("{what}, generation {}", worker.generation)))
            })
            .collect()
    }
}

/// The name of a master with this socket.
fn name_of(socket: &Path) -> Option<String> {
    let name = socket.file_name()?.to_str()?.strip_prefix("einhorn-")?.strip_suffix(".sock")?;
    Some(name.to_owned())
}
