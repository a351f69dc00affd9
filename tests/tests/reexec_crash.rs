//! A new master that fails after the exec, when there is no old process any more: the old program comes back.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;

use einhorn_proto::Reply;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::Signal;
use tests::faults::{Strace, limit_wrapper};
use tests::load::Plan;
use tests::{Control, Master, Process, Successor, wait};

tests::trials! {
    the_old_program_comes_back_and_goes_on_with_everything needs "strace" "util-linux",
    an_upgrade_that_begins_with_a_crash_has_changed_nothing needs "strace" "util-linux",
    the_old_program_comes_back_although_nobody_reads_the_log needs "strace",
    a_new_program_that_fails_removes_no_file_of_the_old_one needs "strace" "util-linux",
    a_crash_of_the_old_program_too_is_the_end needs "strace" "util-linux",
    the_way_back_is_closed_when_the_new_master_has_begun needs "strace" "util-linux",
    an_exec_that_fails_leaves_the_master_as_it_was needs "strace" "util-linux",
}

const WORKERS: u32 = 2;

/// System calls that a new master makes while it takes over and that none makes while it runs; how they fail, and
/// what is said of it.
const CRASHES: [(&str, &str); 8] = [
    ("signalfd4:signal=SIGSEGV:when=1", "SIGSEGV"),
    ("epoll_create1:signal=SIGSEGV:when=1", "SIGSEGV"),
    ("epoll_create1:signal=SIGABRT:when=1", "SIGABRT"),
    ("epoll_create1:signal=SIGBUS:when=1", "SIGBUS"),
    ("epoll_create1:error=EMFILE:when=1", "cannot start the loop: cannot make an epoll descriptor"),
    ("signalfd4:error=ENOMEM:when=1", "cannot receive signals"),
    // The old one waits for the check, the new one for signals, changes of its files, notifications, the
    // control socket and each of two clients.
    ("epoll_ctl:error=ENOSPC:when=5", "cannot start the loop: cannot wait for control clients"),
    ("epoll_ctl:error=ENOSPC:when=7", "cannot start the loop: cannot take over the control clients"),
];

/// A master that leaves no core behind when it crashes.
fn master() -> Master {
    let builder = Master::builder().workers(WORKERS).under(limit_wrapper("--core=0"));
    // One of its own, so that a script can be put in its place.
    Successor::new(builder.file("successor")).of(builder).start()
}

/// A connection to a master that is through with those before it: it closes them in the round in which it first
/// answers here, if not before, and the second answer comes from a later one.
fn settled(master: &Master) -> Control {
    let mut control = master.control();
    for _ in 0..2 {
        control.ask("version", &[]);
    }
    control
}

/// Asks for a replacement in which a system call fails.
fn reload_with(master: &Master, inject: &str, log: &str) -> Reply {
    let mut control = settled(master);
    let strace = Strace::attach(master.process(), inject, &master.file(log));
    let reply = control.ask("reload", &[]);
    strace.detach();
    reply
}

fn the_old_program_comes_back_and_goes_on_with_everything() {
    let mut master = master();
    let process = master.process();
    let workers = master.workers_up();
    let load = Plan { fresh: 2, keep_alive: 2, ..Plan::new(master.address()) }.start();
    let mut follower = settled(&master);
    // A process that another test forks holds the connections before it open for a moment.
    wait::wait_for("no client but this one", || {
        let state = follower.ask("state", &[]).data.expect("the state has data");
        (state["control"]["clients"] == 1).then_some(())
    });
    follower.send(r#"{"command":"events"}"#);
    assert!(follower.reply().wait);
    let descriptors = process.descriptors().len();
    for (number, (inject, says)) in CRASHES.into_iter().enumerate() {
        let reply = reload_with(&master, inject, &format!("strace-{number}"));
        let told = format!("the new program failed right after the exec ({says}");
        assert_eq!(reply.ok, Some(false), "{inject}: {reply:?}\n{master}");
        assert!(reply.message.contains(&told), "{inject}: {reply:?}\n{master}");
        // Its follower is told too, once.
        let told_follower = follower.reply();
        assert!(told_follower.message.contains("checking whether"), "{told_follower:?}");
        let told_follower = follower.reply();
        assert!(told_follower.message.contains(&told), "{told_follower:?}");
        assert!(process.is_alive(), "{inject}\n{master}");
        assert_eq!(master.workers_up(), workers, "{inject}\n{master}");
        // Nothing that only the new one may know is passed on to it.
        let arguments = process.arguments();
        let options: Vec<_> = arguments[1..].iter().filter_map(|word| word.split('=').next()).collect();
        assert_eq!(options, ["--returned", "--with-state-fd"], "{arguments:?}");
        load.wait_for_answers(20);
        // And it is as able as before.
        let reply = master.control().ask("reload", &[]);
        assert_eq!(reply.ok, Some(true), "{inject}, the next: {reply:?}\n{master}");
        for text in ["checking whether", "the master replaced itself"] {
            assert!(follower.reply().message.contains(text), "{master}");
        }
        assert_eq!(master.workers_up(), workers, "{inject}\n{master}");
    }
    let leaves = "--returned";
    wait::wait_for("the same number of descriptors", || {
        (process.descriptors().len() == descriptors).then_some(())
    });
    assert!(process.arguments().iter().all(|word| !word.starts_with(leaves)), "{:?}", process.arguments());
    load.stop().assert_nothing_lost();
    master.upgrade();
    master.assert_well(WORKERS);
}

/// The new program cannot say why it goes back, and goes back.
fn the_old_program_comes_back_although_nobody_reads_the_log() {
    let (_reader, mut writer) = std::io::pipe().expect("a pipe");
    let stderr = writer.try_clone().expect("a copy");
    let mut master = Master::builder().stderr(stderr.into()).start();
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("a flag");
    let full = loop {
        if let Err(error) = writer.write_all(b"x") {
            break error;
        }
    };
    assert_eq!(full.kind(), std::io::ErrorKind::WouldBlock);
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::empty())).expect("no flag");
    let reply = reload_with(&master, "epoll_create1:error=EMFILE:when=1", "strace");
    assert!(reply.ok == Some(false) && reply.message.contains("cannot start the loop"), "{reply:?}");
    master.assert_well(1);
}

fn an_upgrade_that_begins_with_a_crash_has_changed_nothing() {
    let mut master = master();
    let workers = master.workers_up();
    let strace = Strace::attach(master.process(), CRASHES[0].0, &master.file("strace"));
    let reply = master.control().ask("upgrade", &[]);
    strace.detach();
    assert_eq!(reply.ok, Some(false), "{reply:?}\n{master}");
    assert!(reply.message.contains("nothing was changed") && reply.message.contains("SIGSEGV"), "{reply:?}");
    assert_eq!(master.workers_up(), workers, "{master}");
    let strace = Strace::attach(master.process(), CRASHES[0].0, &master.file("strace-again"));
    let upgrade = master.ctl(["upgrade", "--keep-master"]);
    strace.detach();
    upgrade.assert_code(0);
    assert!(upgrade.stdout.contains("SIGSEGV"), "{upgrade}");
    assert_eq!(master.upgrade().generation, 3);
    master.assert_well(WORKERS);
}

/// Two programs that crash must not take turns.
fn a_new_program_that_fails_removes_no_file_of_the_old_one() {
    let builder = Master::builder().workers(WORKERS).under(limit_wrapper("--core=0"));
    let files = ["pid", "lock", "web.sock", "einhorn.sock", "einhorn.sock.lock", "einhorn.sock.notify"];
    let files = files.map(|name| builder.file(name));
    let [pidfile, lockfile, web, ..] = &files;
    let bind = format!("unix:{}", web.display());
    let builder =
        builder.option("-e").option(pidfile).option("-f").option(lockfile).option("-b").option(bind);
    let mut master = builder.start();
    let inodes = || files.each_ref().map(|file| fs::metadata(file).ok().map(|found| found.ino()));
    let before = inodes();
    assert!(before.iter().all(Option::is_some), "{files:?} {before:?}\n{master}");
    // The other of the two clients.
    let _client = settled(&master);
    for (number, (inject, says)) in CRASHES.into_iter().enumerate() {
        let reply = reload_with(&master, inject, &format!("strace-{number}"));
        assert!(reply.message.contains(says), "{inject}: {reply:?}\n{master}");
        // A file that was made again would be another one.
        assert_eq!(inodes(), before, "{inject}\n{master}");
        master.wait_up(WORKERS);
    }
    assert_eq!(master.control().ask("reload", &[]).ok, Some(true), "{master}");
    assert_eq!(inodes(), before, "{master}");
    master.signal(Signal::SIGTERM);
    master.wait_exit_code(0);
    assert_eq!(inodes(), [None; 6], "{master}");
}

fn a_crash_of_the_old_program_too_is_the_end() {
    let mut master = master();
    let workers = master.workers_up();
    let _strace = Strace::attach(master.process(), "epoll_create1:signal=SIGABRT", &master.file("strace"));
    let mut control = master.control();
    control.send(r#"{"command":"reload"}"#);
    master.wait_exit();
    let traced = fs::read_to_string(master.file("strace")).expect("what strace saw");
    assert_eq!(traced.matches("epoll_create1(").count(), 2, "once each: {traced}\n{master}");
    // Nobody was dropped who was served by a worker: they are what is left.
    assert!(workers.iter().all(Process::is_alive), "{master}");
}

/// Once the new master has begun to act, its predecessor's state is no longer true.
fn the_way_back_is_closed_when_the_new_master_has_begun() {
    let mut master = master();
    // Asked of every worker, first thing; and twice by the old master, when the check has ended.
    let _strace = Strace::attach(master.process(), "waitid:signal=SIGABRT:when=3", &master.file("strace"));
    let mut control = master.control();
    control.send(r#"{"command":"reload"}"#);
    let status = master.wait_exit();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(Signal::SIGABRT as i32));
    assert!(master.log().contains("the master replaced itself"), "{master}");
    assert!(!master.log().contains("--returned"), "{master}");
}

/// A check that was passed is no promise that the exec succeeds; and a worker that dies at that very moment is not
/// overlooked.
fn an_exec_that_fails_leaves_the_master_as_it_was() {
    let mut master = master();
    let process = master.process();
    let strace =
        Strace::attach(process, "execve:error=ENOEXEC:delay_enter=500000:when=1", &master.file("strace"));
    let mut control = master.control();
    control.send(r#"{"command":"reload"}"#);
    // Others' children are of interest to whoever runs in the master's place: SIGCHLD is not blocked for them.
    wait::wait_for("the exec", || (!blocks_child_signal(process)).then_some(()));
    let victim = master_workers(process)[0];
    assert!(victim.signal(Signal::SIGKILL));
    let reply = control.replies().pop().expect("a last reply");
    strace.detach();
    assert!(reply.ok == Some(false) && reply.message.contains("Exec format error"), "{reply:?}\n{master}");
    assert!(blocks_child_signal(process), "{master}");
    let open: Vec<_> = process.descriptors().into_iter().filter(|(_, open)| is_state(&open.target)).collect();
    assert!(open.is_empty(), "left behind: {open:?}\n{master}");
    master.wait_reaped(&[victim]);
    master.assert_well(WORKERS);
    assert_eq!(master.control().ask("reload", &[]).ok, Some(true), "{master}");
    master.assert_well(WORKERS);
}

fn is_state(target: &str) -> bool {
    target.contains("memfd:") || target.ends_with("einhyrningsins")
}

fn blocks_child_signal(process: Process) -> bool {
    let mask = process.status("SigBlk").expect("the master runs");
    let mask = u64::from_str_radix(&mask, 16).expect("a mask");
    mask & (1 << (Signal::SIGCHLD as u32 - 1)) != 0
}

/// The workers, asked of the system: the master has other things to do.
fn master_workers(process: Process) -> Vec<Process> {
    let children = process.children().into_iter();
    let workers: Vec<_> =
        children.filter(|child| child.program().is_some_and(|path| path.ends_with("serve"))).collect();
    assert!(!workers.is_empty());
    workers
}
