//! The parts of a master that outlive its handover. This is the one list of them: the struct, the state of a handover,
//! and what is done with each part in turn follow from it.

use std::fmt::Debug;
use std::mem::ManuallyDrop;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;
use einhyrningsins_supervisor::{Moment, Supervisor, Tables};
use mio::Registry;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::captures::Captures;
use super::control::Control;
use super::handover::Handover;
use super::listeners::Listeners;
use super::notify::Notify;
use super::service::Service;
use crate::config::Dialect;
use crate::forms::{self, Bytes, Clock};
use crate::logging::Log;
use crate::sys::inherit::{Fd, Inherited};
use crate::sys::lock_file::{LockFile, LockRecord};
use crate::sys::pid_file::PidFile;
use crate::workers::Workers;

/// A part: it owns its descriptors and its state, and knows nothing of the others. What it reads is its own `turn`.
pub(super) trait Part: Sized {
    /// What it hands over.
    type State: Debug + Clone + Serialize + DeserializeOwned;

    fn record(&self) -> anyhow::Result<Self::State>;

    /// Continues from a state. On an error it must not drop what it took from `inherited`: the old program needs it.
    fn resume(state: Self::State, inherited: &mut Inherited) -> anyhow::Result<Self>;

    /// The descriptors that a state names.
    fn descriptors(_state: &Self::State) -> Vec<Fd> {
        Vec::new()
    }

    /// Registers what it reads with epoll.
    fn register(&mut self, _registry: &Registry) -> anyhow::Result<()> {
        Ok(())
    }

    /// The next time at which it must run.
    fn deadline(&self) -> Option<Instant> {
        None
    }
}

macro_rules! parts {
    ($($(#[$doc:meta])* $name:ident: $part:ty = $what:literal,)*) => {
        /// Every part, in the order in which they are dropped.
        #[derive(Debug)]
        pub(crate) struct Parts {
            $($(#[$doc])* pub(crate) $name: $part,)*
        }

        /// The state of a master.
        #[derive(Debug, Clone, Serialize, Deserialize)]
        pub(super) struct MasterState {
            pub(super) version: String,
            pub(super) pid: i32,
            pub(super) written_at: Moment,
            $(pub(super) $name: <$part as Part>::State,)*
        }

        impl Parts {
            pub(super) fn record(&self) -> anyhow::Result<MasterState> {
                Ok(MasterState {
                    version: env!("CARGO_PKG_VERSION").to_owned(),
                    pid: std::process::id().cast_signed(),
                    written_at: forms::now(),
                    $($name: Part::record(&self.$name)?,)*
                })
            }

            /// On an error, parts that were resumed before it are not dropped.
            pub(super) fn resume(state: MasterState, inherited: &mut Inherited) -> anyhow::Result<Self> {
                $(let $name = <$part>::resume(state.$name, inherited);
                let $name = ManuallyDrop::new($name.context(concat!("cannot take over ", $what))?);)*
                Ok(Self { $($name: ManuallyDrop::into_inner($name),)* })
            }

            pub(super) fn register(&mut self, registry: &Registry) -> anyhow::Result<()> {
                $(self.$name.register(registry)?;)*
                Ok(())
            }

            pub(super) fn deadline(&self) -> Option<Instant> {
                [$(self.$name.deadline(),)*].into_iter().flatten().min()
            }
        }

        impl MasterState {
            /// Every descriptor that it names; an exec must leave these open.
            pub(super) fn descriptors(&self) -> Vec<RawFd> {
                let mut fds = Vec::new();
                $(fds.extend(<$part as Part>::descriptors(&self.$name).into_iter().map(|fd| fd.0));)*
                fds
            }
        }
    };
}

parts! {
    dialect: Dialect = "the dialect",
    core: Supervisor = "the pool",
    workers: Workers = "what workers need",
    listeners: Listeners = "the listeners",
    captures: Captures = "the standard errors of workers",
    /// Dropped before the control socket, whose lock keeps other masters from its file.
    notify: Notify = "the notify socket",
    control: Control = "the control socket",
    handover: Handover = "the handover",
    service: Service = "the service manager",
    log: Log = "the log",
    /// The lock of `--lockfile`.
    lockfile: Option<LockFile> = "the lock file",
    /// Removed when the master ends.
    pidfile: Option<PidFile> = "the pid file",
}

impl Part for Dialect {
    type State = Self;

    fn record(&self) -> anyhow::Result<Self> {
        Ok(*self)
    }

    fn resume(state: Self, _inherited: &mut Inherited) -> anyhow::Result<Self> {
        Ok(state)
    }
}

impl Part for Supervisor {
    type State = Tables;

    fn record(&self) -> anyhow::Result<Tables> {
        Ok(self.tables()?.clone())
    }

    fn resume(state: Tables, _inherited: &mut Inherited) -> anyhow::Result<Self> {
        Ok(Self::restore(state)?)
    }

    fn deadline(&self) -> Option<Instant> {
        self.next_deadline().map(|at| Clock::read().instant(at))
    }
}

impl Part for Option<LockFile> {
    type State = Option<LockRecord>;

    fn record(&self) -> anyhow::Result<Self::State> {
        Ok(self.as_ref().map(LockFile::record))
    }

    fn resume(state: Self::State, inherited: &mut Inherited) -> anyhow::Result<Self> {
        Ok(state.map(|lock| LockFile::adopt(lock, inherited)).transpose()?)
    }

    fn descriptors(state: &Self::State) -> Vec<Fd> {
        state.iter().map(|lock| lock.fd).collect()
    }
}

/// By its path.
impl Part for Option<PidFile> {
    type State = Option<Bytes>;

    fn record(&self) -> anyhow::Result<Self::State> {
        Ok(self.as_ref().map(|file| Bytes::from(file.path())))
    }

    fn resume(state: Self::State, _inherited: &mut Inherited) -> anyhow::Result<Self> {
        Ok(state.map(|path| PidFile::adopt(PathBuf::from(path.into_os_string()))))
    }
}

impl Part for Log {
    type State = crate::logging::LogRecord;

    fn record(&self) -> anyhow::Result<Self::State> {
        Ok(self.record())
    }

    fn resume(state: Self::State, _inherited: &mut Inherited) -> anyhow::Result<Self> {
        Ok(Self::adopt(state))
    }

    /// Without the registration the log still works: it writes when there is something to write.
    fn register(&mut self, registry: &Registry) -> anyhow::Result<()> {
        let Some(fd) = self.descriptor() else { return Ok(()) };
        let source = &mut mio::unix::SourceFd(&fd);
        if let Err(error) = registry.register(source, super::ready::LOG, mio::Interest::WRITABLE) {
            self.debug(format_args!("cannot wait for the reader of standard error: {error}"));
        }
        Ok(())
    }
}

impl Part for Workers {
    type State = crate::workers::WorkersRecord;

    fn record(&self) -> anyhow::Result<Self::State> {
        Ok(self.record())
    }

    fn resume(state: Self::State, inherited: &mut Inherited) -> anyhow::Result<Self> {
        Self::resume(state, inherited)
    }

    fn descriptors(state: &Self::State) -> Vec<Fd> {
        state.descriptors().collect()
    }
}
