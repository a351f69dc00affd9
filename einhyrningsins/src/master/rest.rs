//! When the master gives memory back: once the pool has not changed for a while. What a start or an upgrade has used may not be
//! needed again for days.
//!
//! Only a change sets a deadline, so an idle master sleeps.

use std::time::{Duration, Instant};

use crate::sys::memory;

/// How long the pool has not changed by then. Giving memory back takes half a millisecond, which an upgrade must not wait for.
const QUIET: Duration = Duration::from_secs(1);

/// When to give memory back; `None` if that is done.
#[derive(Debug)]
pub(super) struct Rest(Option<Instant>);

impl Rest {
    /// For a master that has just started, or taken over.
    pub(super) fn new() -> Self {
        Self(Some(Instant::now() + QUIET))
    }

    /// When to give memory back, after a round that has carried out so many actions.
    pub(super) fn deadline(&mut self, acted: usize) -> Option<Instant> {
        if acted > 0 {
            *self = Self::new();
        }
        self.0
    }

    pub(super) fn turn(&mut self, now: Instant) {
        if self.0.take_if(|at| *at <= now).is_some() {
            memory::give_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_wakes_the_master_once_after_something_has_happened() {
        let mut rest = Rest::new();
        let first = rest.deadline(0).unwrap();
        let second = rest.deadline(3).unwrap();
        assert!(second > first);
        rest.turn(first);
        assert_eq!(rest.deadline(0), Some(second));
        rest.turn(second);
        assert_eq!(rest.deadline(0), None);
        assert!(rest.deadline(1).is_some());
    }
}
