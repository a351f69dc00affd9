//! A terminal with a screen: a window of tmux, which a test types into, resizes and reads.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::Signal;

use crate::Master;
use crate::process::{Finished, Process, run};
use crate::wait::wait_for;

/// A window of a tmux server of its own, which ends with it.
#[derive(Debug)]
pub struct Terminal {
    socket: PathBuf,
}

impl Terminal {
    /// Opens a window of this size, in which `sh` runs `script`. Its server listens in the directory of `master`.
    ///
    /// # Panics
    /// If there is no tmux.
    #[track_caller]
    #[must_use]
    pub fn open(master: &Master, (columns, rows): (u16, u16), script: &str) -> Self {
        // Each has a socket of its own: the server of the one before may still be about to end.
        static OPENED: AtomicU32 = AtomicU32::new(0);
        let number = OPENED.fetch_add(1, Ordering::Relaxed);
        let terminal = Self { socket: master.file(&format!("tmux-{number}")) };
        let (columns, rows) = (columns.to_string(), rows.to_string());
        let size = ["-x", &columns, "-y", &rows];
        terminal.tmux(["new-session", "-d"].iter().chain(&size).chain(&["sh", "-c", script]));
        terminal
    }

    /// Presses keys: characters, or names as tmux has them, such as `Down` and `C-z`.
    #[track_caller]
    pub fn press(&self, keys: &[&str]) {
        self.tmux(["send-keys"].iter().chain(keys));
    }

    /// Gives the window another size.
    #[track_caller]
    pub fn resize(&self, columns: u16, rows: u16) {
        self.tmux(["resize-window", "-x", &columns.to_string(), "-y", &rows.to_string()]);
    }

    /// What is on the screen, a line for each of its rows.
    #[track_caller]
    #[must_use]
    pub fn text(&self) -> String {
        self.tmux(["capture-pane", "-p"]).stdout
    }

    /// The same with the sequences that colour it.
    #[track_caller]
    #[must_use]
    pub fn coloured_text(&self) -> String {
        self.tmux(["capture-pane", "-p", "-e"]).stdout
    }

    /// Waits until the screen shows `text`, and returns all that it shows then.
    ///
    /// # Panics
    /// With the screen, if it does not come.
    #[track_caller]
    pub fn wait(&self, text: &str) -> String {
        self.wait_screen(text, |screen| screen.contains(text))
    }

    /// Waits until the screen is as wanted.
    ///
    /// # Panics
    /// With the screen, if it does not become so.
    #[track_caller]
    pub fn wait_screen(&self, what: &str, is_wanted: impl Fn(&str) -> bool) -> String {
        let mut shown = String::new();
        let mut look = || {
            shown = self.text();
            is_wanted(&shown)
        };
        match crate::wait::within(crate::wait::patience(), || look().then_some(())) {
            Some(()) => shown,
            None => panic!("the screen does not show {what:?}:\n{shown}"),
        }
    }

    /// A fact that tmux knows of the window, such as `alternate_on`.
    #[track_caller]
    #[must_use]
    pub fn fact(&self, name: &str) -> String {
        self.tmux(["display-message", "-p", &format!("#{{{name}}}")]).stdout.trim().to_owned()
    }

    /// The process that the window's shell waits for.
    ///
    /// # Panics
    /// If there is none.
    #[track_caller]
    #[must_use]
    pub fn foreground(&self) -> Process {
        let shell = self.fact("pane_pid").parse().ok().and_then(Process::of).expect("the window's shell");
        wait_for("the program in the window", || shell.children().first().copied())
    }

    /// Takes the terminal away from whatever runs in the window, which goes on.
    #[track_caller]
    pub fn vanish(&self) {
        self.tmux(["kill-server"]);
    }

    #[track_caller]
    fn tmux<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Finished {
        let mut command = Command::new("tmux");
        // No settings of the user, and UTF-8 whatever the locale. Its own window is not that of whoever runs the tests.
        command.args(["-u", "-f", "/dev/null", "-S"]).arg(&self.socket).args(words).env_remove("TMUX");
        let finished = run(command);
        finished.assert_code(0);
        finished
    }
}

/// What ran in the window may not notice that it has gone.
impl Drop for Terminal {
    fn drop(&mut self) {
        let ask = |words: &[&str]| {
            let mut command = Command::new("tmux");
            command.arg("-S").arg(&self.socket).args(words).env_remove("TMUX").output()
        };
        let shell = ask(&["display-message", "-p", "#{pane_pid}"]).ok();
        let shell = shell.and_then(|shell| String::from_utf8_lossy(&shell.stdout).trim().parse().ok());
        let shell = shell.and_then(Process::of);
        let programs: Vec<_> = shell.iter().flat_map(Process::descendants).chain(shell).collect();
        let _ = ask(&["kill-server"]);
        for program in programs {
            program.signal(Signal::SIGKILL);
        }
    }
}
