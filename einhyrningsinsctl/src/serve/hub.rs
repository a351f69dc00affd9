//! What readers of the page see: pictures of the pool, every [`EVERY`] while there is a reader, and the master's events.
//!
//! Nobody is asked anything while nobody reads. A few numbers of each picture, of scrapes too, are kept for the plots.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use einhorn_proto::ListenerStatus;
use serde::Serialize;
use tokio::select;
use tokio::sync::{Notify, mpsc};
use tokio::time::sleep;

use super::keeper::Keeper;
use super::reader::{Cut, Events, Reader, queue};
use crate::live::{Event, Picture, Recent, follow};
use crate::program::Program;
use crate::trust::Trust;

/// How often a picture is taken while somebody reads.
const EVERY: Duration = Duration::from_secs(5);

/// How far back the plots go.
const PLOTTED: Duration = Duration::from_secs(15 * 60);

/// How far apart their points are, at least: so many are kept at most.
const SPACING: Duration = Duration::from_secs(1);

/// How many of the last events a new reader gets.
const RECENT: usize = 20;

/// How many events may wait between the thread that hears of them and the readers; more are left out.
const HEARD_MAX: usize = 1000;

/// The numbers of a picture that are plotted.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Point {
    at_ms: u64,
    resident_bytes: Option<u64>,
    cpu_percent: Option<f64>,
    /// What waits at each listener, by its index.
    queues: Vec<Option<u32>>,
}

impl Point {
    fn of(picture: &Picture) -> Self {
        let listeners = picture.status.iter().flat_map(|status| &status.listeners);
        Self {
            at_ms: picture.at_ms,
            resident_bytes: picture.total.map(|total| total.resident_bytes),
            cpu_percent: picture.total.and_then(|total| total.cpu_percent),
            queues: listeners.map(queue_of).collect(),
        }
    }
}

/// What waits at all sockets of a listener.
fn queue_of(listener: &ListenerStatus) -> Option<u32> {
    let own = listener.slots.iter().filter_map(|slot| slot.queue);
    own.chain(listener.queue.filter(|_| listener.slots.is_empty()))
        .map(|queue| queue.length)
        .reduce(u32::saturating_add)
}

/// What a reader gets first.
#[derive(Serialize)]
struct Start<'a> {
    /// The version of this program.
    version: &'a str,
    /// How often pictures follow, in milliseconds.
    every_ms: u64,
    points: &'a VecDeque<Point>,
    events: Vec<&'a Event>,
}

#[derive(Debug)]
struct State {
    readers: Vec<Events>,
    points: VecDeque<Point>,
    recent: Recent,
    last: Option<Arc<Picture>>,
}

/// The readers, and what they have in common.
#[derive(Debug)]
pub(super) struct Hub {
    state: Mutex<State>,
    /// Told when a reader has come.
    came: Notify,
    /// Told when a reader has left.
    left: Arc<Notify>,
}

impl Hub {
    pub(super) fn new() -> Self {
        let state =
            State { readers: Vec::new(), points: VecDeque::new(), recent: Recent::new(RECENT), last: None };
        Self { state: Mutex::new(state), came: Notify::new(), left: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a reader on the connection that `cut` ends.
    pub(super) fn add_reader(&self, cut: Cut) -> Reader {
        let (events, reader) = queue(cut, Arc::clone(&self.left));
        let mut state = self.lock();
        events.push(event(
            "start",
            &Start {
                version: env!("CARGO_PKG_VERSION"),
                every_ms: millis(EVERY),
                points: &state.points,
                events: state.recent.iter().collect(),
            },
        ));
        // While others read, the last picture is not old; else the next one follows at once.
        if let Some(last) = state.last.as_deref().filter(|_| !state.readers.is_empty()) {
            events.push(event("picture", last));
        }
        state.readers.push(events);
        drop(state);
        self.came.notify_one();
        reader
    }

    /// Ends the answer of every reader.
    pub(super) fn close(&self) {
        self.lock().readers.clear();
    }

    /// Notes a picture for the plots, and what has become of the master.
    pub(super) fn note(&self, picture: &Arc<Picture>) {
        let mut state = self.lock();
        let newest = state.points.back().map_or(0, |point| point.at_ms);
        if picture.at_ms >= newest.saturating_add(millis(SPACING)) || picture.at_ms < newest {
            state.points.push_back(Point::of(picture));
        }
        let oldest = picture.at_ms.saturating_sub(millis(PLOTTED));
        let kept = oldest..=picture.at_ms;
        // A clock that was set back leaves points of the future behind.
        state.points.retain(|point| kept.contains(&point.at_ms));
        if let Some(news) = picture.news(state.last.as_deref()) {
            state.happened(news);
        }
        state.last = Some(Arc::clone(picture));
    }

    fn send(&self, event: &Bytes) {
        let state = self.lock();
        state.readers.iter().for_each(|reader| reader.push(event.clone()));
    }

    /// Whether somebody reads.
    fn has_readers(&self) -> bool {
        let mut state = self.lock();
        state.readers.retain(|reader| !reader.is_over());
        !state.readers.is_empty()
    }

    /// Takes pictures and follows the master's events while somebody reads, for ever.
    pub(super) async fn run(&self, keeper: &Keeper, socket: PathBuf, trust: Trust) {
        loop {
            while !self.has_readers() {
                self.came.notified().await;
            }
            let (sender, heard) = mpsc::channel(HEARD_MAX);
            // Without it, pictures alone show what happens.
            let _ = follow(Program::Ctl, socket.clone(), trust.clone(), move |event| match event {
                Some(event) => !matches!(sender.try_send(event), Err(mpsc::error::TrySendError::Closed(_))),
                None => !sender.is_closed(),
            });
            select! {
                () = self.take_pictures(keeper) => {}
                () = self.pass_on(heard) => {}
            }
        }
    }

    /// Until nobody reads.
    async fn take_pictures(&self, keeper: &Keeper) {
        while self.has_readers() {
            let mut rest = EVERY;
            if let Ok((picture, least)) = keeper.picture().await {
                self.note(&picture);
                self.send(&event("picture", &*picture));
                rest = rest.max(least);
            }
            let mut rested = std::pin::pin!(sleep(rest));
            loop {
                select! {
                    () = &mut rested => break,
                    () = self.left.notified() => if !self.has_readers() { return },
                }
            }
        }
    }

    async fn pass_on(&self, mut heard: mpsc::Receiver<Event>) {
        while let Some(event) = heard.recv().await {
            // What else comes is the answer to the request for events itself.
            if event.notice.is_some() {
                self.lock().happened(event);
            }
        }
        // The thread could not be had.
        std::future::pending::<()>().await;
    }
}

impl State {
    fn happened(&mut self, news: Event) {
        let event = event("event", &news);
        self.readers.iter().for_each(|reader| reader.push(event.clone()));
        self.recent.push(news);
    }
}

/// An event as `text/event-stream` has it. JSON has no newlines.
fn event(name: &str, data: &impl Serialize) -> Bytes {
    // What is serialised here has names as keys only, so it is never refused.
    let data = serde_json::to_string(data).unwrap_or_default();
    format!("event: {name}\ndata: {data}\n\n").into()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
