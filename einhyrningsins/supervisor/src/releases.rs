//! Generations: which one serves, which can be rolled back to, which have proved that they can come up, and which
//! releases the shell holds.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use einhorn_proto::SignalReason;
use serde::{Deserialize, Serialize};

use super::event::Generation;
use super::policy::{Policy, Terms};
use super::signal::Signal;

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
    /// The signals with which workers of a generation were asked to stop, or will be, and why.
    #[serde(default)]
    conventions: BTreeMap<Generation, Vec<(Signal, SignalReason)>>,
    /// Labels that clients gave to releases.
    #[serde(default)]
    labels: BTreeMap<Generation, String>,
    /// What the workers of each generation are held to, once an upgrade may have changed that of the policy. An older master
    /// changed it for nobody.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    terms: BTreeMap<Generation, Terms>,
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
            conventions: BTreeMap::new(),
            labels: BTreeMap::new(),
            terms: BTreeMap::new(),
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

    /// The number that [`Self::next`] gives out.
    pub(crate) fn upcoming(&self) -> Generation {
        Generation(self.last.0 + 1)
    }

    /// Gives out the number of a new generation. It is never used again.
    pub(crate) fn next(&mut self) -> Generation {
        self.last = self.upcoming();
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

    /// Workers of `generation` are asked to stop with `signal`. Whether that is new.
    pub(crate) fn note_convention(
        &mut self,
        generation: Generation,
        signal: Signal,
        reason: &SignalReason,
    ) -> bool {
        if !self.held.contains(&generation) {
            return false;
        }
        let known = self.conventions.entry(generation).or_default();
        let is_new = !known.iter().any(|known| (known.0, &known.1) == (signal, reason));
        if is_new {
            known.push((signal, reason.clone()));
        }
        is_new
    }

    /// How workers of `generation` are asked to stop, as far as that is known.
    pub(crate) fn conventions(&self, generation: Generation) -> &[(Signal, SignalReason)] {
        self.conventions.get(&generation).map_or(&[], Vec::as_slice)
    }

    /// Notes the label that a client gave to the release of `generation`.
    pub(crate) fn set_label(&mut self, generation: Generation, label: String) {
        self.labels.insert(generation, label);
    }

    /// The label of the release of `generation`, if a client gave one.
    pub(crate) fn label(&self, generation: Generation) -> Option<&String> {
        self.labels.get(&generation)
    }

    /// What the workers of `generation` are held to.
    pub(crate) fn terms(&self, generation: Generation, policy: &Policy) -> Terms {
        self.terms.get(&generation).copied().unwrap_or_else(|| policy.terms())
    }

    /// Notes the terms of every generation that there may be a worker of.
    pub(crate) fn set_terms(&mut self, terms: BTreeMap<Generation, Terms>) {
        self.terms = terms;
    }

    /// Names the releases that are neither in `used` nor kept here, and forgets them.
    pub(crate) fn forget_unused(&mut self, mut used: BTreeSet<Generation>) -> Vec<Generation> {
        used.insert(self.serving);
        used.extend(self.previous);
        self.labels.retain(|generation, _| used.contains(generation));
        let unused: Vec<_> = self.held.difference(&used).copied().collect();
        for generation in &unused {
            self.held.remove(generation);
            self.proven.remove(generation);
            self.conventions.remove(generation);
        }
        unused
    }
}
