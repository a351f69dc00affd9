//! Generations: which one serves, which can be rolled back to, which have proved that they can come up, and which
//! releases the shell holds.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::event::Generation;

/// The generations that matter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Releases {
    /// What new slots run.
    serving: Generation,
    /// The last number given to a generation.
    last: Generation,
    /// What served before the last upgrade.
    previous: Option<Generation>,
    /// Generations of which a worker has acked.
    proven: BTreeSet<Generation>,
    /// Generations whose release the shell holds.
    held: BTreeSet<Generation>,
}

impl Releases {
    /// Those of a master that starts: the first one serves.
    pub(crate) fn first() -> Self {
        let first = Generation(1);
        Self {
            serving: first,
            last: first,
            previous: None,
            proven: BTreeSet::new(),
            held: BTreeSet::from([first]),
        }
    }

    pub(crate) fn serving(&self) -> Generation {
        self.serving
    }

    pub(crate) fn previous(&self) -> Option<Generation> {
        self.previous
    }

    pub(crate) fn is_proven(&self, generation: Generation) -> bool {
        self.proven.contains(&generation)
    }

    pub(crate) fn held(&self) -> impl Iterator<Item = Generation> {
        self.held.iter().copied()
    }

    /// The generations of which a worker has acked.
    #[cfg(test)]
    pub(crate) fn proven(&self) -> impl Iterator<Item = Generation> {
        self.proven.iter().copied()
    }

    /// Gives out the number of a new generation. It is never used again.
    pub(crate) fn next(&mut self) -> Generation {
        self.last.0 += 1;
        self.last
    }

    /// The shell holds the release of `generation`.
    pub(crate) fn resolved(&mut self, generation: Generation) {
        self.held.insert(generation);
    }

    /// A worker of `generation` has acked.
    pub(crate) fn prove(&mut self, generation: Generation) {
        self.proven.insert(generation);
    }

    /// An upgrade replaces workers from now on: what was kept to roll back to gives way.
    pub(crate) fn forget_previous(&mut self) {
        self.previous = None;
    }

    /// An upgrade is done, or one was superseded and another is to end at `serving`.
    pub(crate) fn serve(&mut self, serving: Generation, previous: Option<Generation>) {
        self.serving = serving;
        self.previous = previous;
    }

    /// Names the releases that are neither in `used` nor kept here, and forgets them.
    pub(crate) fn forget_unused(&mut self, mut used: BTreeSet<Generation>) -> Vec<Generation> {
        used.insert(self.serving);
        used.extend(self.previous);
        let unused: Vec<_> = self.held.difference(&used).copied().collect();
        for generation in &unused {
            self.held.remove(generation);
            self.proven.remove(generation);
        }
        unused
    }
}
