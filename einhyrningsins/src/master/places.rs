//! The files of Unix sockets: what others remove is made again, so that clients and workers find it at the same path.
//!
//! The parts own the places (`socket_place/`) and know how to bind them again; here is when, and what the log says. A
//! watch reports most removals, and spawns and upgrades are preceded by a look, which misses none. While a file cannot
//! be made again, there is a look every second. Without that, an idle master does not wake up.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use einhyrningsins_supervisor::{Event, Report};
use mio::unix::SourceFd;
use mio::{Interest, Registry};

use super::children::{Census, Children};
use super::parts::Parts;
use super::ready::{self, Ready};
use crate::logging::Log;
use crate::socket_place::{Lost, Watch};

/// How often to try again what could not be made.
const AGAIN_EVERY: Duration = Duration::from_secs(1);

/// So old may a look before a spawn be: what is removed meanwhile, the watch reports, and a worker takes longer to boot.
const FRESH: Duration = Duration::from_millis(10);

#[derive(Debug, Default)]
pub(super) struct Places {
    watch: Option<Watch>,
    /// What is lost and could not be made again, with the reason, as it was logged.
    failed: BTreeMap<String, String>,
    looked_at: Option<Instant>,
    again_at: Option<Instant>,
    /// What the core must hear.
    outcomes: Vec<Event>,
}

impl Places {
    /// Registers the watch with epoll. Without a watch, a look before each spawn is left.
    pub(super) fn register(&mut self, registry: &Registry, log: &mut Log) {
        let registered = Watch::new().map_err(std::io::Error::from).and_then(|watch| {
            registry.register(&mut SourceFd(&watch.as_raw_fd()), ready::PLACES, Interest::READABLE)?;
            Ok(watch)
        });
        match registered {
            Ok(watch) => self.watch = Some(watch),
            Err(error) => log.warn(format_args!(
                "cannot watch the files of sockets: {error}; if one is removed, it is made again at the next spawn or upgrade"
            )),
        }
    }

    /// Gives up the watch before an exec. The kernel takes up to 20 ms to close it.
    pub(super) fn let_go(&mut self) -> Option<OwnedFd> {
        self.watch.take().map(Watch::into_descriptor)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.again_at
    }

    pub(super) fn turn(
        &mut self,
        ready: &mut Ready,
        registry: &Registry,
        children: &Children,
        parts: &mut Parts,
    ) {
        let is_due = self.again_at.is_some_and(|at| at <= Instant::now());
        if !std::mem::take(&mut ready.places) && !is_due {
            return;
        }
        if let Some(watch) = &mut self.watch {
            watch.drain();
            let paths = parts.control.paths().into_iter().chain(parts.notify.path());
            // Before the look: what is removed after it raises an event.
            watch.follow(paths.chain(parts.listeners.paths()));
        }
        self.look(ready, registry, children, parts);
    }

    /// Looks, unless that was done just now.
    pub(super) fn look_before_spawn(
        &mut self,
        ready: &mut Ready,
        registry: &Registry,
        children: &Children,
        parts: &mut Parts,
    ) {
        let is_fresh = self.looked_at.is_some_and(|at| at.elapsed() < FRESH);
        if self.watch.is_none() || !is_fresh {
            self.look(ready, registry, children, parts);
        }
    }

    /// Looks whether all files are there, and makes again what is not.
    pub(super) fn look(
        &mut self,
        ready: &mut Ready,
        registry: &Registry,
        children: &Children,
        parts: &mut Parts,
    ) {
        let Parts { core, listeners, control, notify, service, log, .. } = parts;
        let census = Census { core, children };
        let before = std::mem::take(&mut self.failed);
        if let Some(lost) = control.lost() {
            let made = control.bind_again(&lost, ready, registry, census, log);
            self.note(&lost, made.map(|()| ""), &before, ready, log);
        }
        // Without the lock, another master may have its file there.
        if self.failed.is_empty()
            && let Some(lost) = notify.lost()
        {
            let made = notify.bind_again(&mut self.outcomes, ready, registry, census, log);
            self.note(&lost, made.map(|()| ""), &before, ready, log);
        }
        for (lost, made) in listeners.bind_again() {
            let replaced = made.map(|replaced| match replaced {
                Some(name) => {
                    service.on_listener_replaced(&name);
                    let pids = core.serving_pids();
                    self.outcomes.extend(pids.map(|pid| Event::Heard { pid, report: Report::LostSocket }));
                    "; workers hold a socket that nobody reaches any more, and are replaced one by one"
                }
                None => "",
            });
            self.note(&lost, replaced, &before, ready, log);
        }
        for found in before.keys().filter(|lost| !self.failed.contains_key(*lost)) {
            log.info(format_args!("{found} lost, and is not any more"));
        }
        self.looked_at = Some(Instant::now());
        self.again_at = (!self.failed.is_empty()).then(|| Instant::now() + AGAIN_EVERY);
    }

    fn note(
        &mut self,
        lost: &Lost,
        made: anyhow::Result<&str>,
        before: &BTreeMap<String, String>,
        ready: &mut Ready,
        log: &mut Log,
    ) {
        let taken = "removed, moved or replaced by another process";
        match made {
            Ok(remark) => {
                log.warn(format_args!("{lost} {taken}; made again{remark}"));
                // Watch the new file.
                ready.places = true;
            }
            Err(error) => {
                let reason = format!("{error:#}");
                let lost = lost.to_string();
                if before.get(&lost) != Some(&reason) {
                    log.error(format_args!(
                        "{lost} {taken}, and cannot be made again: {reason}; will try again every second"
                    ));
                }
                self.failed.insert(lost, reason);
            }
        }
    }

    /// What the core must hear.
    pub(super) fn take_outcomes(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.outcomes)
    }
}
