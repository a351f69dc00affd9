//! The master replaces itself, over and over, and by what cannot take its place: nothing is lost, nobody is left
//! without an answer, and nothing is left behind.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use nix::sys::signal::Signal;
use tests::control::Control;
use tests::load::Plan;
use tests::{Master, Process, Successor, binaries, place_daemon, wait};

tests::trials! {
    a_hundred_replacements_with_failures_in_between_lose_nothing,
    an_upgrade_replaces_the_master_if_its_file_was_replaced_and_only_then,
    a_hang_up_signal_replaces_master_and_workers,
    workers_are_upgraded_under_a_master_that_cannot_be_replaced_if_it_may_stay,
    the_check_reads_all_that_is_to_be_taken_over,
    a_master_without_proc_says_so_when_it_is_to_be_replaced needs "root" "util-linux",
}

const WORKERS: u32 = 4;

/// Successful replacements in a row.
const ROUNDS: u32 = 100;

/// The check may take this long, in seconds, where one of them hangs: long enough for a machine that is busy.
const CHECK_SECONDS: &str = "3";

/// A client that asks one question after the other on one connection, until it is told to stop.
struct Asking {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Asking {
    fn start(master: &Master) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (mut control, told) = (master.control(), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let mut asked = 0;
            while !told.load(Ordering::Relaxed) {
                asked += 1;
                ask_version(&mut control, asked);
            }
            control.finish_sending();
            assert_eq!(control.read_to_end(), "", "an answer came twice");
            asked
        });
        Self { stop, thread }
    }

    /// How many questions were answered, each once.
    #[track_caller]
    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("each question is answered once")
    }
}

#[track_caller]
fn ask_version(control: &mut Control, id: u64) {
    control.send(&format!(r#"{{"command":"version","id":{id}}}"#));
    let reply = control.reply();
    assert_eq!((reply.request_id.clone(), reply.ok), (Some(id.into()), Some(true)), "{reply:?}");
}

/// What the master has open: by number what outlives it, and by kind what each image makes for itself. All of it
/// must be close-on-exec.
fn open(master: &Master) -> (BTreeMap<i32, String>, Vec<String>) {
    let descriptors = master.process().descriptors();
    // What whoever runs the tests has left open for all is in this process too.
    let given = Process::of(std::process::id().cast_signed()).expect("this process").descriptors();
    let is_given = |fd: i32| fd <= 2 || given.get(&fd) == descriptors.get(&fd);
    let leaky: Vec<_> =
        descriptors.iter().filter(|(fd, open)| !open.close_on_exec && !is_given(**fd)).collect();
    assert!(leaky.is_empty(), "not close-on-exec: {leaky:?}\n{master}");
    let (own, kept): (Vec<_>, Vec<_>) = descriptors.into_iter().partition(|(_, open)| is_own(&open.target));
    let mut own: Vec<_> = own.into_iter().map(|(_, open)| open.target).collect();
    own.sort_unstable();
    (kept.into_iter().map(|(fd, open)| (fd, open.target)).collect(), own)
}

fn is_own(target: &str) -> bool {
    target.starts_with("anon_inode:") || target == "/dev/null"
}

/// [`open`] when those who have hung up were noticed.
fn open_at_rest(master: &Master) -> (BTreeMap<i32, String>, Vec<String>) {
    let mut last = open(master);
    let mut same = 0;
    wait::wait_for("the same descriptors at many looks", || {
        let now = open(master);
        same = if now == last { same + 1 } else { 0 };
        last = now;
        (same >= 25).then(|| last.clone())
    })
}

#[track_caller]
fn assert_opens(master: &mut Master, expected: &(BTreeMap<i32, String>, Vec<String>)) {
    let mut now = open(master);
    let is_same = wait::within(wait::patience(), || {
        now = open(master);
        (now == *expected).then_some(())
    });
    assert!(is_same.is_some(), "open now: {now:?}\nbefore: {expected:?}\n{master}");
}

/// What cannot take a master's place, and what is said of it.
const BROKEN: [&str; 6] = ["missing", "not executable", "exit 1", "yes to all", "hanging", "no program"];

/// Makes the successor one of [`BROKEN`], and gives what the refusal says.
fn break_successor(successor: &Successor, directory: &Path, how: &str) -> &'static str {
    match how {
        "missing" => {
            successor.is(Path::new("/no/such/program"));
            "No such file"
        }
        "not executable" => {
            let path = directory.join("not-executable");
            fs::write(&path, "#!/bin/sh\n").expect("a file");
            successor.is(&path);
            "ermission denied"
        }
        "exit 1" => {
            successor.is_script("echo 'no room on the moon' >&2\nexit 1");
            "exited with status 1: no room on the moon"
        }
        "yes to all" => {
            successor.is(Path::new("/bin/true"));
            "has not read the state"
        }
        "hanging" => {
            successor.is_script("sleep 1000 &\nwait");
            "did not end within 3s (--reexec-timeout)"
        }
        "no program" => {
            successor.is(directory);
            "ermission denied"
        }
        _ => unreachable!("{how}"),
    }
}

fn a_hundred_replacements_with_failures_in_between_lose_nothing() {
    let builder = Master::builder().workers(WORKERS).options(["--reexec-timeout", CHECK_SECONDS]);
    let (link, directory) = (builder.file("successor"), builder.file("broken"));
    fs::create_dir(&directory).expect("a directory");
    let successor = Successor::new(link);
    let mut master = successor.of(builder).start();
    let process = master.process();
    let load = Plan { fresh: 4, keep_alive: 4, ..Plan::new(master.address()) }.start();
    let asking = Asking::start(&master);
    let mut asker = master.control();
    ask_version(&mut asker, 0);
    let mut failures = BROKEN.iter().cycle();
    let mut generation = 1;
    for round in 1..=u64::from(ROUNDS) {
        let workers = master.workers_up();
        let before = open_at_rest(&master);
        if round % 10 == 3 {
            let says =
                break_successor(&successor, &directory, failures.next().expect("a failure for each round"));
            let command = if round % 20 == 3 { "reload" } else { "upgrade" };
            let refused = asker.ask(command, &[]);
            assert!(refused.ok == Some(false) && refused.message.contains(says), "{says:?}: {refused:?}");
            assert_eq!((process.is_alive(), master.workers_up()), (true, workers.clone()), "{master}");
            assert_opens(&mut master, &before);
            successor.is(&binaries::einhyrningsins());
        }
        if round % 5 == 0 {
            let upgrade = asker.ask("upgrade", &[]);
            assert_eq!(upgrade.ok, Some(true), "round {round}: {upgrade:?}\n{master}");
            generation += 1;
            master.wait_up(WORKERS);
            assert_ne!(master.workers_up(), workers);
        } else {
            // The second is there before the first is answered.
            asker.send_bytes(
                format!("{{\"command\":\"reload\",\"id\":{round}}}\n{{\"command\":\"version\",\"id\":0}}\n")
                    .as_bytes(),
            );
            let mut replies = asker.replies();
            if replies.last().is_some_and(|reply| reply.request_id == Some(0.into())) {
                replies.extend(asker.replies());
            } else {
                replies.push(asker.reply());
            }
            let last = |id: u64| {
                let ends = replies.iter().filter(|reply| !reply.wait && reply.request_id == Some(id.into()));
                ends.map(|reply| reply.ok).collect::<Vec<_>>()
            };
            assert_eq!((last(round), last(0)), (vec![Some(true)], vec![Some(true)]), "{replies:?}\n{master}");
            assert_eq!(master.workers_up(), workers, "round {round}\n{master}");
            assert_opens(&mut master, &before);
        }
        assert!(process.is_alive());
        load.wait_for_answers(8);
    }
    let answered = asking.stop();
    assert!(answered > u64::from(ROUNDS), "{answered} questions answered");
    asker.finish_sending();
    assert_eq!(asker.read_to_end(), "", "an answer came twice");
    let replaced = master.log().matches("the master replaced itself").count();
    assert_eq!(replaced, ROUNDS as usize, "{master}");
    load.stop().assert_nothing_lost();
    assert_eq!(master.status().master.generation, generation);
    master.assert_well(WORKERS);
    assert_eq!(process.children().len(), WORKERS as usize, "a check was left behind: {master}");
    master.signal(Signal::SIGTERM);
    master.wait_exit_code(0);
}

/// The file that the master runs.
fn file_of(master: &Master) -> (u64, u64) {
    let metadata = fs::metadata(format!("/proc/{}/exe", master.process().pid())).expect("the master runs");
    (metadata.dev(), metadata.ino())
}

fn an_upgrade_replaces_the_master_if_its_file_was_replaced_and_only_then() {
    let builder = Master::builder().workers(2);
    let daemon = builder.file("einhyrningsins");
    place_daemon(&daemon);
    let mut master = builder.daemon(&daemon).start();
    let (pid, first) = (master.process(), file_of(&master));
    master.upgrade();
    assert!(!master.log().contains("checking whether"), "{master}");

    place_daemon(&daemon);
    let replies = {
        let mut control = master.control();
        control.send(r#"{"command":"upgrade","id":"both"}"#);
        control.replies()
    };
    assert_eq!(replies.last().and_then(|last| last.ok), Some(true), "{replies:?}\n{master}");
    let steps: Vec<_> = replies.iter().map(|reply| reply.message.as_str()).collect();
    let at = |text: &str| steps.iter().position(|step| step.contains(text));
    assert!(
        at("checking whether") < at("the master replaced itself")
            && at("the master replaced itself") < at("spawned"),
        "{steps:?}"
    );
    assert!(at("checking whether").is_some(), "{steps:?}");
    assert_ne!(file_of(&master), first, "{master}");
    assert!(pid.is_alive(), "{master}");

    // The file has gone: nothing to become, and still workers to replace.
    fs::remove_file(&daemon).expect("the daemon's file");
    let refused = master.control().ask("reload", &[]);
    assert!(refused.ok == Some(false) && refused.message.contains("No such file"), "{refused:?}");
    assert_eq!(master.upgrade().generation, 4);
    assert_eq!(master.log().matches("the master replaced itself").count(), 1, "{master}");
    place_daemon(&daemon);
    assert_eq!(master.control().ask("reload", &[]).ok, Some(true), "{master}");
    master.assert_well(2);
}

fn a_hang_up_signal_replaces_master_and_workers() {
    let builder = Master::builder().workers(2);
    let successor = Successor::new(builder.file("successor"));
    let mut master = successor.of(builder).start();
    let workers = master.workers_up();
    master.signal(Signal::SIGHUP);
    master.wait_log("upgrade to generation 2 done");
    assert!(master.log().contains("the master replaced itself"), "{master}");
    master.wait_up(2);
    assert!(master.workers_up().iter().all(|worker| !workers.contains(worker)), "{master}");
    // And a broken one is told to the log, which is the only one to be told.
    successor.is(Path::new("/bin/false"));
    master.signal(Signal::SIGHUP);
    master.wait_log("upgrade failed before it began");
    master.wait_log("\"upgrade --keep-master\" upgrades the workers all the same");
    master.assert_well(2);
}

fn workers_are_upgraded_under_a_master_that_cannot_be_replaced_if_it_may_stay() {
    let builder = Master::builder().workers(2).options(["--reexec-timeout", CHECK_SECONDS]);
    let (link, directory) = (builder.file("successor"), builder.file("broken"));
    fs::create_dir(&directory).expect("a directory");
    let successor = Successor::new(link);
    let mut master = successor.of(builder).start();
    let (process, image) = (master.process(), file_of(&master));
    let mut generation = 1;
    for how in BROKEN {
        let says = break_successor(&successor, &directory, how);
        let refused = master.ctl(["upgrade"]);
        refused
            .assert_code(1)
            .assert_says(says)
            .assert_says("\"upgrade --keep-master\" upgrades the workers");
        assert_eq!(master.wait_up(2).master.generation, generation, "{how}: {refused}");
        let upgrade = master.ctl(["upgrade", "--keep-master"]);
        upgrade.assert_code(0);
        generation += 1;
        let kept =
            upgrade.stdout.lines().find(|line| line.contains("the master was not replaced and continues"));
        assert!(kept.is_some_and(|line| line.contains(says)), "{how}: {upgrade}");
        assert_eq!(master.wait_up(2).master.generation, generation, "{how}: {upgrade}");
    }
    assert_eq!((process.is_alive(), file_of(&master)), (true, image), "{master}");
    // Where the master can be replaced, it is.
    successor.is(&binaries::einhyrningsins());
    master.ctl(["upgrade", "--keep-master", "--fleet"]).assert_code(0);
    master.wait_log("the master replaced itself");
    master.assert_well(2);
}

/// A successor that understands something else by the state than its writer, as one with other options of -b may.
fn the_check_reads_all_that_is_to_be_taken_over() {
    let builder = Master::builder();
    let successor = Successor::new(builder.file("successor"));
    let mut master = successor.of(builder).start();
    let worker = master.workers_up();
    for (edit, told) in [
        (r#"s/"bind":"127.0.0.1:0"/"bind":"127.0.0.1:x"/"#, "127.0.0.1:x"),
        (r#"s/"listeners":\[{"fd":[0-9]/"listeners":[{"fd":1/"#, "descriptor 1 was not inherited"),
    ] {
        successor.is_script(&format!(
            "[ $1 = --upgrade-check ] || exit 1\nstate=$(cat /proc/self/fd/$3)\n\
             printf %s \"$state\" | sed '{edit}' >/proc/self/fd/$3\nexec \"$DAEMON\" \"$@\""
        ));
        let finished = master.ctl(["reload"]);
        assert_eq!(finished.code(), 1, "{finished}");
        assert!(finished.stderr.contains(told), "{finished}");
        assert_eq!(master.workers_up(), worker, "{master}");
    }
    master.assert_well(1);
}

fn a_master_without_proc_says_so_when_it_is_to_be_replaced() {
    let hide = "umount -l /proc; exec \"$@\"";
    let builder = Master::builder().workers(2).under(["unshare", "--mount", "sh", "-e", "-c", hide, "sh"]);
    let mut master = builder.start();
    let workers = master.workers_up();
    let refused = master.ctl(["reload"]);
    refused.assert_code(1).assert_says("not reloaded: ").assert_says("(is /proc mounted?)");
    assert_eq!(master.workers_up(), workers, "{master}");
    // An upgrade does without.
    master.upgrade();
    master.assert_well(2);
}
