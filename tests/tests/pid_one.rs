//! The master as PID 1 of a pid namespace: it reaps whatever is left to it, hears signals although it is the init, and exits
//! with the code that it should. Real containers are in `world/containers/`.

use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use einhorn_proto::{MasterState, Status};
use nix::sys::signal::Signal;
use nix::unistd::geteuid;
use tempfile::TempDir;
use tests::process::Captured;
use tests::wait::wait_for;
use tests::{Control, Process, binaries};

tests::trials! {
    a_thousand_orphans_are_reaped_while_the_pool_serves needs "pid namespace" "python3",
    signals_reach_it_from_outside_and_stop_it_with_their_codes needs "pid namespace",
    signals_reach_it_from_inside needs "pid namespace" "systemd",
    other_signals_do_what_they_do_elsewhere needs "pid namespace",
    exit_codes_say_what_was_wrong needs "pid namespace",
    an_orphan_that_stays_does_not_hold_the_end_up needs "pid namespace",
}

/// A master that is PID 1 of a pid namespace of its own. Pids in its answers are those of that namespace. It all ends
/// when this is dropped.
struct Container {
    directory: TempDir,
    unshare: Child,
    log: Captured,
}

impl Container {
    /// Runs the master with these options and this program.
    #[track_caller]
    fn run<S: Into<String>>(directory: TempDir, words: impl IntoIterator<Item = S>) -> Self {
        let mut command = Command::new("unshare");
        if !geteuid().is_root() {
            command.arg("--map-root-user");
        }
        command.args(["--pid", "--fork", "--kill-child=SIGKILL", "--mount-proc", "--"]);
        command.arg(binaries::einhyrningsins()).args(words.into_iter().map(Into::into));
        for name in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "LISTEN_FDS", "FDSTORE"] {
            command.env_remove(name);
        }
        let log = Captured::new();
        command.stdin(Stdio::null()).stdout(log.writer()).stderr(log.writer());
        let unshare = command.spawn().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
        Self { directory, unshare, log }
    }

    /// Runs `program` as COUNT workers, and waits until they are up.
    #[track_caller]
    fn serving<S: AsRef<str>>(count: u32, options: &[&str], program: &[S]) -> Self {
        let container = Self::starting(count, options, program);
        container.wait_up(count);
        container
    }

    #[track_caller]
    fn starting<S: AsRef<str>>(count: u32, options: &[&str], program: &[S]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("einhorn.sock").display().to_string();
        let count = count.to_string();
        let words = ["-d", &socket, "-n", &count, "-m", "-b", "127.0.0.1:0"].into_iter();
        let words = words.chain(options.iter().copied()).chain(["--"]);
        let words: Vec<_> = words.chain(program.iter().map(AsRef::as_ref)).map(str::to_owned).collect();
        Self::run(directory, words)
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("einhorn.sock")
    }

    /// The master.
    #[track_caller]
    fn init(&self) -> Process {
        let unshare = Process::of(self.unshare.id().cast_signed());
        let children = unshare.map(|process| process.children()).unwrap_or_default();
        *children.first().unwrap_or_else(|| panic!("there is no master\n{}", self.log.text()))
    }

    #[track_caller]
    fn status(&self) -> Status {
        Control::connect(&self.socket()).status()
    }

    #[track_caller]
    fn wait_status(&self, what: &str, is_good: impl Fn(&Status) -> bool) -> Status {
        wait_for(what, || {
            let status = Control::try_connect(&self.socket()).ok()?.status();
            is_good(&status).then_some(status)
        })
    }

    #[track_caller]
    fn wait_up(&self, count: u32) -> Status {
        self.wait_status("workers that are up", |status| {
            let master = &status.master;
            (master.wanted, master.up, master.starting, master.draining, master.state)
                == (count, count, 0, 0, MasterState::Running)
        })
    }

    #[track_caller]
    fn wait_exit(&mut self) -> ExitStatus {
        wait_for("the end of PID 1", || self.unshare.try_wait().ok().flatten())
    }

    #[track_caller]
    fn wait_exit_code(&mut self, code: i32) {
        let status = self.wait_exit();
        assert_eq!(status.code(), Some(code), "{status}\n{}", self.log.text());
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log.text());
        }
        // The kernel kills the rest of the namespace when its init is gone, and that goes with its parent.
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
    }
}

fn serve() -> String {
    binaries::worker("serve").display().to_string()
}

fn a_thousand_orphans_are_reaped_while_the_pool_serves() {
    let told = tempfile::NamedTempFile::new().expect("a file");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/servers/orphans.py");
    let told_path = told.path().display().to_string();
    let container = Container::serving(2, &[], &["python3", script, "500", &told_path]);
    let init = container.init();
    wait_for("the last words of a thousand orphans", || {
        let length = told.path().metadata().map_or(0, |file| file.len());
        (length == 1000).then_some(())
    });
    wait_for("none of them to be left", || (init.zombies() == 0 && init.children().len() == 2).then_some(()));
    let status = container.status();
    assert_eq!((status.master.pid, status.master.up), (1, 2));
    assert!(
        status.slots.iter().all(|slot| slot.restarts == 0),
        "a stranger's death was taken for a worker's"
    );
}

fn signals_reach_it_from_outside_and_stop_it_with_their_codes() {
    for (signal, code) in
        [(Signal::SIGTERM, 0), (Signal::SIGINT, 0), (Signal::SIGUSR2, 0), (Signal::SIGQUIT, 1)]
    {
        let mut container = Container::serving(2, &[], &[serve()]);
        container.init().signal(signal);
        container.wait_exit_code(code);
        let from = format!("{signal} from outside the container");
        assert!(container.log.text().contains(&from), "{}", container.log.text());
        assert!(!container.socket().exists() || code != 0, "{signal} left the control socket behind");
    }
}

fn signals_reach_it_from_inside() {
    // What the kernel keeps from an init is signals that it does nothing about.
    let script = "trap 'exit 0' TERM USR2; trap 'kill -TERM 1' USR1; systemd-notify --ready; \
                  while :; do sleep 1000 & wait $!; kill $!; done";
    let mut container = Container::serving(1, &[], &["/bin/sh", "-c", script]);
    container.init().signal(Signal::SIGUSR1);
    container.wait_exit_code(0);
    assert!(container.log.text().contains("SIGTERM from process"), "{}", container.log.text());
}

fn other_signals_do_what_they_do_elsewhere() {
    let container = Container::serving(1, &[], &[serve()]);
    let init = container.init();
    for signal in [Signal::SIGWINCH, Signal::SIGPIPE, Signal::SIGALRM, Signal::SIGCONT, Signal::SIGCHLD] {
        init.signal(signal);
    }
    init.signal(Signal::SIGTTIN);
    container.wait_up(2);
    init.signal(Signal::SIGHUP);
    let upgraded = container.wait_status("the upgrade", |status| {
        (status.master.generation, status.master.up, status.master.draining, status.master.state)
            == (2, 2, 0, MasterState::Running)
    });
    assert_eq!(upgraded.master.pid, 1);
    // It replaces itself and is PID 1 still.
    let reply = Control::connect(&container.socket()).ask("reload", &[]);
    assert_eq!(reply.ok, Some(true), "{}", reply.message);
    container.wait_up(2);
    assert_eq!(container.init(), init);
}

fn exit_codes_say_what_was_wrong() {
    let mut no_worker = Container::starting(2, &["-r", "1"], &[&serve(), "exit_before_ack=3"]);
    no_worker.wait_exit_code(1);
    let mut no_program = Container::starting(1, &[], &["/nowhere/server"]);
    no_program.wait_exit_code(1);
    let mut usage = Container::starting(1, &["--frob"], &[serve()]);
    usage.wait_exit_code(2);
}

fn an_orphan_that_stays_does_not_hold_the_end_up() {
    let script = "(sleep 1000 &); exec \"$0\"";
    let mut container = Container::serving(1, &[], &["/bin/sh", "-c", script, &serve()]);
    let init = container.init();
    wait_for("an orphan", || (init.children().len() == 2).then_some(()));
    init.signal(Signal::SIGTERM);
    container.wait_exit_code(0);
}
