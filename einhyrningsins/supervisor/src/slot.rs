//! One slot of the pool and who holds it.
//!
//! ```text
//!           spawn                  spawn of a successor
//!  Empty ----------> Held -----------------------------> Passing
//!    |  ^              |  ^                                 |
//!    |  +-- it is lost-+  +-- the successor is lost, or ----+
//!    |                        takes the slot
//!    +-- tries used up --> GivenUp --> Empty, when somebody or something gives it another chance
//! ```
//! When the master stops, every slot is `Closed`.

use einhorn_proto::Death;
use serde::{Deserialize, Serialize};

use super::event::{Generation, WorkerId};
use super::moment::Moment;
use super::tables::is_default;

/// A position in the pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Slot {
    pub(crate) holder: Holder,
    /// Of the worker that holds it; where there is none, what is spawned into it.
    pub(crate) generation: Generation,
    /// The attempts to fill it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) attempts: Attempts,
    /// Workers that died here and were replaced.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) restarts: u64,
    /// The last death and when.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) last_death: Option<(Moment, Death)>,
}

/// Who holds a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Holder {
    /// Nobody, and it may be filled from this time on.
    Empty { due: Moment },
    /// Nobody, until a release proves itself or somebody acts.
    GivenUp,
    /// An undrained worker.
    Held { worker: WorkerId },
    /// An undrained worker, and the one that takes its place when it acks.
    Passing { worker: WorkerId, successor: WorkerId },
    /// Nobody any more: the master is stopping.
    Closed,
}

/// Spawns in a row without an ack, and how they went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Attempts {
    /// Spawns.
    pub(crate) tries: u32,
    /// Deaths; less than the tries while one of them still lives.
    pub(crate) deaths: u32,
}

impl Slot {
    pub(crate) fn new(generation: Generation, due: Moment) -> Self {
        Self {
            holder: Holder::Empty { due },
            generation,
            attempts: Attempts::default(),
            restarts: 0,
            last_death: None,
        }
    }

    /// The worker that holds it.
    pub(crate) fn current(&self) -> Option<WorkerId> {
        match self.holder {
            Holder::Held { worker } | Holder::Passing { worker, .. } => Some(worker),
            Holder::Empty { .. } | Holder::GivenUp | Holder::Closed => None,
        }
    }

    /// The worker that takes it next.
    pub(crate) fn successor(&self) -> Option<WorkerId> {
        match self.holder {
            Holder::Passing { successor, .. } => Some(successor),
            _ => None,
        }
    }

    /// The workers that hold it or take it next.
    pub(crate) fn workers(&self) -> impl Iterator<Item = WorkerId> {
        self.current().into_iter().chain(self.successor())
    }
}
