//! The listeners of the pool: for each `-b`, one socket for all workers or one per slot.
//!
//! `bound.rs` and `per_slot/` have the sockets, `kept/` takes those that a service manager stored before a
//! crash, and `steering.rs` follows the slots while the pool runs. Workers get copies; the master never accepts
//! or reads.

mod bound;
pub(crate) mod kept;
mod per_slot;
mod status;
mod steering;
mod strangers;

use std::error::Error;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use einhyrningsins_supervisor::{Generation, SlotNumber};
use mio::Registry;
use nix::sys::stat::fstat;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::listen::{self, BindError, Passed, Sockets, TwinError, Twins, exports, is_shortage};
use crate::logging::Log;
use crate::socket_place::{Lost, SocketPlace};
use crate::workers::SpawnFailure;

use bound::Bound;
use kept::KeptListeners;
use steering::Steering;
pub(super) use strangers::Stranger;

/// All listeners of the master.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Listeners {
    /// One entry per `-b`, in that order.
    bound: Vec<Bound>,
    #[serde(skip)]
    steering: Steering,
    /// The files of sockets that were closed. They go with the master.
    #[serde(skip)]
    files: Vec<SocketPlace>,
    /// The inodes of sockets that were closed: somebody may still hold them.
    #[serde(skip)]
    closed: Vec<u64>,
}

impl Listeners {
    /// Opens every `-b`: on a socket that the service manager stored, if one fits, otherwise a new one. In
    /// between, it calls `let_go` with the names that the manager keeps for this master, and those that it must
    /// drop, because others may need their addresses.
    pub(crate) fn open(
        sockets: &Sockets,
        slots: u32,
        mut passed: Passed,
        let_go: impl FnOnce(Vec<String>, &[String], &mut Log),
        log: &mut Log,
    ) -> Result<Self, Failure> {
        let failure = |error: BindError| Failure { hint: error.hint(), error: error.into() };
        let Sockets { binds, family, backlog } = sockets;
        let mut kept = KeptListeners::of(&mut passed);
        let mut names = kept.names();
        let taken: Vec<_> = binds.iter().map(|spec| kept.take(spec, *family, *backlog, slots)).collect();
        let unwanted = kept.give_up();
        names.retain(|name| !unwanted.contains(name));
        let_go(names, &unwanted, log);
        let mut bound = Vec::new();
        for (spec, taken) in binds.iter().zip(taken) {
            let (found, how) = match taken {
                Some(taken) => (vec![taken], ", on a socket that the service manager kept"),
                None => {
                    let opened = listen::open(spec, sockets, &mut passed, !unwanted.is_empty());
                    let opened = opened.map_err(failure)?.into_iter();
                    let opened = opened.map(|listener| Bound::new(listener, slots));
                    (opened.collect::<Result<_, _>>().map_err(failure)?, "")
                }
            };
            for found in found {
                let any = found.any();
                log.info(format_args!("listening on {}{how}", any.address));
                any.shortfalls().into_iter().for_each(|shortfall| log.warn(shortfall));
                bound.push(found);
            }
        }
        passed.leftovers().into_iter().for_each(|leftover| log.warn(leftover));
        Ok(Self { bound, steering: Steering::default(), files: Vec::new(), closed: Vec::new() })
    }

    /// The variables that describe them to workers of `generation`.
    pub(super) fn exports(&self, generation: Generation) -> Vec<(String, String)> {
        exports(self.bound.iter().map(Bound::any), generation)
    }

    /// A private twin of each `-b`, for a trial; see [`Twins::open`].
    pub(super) fn twins(&self, control_socket: &Path, user: Option<u32>) -> Result<Twins, TwinError> {
        Twins::open(self.bound.iter().map(Bound::any), control_socket, user)
    }

    /// The sockets of a worker in `slot`. Opens its own ones if they are missing.
    pub(super) fn for_slot(&mut self, slot: SlotNumber) -> Result<Vec<BorrowedFd<'_>>, SpawnFailure> {
        for bound in &mut self.bound {
            let Bound::PerSlot(group) = bound else { continue };
            group.open(slot).map_err(|error| {
                let cause = error.source().and_then(|source| source.downcast_ref::<io::Error>());
                let reason = cause.map_or(error.to_string(), |cause| format!("{error}: {cause}"));
                SpawnFailure { reason, transient: cause.is_some_and(is_shortage) }
            })?;
        }
        Ok(self.bound.iter().filter_map(|bound| bound.of(slot)).map(AsFd::as_fd).collect())
    }

    /// For each `-b`, the listeners to store with the service manager, with their names there.
    pub(super) fn to_keep(&self) -> impl Iterator<Item = Vec<(String, BorrowedFd<'_>)>> {
        self.bound.iter().map(Bound::to_keep)
    }

    /// The inodes of their sockets, also of those that were closed.
    pub(super) fn inodes(&self) -> Vec<u64> {
        let listeners = self.bound.iter().flat_map(Bound::each);
        let open = listeners.filter_map(|(_, listener)| Some(fstat(listener).ok()?.st_ino));
        open.chain(self.closed.iter().copied()).collect()
    }

    /// Closes the master's copies, because the pool has come to its end. Connections are refused as soon as no worker
    /// listens any more, instead of waiting for nobody. Nothing is shut down: workers that still listen go on.
    pub(super) fn close(&mut self, registry: &Registry) {
        self.closed = self.inodes();
        for (number, bound) in std::mem::take(&mut self.bound).into_iter().enumerate() {
            for (slot, listener) in bound.into_each() {
                // Closing alone does not end it: epoll keeps a socket of which workers have copies.
                self.steering.forget(registry, (number, slot), &listener);
                self.files.extend(listener.place);
            }
        }
    }

    /// The names of stored listeners whose files go with this master.
    pub(super) fn kept_with_files(&self) -> Vec<String> {
        self.bound.iter().filter_map(Bound::kept_with_file).collect()
    }

    /// Makes again what others have removed of the files of Unix sockets. For each such socket: what that was, and the
    /// name of the listener in the service manager's store if it has become another socket.
    pub(super) fn bind_again(&mut self) -> Vec<(Lost, anyhow::Result<Option<String>>)> {
        let listeners = self.bound.iter_mut().filter_map(Bound::shared);
        let lost = listeners.filter_map(|listener| {
            let lost = listener.place.as_ref()?.lost()?;
            let made = listen::bind_again(listener).map_err(anyhow::Error::from);
            Some((lost, made.map(|is_other| is_other.then(|| listener.kept_with_file().unwrap_or_default()))))
        });
        lost.collect()
    }

    /// The paths to watch.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.bound.iter().filter_map(|bound| bound.any().place.as_ref()).flat_map(SocketPlace::paths)
    }
}
