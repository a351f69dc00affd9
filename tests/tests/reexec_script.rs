//! A successor that is a script: it may take its time, change directory and environment, and know nothing of the
//! workers that are its children meanwhile.

use std::fs;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tests::control::Control;
use tests::{Master, Process, Successor, wait};

tests::trials! {
    a_worker_that_dies_meanwhile_is_replaced_and_its_status_told needs "python3",
    a_worker_that_a_script_has_reaped_is_replaced_all_the_same,
    a_stop_while_a_script_waits_stops_the_new_master,
    a_signal_to_a_shell_that_has_cleared_its_mask_is_lost_and_does_not_end_the_master,
    a_script_that_changes_directory_and_environment_is_heeded_by_the_next_generation,
}

/// How a successor waits for `$FIFO` before it becomes the daemon.
struct How {
    waits: &'static str,
    /// The program that waits.
    program: &'static str,
    /// Whether that is a child of what runs in the master's place.
    is_child: bool,
}

/// A shell, by itself.
const READS: How = How { waits: "read line <\"$FIFO\"", program: "sh", is_child: false };

/// A shell, for a program of its own; it reaps whoever else ends meanwhile.
const RUNS: How = How { waits: "cat \"$FIFO\" >/dev/null", program: "cat", is_child: true };

/// What has no children and reaps nobody.
const REAPS_NOBODY: How = How {
    waits: "exec python3 -c 'import os, sys; open(sys.argv[1]).read(); os.execv(sys.argv[2], sys.argv[2:])' \
            \"$FIFO\" \"$DAEMON\" \"$@\"",
    program: "python3",
    is_child: false,
};

/// A master that is replaced through a script. The script passes its check, and then waits for the test. It exports the number
/// of its process: because of that, the master executes the script again, and not the daemon.
struct Slow {
    how: How,
    fifo: PathBuf,
    _successor: Successor,
    master: Master,
}

impl Slow {
    fn new(how: How) -> Self {
        let builder = Master::builder().workers(2).option("-s0.01");
        let fifo = builder.file("fifo");
        mkfifo(&fifo, Mode::S_IRWXU).expect("a FIFO");
        let successor = Successor::new(builder.file("successor"));
        successor.is_script(&format!(
            "FIFO='{}'\nexport SCRIPT=$$\n[ \"$1\" = --upgrade-check ] || {}\nexec \"$DAEMON\" \"$@\"",
            fifo.display(),
            how.waits
        ));
        let master = successor.of(builder).start();
        Self { how, fifo, _successor: successor, master }
    }

    /// Begins a replacement, and waits until the new program runs in the master's place, and waits.
    fn begin(&mut self) -> Control {
        let process = self.master.process();
        let mut client = self.master.control();
        client.send(r#"{"command":"reload","id":1}"#);
        let How { program, is_child, .. } = self.how;
        wait::wait_for("the successor to wait", || {
            let processes = if is_child { process.children() } else { vec![process] };
            let mut waiting = processes.iter().filter(|process| process.arguments()[0].ends_with(program));
            waiting.any(Process::is_asleep).then_some(())
        });
        client
    }

    fn go_on(&self) {
        fs::write(&self.fifo, "go on\n").expect("a line in the FIFO");
    }
}

/// A worker dies while the successor waits in this way; the new master says what became of it.
fn worker_that_dies_meanwhile(how: How, is_reaped: bool, says: &str) {
    let mut slow = Slow::new(how);
    let workers = slow.master.workers_up();
    let mut asked_meanwhile = slow.master.control();
    let mut client = slow.begin();
    // Nobody answers now, and everybody is answered.
    asked_meanwhile.send(r#"{"command":"status","id":2}"#);
    let mut new = slow.master.control();
    new.send(r#"{"command":"status","id":3}"#);
    assert!(workers[0].signal(Signal::SIGKILL));
    workers[0].wait_gone();
    let entry = PathBuf::from(format!("/proc/{}", workers[0].pid()));
    if is_reaped {
        wait::wait_for("the shell to reap what it has not started", || (!entry.exists()).then_some(()));
    } else {
        assert!(entry.exists(), "it was reaped");
    }
    slow.go_on();
    assert_eq!(client.replies().pop().and_then(|last| last.ok), Some(true), "{}", slow.master);
    for (client, id) in [(&mut asked_meanwhile, 2), (&mut new, 3)] {
        let reply = client.reply();
        assert_eq!((reply.ok, reply.request_id), (Some(true), Some(id.into())), "{}", slow.master);
    }
    slow.master.wait_log(&format!("worker {} (generation 1) {says}", workers[0].pid()));
    slow.master.wait_up(2);
    let now = slow.master.workers_up();
    assert!(now.contains(&workers[1]) && !now.contains(&workers[0]), "{}", slow.master);
    slow.master.assert_well(2);
}

fn a_worker_that_dies_meanwhile_is_replaced_and_its_status_told() {
    worker_that_dies_meanwhile(REAPS_NOBODY, false, "was killed by SIGKILL");
}

fn a_worker_that_a_script_has_reaped_is_replaced_all_the_same() {
    worker_that_dies_meanwhile(RUNS, true, "ended while the master was being replaced");
}

fn a_stop_while_a_script_waits_stops_the_new_master() {
    let mut slow = Slow::new(READS);
    let mut client = slow.begin();
    slow.master.signal(Signal::SIGTERM);
    slow.go_on();
    // It was replaced; and then it stopped.
    assert_eq!(client.replies().pop().and_then(|last| last.ok), Some(true), "{}", slow.master);
    slow.master.wait_exit_code(0);
    slow.master.wait_log("stopping (SIGTERM");
}

fn a_signal_to_a_shell_that_has_cleared_its_mask_is_lost_and_does_not_end_the_master() {
    let mut slow = Slow::new(RUNS);
    let mut client = slow.begin();
    let signals = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM, Signal::SIGUSR1, Signal::SIGUSR2];
    let process = slow.master.process();
    wait::wait_for("the shell to clear its mask", || (process.signal_set("SigBlk") == 0).then_some(()));
    for signal in signals {
        slow.master.signal(signal);
    }
    slow.go_on();
    assert_eq!(client.replies().pop().and_then(|last| last.ok), Some(true), "{}", slow.master);
    slow.master.assert_well(2);
}

/// What a worker finds: its directory, and three variables.
type Finds = (Option<PathBuf>, [Option<String>; 3]);

fn finds(worker: &Process) -> Finds {
    worker.wait_executed();
    let environment = worker.environment();
    let variable = |name: &str| environment.get(name).cloned();
    (worker.directory(), [variable("FRUIT"), variable("KEPT"), variable("SECRET")])
}

fn a_script_that_changes_directory_and_environment_is_heeded_by_the_next_generation() {
    let builder = Master::builder().workers(2).options(["-s", "0.01", "--drop-env-var", "SECRET"]);
    let builder = builder.env("SECRET", "told to nobody").env("KEPT", "yes").env("FRUIT", "apple");
    let (old, new) = (builder.file("old"), builder.file("new"));
    fs::create_dir(&old).expect("a directory");
    fs::create_dir(&new).expect("a directory");
    let successor = Successor::new(builder.file("successor"));
    successor
        .is_script(&format!("cd '{}' || exit\nexport FRUIT=pear\nexec \"$DAEMON\" \"$@\"", new.display()));
    let mut master = successor.of(builder.current_dir(&old)).env("PWD", &old).start();
    let secret = |master: &Master| master.process().environment().get("SECRET").cloned();
    assert!(secret(&master).is_some());
    let text = |text: &str| Some(text.to_owned());
    let before = (Some(old.clone()), [text("apple"), text("yes"), None]);
    let after = (Some(new.clone()), [text("pear"), text("yes"), None]);
    for worker in master.workers_up() {
        assert_eq!(finds(&worker), before, "{master}");
    }
    assert_eq!(master.control().ask("reload", &[]).ok, Some(true), "{master}");
    assert_eq!(secret(&master), None);
    assert_eq!(master.process().directory(), Some(new.clone()));

    // A respawn is of the old generation, and as that is.
    let victim = master.workers_up()[0];
    master.kill_worker(victim);
    master.wait_up(2);
    for worker in master.workers_up() {
        assert_eq!(finds(&worker), before, "{master}");
    }
    // An upgrade, with one more replacement before it.
    master.upgrade();
    master.wait_up(2);
    for worker in master.workers_up() {
        assert_eq!(finds(&worker), after, "{master}");
    }
    // Where each goes back to is the directory of its own generation.
    assert_eq!(master.control().ask("rollback", &[]).ok, Some(true), "{master}");
    master.wait_up(2);
    for worker in master.workers_up() {
        assert_eq!(finds(&worker), before, "{master}");
    }
    master.assert_well(2);
}
