//! What `status` and `state` show.

use einhorn_proto::{MasterStatus, ReleaseStatus, Severity, Status, StopSignalStatus, WORKERS_MAX};
use einhyrningsins_supervisor::{Generation, Signal};
use serde_json::{Value, json};

use super::clients::Quota;
use super::{Control, View};
use crate::forms::{self, milliseconds, severity_name};
use crate::manners::{Facts, Manners, VERSION};

/// The releases, and how their workers are asked to stop.
fn releases(view: &View<'_>) -> Vec<ReleaseStatus> {
    let mut releases = view.workers.release_statuses();
    for release in &mut releases {
        if let Some(label) = view.core.release_label(Generation(release.generation)) {
            release.label = Some(label.clone());
        }
        let signals = view.core.stop_signals(Generation(release.generation)).iter();
        let signals = signals.map(|(signal, why)| StopSignalStatus {
            signal: signal.as_str().to_owned(),
            why: why.to_string(),
        });
        release.stop_signals = signals.collect();
    }
    releases
}

impl Control {
    pub(super) fn status(&self, view: &View<'_>) -> Status {
        let pool = view.core.snapshot(forms::now());
        let recipe = &view.workers.recipe;
        let release = view.workers.release(pool.generation);
        let directory = release.map_or(&recipe.directory, |release| &release.directory_path);
        Status {
            master: MasterStatus {
                pid: std::process::id().cast_signed(),
                version: VERSION.to_owned(),
                name: self.settings.name.clone(),
                state: pool.state,
                age_ms: milliseconds(forms::now() - self.started_at),
                generation: pool.generation.0,
                command: recipe.command.iter().map(|word| word.to_string_lossy().into_owned()).collect(),
                directory: directory.display().to_string(),
                socket: self.settings.socket.display().to_string(),
                wanted: pool.wanted,
                up: pool.up,
                starting: pool.starting,
                draining: pool.draining,
                max_rss: view.core.policy().recycling.max_rss_bytes,
                ack_mode: Some(view.core.terms(pool.generation).ack.in_words().0.to_owned()),
            },
            listeners: view.listeners.statuses(),
            slots: pool.slots,
            workers: pool.workers,
            releases: releases(view),
            recycled: pool.recycled,
            upgrade: pool.upgrade,
            queued: pool.queued,
            last_upgrade: pool.last_upgrade,
            lasting: pool.lasting,
            leftovers: pool.leftovers,
            pace: Some(pool.pace),
        }
    }

    /// The message and the data of `state`.
    pub(super) fn state(
        &self,
        manners: &dyn Manners,
        view: &View<'_>,
        verbosity: Severity,
    ) -> (String, Value) {
        let now = forms::now();
        let (policy, status) = (view.core.policy(), self.status(view));
        let details = view.core.worker_details(now);
        let generation = Generation(status.master.generation);
        let control = &self.settings;
        let message =
            manners.state(&Facts { status: &status, details: &details, policy, control, verbosity });
        let (ack_mode, ack_seconds) = policy.ack.in_words();
        let data = json!({
            "status": status,
            "policy": {
                "seconds": policy.seconds.as_secs_f64(),
                "ack_mode": ack_mode,
                "ack_seconds": ack_seconds,
                "retries": {
                    "unproven": policy.retries.unproven,
                    "upgrade": policy.retries.upgrade,
                    "proven": policy.retries.proven,
                },
                "max_unacked": Some(policy.unacked_max).filter(|max| *max < WORKERS_MAX),
                "auto_unacked": policy.unacked_by_cpus.is_some(),
                "max_upgrade_additional": policy.upgrade_additional_max,
                "graceful_signal": policy.graceful_signal.map(Signal::as_str),
                "signal_timeout": policy.grace.map(|grace| grace.as_secs_f64()),
                "max_age": policy.recycling.max_age.map(|max_age| max_age.age.as_secs_f64()),
                "max_age_jitter": policy.recycling.max_age.map(|max_age| max_age.jitter.as_secs_f64()),
                "max_rss": policy.recycling.max_rss_bytes,
                "ping_timeout": policy.recycling.ping_timeout.map(|timeout| timeout.as_secs_f64()),
            },
            "process": view.workers.process_state(generation),
            "control": {
                "clients": self.clients.connected(Quota::Clients),
                "observers": self.clients.connected(Quota::Observers),
                "requests": self.requests.len(),
                "pidfile": control.pidfile,
                "lockfile": control.lockfile,
                "socket_as_fd": view.workers.attributes_of(generation).control_as_fd,
            },
            "verbosity": severity_name(verbosity),
            "next_deadline_ms": view.core.next_deadline().map(|at| milliseconds(at - now)),
        });
        (message, data)
    }
}
