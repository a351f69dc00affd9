//! A successor that is a script and does nothing but set what the master can set as well: the master executes the daemon
//! as the script does, and no shell runs in its process.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::sys::signal::Signal;
use tests::faults::Strace;
use tests::{Master, MasterBuilder, Process, Successor, binaries, place_daemon};

tests::trials! {
    what_a_script_sets_is_set_by_the_master,
    a_master_that_may_not_raise_limits_lowers_those_of_its_workers needs "root" "strace" "util-linux",
    what_a_command_sets_is_set_by_the_master,
    einhorns_dialect_executes_the_daemon_directly_too,
    nobody_waits_for_a_script_that_is_slow,
    a_signal_is_not_lost_where_a_script_would_have_lost_it,
    a_script_that_changes_something_else_is_executed_itself,
    a_script_is_executed_itself_if_the_report_is_missing_or_too_long,
    a_daemon_that_was_replaced_since_its_check_is_not_executed,
    a_script_that_was_replaced_since_its_check_does_not_matter,
    a_rollback_restores_what_a_script_has_set needs "strace",
}

/// Begins a script that must not run in the master's process: it would never end.
const ONLY_IN_THE_CHECK: &str = "[ \"$1\" = --upgrade-check ] || exec sleep 100000\n";

/// What a process has that a script may set, and a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Has {
    directory: Option<std::path::PathBuf>,
    umask: Option<String>,
    open_files: [String; 2],
    fruit: Option<String>,
}

impl Has {
    fn of(process: Process) -> Self {
        process.wait_executed();
        Self {
            directory: process.directory(),
            umask: process.status("Umask"),
            open_files: process.limit("Max open files"),
            fruit: process.environment().remove("FRUIT"),
        }
    }
}

/// A builder in a directory of its own, with a variable.
fn builder() -> MasterBuilder {
    let builder = Master::builder().workers(2).options(["-s", "0.01"]).env("FRUIT", "apple");
    for name in ["old", "new"] {
        fs::create_dir(builder.file(name)).expect("a directory");
    }
    let old = builder.file("old");
    builder.current_dir(&old).env("PWD", &old)
}

/// Lines of a script that sets everything.
fn sets_all(new: &Path) -> String {
    format!("ulimit -n 321\numask 027\nexport FRUIT=pear\ncd '{}' || exit\n", new.display())
}

#[track_caller]
fn assert_reload(master: &Master) {
    let reply = master.control().ask("reload", &[]);
    assert_eq!(reply.ok, Some(true), "{reply:?}\n{master}");
}

/// Asserts that the new program crashes right after its exec, and that the old one comes back.
#[track_caller]
fn assert_crash(master: &Master, log: &str) {
    let mut control = master.control();
    let strace = Strace::attach(master.process(), "epoll_create1:signal=SIGSEGV:when=1", &master.file(log));
    let reply = control.ask("reload", &[]);
    strace.detach();
    let told = "the new program failed right after the exec (SIGSEGV";
    assert!(reply.ok == Some(false) && reply.message.contains(told), "{reply:?}\n{master}");
}

/// Asserts that the master was replaced and that no script ran in its process.
#[track_caller]
fn assert_direct(master: &Master) {
    let log = master.log();
    assert!(log.contains("the master replaced itself") && !log.contains(" itself: "), "{master}");
}

fn what_a_script_sets_is_set_by_the_master() {
    let builder = builder();
    let new = builder.file("new");
    let successor = Successor::new(builder.file("successor"));
    successor.is_script(&format!("{ONLY_IN_THE_CHECK}{}exec \"$DAEMON\" \"$@\"", sets_all(&new)));
    let mut master = successor.of(builder).start();
    let old_workers = master.workers_up();
    let set = Has {
        directory: Some(new),
        umask: Some("0027".into()),
        open_files: ["321", "321"].map(Into::into),
        fruit: Some("pear".into()),
    };
    let process = master.process();
    assert_ne!(Has::of(process), set);
    let words = process.arguments();
    for _ in 0..2 {
        assert_reload(&master);
        assert_direct(&master);
        assert_eq!(Has::of(process), set, "{master}");
        assert_eq!(master.workers_up(), old_workers, "{master}");
        // The command line is the one that the script would have given.
        let now = process.arguments();
        assert_eq!(now[0], binaries::einhyrningsins().to_str().expect("text"));
        assert_eq!((now[1].as_str(), &now[3..]), ("--with-state-fd", &words[1..]), "{now:?}");
    }
    // The workers of the next generation have all of it, too.
    master.upgrade();
    master.wait_up(2);
    for worker in master.workers_up() {
        assert_eq!(Has::of(worker), set, "{master}");
    }
    master.assert_well(2);
}

/// The workers had a higher limit before, which they can get no more.
fn a_master_that_may_not_raise_limits_lowers_those_of_its_workers() {
    let without = ["setpriv", "--bounding-set", "-sys_resource", "prlimit", "--nofile=1000:2000"];
    let builder = builder().under(without);
    let successor = Successor::new(builder.file("successor"));
    let mut master = successor.of(builder).start();
    let limits = |master: &mut Master| {
        let workers = master.workers_up().into_iter();
        workers.map(|worker| Has::of(worker).open_files).collect::<Vec<_>>()
    };
    assert_eq!(limits(&mut master), [["1000", "2000"], ["1000", "2000"]]);
    successor.is_script("ulimit -n 900\nexec \"$DAEMON\" \"$@\"");
    assert_reload(&master);
    assert_direct(&master);
    master.upgrade();
    assert_eq!(limits(&mut master), [["900", "900"], ["900", "900"]], "{master}");

    // A rollback cannot raise it again, and says so.
    successor.is_script("ulimit -n 800\nexec \"$DAEMON\" \"$@\"");
    assert_crash(&master, "strace");
    master.wait_log("cannot restore the limit nofile=900:900: Operation not permitted");
    successor.is_script("exec \"$DAEMON\" \"$@\"");
    master.upgrade();
    assert_eq!(limits(&mut master), [["800", "800"], ["800", "800"]], "{master}");
    master.assert_well(2);
}

fn what_a_command_sets_is_set_by_the_master() {
    let command = format!("env FRUIT=pear {}", binaries::einhyrningsins().display());
    let mut master = builder().option("--reexec-as").option(command).start();
    assert_reload(&master);
    assert_direct(&master);
    assert_eq!(Has::of(master.process()).fruit.as_deref(), Some("pear"), "{master}");
    master.assert_well(2);
}

fn einhorns_dialect_executes_the_daemon_directly_too() {
    let builder = builder().einhorn();
    let successor = Successor::new(builder.file("successor"));
    successor.is_script(&format!("{ONLY_IN_THE_CHECK}export FRUIT=pear\nexec \"$DAEMON\" \"$@\""));
    let mut master = successor.of(builder).start();
    master.upgrade();
    assert_eq!(Has::of(master.process()).fruit.as_deref(), Some("pear"), "{master}");
    for worker in master.workers_up() {
        assert_eq!(Has::of(worker).fruit.as_deref(), Some("pear"), "{master}");
    }
    master.assert_well(2);
}

/// A master whose successor sleeps and would never end if it ran in the master's process, in a child of a shell that has
/// cleared its mask.
fn with_slow_script() -> (Successor, Master) {
    let builder = builder();
    let successor = Successor::new(builder.file("successor"));
    successor.is_script("[ \"$1\" = --upgrade-check ] && sleep 0.3 || sleep 100000\nexec \"$DAEMON\" \"$@\"");
    let master = successor.of(builder).start();
    (successor, master)
}

fn nobody_waits_for_a_script_that_is_slow() {
    let (_successor, mut master) = with_slow_script();
    let is_done = Arc::new(AtomicBool::new(false));
    let asking = {
        let (mut control, is_done) = (master.control(), Arc::clone(&is_done));
        thread::spawn(move || {
            let mut answered = 0_u32;
            while !is_done.load(Ordering::Relaxed) {
                control.status();
                answered += 1;
            }
            answered
        })
    };
    assert_reload(&master);
    is_done.store(true, Ordering::Relaxed);
    assert!(asking.join().expect("each question is answered") > 10);
    assert_direct(&master);
    master.assert_well(2);
}

fn a_signal_is_not_lost_where_a_script_would_have_lost_it() {
    let (_successor, mut master) = with_slow_script();
    let mut client = master.control();
    client.send(r#"{"command":"reload","id":1}"#);
    assert!(client.reply().message.contains("checking whether"), "{master}");
    master.signal(Signal::SIGHUP);
    assert_eq!(client.replies().pop().and_then(|last| last.ok), Some(true), "{master}");
    master.wait_log("upgrade to generation 2 done");
    client.send(r#"{"command":"reload","id":2}"#);
    assert!(client.reply().message.contains("checking whether"), "{master}");
    master.signal(Signal::SIGTERM);
    master.wait_exit_code(0);
    assert_direct(&master);
}

fn a_script_that_changes_something_else_is_executed_itself() {
    let builder = builder();
    let log = builder.file("stderr");
    let successor = Successor::new(builder.file("successor"));
    let mut master = successor.of(builder).start();
    let nice = master.process().nice().expect("a nice value");
    let stderr = format!("exec 2>>'{}'; exec \"$DAEMON\" \"$@\"", log.display());
    for (script, why) in [
        ("exec nice -n 1 \"$DAEMON\" \"$@\"", "it changes the nice value"),
        ("export LOG=/run/$$.log; exec \"$DAEMON\" \"$@\"", "it sets LOG to the number of its process"),
        (
            "[ \"$1\" != --upgrade-check ] || set -- \"$1\" --with-state-fd=\"$3\"; exec \"$DAEMON\" \"$@\"",
            "it does not pass its arguments on as they are",
        ),
        // The last one: what the master logs from then on is elsewhere.
        (stderr.as_str(), "it changes the standard error"),
    ] {
        successor.is_script(script);
        assert_reload(&master);
        master.wait_log(&format!(" itself: {why}"));
    }
    assert_eq!(master.process().nice(), Some(nice + 1), "{master}");
    let log = fs::read_to_string(log).expect("what the master logs now");
    assert!(log.contains("the master replaced itself"), "{log}");
    master.assert_well(2);
}

fn a_script_is_executed_itself_if_the_report_is_missing_or_too_long() {
    let builder = builder();
    let successor = Successor::new(builder.file("successor"));
    let mut master = successor.of(builder).start();
    // As an older program, which does not know that there are reports.
    let as_older = "[ \"$1\" != --upgrade-check ] || {\nstate=$(cat /proc/self/fd/$3)\n\
                    printf %s \"$state\" | sed 's/\"checked\":.[0-9,]*./\"x\":1/' >/proc/self/fd/$3\n}\n";
    let too_long = "ulimit -Ss 65536\nx=$(head -c 120000 /dev/zero | tr '\\0' x)\n\
                    for name in a b c d e f g h i j k l m n o p q r s t; do export $name=$x; done\n";
    for (number, before) in [as_older, too_long].into_iter().enumerate() {
        successor.is_script(&format!("{before}export FRUIT=pear\nexec \"$DAEMON\" \"$@\""));
        assert_reload(&master);
        let told = master.log().matches(" itself: the new program does not report what it finds").count();
        assert_eq!(told, number + 1, "{master}");
    }
    assert_eq!(Has::of(master.process()).fruit.as_deref(), Some("pear"));
    // Without a script, there is nothing to be told.
    successor.is(&binaries::einhyrningsins());
    assert_reload(&master);
    assert_eq!(master.log().matches(" itself: ").count(), 2, "{master}");
    master.assert_well(2);
}

fn a_daemon_that_was_replaced_since_its_check_is_not_executed() {
    let builder = builder();
    let (daemon, next) = (builder.file("daemon"), builder.file("next"));
    place_daemon(&daemon);
    place_daemon(&next);
    let successor = Successor::new(builder.file("successor"));
    let (at, from) = (daemon.display(), next.display());
    // By the end of its check, another file is in its place.
    successor.is_script(&format!("{ONLY_IN_THE_CHECK}'{at}' \"$@\" && mv '{from}' '{at}'"));
    let mut master = successor.of(builder).start();
    let workers = master.workers_up();
    let refused = master.control().ask("reload", &[]);
    let told = format!("{at} has changed since it was checked; try again");
    assert!(refused.ok == Some(false) && refused.message.contains(&told), "{refused:?}\n{master}");
    assert_eq!(master.workers_up(), workers, "{master}");
    successor.is_script(&format!("{ONLY_IN_THE_CHECK}exec '{at}' \"$@\""));
    assert_reload(&master);
    assert_direct(&master);
    master.assert_well(2);
}

fn a_script_that_was_replaced_since_its_check_does_not_matter() {
    let builder = builder();
    let successor = Successor::new(builder.file("successor"));
    let link = successor.link();
    successor.is_script(&format!(
        "{ONLY_IN_THE_CHECK}export FRUIT=pear\nln -sf /bin/false '{}'\nexec \"$DAEMON\" \"$@\"",
        link.display()
    ));
    let mut master = successor.of(builder).start();
    assert_reload(&master);
    assert_direct(&master);
    assert_eq!(Has::of(master.process()).fruit.as_deref(), Some("pear"), "{master}");
    master.assert_well(2);
}

/// The script runs in the master's process if it exports the number of its process.
fn a_rollback_restores_what_a_script_has_set() {
    let builder = builder().options(["--drop-env-var", "SECRET"]).env("SECRET", "told to nobody");
    let new = builder.file("new");
    let successor = Successor::new(builder.file("successor"));
    let mut master = successor.of(builder).start();
    // Whoever has lowered a hard limit needs a privilege to raise it again.
    let sets_all = sets_all(&new).replace("ulimit -n", "ulimit -Sn");
    let no_secret = "case $1 in --with-state-fd) ! grep -q 'told to nobody' /dev/fd/$2 || exit 9;; esac\n";
    let process = master.process();
    let before = Has::of(process);
    for (number, how) in ["", "export SCRIPT=$$\n"].into_iter().enumerate() {
        successor.is_script(&format!("{sets_all}{how}{no_secret}exec \"$DAEMON\" \"$@\""));
        assert_crash(&master, &format!("strace-{number}"));
        assert_eq!(master.log().contains(" itself: "), number == 1, "{master}");
        // Its first environment is that of the failed program; the workers' shows what it has now.
        assert_eq!(Has { fruit: before.fruit.clone(), ..Has::of(process) }, before, "{master}");
        assert!(!master.log().contains("cannot restore"), "{master}");
    }
    successor.is(&binaries::einhyrningsins());
    let workers = master.workers_up();
    let has = Has::of(workers[0]);
    master.upgrade();
    master.wait_up(2);
    for worker in master.workers_up() {
        assert!(!workers.contains(&worker));
        assert_eq!(Has::of(worker), has, "{master}");
    }
    assert_eq!(Has::of(process), before, "{master}");
    master.assert_well(2);
}
