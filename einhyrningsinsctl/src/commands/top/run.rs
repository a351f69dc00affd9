//! The loop of the view: it has the terminal, waits for keys, signals and messages, and draws.
//!
//! Another thread looks at the master, one more follows its events, and each order has one of its own, so that no answer that is
//! missing freezes the view.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::read;

use super::keys::{Key, Keys};
use super::order::Messenger;
use super::post::{Input, Letterbox, Post, post};
use super::screen::Screen;
use super::state::{Effect, State};
use super::{Context, EVERY};
use crate::commands::upgrade::CONTINUES;
use crate::error::{Error, note};
use crate::interrupt::is_signal_ignored;
use crate::live::{self, Live};

/// How soon the master is looked at again after the first time, to compare CPU times with.
const SECOND_LOOK: Duration = Duration::from_secs(1);

/// How often it is looked at while a rollout runs, or while it is lost.
const BUSY: Duration = Duration::from_secs(1);

/// How soon after something has happened.
const SOON: Duration = Duration::from_millis(250);

/// How long the rest of a key may take to come that begins with an escape, over a slow line; then it is the key Esc.
const ESCAPE: Duration = Duration::from_millis(100);

/// From one frame to the next that no key has asked for.
const FRAME: Duration = Duration::from_millis(50);

/// The signals that the view handles: those that would end or suspend it, and that the window has another size.
const SIGNALS: [Signal; 6] =
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGTSTP, Signal::SIGCONT, Signal::SIGWINCH];

/// How the view ends.
enum End {
    /// As the user wants.
    Quit,
    /// The terminal has gone.
    Gone,
    /// By a signal, of which this program is to end as if it had no handler.
    Signal(Signal),
}

/// Shows `state` until the user or a signal ends it.
///
/// # Errors
/// [`Error::Interrupted`] after SIGINT, or the terminal's.
pub(super) fn run(
    context: &Context<'_>,
    live: Live,
    state: State,
    interval: Option<Duration>,
) -> Result<(), Error> {
    let session = &context.session;
    let messenger = Messenger {
        program: session.program(),
        socket: session.socket().to_owned(),
        trust: session.trust().clone(),
        timeout: context.answer.timeout,
    };
    // Before any thread: each inherits the mask, and a signal must not find one without it.
    let signals = Signals::watch().map_err(Error::Watch)?;
    let (post, letterbox) = post().map_err(Error::Output)?;
    let (asked, asks) = sync_channel(1);
    begin_threads(live, interval, asks, &post, &messenger).map_err(Error::Output)?;
    let mut view = View {
        screen: Screen::take(context.output.is_coloured()).map_err(Error::Output)?,
        keys: Keys::default(),
        escape_until: None,
        state,
        is_coloured: context.output.is_coloured(),
        signals,
        post,
        letterbox,
        asked,
        messenger,
    };
    let end = view.run();
    let View { screen, signals, state, .. } = view;
    drop(screen);
    drop(signals);
    let end = end.map_err(Error::Output)?;
    if state.awaits_rollout() {
        note(context.session.program(), CONTINUES);
    }
    match end {
        End::Quit => Ok(()),
        End::Gone => Err(Error::Output(io::ErrorKind::BrokenPipe.into())),
        End::Signal(Signal::SIGINT) => Err(Error::Interrupted { command: super::NAME.to_owned() }),
        End::Signal(signal) => raise(signal).map_err(Error::Watch),
    }
}

/// Begins to look at the master, and to follow its events.
fn begin_threads(
    live: Live,
    interval: Option<Duration>,
    asks: Receiver<()>,
    post: &Post,
    messenger: &Messenger,
) -> io::Result<()> {
    let to = post.clone();
    thread::Builder::new().name("looks".to_owned()).spawn(move || look_again(live, interval, &asks, &to))?;
    let to = post.clone();
    let Messenger { program, socket, trust, .. } = messenger.clone();
    live::follow(program, socket, trust, move |event| match event {
        Some(event) => to.send(Input::Event(event)),
        None => to.is_read(),
    })
}

/// Looks at the master again and again, sooner if asked, until nobody wants to know.
fn look_again(mut live: Live, interval: Option<Duration>, asks: &Receiver<()>, post: &Post) {
    let (mut pause, mut least) = (SECOND_LOOK, SOON);
    let mut looked = Instant::now();
    loop {
        match asks.recv_timeout((looked + pause).saturating_duration_since(Instant::now())) {
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {}
            // Not at once: whatever has happened, more of it happens in a moment.
            Ok(()) => thread::sleep((looked + least).saturating_duration_since(Instant::now())),
        }
        while asks.try_recv().is_ok() {}
        looked = Instant::now();
        let picture = live.look();
        let is_busy =
            picture.is_lost() || picture.status.as_ref().is_some_and(|status| status.upgrade.is_some());
        (pause, least) = pauses(interval, live.rest(), is_busy);
        if !post.send(Input::Picture(Box::new(picture))) {
            return;
        }
    }
}

/// How long to wait until the next look, and at least if something happens before. `rest` is what a look costs.
fn pauses(interval: Option<Duration>, rest: Duration, is_busy: bool) -> (Duration, Duration) {
    let pause = interval.unwrap_or_else(|| EVERY.max(rest));
    let pause = if is_busy { pause.min(BUSY.max(rest)) } else { pause };
    (pause, pause.min(SOON.max(rest)))
}

/// The view, and all that it waits for.
struct View {
    screen: Screen,
    keys: Keys,
    /// How long the rest of a key is waited for.
    escape_until: Option<Instant>,
    state: State,
    is_coloured: bool,
    signals: Signals,
    /// For the threads that it begins.
    post: Post,
    letterbox: Letterbox,
    /// Asks for a look at the master, soon.
    asked: SyncSender<()>,
    messenger: Messenger,
}

impl View {
    fn run(&mut self) -> io::Result<End> {
        let mut drawn = Instant::now();
        let (mut is_due, mut is_urgent) = (true, true);
        loop {
            let due = drawn + FRAME;
            if is_due && (is_urgent || due <= Instant::now()) {
                self.draw()?;
                drawn = Instant::now();
                (is_due, is_urgent) = (false, false);
            }
            let until = is_due.then_some(due).into_iter().chain(self.escape_until).min();
            let [has_key, has_signal, has_post] = self.wait(until)?;
            if has_signal {
                while let Some(signal) = self.signals.take() {
                    if let Some(end) = self.on_signal(signal)? {
                        return Ok(end);
                    }
                }
            }
            let keys = if has_key { self.read_keys()? } else { Some(self.escape_alone()) };
            let Some(keys) = keys else { return Ok(End::Gone) };
            let has_key = !keys.is_empty();
            for key in keys {
                if let Some(end) = self.on_key(key)? {
                    return Ok(end);
                }
            }
            if has_post {
                self.read_post();
            }
            is_due |= has_signal || has_key || has_post;
            is_urgent |= has_signal || has_key;
        }
    }

    fn draw(&mut self) -> io::Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let (state, is_coloured) = (&mut self.state, self.is_coloured);
        self.screen.draw(|frame| super::view::draw(frame, state, now_ms, is_coloured))
    }

    /// Waits for keys, signals or messages, and returns which have come; none of them at the time `until`.
    fn wait(&self, until: Option<Instant>) -> io::Result<[bool; 3]> {
        let keyboard = io::stdin();
        let waited: [BorrowedFd<'_>; 3] =
            [keyboard.as_fd(), self.signals.descriptor(), self.letterbox.bell()];
        let mut waited = waited.map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        let rest = until.map(|until| until.saturating_duration_since(Instant::now()).as_millis() + 1);
        let timeout =
            rest.map_or(PollTimeout::NONE, |rest| PollTimeout::try_from(rest).unwrap_or(PollTimeout::MAX));
        match poll(&mut waited, timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(waited.map(|fd| fd.any() == Some(true))),
            Err(errno) => Err(errno.into()),
        }
    }

    /// The keys that have been pressed; `None` if the terminal has gone.
    fn read_keys(&mut self) -> io::Result<Option<Vec<Key>>> {
        let mut bytes = [0; 1024];
        match read(io::stdin(), &mut bytes) {
            // A hang-up is the one or the other, by the kind of terminal.
            Ok(0) | Err(Errno::EIO) => Ok(None),
            Ok(count) => {
                let keys = self.keys.take(&bytes[..count]);
                self.escape_until = self.keys.is_pending().then(|| Instant::now() + ESCAPE);
                Ok(Some(keys))
            }
            Err(Errno::EINTR | Errno::EAGAIN) => Ok(Some(Vec::new())),
            Err(errno) => Err(errno.into()),
        }
    }

    /// The key Esc, if it was pressed and nothing has followed it.
    fn escape_alone(&mut self) -> Vec<Key> {
        if self.escape_until.is_none_or(|until| Instant::now() < until) {
            return Vec::new();
        }
        self.escape_until = None;
        self.keys.give_up().into_iter().collect()
    }

    fn on_key(&mut self, key: Key) -> io::Result<Option<End>> {
        match self.state.key(key) {
            Effect::Nothing => {}
            Effect::Quit => return Ok(Some(End::Quit)),
            Effect::Suspend => self.suspend()?,
            Effect::Redraw => self.screen.retake()?,
            Effect::Send(order) => self.messenger.send(order, &self.post),
        }
        Ok(None)
    }

    fn read_post(&mut self) {
        let mut is_news = false;
        let (inputs, is_more) = self.letterbox.take();
        if is_more {
            self.post.ring();
        }
        for input in inputs {
            match input {
                Input::Picture(picture) => self.state.see(*picture),
                Input::Event(event) => is_news |= self.state.hear(event),
                Input::Answer(answer) => {
                    is_news = true;
                    self.state.answer(&answer);
                }
            }
        }
        if is_news {
            // One that is asked for already is enough.
            let _ = self.asked.try_send(());
        }
    }

    fn on_signal(&mut self, signal: Signal) -> io::Result<Option<End>> {
        match signal {
            // The frame is drawn in the size that the terminal has.
            Signal::SIGWINCH => Ok(None),
            Signal::SIGTSTP => self.suspend().map(|()| None),
            // The shell may have used the terminal meanwhile.
            Signal::SIGCONT => self.screen.retake().map(|()| None),
            signal => Ok(Some(End::Signal(signal))),
        }
    }

    /// Gives the terminal back, and stops until the shell continues this program.
    fn suspend(&mut self) -> io::Result<()> {
        self.screen.release();
        self.signals.stop();
        self.screen.retake()
    }
}

/// Holds signals back, and takes them from a descriptor.
struct Signals {
    descriptor: SignalFd,
    mask_before: SigSet,
}

impl Signals {
    /// Begins to hold them back, except those that this program is to ignore: a descriptor would get even these.
    fn watch() -> Result<Self, Errno> {
        let held = SIGNALS.into_iter().filter(|signal| !is_signal_ignored(*signal));
        let held = SigSet::from_iter(held);
        let descriptor = SignalFd::with_flags(&held, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        let mask_before = held.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        Ok(Self { descriptor, mask_before })
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    /// The next signal that has come.
    fn take(&self) -> Option<Signal> {
        let info = self.descriptor.read_signal().ok().flatten()?;
        i32::try_from(info.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok())
    }

    /// Stops this process as SIGTSTP does, and returns when it is continued. In a session without a shell that could do so, it
    /// does not stop.
    fn stop(&self) {
        let stop = SigSet::from_iter([Signal::SIGTSTP]);
        // Neither fails for a signal that there is.
        let _ = stop.thread_unblock();
        let _ = raise(Signal::SIGTSTP);
        let _ = stop.thread_block();
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // It fails only for a bad argument.
        let _ = self.mask_before.thread_set_mask();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_that_costs_much_is_taken_less_often() {
        let seconds = Duration::from_secs;
        assert_eq!(pauses(None, Duration::ZERO, false), (EVERY, SOON));
        assert_eq!(pauses(None, Duration::ZERO, true), (BUSY, SOON));
        assert_eq!(pauses(None, seconds(5), true), (seconds(5), seconds(5)));
        assert_eq!(pauses(Some(seconds(9)), seconds(5), false), (seconds(9), seconds(5)));
        assert_eq!(pauses(Some(seconds(3)), seconds(5), false), (seconds(3), seconds(3)), "as the user says");
    }
}
