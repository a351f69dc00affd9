//! A shell in some place, which runs the blocks of a page one after the other, as somebody would who follows it.

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use tests::pages::{Block, Run};
use tests::process::Captured;
use tests::wait;

/// How long one command may take, in [patiences](wait::patience): it may be a build.
const COMMAND_PATIENCES: u32 = 20;

/// How long the shell has to end after its last command.
const END_MAX: Duration = Duration::from_secs(10);

/// The end of a command's output, and of each text that the shell reads. No page has it.
const MARKER: &str = "--end-of-a-command-of-a-page--";

/// A shell that keeps its directory, variables and programs in the background from block to block.
#[derive(Debug)]
pub(crate) struct Session {
    shell: Child,
    /// What it and its commands have printed.
    printed: Captured,
    /// How much of that belongs to commands that have ended.
    read: usize,
}

impl Session {
    /// Starts `shell`, a command that runs `bash` with its standard input as it is.
    #[track_caller]
    pub(crate) fn start(mut shell: Command) -> Self {
        let printed = Captured::new();
        shell.stdin(Stdio::piped()).stdout(printed.writer()).stderr(printed.writer());
        let child = shell.spawn().unwrap_or_else(|error| panic!("cannot run {shell:?}: {error}"));
        let mut session = Self { shell: child, printed, read: 0 };
        session.say("status=0");
        session
    }

    /// Writes a file that a page shows, with the directories above it.
    #[track_caller]
    pub(crate) fn write(&mut self, path: &str, text: &str) {
        let script =
            format!("mkdir -p \"$(dirname '{path}')\" && cat >'{path}' <<'{MARKER}'\n{text}{MARKER}");
        let (status, printed) = self.execute(&script, ":");
        assert_eq!(status, 0, "cannot write {path}\n{printed}");
    }

    /// Runs a block as its mark says.
    ///
    /// # Panics
    /// With what it printed, if that is not what the page says.
    #[track_caller]
    pub(crate) fn run(&mut self, block: &Block, how: &Run) {
        match how {
            Run::Until(text) => self.run_until(block, text),
            _ if block.language == "console" => self.run_console(block, how),
            Run::Fails => {
                let (status, printed) = self.execute(&block.text, ":");
                assert_ne!(status, 0, "{} should fail\n{printed}", block.at);
            }
            Run::Succeeds | Run::AnyOutput => {
                // The shell itself ends at a command that fails.
                let (status, printed) = self.execute(&block.text, "set -e");
                assert_eq!(status, 0, "{} fails\n{printed}", block.at);
            }
        }
    }

    #[track_caller]
    fn run_console(&mut self, block: &Block, how: &Run) {
        let commands = block.commands().unwrap_or_else(|fault| panic!("{fault}"));
        for (index, shown) in commands.iter().enumerate() {
            let (status, printed) = self.execute(&shown.command, "(exit $status)");
            let at = || format!("{}: $ {}\nexit status {status}\n{printed}", block.at, shown.command);
            match commands.get(index + 1) {
                None if *how == Run::Fails => assert_ne!(status, 0, "it should fail\n{}", at()),
                // The page shows the status.
                Some(next) if next.command == "echo $?" => {}
                _ => assert_eq!(status, 0, "it fails\n{}", at()),
            }
            if *how != Run::AnyOutput {
                let missing = shown.missing(&printed);
                assert!(missing.is_empty(), "not printed:\n{}\nof {}", missing.join("\n"), at());
            }
        }
    }

    /// Starts a program that goes on, and waits until it has printed `text`.
    #[track_caller]
    fn run_until(&mut self, block: &Block, text: &str) {
        let script = format!(
            "running=$(mktemp)\n{{\n{}}} >\"$running\" 2>&1 &\nuntil grep -qF '{text}' \"$running\" || ! kill -0 $!\n\
             do sleep 0.05\ndone\ngrep -qF '{text}' \"$running\" || {{ cat \"$running\"; false; }}",
            block.text
        );
        let (status, printed) = self.execute(&script, ":");
        assert_eq!(status, 0, "{} does not print {text:?}\n{printed}", block.at);
    }

    /// Runs a script after the line `before`, and gives its exit status and what was printed meanwhile.
    #[track_caller]
    fn execute(&mut self, script: &str, before: &str) -> (i32, String) {
        if script.contains("journalctl") {
            // A reader looks a moment later than a script does: journald reads what it is sent when it gets to it.
            self.say("journalctl --sync");
        }
        // Another end than that of a file that it writes.
        self.say(&format!("IFS= read -r -d '' block <<'{MARKER}script'\n{script}\n{MARKER}script"));
        self.say(&format!("{before}\neval \"$block\" </dev/null\nstatus=$?\nset +e"));
        self.say(&format!("printf '\\n%s %d\\n' '{MARKER}' $status"));
        let limit = wait::patience() * COMMAND_PATIENCES;
        let end = wait::within(limit, || {
            let is_over = self.shell.try_wait().is_ok_and(|status| status.is_some());
            let printed = self.printed.text();
            let new = &printed[self.read..];
            if let Some((output, rest)) = new.split_once(&format!("\n{MARKER} "))
                && let Some((status, after)) = rest.split_once('\n')
            {
                self.read = printed.len() - after.len();
                return Some((status.parse().expect("a status"), output.to_owned()));
            }
            is_over.then(|| (1, new.to_owned()))
        });
        end.unwrap_or_else(|| {
            panic!("still running after {limit:?}: {script}\n{}", &self.printed.text()[self.read..])
        })
    }

    /// Has the shell read a line.
    fn say(&mut self, line: &str) {
        let input = self.shell.stdin.as_mut().expect("its standard input");
        // One that has ended cannot; that is seen when its answer is waited for.
        let _ = writeln!(input, "{line}");
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if thread::panicking() {
            let _ = self.shell.kill();
        }
        // Its end of input is that of the shell.
        drop(self.shell.stdin.take());
        if wait::within(END_MAX, || self.shell.try_wait().ok().flatten()).is_none() {
            let _ = self.shell.kill();
        }
        let _ = self.shell.wait();
    }
}
