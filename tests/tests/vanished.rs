//! Files of sockets that others remove, move or replace while the master runs: they come back, or the log says why not.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;
use tests::{Master, MasterBuilder, Process, wait};

tests::trials! {
    files_that_a_cleaner_removes_come_back_and_workers_find_them,
    connections_to_the_socket_that_was_removed_stay,
    a_lock_file_that_is_removed_comes_back_and_keeps_other_masters_out,
    each_way_to_lose_the_control_socket_is_repaired,
    a_mount_over_the_directory_is_noticed_at_the_next_upgrade_spawn_and_takeover needs "mount namespace" "python3",
    a_path_that_another_process_has_by_now_is_left_to_it_until_it_is_free,
    files_that_vanish_during_a_reload_come_back,
    a_listener_whose_file_is_removed_is_served_again,
    whose_the_files_are_is_not_looked_up_again needs "mount namespace",
    a_pool_whose_files_stay_is_not_woken,
}

const LOST: &str = "removed, moved or replaced by another process";

/// A master whose files are in a directory of their own, and that directory.
fn in_directory(workers: u32) -> (MasterBuilder, PathBuf) {
    let builder = Master::builder().workers(workers).serve(["ack=notify"]).without_socket();
    let directory = builder.file("run");
    fs::create_dir(&directory).expect("a directory");
    let socket = directory.join("m.sock");
    (builder.options(["-d".as_ref(), socket.as_os_str()]), directory)
}

fn start_in_directory(workers: u32) -> (Master, PathBuf) {
    let (builder, directory) = in_directory(workers);
    let mut master = builder.start_unready();
    master.at_socket(directory.join("m.sock"));
    master.wait_up(workers);
    (master, directory)
}

fn with(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Waits until a new client gets an answer.
#[track_caller]
fn wait_answer(master: &mut Master) {
    master.wait("an answer at the path", |master| master.ctl(["status"]).status.success().then_some(()));
}

#[track_caller]
fn wait_there(master: &mut Master, path: &Path) {
    master.wait("the file", |_| fs::symlink_metadata(path).is_ok().then_some(()));
}

fn files_that_a_cleaner_removes_come_back_and_workers_find_them() {
    for ack in ["control", "notify"] {
        let mut master = Master::builder().workers(2).serve([&format!("ack={ack}")]).start();
        let socket = master.socket().to_owned();
        let files = [socket.clone(), with(&socket, ".lock"), with(&socket, ".notify")];
        // It finds all of them gone at once.
        master.signal(Signal::SIGSTOP);
        master.wait("a master that stands still", |master| master.process().is_stopped().then_some(()));
        files.iter().for_each(|file| fs::remove_file(file).expect("the file"));
        master.signal(Signal::SIGCONT);
        files.iter().for_each(|file| wait_there(&mut master, file));
        wait_answer(&mut master);
        let victim = master.workers_up()[0];
        master.kill_worker(victim);
        master.wait_up(2);
        master.upgrade();
        let log = master.log();
        let expected = format!("WARN: {0} and {0}.lock were {LOST}; made again", socket.display());
        assert_eq!(log.matches(&expected).count(), 1, "{master}");
        assert_eq!(
            log.matches(&format!("{}.notify was {LOST}; made again", socket.display())).count(),
            1,
            "{master}"
        );
        assert!(!log.contains("unacked"), "{master}");
        master.signal(Signal::SIGTERM);
        master.wait_exit_code(0);
        assert!(!files.iter().any(|file| file.exists()), "they go with the master\n{master}");
    }
}

fn connections_to_the_socket_that_was_removed_stay() {
    let mut master = Master::builder().start();
    let mut before = UnixStream::connect(master.socket()).expect("a connection");
    fs::remove_file(master.socket()).expect("the socket");
    master.wait_log("made again");
    wait_answer(&mut master);
    before.write_all(b"{\"command\":\"version\"}\n").expect("a request");
    let mut reply = String::new();
    BufReader::new(before).read_line(&mut reply).expect("a reply");
    assert!(reply.contains("\"ok\":true"), "{reply}");
}

fn a_lock_file_that_is_removed_comes_back_and_keeps_other_masters_out() {
    let mut master = Master::builder().start();
    let lock = with(master.socket(), ".lock");
    fs::remove_file(&lock).expect("the lock file");
    master.wait_log(&format!("{} was {LOST}; made again", lock.display()));
    assert_eq!(fs::read_to_string(&lock).expect("the lock file").trim(), master.process().pid().to_string());
    let second = Master::builder().without_socket().option("-d").option(master.socket());
    let refused = second.run_to_end();
    refused.assert_code(1).assert_says(&format!("process {} is listening there", master.process().pid()));
    assert_eq!(master.log().matches("made again").count(), 1, "the socket was not touched\n{master}");
    wait_answer(&mut master);
}

fn each_way_to_lose_the_control_socket_is_repaired() {
    let (mut master, directory) = start_in_directory(1);
    let (socket, aside) = (directory.join("m.sock"), directory.with_file_name("aside"));
    type Way<'a> = (&'a str, &'a dyn Fn());
    let ways: [Way<'_>; 4] = [
        ("moved", &|| fs::rename(&socket, directory.join("old")).expect("the socket")),
        ("directory moved, and made again", &|| {
            fs::rename(&directory, &aside).expect("the directory");
            fs::create_dir(&directory).expect("a directory");
        }),
        ("directory removed, and made again", &|| {
            // The master may make a file again while the others are removed.
            wait::within(wait::patience(), || fs::remove_dir_all(&directory).ok()).expect("it is removed");
            fs::create_dir(&directory).expect("a directory");
        }),
        ("replaced by a stale socket", &|| {
            let other = directory.join("other");
            drop(UnixListener::bind(&other).expect("a socket"));
            fs::rename(&other, &socket).expect("the socket");
        }),
    ];
    for (way, lose) in ways {
        lose();
        wait_answer(&mut master);
        wait_there(&mut master, &with(&socket, ".lock"));
        wait_there(&mut master, &with(&socket, ".notify"));
        assert!(master.process().is_alive(), "{way}\n{master}");
    }
    // Nothing that others have put there is removed.
    fs::remove_file(&socket).expect("the socket");
    fs::write(directory.join("mine"), "precious").expect("a file");
    fs::rename(directory.join("mine"), &socket).expect("a file");
    master.wait_log("cannot be made again: it is not a socket; will try again every second");
    assert_eq!(fs::read_to_string(&socket).expect("a file"), "precious");
    fs::remove_file(&socket).expect("a file");
    wait_answer(&mut master);
    master.upgrade();
}

fn a_mount_over_the_directory_is_noticed_at_the_next_upgrade_spawn_and_takeover() {
    let (builder, directory) = in_directory(1);
    // The mount is the master's alone, and ends with it.
    let mut master = builder.under(["unshare", "-m"]).start_unready();
    let process = master.process();
    let socket = directory.join("m.sock");
    wait_there(&mut master, &socket);
    master.wait_log("1 of 1 workers up");
    let pid = process.pid().to_string();
    let inside = |words: &[&str]| {
        Command::new("nsenter").args(["-t", &pid, "-m"]).args(words).output().expect("nsenter")
    };
    let over = directory.display().to_string();
    let wait_files = |master: &mut Master| {
        master.wait("all files in the new directory", |_| {
            let listed = inside(&["ls", &over]);
            let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
            let is_there = |file: &&str| listed.lines().any(|line| line == *file);
            ["m.sock", "m.sock.lock", "m.sock.notify"].iter().all(is_there).then_some(())
        });
    };
    let mount = ["mount", "-t", "tmpfs", "tmpfs", &over];
    assert!(inside(&mount).status.success());
    master.signal(Signal::SIGHUP);
    master.wait_log("upgrade to generation 2 done");
    wait_files(&mut master);

    let only_child = |master: &mut Master| {
        master.wait("one worker", |_| <[Process; 1]>::try_from(process.children()).ok().map(|[child]| child))
    };
    let victim = only_child(&mut master);
    assert!(inside(&mount).status.success());
    assert!(victim.signal(Signal::SIGKILL));
    wait_files(&mut master);

    let next = only_child(&mut master).pid();
    master.wait_log(&format!("worker {next} (generation 2) acked by READY=1"));
    let socket = socket.display().to_string();
    let reloaded = inside(&["python3", "-c", MOUNT_AND_RELOAD, &socket, &over]);
    assert!(String::from_utf8_lossy(&reloaded.stdout).contains("\"ok\":true"), "{reloaded:?}\n{master}");
    wait_files(&mut master);
}

/// The connection is made before the socket is out of sight.
const MOUNT_AND_RELOAD: &str = r#"
import socket, subprocess, sys
control = socket.socket(socket.AF_UNIX)
control.settimeout(30)
control.connect(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "tmpfs", sys.argv[2]], check=True)
control.sendall(b'{"command":"reload"}\n')
for line in control.makefile():
    print(line)
    if '"ok"' in line: break
"#;

fn a_path_that_another_process_has_by_now_is_left_to_it_until_it_is_free() {
    let (mut master, directory) = start_in_directory(1);
    let (socket, other) = (directory.join("m.sock"), directory.join("other"));
    let theirs = UnixListener::bind(&other).expect("a socket");
    fs::rename(&other, &socket).expect("the socket");
    let us = std::process::id();
    let why =
        format!("{} was {LOST}, and cannot be made again: process {us} is listening there", socket.display());
    master.wait_log(&why);
    master.signal(Signal::SIGHUP);
    master.wait_log("upgrade to generation 2 done");
    UnixStream::connect(&socket).expect("their socket is as it was");
    assert_eq!(master.log().matches(&why).count(), 1, "said once\n{master}");
    drop(theirs);
    wait_answer(&mut master);
}

fn files_that_vanish_during_a_reload_come_back() {
    let mut master = Master::builder().start();
    let socket = master.socket().to_owned();
    let lock = with(&socket, ".lock");
    // One of the two images finds them gone.
    let reload = std::thread::spawn({
        let mut control = master.control();
        move || control.ask("reload", &[])
    });
    fs::remove_file(&socket).expect("the socket");
    fs::remove_file(&lock).expect("the lock file");
    let reply = reload.join().expect("a reply");
    assert_eq!(reply.ok, Some(true), "{reply:?}\n{master}");
    wait_there(&mut master, &lock);
    wait_answer(&mut master);
    // The next image watches what the one before has made.
    fs::remove_file(&socket).expect("the socket");
    wait_answer(&mut master);
    master.upgrade();
}

fn a_listener_whose_file_is_removed_is_served_again() {
    let builder = Master::builder().without_bind().workers(2);
    let path = builder.file("w.sock");
    let mut master = builder.option("-b").option(format!("unix:{},mode=640", path.display())).start();
    let before = master.workers_up();
    let waits = UnixStream::connect(&path).expect("a connection");
    fs::remove_file(&path).expect("the file");
    master.wait_log(
        "made again; workers hold a socket that nobody reaches any more, and are replaced one by one",
    );
    let served = |stream: &mut UnixStream| {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").expect("a request");
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).expect("an answer");
        assert!(line.starts_with("HTTP/1.1 200"), "{line:?}");
    };
    served(&mut { waits });
    // It waits in the queue until a worker comes that has the new socket.
    served(&mut UnixStream::connect(&path).expect("a connection"));
    let status = master.wait_status("both workers to be replaced", |status| status.recycled.lost_socket == 2);
    assert_eq!(status.recycled.asked, 0);
    let after = master.workers_up();
    assert!(before.iter().all(|worker| !after.contains(worker)), "{master}");
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(fs::metadata(&path).expect("the file").permissions().mode() & 0o777, 0o640);
    let reply = master.control().ask("reload", &[]);
    assert_eq!(reply.ok, Some(true), "{reply:?}\n{master}");
    served(&mut UnixStream::connect(&path).expect("a connection"));
    master.signal(Signal::SIGTERM);
    master.wait_exit_code(0);
    assert!(!path.exists(), "{master}");
}

/// A name service may take long to answer, or have other answers by then.
fn whose_the_files_are_is_not_looked_up_again() {
    let builder = Master::builder().without_bind();
    let (groups, path) = (builder.file("groups"), builder.file("w.sock"));
    let known = fs::read_to_string("/etc/group").expect("the groups");
    fs::write(&groups, format!("{known}\nvanishing:x:54999:\n")).expect("a file");
    let script = format!("mount --bind {} /etc/group && exec \"$0\" \"$@\"", groups.display());
    let builder = builder.options(["--control-mode", "660", "--control-group", "vanishing"]);
    let bind = format!("unix:{},mode=660,group=vanishing", path.display());
    let mut master =
        builder.options(["-b", &bind]).under(["unshare", "-m", "/bin/sh", "-c", &script]).start();
    fs::write(&groups, &known).expect("a file");
    for reloads in [false, true] {
        if reloads {
            let reply = master.control().ask("reload", &[]);
            assert_eq!(reply.ok, Some(true), "{reply:?}\n{master}");
        }
        for file in [master.socket().to_owned(), path.clone()] {
            fs::remove_file(&file).expect("the file");
            wait_there(&mut master, &file);
            use std::os::unix::fs::MetadataExt;
            master.wait("the group of the file", |_| {
                fs::metadata(&file).is_ok_and(|found| found.gid() == 54_999).then_some(())
            });
        }
    }
    assert!(!master.log().contains("vanishing"), "{master}");
}

fn a_pool_whose_files_stay_is_not_woken() {
    let (mut master, directory) = start_in_directory(1);
    wait_answer(&mut master);
    let process = master.process();
    master.wait("sleep without a limit", |_| process.sleeps_without_limit().then_some(()));
    let switches = || process.status("voluntary_ctxt_switches").expect("a count");
    let before = switches();
    for number in 0..100 {
        fs::write(directory.join(number.to_string()), "busy").expect("a file");
    }
    // Whoever was woken has to fall asleep again, which is counted.
    master.wait("sleep without a limit", |_| process.sleeps_without_limit().then_some(()));
    assert_eq!(switches(), before, "files beside ours wake nobody\n{master}");
}
