//! What one `-b` has become: a listener that all workers share, or one for each slot.

use std::os::fd::BorrowedFd;

use serde::{Deserialize, Serialize};

use super::BindError;
use super::listener::{AdoptError, Listener, ListenerRecord};
use super::per_slot::{PerSlot, PerSlotRecord};
use crate::supervisor::SlotNumber;
use crate::sys::inherit::{Fd, Inherited};

/// The listeners of one `-b`.
#[derive(Debug)]
pub enum Listeners {
    /// One, of which every worker has a copy.
    Shared(Box<Listener>),
    /// One for each slot (`reuseport`).
    PerSlot(PerSlot),
}

/// [`Listeners`] written down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ListenersRecord {
    /// One for all: as it was when there was no other way.
    Shared(Box<ListenerRecord>),
    /// One for each slot.
    PerSlot(PerSlotRecord),
}

impl Listeners {
    /// Makes of `listener` what its options ask for: one for each of the first `slots` slots, or itself.
    ///
    /// # Errors
    /// As [`PerSlot::begin`].
    pub fn new(listener: Listener, slots: u32) -> Result<Self, BindError> {
        if listener.spec.options.reuseport {
            PerSlot::begin(listener, slots).map(Self::PerSlot)
        } else {
            Ok(Self::Shared(Box::new(listener)))
        }
    }

    /// Any of them: what is asked of all of them alike can be asked of it.
    #[must_use]
    pub fn any(&self) -> &Listener {
        match self {
            Self::Shared(listener) => listener,
            Self::PerSlot(group) => group.any(),
        }
    }

    /// The one that a worker of `slot` gets; `None` if it was not opened.
    #[must_use]
    pub fn of(&self, slot: SlotNumber) -> Option<&Listener> {
        match self {
            Self::Shared(listener) => Some(listener),
            Self::PerSlot(group) => group.of(slot),
        }
    }

    /// Each of them, with the slot that it is for, if it is for one.
    pub fn each(&self) -> impl Iterator<Item = (Option<SlotNumber>, &Listener)> {
        let (shared, group) = match self {
            Self::Shared(listener) => (Some((None, listener.as_ref())), Vec::new()),
            Self::PerSlot(group) => (None, group.by_slot()),
        };
        shared.into_iter().chain(group.into_iter().map(|(slot, listener, _)| (Some(slot), listener)))
    }

    /// What the service manager is to keep them as; nothing of what cannot be kept.
    #[must_use]
    pub fn to_keep(&self) -> Vec<(String, BorrowedFd<'_>)> {
        match self {
            Self::Shared(listener) => listener.to_keep().into_iter().collect(),
            Self::PerSlot(group) => group.to_keep().unwrap_or_default(),
        }
    }

    /// What the service manager is to let go of when these go, because their files go too.
    #[must_use]
    pub fn kept_with_file(&self) -> Option<String> {
        match self {
            Self::Shared(listener) => listener.kept_with_file(),
            Self::PerSlot(_) => None,
        }
    }

    /// Has the file go with this master from now on, if there is one.
    pub fn settle(&mut self) {
        if let Self::Shared(listener) = self {
            listener.settle();
        }
    }

    /// Writes itself down.
    #[must_use]
    pub fn record(&self) -> ListenersRecord {
        match self {
            Self::Shared(listener) => ListenersRecord::Shared(Box::new(listener.record())),
            Self::PerSlot(group) => ListenersRecord::PerSlot(group.record()),
        }
    }

    /// Takes over what was written down.
    ///
    /// # Errors
    /// [`AdoptError`].
    pub fn adopt(record: &ListenersRecord, inherited: &mut Inherited) -> Result<Self, AdoptError> {
        match record {
            ListenersRecord::Shared(listener) => {
                Listener::adopt(listener, inherited).map(|listener| Self::Shared(Box::new(listener)))
            }
            ListenersRecord::PerSlot(group) => PerSlot::adopt(group, inherited).map(Self::PerSlot),
        }
    }
}

impl ListenersRecord {
    /// The descriptors that they are.
    #[must_use]
    pub fn descriptors(&self) -> Vec<Fd> {
        match self {
            Self::Shared(listener) => listener.descriptors().collect(),
            Self::PerSlot(group) => group.descriptors().collect(),
        }
    }
}
