//! Writes to a file or a reader that may not take it, on a thread of its own.
//!
//! A pipe that another user made cannot be opened again with O_NONBLOCK, and O_NONBLOCK is of no use for a file on a disk
//! that hangs. A `write(2)` there waits for as long as the reader or the disk likes. The thread begins with the first
//! bytes, so that all signals are blocked in it that are blocked in the main thread then. An exec or the end of the
//! process ends it, whatever it waits for.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use nix::errno::Errno;
use rustix::event::{EventfdFlags, eventfd};

use super::thread;

/// The thread writes so many bytes at once: into a pipe all of them or none. Source: `PIPE_BUF` in `pipe(7)`.
const PIECE_BYTES: usize = 4096;

/// The thread copies so many bytes at once.
const JOB_BYTES_MAX: usize = 64 * 1024;

/// Where to write.
#[derive(Debug, Clone)]
pub enum Target {
    Stderr,
    File(Arc<File>),
}

/// A thread that writes, and what it writes. It ends with its owner, or later if it is in the middle of a write.
#[derive(Debug)]
pub struct Writer {
    desk: Arc<Desk>,
    has_thread: bool,
}

#[derive(Debug)]
struct Desk {
    state: Mutex<State>,
    changed: Condvar,
    /// Written to for each job that is done.
    news: Option<OwnedFd>,
}

#[derive(Debug, Default)]
struct State {
    job: Option<Job>,
    has_owner: bool,
}

#[derive(Debug)]
struct Job {
    target: Target,
    bytes: Arc<[u8]>,
    written: usize,
    /// How much of it [`Writer::write`] has told of.
    told: usize,
    /// How it ended, once it has.
    outcome: Option<Result<(), Errno>>,
}

impl Writer {
    #[must_use]
    pub fn new() -> Self {
        let news = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok();
        let state = Mutex::new(State { job: None, has_owner: true });
        Self { desk: Arc::new(Desk { state, changed: Condvar::new(), news }), has_thread: false }
    }

    /// Readable when [`Self::write`] has something to tell. `None` if there was no descriptor left for it.
    pub fn news(&self) -> Option<BorrowedFd<'_>> {
        self.desk.news.as_ref().map(AsFd::as_fd)
    }

    /// Offers `bytes`, and tells how many of them have been written. The same bytes must be offered again, perhaps with
    /// more behind them, until they have been written or have failed.
    ///
    /// # Errors
    /// `EAGAIN` if there is nothing to tell yet; else why the first byte that is left could not be written.
    pub fn write(&mut self, target: &Target, bytes: &[u8]) -> Result<usize, Errno> {
        let mut state = self.desk.lock();
        if let Some(job) = &mut state.job {
            let news = job.written - std::mem::replace(&mut job.told, job.written);
            if news > 0 {
                return Ok(news);
            }
            let outcome = job.outcome.ok_or(Errno::EAGAIN)?;
            state.job = None;
            outcome?;
        }
        let bytes = bytes[..bytes.len().min(JOB_BYTES_MAX)].into();
        state.job = Some(Job { target: target.clone(), bytes, written: 0, told: 0, outcome: None });
        drop(state);
        if !self.has_thread {
            let desk = Arc::clone(&self.desk);
            match thread::start("log", move || desk.run()) {
                Ok(()) => self.has_thread = true,
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => self.desk.finish_job(),
                // For want of memory. The job waits for the next try.
                Err(_) => {}
            }
        }
        self.desk.changed.notify_all();
        Err(Errno::EAGAIN)
    }

    /// Whether [`Self::write`] has yet to tell of bytes that were offered.
    pub fn is_busy(&self) -> bool {
        self.desk.lock().job.as_ref().is_some_and(|job| job.outcome.is_none() || job.has_news())
    }

    /// Waits until [`Self::write`] has something to tell. Returns whether it has.
    pub fn wait(&self, until: Instant) -> bool {
        let left = until.saturating_duration_since(Instant::now());
        let is_waiting = |state: &mut State| {
            state.job.as_ref().is_some_and(|job| !job.has_news() && job.outcome.is_none())
        };
        let waited = self.desk.changed.wait_timeout_while(self.desk.lock(), left, is_waiting);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.desk.lock().has_owner = false;
        self.desk.changed.notify_all();
    }
}

impl Job {
    fn has_news(&self) -> bool {
        self.written > self.told
    }
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut state = self.lock();
        while state.has_owner {
            state = match self.write_piece(state) {
                (state, true) => state,
                (state, false) => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Without a thread.
    fn finish_job(&self) {
        while self.write_piece(self.lock()).1 {}
    }

    /// Writes some of the job, unlocked; `false` if there is nothing to do.
    fn write_piece<'a>(&'a self, mut state: MutexGuard<'a, State>) -> (MutexGuard<'a, State>, bool) {
        let Some(job) = state.job.as_mut().filter(|job| job.outcome.is_none()) else { return (state, false) };
        let (target, bytes, from) = (job.target.clone(), Arc::clone(&job.bytes), job.written);
        drop(state);
        let result = target.write(&bytes[from..bytes.len().min(from + PIECE_BYTES)]);
        let mut state = self.lock();
        // Nobody else takes a job away that has no outcome.
        let Some(job) = &mut state.job else { return (state, true) };
        match result {
            Ok(count) => job.written += count,
            Err(Errno::EINTR) => {}
            Err(errno) => job.outcome = Some(Err(errno)),
        }
        if job.written == job.bytes.len() {
            job.outcome = Some(Ok(()));
        }
        if job.outcome.is_some() {
            self.tell();
        }
        self.changed.notify_all();
        (state, true)
    }

    fn tell(&self) {
        if let Some(news) = &self.news {
            let _ = nix::unistd::write(news, &1_u64.to_ne_bytes());
        }
    }
}

impl Target {
    fn write(&self, bytes: &[u8]) -> Result<usize, Errno> {
        match self {
            Self::Stderr => nix::unistd::write(io::stderr().as_fd(), bytes),
            Self::File(file) => nix::unistd::write(file, bytes),
        }
    }
}

/// Writes all of `text` to standard error, but does not wait for a reader beyond `until`.
pub fn say(text: &str, until: Instant) {
    let mut writer = Writer::new();
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        match writer.write(&Target::Stderr, rest) {
            Ok(count) => rest = &rest[count..],
            Err(Errno::EAGAIN) if writer.wait(until) => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, pipe};
    use std::thread;
    use std::time::Duration;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(30)
    }

    fn write_all(writer: &mut Writer, target: &Target, mut bytes: &[u8]) -> Result<(), Errno> {
        while !bytes.is_empty() {
            match writer.write(target, bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(Errno::EAGAIN) => assert!(writer.wait(soon())),
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    #[test]
    fn a_reader_that_does_not_read_holds_up_the_thread_alone() {
        let (mut reader, end) = pipe().unwrap();
        let target = Target::File(Arc::new(File::from(OwnedFd::from(end))));
        let mut writer = Writer::new();
        let text: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_ne_bytes).collect();
        let mut written = 0;
        loop {
            match writer.write(&target, &text[written..]) {
                Ok(count) => written += count,
                Err(errno) => {
                    assert_eq!(errno, Errno::EAGAIN);
                    if !writer.wait(Instant::now() + Duration::from_millis(200)) {
                        break;
                    }
                }
            }
        }
        assert!(writer.is_busy() && written > 0);
        let reading = thread::spawn(move || {
            let mut read = Vec::new();
            reader.read_to_end(&mut read).map(|_| read)
        });
        write_all(&mut writer, &target, &text[written..]).unwrap();
        assert!(!writer.is_busy());
        drop((target, writer));
        assert!(reading.join().unwrap().unwrap() == text, "each byte once, in order");
    }

    #[test]
    fn what_cannot_be_written_is_told() {
        let (reader, end) = pipe().unwrap();
        drop(reader);
        let mut writer = Writer::new();
        let target = Target::File(Arc::new(File::from(OwnedFd::from(end))));
        assert_eq!(write_all(&mut writer, &target, b"nobody hears this"), Err(Errno::EPIPE));
        let file = tempfile::NamedTempFile::new().unwrap();
        let target = Target::File(Arc::new(file.reopen().unwrap()));
        write_all(&mut writer, &target, b"and this goes on").unwrap();
        assert_eq!(std::fs::read(file.path()).unwrap(), b"and this goes on");
    }
}
