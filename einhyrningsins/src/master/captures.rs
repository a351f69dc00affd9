//! Captured standard error of workers, with `--capture-startup`.
//!
//! A running worker cannot be given another standard error, so its pipe leads here as long as the worker or a
//! descendant holds it, not only until the ack. Everything is passed on to the log's sink, line by line. Until
//! the ack, the last lines are also kept, to be reported with a death. A slow reader of the log loses lines, as
//! for the master's own, and never blocks a worker. But a worker that writes without pause keeps waking the
//! master, and one that outlives the master gets SIGPIPE or EPIPE; hence this is an option.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use anyhow::Context;
use einhorn_proto::visible;
use einhyrningsins_supervisor::{Event, Report};
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::parts::Part;
use super::ready::{CAPTURES, Ready};
use crate::forms::{self, Keyed, core_pid, values};
use crate::logging::Log;
use crate::sys::inherit::Kept;

/// Limits of what is kept until the ack.
const TAIL_LINES_MAX: usize = 20;
const TAIL_BYTES_MAX: usize = 8 * 1024;

const KEPT_LINE_BYTES_MAX: usize = 1024;

/// A longer line, in bytes, is passed on in parts.
const LINE_BYTES_MAX: usize = 16 * 1024;

/// Bytes per read.
const READ_BYTES: usize = 16 * 1024;

/// Reads from one worker per round, so that a worker that writes without pause does not starve the others.
const READS_PER_ROUND: usize = 4;

/// Workers whose output is read in one round; the others have their turn in the next.
const STREAMS_PER_ROUND: usize = 16;

/// Reads of what a dead worker left. Its pipe holds no more than this, unless it was enlarged or a descendant
/// keeps writing; the rest is read later.
const READS_OF_THE_DEAD: usize = 64;

/// Receives whole lines to pass on.
type Sink<'a> = dyn FnMut(&[u8]) + 'a;

/// The captured standard error of a worker. Numbers are never reused while the master lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct Capture(pub(super) usize);

/// All captured standard errors.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Captures {
    #[serde(with = "values")]
    streams: BTreeMap<Capture, Stream>,
    #[serde(skip)]
    next: usize,
}

#[derive(Debug, Serialize, Deserialize)]
struct Stream {
    id: Capture,
    #[serde(rename = "fd")]
    pipe: Kept<File>,
    /// `None` once the worker is gone and only descendants write.
    #[serde(with = "forms::written")]
    worker: Option<Pid>,
    /// The beginning of an unfinished line.
    #[serde(with = "forms::written")]
    partial: Vec<u8>,
    /// `None` once the worker has acked.
    tail: Option<Tail>,
}

/// The last lines of a worker that has not acked.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
struct Tail {
    lines: VecDeque<String>,
    /// Whether the core knows the newest lines.
    #[serde(skip)]
    is_known: bool,
}

impl Keyed<Capture> for Stream {
    fn key(&self) -> Capture {
        self.id
    }
}

impl Captures {
    /// Adds our end of the standard error of `worker`.
    ///
    /// # Errors
    /// If it cannot be registered. The pipe is closed, and writes of the worker fail.
    pub(super) fn add(&mut self, registry: &Registry, pipe: OwnedFd, worker: Pid) -> io::Result<()> {
        // Those of an earlier image may have the next numbers.
        while self.streams.contains_key(&Capture(self.next)) {
            self.next += 1;
        }
        let id = Capture(self.next);
        register(registry, id, pipe.as_raw_fd())?;
        self.next += 1;
        let (pipe, tail) = (Kept::Open(File::from(pipe)), Some(Tail::default()));
        self.streams.insert(id, Stream { id, pipe, worker: Some(worker), partial: Vec::new(), tail });
        Ok(())
    }

    /// Passes on what can be read.
    pub(super) fn turn(&mut self, ready: &mut Ready, registry: &Registry, log: &mut Log) {
        for _ in 0..ready.captures.len().min(STREAMS_PER_ROUND) {
            let Some(capture) = ready.captures.pop() else { return };
            if !self.read(capture, registry, &mut |lines| log.pass_on(lines)) {
                ready.captures.push(capture);
            }
        }
    }

    /// Passes on what one pipe holds; returns whether that was all for now.
    fn read(&mut self, capture: Capture, registry: &Registry, sink: &mut Sink<'_>) -> bool {
        let Some(stream) = self.streams.get_mut(&capture) else { return true };
        match stream.read(READS_PER_ROUND, sink) {
            Progress::Paused => true,
            Progress::More => false,
            // Its last words have not been asked for yet.
            Progress::Ended if stream.worker.is_some() => true,
            Progress::Ended => {
                self.close(capture, registry);
                true
            }
        }
    }

    /// Passes on what the worker left when it died. If it had not acked, returns its last lines as an event.
    pub(super) fn on_reaped(&mut self, pid: Pid, registry: &Registry, log: &mut Log) -> Option<Event> {
        let lines = self.last_words(pid, registry, &mut |lines| log.pass_on(lines))?;
        Some(Event::Heard { pid: core_pid(pid), report: Report::LastWords(lines) })
    }

    fn last_words(&mut self, worker: Pid, registry: &Registry, sink: &mut Sink<'_>) -> Option<Vec<String>> {
        let (capture, stream) = self.streams.iter_mut().find(|(_, stream)| stream.worker == Some(worker))?;
        let capture = *capture;
        let progress = stream.read(READS_OF_THE_DEAD, sink);
        stream.worker = None;
        let lines = stream.take_news();
        stream.tail = None;
        if progress == Progress::Ended {
            self.close(capture, registry);
        }
        lines
    }

    /// The last lines of each worker that has not acked and has written since the previous call.
    pub(super) fn news(&mut self) -> Vec<Event> {
        let streams = self.streams.values_mut();
        let news = streams.filter_map(|stream| {
            Some(Event::Heard {
                pid: core_pid(stream.worker?),
                report: Report::LastWords(stream.take_news()?),
            })
        });
        news.collect()
    }

    /// From now on, `worker`'s lines are only passed on.
    pub(super) fn on_acked(&mut self, worker: Pid) {
        if let Some(stream) = self.streams.values_mut().find(|stream| stream.worker == Some(worker)) {
            stream.tail = None;
        }
    }

    /// After a handover, any pipe may hold output for which no event will come.
    pub(super) fn look_at_all(&self, ready: &mut Ready) {
        ready.captures.extend(self.streams.keys().copied());
    }

    fn close(&mut self, capture: Capture, registry: &Registry) {
        if let Some(stream) = self.streams.remove(&capture) {
            // Closing would unregister it, unless a child that is being spawned still holds a copy.
            let _ = registry.deregister(&mut SourceFd(&stream.pipe.as_raw_fd()));
        }
    }
}

fn register(registry: &Registry, capture: Capture, fd: RawFd) -> io::Result<()> {
    registry.register(&mut SourceFd(&fd), Token(CAPTURES + capture.0), Interest::READABLE)
}

impl Part for Captures {
    fn register(&mut self, registry: &Registry) -> anyhow::Result<()> {
        for (capture, stream) in &self.streams {
            register(registry, *capture, stream.pipe.as_raw_fd())
                .context("cannot wait for the standard errors of workers")?;
        }
        Ok(())
    }
}

/// The result of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// The pipe is empty; an event will announce more.
    Paused,
    /// There may be more.
    More,
    /// All writers have closed it.
    Ended,
}

impl Stream {
    fn read(&mut self, reads: usize, sink: &mut Sink<'_>) -> Progress {
        let mut buffer = [0; READ_BYTES];
        for _ in 0..reads {
            match self.pipe.read(&mut buffer) {
                Ok(0) => return self.end(sink),
                Ok(count) => self.take_up(&buffer[..count], sink),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Progress::Paused,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return self.end(sink),
            }
        }
        Progress::More
    }

    fn end(&mut self, sink: &mut Sink<'_>) -> Progress {
        self.end_line(sink);
        Progress::Ended
    }

    /// Passes on the lines that `bytes` completes.
    fn take_up(&mut self, bytes: &[u8], sink: &mut Sink<'_>) {
        self.partial.extend_from_slice(bytes);
        if let Some(last) = self.partial.iter().rposition(|byte| *byte == b'\n') {
            let rest = self.partial.split_off(last + 1);
            self.pass_on(sink);
            self.partial = rest;
        }
        if self.partial.len() > LINE_BYTES_MAX {
            self.end_line(sink);
        }
    }

    fn end_line(&mut self, sink: &mut Sink<'_>) {
        if !self.partial.is_empty() {
            self.partial.push(b'\n');
            self.pass_on(sink);
        }
    }

    /// Passes on `partial`, which holds whole lines, and empties it.
    fn pass_on(&mut self, sink: &mut Sink<'_>) {
        sink(&self.partial);
        if let Some(tail) = &mut self.tail {
            let lines = self.partial.split_inclusive(|byte| *byte == b'\n');
            lines.for_each(|line| tail.push(line.trim_ascii_end()));
        }
        self.partial.clear();
    }

    /// The last lines, including an unfinished one, if any is new.
    fn take_news(&mut self) -> Option<Vec<String>> {
        let tail = self.tail.as_mut()?;
        let partial = (!self.partial.is_empty()).then(|| text(&self.partial));
        let is_known = std::mem::replace(&mut tail.is_known, true) || tail.lines.is_empty();
        (!is_known || partial.is_some()).then(|| tail.lines.iter().cloned().chain(partial).collect())
    }
}

impl Tail {
    fn push(&mut self, line: &[u8]) {
        self.lines.push_back(text(line));
        self.is_known = false;
        let bytes = |lines: &VecDeque<String>| lines.iter().map(String::len).sum::<usize>();
        while self.lines.len() > TAIL_LINES_MAX || bytes(&self.lines) > TAIL_BYTES_MAX {
            self.lines.pop_front();
        }
    }
}

/// A line for people, shortened if necessary.
pub(super) fn text(line: &[u8]) -> String {
    visible(&String::from_utf8_lossy(&line[..line.len().min(KEPT_LINE_BYTES_MAX)])).into_owned()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use mio::Poll;
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    use nix::unistd::pipe2;

    use super::*;

    const WORKER: Pid = Pid::from_raw(7);

    /// A worker that writes, and what is passed on.
    struct Play {
        poll: Poll,
        captures: Captures,
        worker: Option<File>,
        passed_on: Vec<u8>,
    }

    impl Play {
        fn new() -> Self {
            let (ours, theirs) = pipe2(OFlag::O_CLOEXEC).unwrap();
            fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
            let (poll, mut captures) = (Poll::new().unwrap(), Captures::default());
            captures.add(poll.registry(), ours, WORKER).unwrap();
            Self { poll, captures, worker: Some(File::from(theirs)), passed_on: Vec::new() }
        }

        /// The worker writes this, and the master reads it.
        fn write(&mut self, text: impl AsRef<[u8]>) {
            self.worker.as_mut().unwrap().write_all(text.as_ref()).unwrap();
            let mut sink = |lines: &[u8]| self.passed_on.extend_from_slice(lines);
            while !self.captures.read(Capture(0), self.poll.registry(), &mut sink) {}
        }

        /// The newest lines of the worker.
        fn news(&mut self) -> Vec<Vec<String>> {
            let lines = |event| match event {
                Event::Heard { pid, report: Report::LastWords(lines) } if pid == core_pid(WORKER) => lines,
                other => panic!("{other:?}"),
            };
            self.captures.news().into_iter().map(lines).collect()
        }

        fn last_words(&mut self) -> Option<Vec<String>> {
            let mut sink = |lines: &[u8]| self.passed_on.extend_from_slice(lines);
            self.captures.last_words(WORKER, self.poll.registry(), &mut sink)
        }
    }

    #[test]
    fn whole_lines_are_copied_and_the_last_ones_are_kept() {
        let mut play = Play::new();
        play.write("one\ntw");
        assert_eq!(play.passed_on, b"one\n");
        play.write("o\n");
        assert_eq!(play.passed_on, b"one\ntwo\n");
        for number in 0..30 {
            play.write(format!("{number}\r\n"));
        }
        play.write("panicked");
        play.worker = None;
        let mut expected: Vec<_> = (11..30).map(|number| number.to_string()).collect();
        expected.push("panicked".to_owned());
        assert_eq!(play.last_words(), Some(expected));
        assert!(play.passed_on.ends_with(b"29\r\npanicked\n"), "the last line must get its end");
        assert!(play.captures.streams.is_empty(), "nobody can write to it any more");
        assert_eq!(play.last_words(), None, "the pid may have been reused");
    }

    #[test]
    fn kept_lines_are_bounded_and_passed_on_lines_are_whole() {
        let mut play = Play::new();
        let long = "x".repeat(3 * LINE_BYTES_MAX);
        play.write(format!("{long}\n"));
        let text = String::from_utf8(play.passed_on.clone()).unwrap();
        assert_eq!(text.replace('\n', ""), long);
        // Invalid UTF-8 becomes longer when it is shown to people.
        for _ in 0..30 {
            play.write([vec![0xff; 700], vec![b'\n']].concat());
        }
        let lines = play.news().remove(0);
        assert!(!lines.is_empty() && lines.len() <= TAIL_LINES_MAX);
        assert!(lines.iter().map(String::len).sum::<usize>() <= TAIL_BYTES_MAX);
        assert!(play.captures.streams[&Capture(0)].partial.is_empty());
    }

    #[test]
    fn new_lines_are_reported_once_and_not_after_the_ack() {
        let mut play = Play::new();
        assert!(play.news().is_empty());
        play.write("starting\n");
        assert_eq!(play.news(), [["starting"]]);
        assert!(play.news().is_empty());
        play.captures.on_acked(WORKER);
        play.write("up\n");
        assert!(play.news().is_empty());
        assert_eq!(play.passed_on, b"starting\nup\n", "the lines must still be passed on");
        assert_eq!(play.last_words(), None);
    }

    #[test]
    fn last_words_survive_an_end_of_file_that_is_read_before_the_death() {
        let mut play = Play::new();
        play.write("no such table\n");
        play.worker = None;
        let mut sink = |_: &[u8]| ();
        assert!(play.captures.read(Capture(0), play.poll.registry(), &mut sink));
        assert_eq!(play.last_words(), Some(vec!["no such table".to_owned()]));
        assert!(play.captures.streams.is_empty());
    }

    #[test]
    fn a_descendants_output_is_passed_on_after_the_workers_death() {
        let mut play = Play::new();
        play.write("one\n");
        assert_eq!(play.last_words(), Some(vec!["one".to_owned()]));
        play.write("two\n");
        assert_eq!(play.passed_on, b"one\ntwo\n");
        assert!(play.news().is_empty());
        play.worker = None;
        let mut sink = |_: &[u8]| ();
        assert!(play.captures.read(Capture(0), play.poll.registry(), &mut sink));
        assert!(play.captures.streams.is_empty());
    }
}
