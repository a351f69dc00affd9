//! The parts of a master that outlive its handover. Their state is derived from them.

use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::time::Instant;

use einhyrningsins_supervisor::Supervisor;
use mio::Registry;
use serde::{Deserialize, Serialize};

use super::captures::Captures;
use super::control::Control;
use super::counters::Counters;
use super::groups::Groups;
use super::handover::Handover;
use super::history::{History, HistoryFile};
use super::hooks::Hooks;
use super::jobs::Jobs;
use super::listeners::Listeners;
use super::notify::Notify;
use super::options::Options;
use super::service::Service;
use super::trial::Trial;
use crate::config::Dialect;
use crate::forms;
use crate::logging::Log;
use crate::sys::closer::Closing;
use crate::sys::inherit::{Kept, set_close_on_exec};
use crate::sys::lock_file::LockFile;
use crate::sys::pid_file::PidFile;
use crate::workers::Workers;

/// A part: it owns its descriptors and its state, and knows nothing of the others. What it reads is its own `turn`.
pub(super) trait Part {
    /// Registers what it reads with epoll.
    fn register(&mut self, _registry: &Registry) -> anyhow::Result<()> {
        Ok(())
    }

    /// The next time at which it must run.
    fn deadline(&self) -> Option<Instant> {
        None
    }
}

/// Every part, in the order in which they are dropped.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Parts {
    pub(crate) dialect: Dialect,
    /// Not among the others in a state: they are read twice, and it is most of it.
    #[serde(with = "apart")]
    pub(crate) core: Supervisor,
    pub(crate) workers: Workers,
    pub(crate) listeners: Listeners,
    pub(crate) captures: Captures,
    /// A master of format 2 has none.
    #[serde(default)]
    pub(crate) groups: Groups,
    /// An older master has none.
    #[serde(default)]
    pub(crate) history: History,
    #[serde(default)]
    pub(crate) history_file: HistoryFile,
    #[serde(default)]
    pub(crate) counters: Counters,
    #[serde(default)]
    pub(crate) hooks: Hooks,
    /// The same.
    #[serde(default)]
    pub(crate) options: Options,
    /// Only a master of format 5 hands any over.
    #[serde(default)]
    pub(crate) jobs: Jobs,
    #[serde(default)]
    pub(crate) trial: Trial,
    /// Dropped before the control socket, whose lock keeps other masters from its file.
    pub(crate) notify: Notify,
    pub(crate) control: Control,
    pub(crate) handover: Handover,
    #[serde(with = "forms::written")]
    pub(crate) service: Service,
    pub(crate) log: Log,
    /// The lock of `--lockfile`.
    pub(crate) lockfile: Option<LockFile>,
    /// The descriptors of `--keep-fd` and `--pass-fd`.
    #[serde(default)]
    pub(crate) held: Vec<Kept<OwnedFd>>,
    /// Removed when the master ends.
    pub(crate) pidfile: Option<PidFile>,
    #[serde(default)]
    pub(crate) closing: Closing,
}

impl Parts {
    /// The parts that `read` reads; they get `core`.
    pub(super) fn with_core<E>(core: Supervisor, read: impl FnOnce() -> Result<Self, E>) -> Result<Self, E> {
        apart::CORE.set(Some(core));
        let parts = read();
        apart::CORE.take();
        parts
    }

    /// Closes descriptors that were inherited and that nothing has taken: the lock of a deploy script would else be held for
    /// as long as this master lives. In einhorn's dialect they stay open until the next exec, as einhorn leaves them.
    pub(crate) fn close_unused(&mut self, unused: Vec<OwnedFd>) {
        for fd in unused {
            if self.dialect == Dialect::Einhorn {
                set_close_on_exec(&[fd.into_raw_fd()], true);
                continue;
            }
            let number = fd.as_raw_fd();
            let target = std::fs::read_link(format!("/proc/self/fd/{number}")).unwrap_or_default();
            self.log.info(format_args!(
                "closing descriptor {number}, which was inherited and which nothing uses: {} (--keep-fd {number} keeps it)",
                target.display()
            ));
        }
    }

    /// Those that wait for something.
    fn waiting(&mut self) -> [&mut dyn Part; 8] {
        let Self { core, captures, jobs, notify, control, handover, service, log, .. } = self;
        [core, captures, jobs, notify, control, handover, service, log]
    }

    pub(super) fn register(&mut self, registry: &Registry) -> anyhow::Result<()> {
        self.waiting().into_iter().try_for_each(|part| part.register(registry))
    }

    pub(super) fn deadline(&mut self) -> Option<Instant> {
        self.waiting().into_iter().filter_map(|part| part.deadline()).min()
    }
}

/// For `#[serde(with)]`: the core, for which a state has another place.
mod apart {
    use std::cell::RefCell;

    use einhyrningsins_supervisor::Supervisor;
    use serde::de::{Error, IgnoredAny};
    use serde::{Deserialize, Deserializer, Serializer};

    thread_local! {
        pub(super) static CORE: RefCell<Option<Supervisor>> = const { RefCell::new(None) };
    }

    pub(super) fn serialize<S: Serializer>(_core: &Supervisor, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Supervisor, D::Error> {
        IgnoredAny::deserialize(deserializer)?;
        CORE.take().ok_or_else(|| D::Error::custom("its core was not read"))
    }
}

impl Part for Supervisor {
    fn deadline(&self) -> Option<Instant> {
        self.next_deadline().map(forms::instant)
    }
}

impl Part for Log {
    /// Without the registration the log still works: it writes when there is something to write.
    fn register(&mut self, registry: &Registry) -> anyhow::Result<()> {
        let Some((fd, interest)) = self.descriptor() else { return Ok(()) };
        let source = &mut mio::unix::SourceFd(&fd);
        if let Err(error) = registry.register(source, super::ready::LOG, interest) {
            self.debug(format_args!("cannot wait for the reader of standard error: {error}"));
        }
        Ok(())
    }
}
