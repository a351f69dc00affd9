//! Which workers a command, or a message, is about.

use std::fmt;

use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

/// Some of the workers. It is serialised as the one field of a request that names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The workers in this slot that are not draining.
    Slot(u32),
    /// The worker with this pid.
    Pid(i32),
    /// Every draining worker.
    Draining,
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        match self {
            Self::Slot(slot) => map.serialize_entry("slot", slot)?,
            Self::Pid(pid) => map.serialize_entry("pid", pid)?,
            Self::Draining => map.serialize_entry("draining", &true)?,
        }
        map.end()
    }
}

/// As part of a sentence: `no worker is in slot 3`.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slot(slot) => write!(f, "is in slot {slot}"),
            Self::Pid(pid) => write!(f, "has pid {pid}"),
            Self::Draining => f.write_str("is draining"),
        }
    }
}

/// The slot of a worker. The trial worker of a check has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WorkerSlot(pub Option<u32>);

impl From<u32> for WorkerSlot {
    fn from(slot: u32) -> Self {
        Self(Some(slot))
    }
}

impl PartialEq<u32> for WorkerSlot {
    fn eq(&self, slot: &u32) -> bool {
        self.0 == Some(*slot)
    }
}

/// As the beginning of a log line: `slot 3`, or `trial`.
impl fmt::Display for WorkerSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(slot) => write!(f, "slot {slot}"),
            None => f.write_str("trial"),
        }
    }
}
