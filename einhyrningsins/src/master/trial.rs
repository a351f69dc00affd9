//! The trial worker of a check: its private twins of the sockets, and the jobs that run the commands of checks.

use std::error::Error;

use einhyrningsins_supervisor::{Generation, Subject, Supervisor};
use serde::{Deserialize, Serialize};

use super::control::Control;
use super::listeners::{Listeners, Stranger};
use crate::listen::{TwinError, Twins};
use crate::logging::Log;
use crate::workers::{SpawnFailure, Workers};

/// What a trial worker has of its own. There is one at a time.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Trial {
    twins: Option<Twins>,
    /// The strangers at addresses of the pool before its worker was spawned.
    strangers: Vec<Stranger>,
    /// Whether the log knows that strangers cannot be looked for.
    #[serde(skip)]
    is_blind: bool,
}

impl Trial {
    /// Removes what a trial left whose master was killed. If that cannot be removed, the next trial fails, and says so.
    pub(crate) fn clear(control: &Control, workers: &Workers, log: &mut Log) {
        if let Err(error) = Twins::clear(&control.settings().socket, user_of(workers, Generation(1))) {
            log.warn(format_args!("releases cannot be checked: {}", in_words(&error)));
        }
    }

    /// Makes the sockets of a trial worker of `generation`.
    pub(super) fn open(
        &mut self,
        listeners: &Listeners,
        control: &Control,
        workers: &Workers,
        generation: Generation,
    ) -> Result<&Twins, SpawnFailure> {
        // Those of a spawn that failed have the same names.
        self.twins = None;
        self.strangers = listeners.strangers().found;
        let twins = listeners.twins(&control.settings().socket, user_of(workers, generation));
        let twins = twins
            .map_err(|error| SpawnFailure { reason: in_words(&error), transient: error.is_transient() })?;
        Ok(self.twins.insert(twins))
    }

    /// Closes the sockets when no release is being tried. A worker that drains keeps its own.
    pub(super) fn follow(&mut self, core: &Supervisor) {
        if !core.is_trying() {
            self.twins = None;
            self.strangers.clear();
        }
    }

    /// Why the check fails if a stranger has come to an address of the pool since the worker was spawned.
    pub(super) fn stranger(&mut self, listeners: &Listeners, log: &mut Log) -> Option<String> {
        let seen = listeners.strangers();
        if let Some((address, error)) = &seen.unseen
            && !std::mem::replace(&mut self.is_blind, true)
        {
            log.warn(format_args!(
                "a release that binds {address} by itself would not be noticed: cannot ask the kernel for sockets: {error}"
            ));
        }
        let stranger = seen.new_since(&self.strangers)?;
        Some(format!("the program binds {} by itself", stranger.address))
    }

    /// The variables for the command of a check.
    pub(super) fn variables(&self, subject: &Subject, generation: Generation) -> Vec<(String, String)> {
        let mut variables = vec![("EINHORN_GENERATION".to_owned(), generation.to_string())];
        let mut add = |name: &str, value: String| variables.push((name.to_owned(), value));
        match subject {
            Subject::Trial(pid) => {
                add("EINHORN_CHECK_PID", pid.to_string());
                let addresses = self.twins.iter().flat_map(Twins::addresses).enumerate();
                addresses.for_each(|(number, address)| add(&format!("EINHORN_CHECK_ADDR_{number}"), address));
            }
            Subject::Canaries { canaries, baseline } => {
                for (name, pids) in [("EINHORN_CANARY_PIDS", canaries), ("EINHORN_BASELINE_PIDS", baseline)] {
                    let pids: Vec<_> = pids.iter().map(ToString::to_string).collect();
                    add(name, pids.join(" "));
                }
            }
        }
        variables
    }
}

fn user_of(workers: &Workers, generation: Generation) -> Option<u32> {
    workers.credentials(generation).and_then(|credentials| credentials.uid)
}

/// The error, its cause and its hint on one line.
fn in_words(error: &TwinError) -> String {
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    let hint = error.hint().map(|hint| format!("; hint: {hint}")).unwrap_or_default();
    format!("{error}{cause}{hint}")
}
