//! The terminal while the view has it: raw keys and the alternate screen, and all of it as before at every end.

use std::io::{self, BufWriter, IsTerminal, Stdout, stdin, stdout};
use std::panic;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use ratatui_core::terminal::{Frame, Terminal};
use ratatui_crossterm::CrosstermBackend;
use ratatui_crossterm::crossterm::cursor::{Hide, Show};
use ratatui_crossterm::crossterm::execute;
use ratatui_crossterm::crossterm::style::force_color_output;
use ratatui_crossterm::crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};

use crate::output::Output;

/// A frame is written at once, if it is no larger than this many bytes.
const FRAME_BYTES: usize = 64 * 1024;

/// Whether the terminal is to be given back.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// Whether there are a terminal to draw on, and keys.
pub(super) fn is_there(output: &Output) -> bool {
    output.is_terminal() && stdin().is_terminal()
}

/// The terminal, taken as long as this lives.
pub(super) struct Screen {
    terminal: Drawn,
}

type Drawn = Terminal<CrosstermBackend<BufWriter<Stdout>>>;

impl Screen {
    /// Takes the terminal. A panic, too, gives it back before it is reported.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn take(is_coloured: bool) -> io::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                give_back();
                before(info);
            }));
        });
        // It has rules of its own otherwise.
        force_color_output(is_coloured);
        enter()?;
        Ok(Self { terminal: empty().inspect_err(|_| give_back())? })
    }

    /// Draws a frame, in the size that the terminal has now.
    pub(super) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.terminal.draw(draw).map(drop)
    }

    /// Gives the terminal back for a while.
    pub(super) fn release(&mut self) {
        give_back();
    }

    /// Takes it again, whatever others have made of it: the next frame is drawn whole.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn retake(&mut self) -> io::Result<()> {
        // Raw mode is remembered, and would not be set again.
        let _ = disable_raw_mode();
        enter()?;
        self.terminal = empty()?;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

fn enter() -> io::Result<()> {
    enable_raw_mode()?;
    IS_TAKEN.store(true, Ordering::Release);
    execute!(stdout(), EnterAlternateScreen, Hide, Clear(ClearType::All))
}

/// A terminal with nothing on it. Its own way to become so again would ask for the place of the cursor and wait for the answer.
fn empty() -> io::Result<Drawn> {
    Terminal::new(CrosstermBackend::new(BufWriter::with_capacity(FRAME_BYTES, stdout())))
}

/// Gives the terminal back, if it was taken. What fails cannot be helped: the terminal may be gone.
fn give_back() {
    if IS_TAKEN.swap(false, Ordering::AcqRel) {
        let _ = execute!(stdout(), Show, LeaveAlternateScreen);
        let _ = disable_raw_mode();
    }
}
