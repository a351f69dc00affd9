//! The listeners of one `-b`: one that all workers share, or one per slot.

use std::os::fd::BorrowedFd;

use einhyrningsins_supervisor::SlotNumber;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::per_slot::PerSlot;
use crate::listen::{BindError, Listener};

/// The listeners of one `-b`.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Bound {
    /// One listener; every worker gets a copy of its descriptor.
    Shared(Box<Listener>),
    /// One listener per slot (`reuseport`).
    PerSlot(PerSlot),
}

impl<'de> Deserialize<'de> for Bound {
    /// An error says what is wrong, and not only that it is neither of the two.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let bound = if value.get("slots").is_some() {
            PerSlot::deserialize(value).map(Self::PerSlot)
        } else {
            Listener::deserialize(value).map(|listener| Self::Shared(Box::new(listener)))
        };
        bound.map_err(D::Error::custom)
    }
}

impl Bound {
    /// Turns `listener` into what its options ask for: itself, or one for each of the first `slots` slots.
    pub fn new(listener: Listener, slots: u32) -> Result<Self, BindError> {
        if listener.spec.options.reuseport {
            PerSlot::begin(listener, slots).map(Self::PerSlot)
        } else {
            Ok(Self::Shared(Box::new(listener)))
        }
    }

    /// Any of them, for questions that have one answer for all.
    pub fn any(&self) -> &Listener {
        match self {
            Self::Shared(listener) => listener,
            Self::PerSlot(group) => group.any(),
        }
    }

    /// The listener of a worker in `slot`; `None` if it was not opened.
    pub fn of(&self, slot: SlotNumber) -> Option<&Listener> {
        match self {
            Self::Shared(listener) => Some(listener),
            Self::PerSlot(group) => group.of(slot),
        }
    }

    /// Each listener, with the slot that it belongs to, if any.
    pub fn each(&self) -> impl Iterator<Item = (Option<SlotNumber>, &Listener)> {
        let (shared, group) = match self {
            Self::Shared(listener) => (Some((None, listener.as_ref())), Vec::new()),
            Self::PerSlot(group) => (None, group.by_slot()),
        };
        shared.into_iter().chain(group.into_iter().map(|(slot, listener, _)| (Some(slot), listener)))
    }

    /// The same, by value.
    pub fn into_each(self) -> Vec<(Option<SlotNumber>, Listener)> {
        match self {
            Self::Shared(listener) => vec![(None, *listener)],
            Self::PerSlot(group) => {
                group.into_members().map(|(slot, listener)| (Some(slot), listener)).collect()
            }
        }
    }

    /// The names and descriptors to store with the service manager; empty if they cannot be stored.
    pub fn to_keep(&self) -> Vec<(String, BorrowedFd<'_>)> {
        match self {
            Self::Shared(listener) => listener.to_keep().into_iter().collect(),
            Self::PerSlot(group) => group.to_keep().unwrap_or_default(),
        }
    }

    /// The name that the service manager must drop when these are dropped, because their file is removed too.
    pub fn kept_with_file(&self) -> Option<String> {
        match self {
            Self::Shared(listener) => listener.kept_with_file(),
            Self::PerSlot(_) => None,
        }
    }

    /// The one that workers share; only such a one can have a file.
    pub fn shared(&mut self) -> Option<&mut Listener> {
        match self {
            Self::Shared(listener) => Some(listener),
            Self::PerSlot(_) => None,
        }
    }
}
