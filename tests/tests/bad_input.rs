//! What is wrong at the start is said in one message that names it, and hurts nobody who is there already.

use std::fs::{self, Permissions};
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;

use nix::sys::signal::Signal;
use tests::process::run;
use tests::wait::wait_for;
use tests::{Finished, Master, MasterBuilder, binaries};

tests::trials! {
    each_bad_option_is_named_and_is_bad_usage,
    no_program_is_bad_usage,
    an_address_in_use_is_named,
    an_address_of_another_machine_is_named,
    a_missing_program_is_named,
    a_program_that_cannot_be_executed_is_named,
    a_missing_directory_is_named,
    a_pidfile_that_cannot_be_written_is_named,
    a_pidfile_whose_place_was_taken_by_something_endless_does_not_halt_a_stop,
    the_files_of_another_user_in_a_sticky_directory_are_used_by_root needs "root",
    a_second_master_on_the_same_socket_is_refused_and_the_first_unharmed,
    the_socket_of_a_killed_master_is_replaced,
    a_stale_socket_of_somebody_else_is_replaced,
    a_control_path_that_is_no_socket_is_refused_and_left_alone,
    a_control_path_that_is_too_long_is_named_with_its_limit,
    a_control_path_in_a_missing_directory_is_named,
    a_command_of_the_client_is_pointed_out,
    too_few_descriptors_are_pointed_out needs "util-linux",
    a_start_without_an_address_or_with_npm_warns,
    a_missing_ack_is_named_in_the_log_and_in_status,
    what_a_mount_or_the_network_lacks_is_named needs "root",
    a_program_found_elsewhere_runs_in_a_directory_that_the_master_may_not_enter needs "root",
    a_dry_run_finds_what_is_wrong_and_leaves_nothing_behind,
    a_dry_run_beside_the_master_that_runs_finds_nothing_wrong,
}

/// Each option with a value that it cannot take, and what the message must name.
const BAD_OPTIONS: &[(&[&str], &[&str])] = &[
    (&["-n", "0"], &["--number", "'0'"]),
    (&["-n", "some"], &["--number", "'some'"]),
    (&["-n", "10001"], &["--number", "10001"]),
    (&["-n"], &["--number"]),
    (&["-b", "nonsense"], &["--bind", "nonsense"]),
    (&["-b", "127.0.0.1"], &["--bind", "127.0.0.1"]),
    (&["-b", "127.0.0.1:99999"], &["--bind", "99999"]),
    (&["-b", "[::1:80"], &["--bind", "[::1:80"]),
    (&["-b", "127.0.0.1:0,q"], &["--bind", "127.0.0.1:0,q"]),
    (&["-4", "-6"], &["--ipv4-only", "--ipv6-only"]),
    (&["-l", "many"], &["--backlog", "many"]),
    (&["-l", "0"], &["--backlog", "0"]),
    (&["-r", "-1"], &["-1"]),
    (&["-r", "x"], &["--retries", "x"]),
    (&["-s", "0"], &["--seconds", "0"]),
    (&["-s", "inf"], &["--seconds", "inf"]),
    (&["-t", "later"], &["--signal-timeout", "later"]),
    (&["--ack-mode", "soon"], &["--ack-mode", "soon"]),
    (&["--ack-mode", "-1"], &["-1"]),
    (&["-m", "--ack-mode", "1"], &["--manual", "--ack-mode"]),
    (&["--ack-timeout", "x"], &["--ack-timeout", "x"]),
    (&["--max-unacked", "0"], &["--max-unacked", "0"]),
    (&["--max-upgrade-additional", "x"], &["--max-upgrade-additional", "x"]),
    (&["--nice", "99"], &["--nice", "99"]),
    (&["--nice", "1:x"], &["--nice", "x"]),
    (&["--graceful-signal", "NOPE"], &["--graceful-signal", "NOPE"]),
    (&["--log-format", "xml"], &["--log-format", "xml"]),
    (&["--drop-env-var", "A=b"], &["--drop-env-var", "A=b"]),
    (&["-c", "a/b"], &["--command-name", "a/b"]),
    (&["-c", ""], &["--command-name"]),
    (&["--frobnicate"], &["--frobnicate"]),
    (&["-Z"], &["-Z"]),
];

/// A command line with nothing of the harness's own.
fn bare(words: &[&str]) -> Finished {
    let mut command = Command::new(binaries::einhyrningsins());
    command.args(words);
    run(command)
}

/// A start that fails: with this exit code, and one message that has all these words.
#[track_caller]
fn refused(finished: &Finished, code: i32, words: &[&str]) {
    finished.assert_code(code);
    for word in words {
        finished.assert_says(word);
    }
    let heads = finished.stderr.lines().filter(|line| {
        let line = line.trim_start();
        line.starts_with("einhyrningsins:") || line.starts_with("error:")
    });
    assert_eq!(heads.count(), 1, "not one message\n{finished}");
    assert!(!finished.stderr.contains("panicked"), "{finished}");
    assert_eq!(finished.stdout, "", "{finished}");
}

fn each_bad_option_is_named_and_is_bad_usage() {
    for (options, words) in BAD_OPTIONS {
        let line = [*options, &["/bin/true"]].concat();
        refused(&bare(&line), 2, words);
    }
}

fn no_program_is_bad_usage() {
    refused(&bare(&[]), 2, &["PROGRAM"]);
    refused(&bare(&["-n", "2"]), 2, &["PROGRAM"]);
}

fn an_address_in_use_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("its address").to_string();
    let builder = Master::builder().without_bind().options(["-b", &address]);
    refused(&builder.run_to_end(), 1, &["cannot bind", &address, "in use"]);
    assert!(!builder.file("einhorn.sock").exists(), "it left its control socket behind");
}

fn an_address_of_another_machine_is_named() {
    // RFC 5737: an address that no machine has.
    let builder = Master::builder().without_bind().options(["-b", "192.0.2.1:0"]);
    refused(&builder.run_to_end(), 1, &["cannot bind", "192.0.2.1"]);
}

fn a_missing_program_is_named() {
    let builder = Master::builder();
    let missing = builder.file("missing");
    let builder = builder.program([&missing]);
    refused(&builder.run_to_end(), 1, &[missing.to_str().expect("UTF-8"), "No such file"]);
    let builder = Master::builder().program(["no-program-has-this-name"]);
    refused(&builder.run_to_end(), 1, &["no-program-has-this-name", "PATH"]);
}

fn a_program_that_cannot_be_executed_is_named() {
    let builder = Master::builder();
    let text = builder.file("text");
    fs::write(&text, "not a program\n").expect("a file");
    let builder = builder.program([&text]);
    refused(&builder.run_to_end(), 1, &[text.to_str().expect("UTF-8"), "Permission denied"]);

    // Executable by its mode, but nothing that the kernel knows: it must not be run by a shell instead.
    fs::set_permissions(&text, Permissions::from_mode(0o755)).expect("a mode");
    fails_to_spawn(&builder, &[text.to_str().expect("UTF-8"), "neither a binary"]);

    fs::write(&text, "#!/no/such/interpreter\n").expect("a file");
    fails_to_spawn(&builder, &[text.to_str().expect("UTF-8"), "/no/such/interpreter"]);

    let builder = Master::builder().program(["/usr"]);
    refused(&builder.run_to_end(), 1, &["/usr", "Permission denied"]);
}

/// What only the spawn can find out: it is retried, and each try is told.
#[track_caller]
fn fails_to_spawn(builder: &MasterBuilder, words: &[&str]) {
    let finished = builder.run_to_end();
    finished.assert_code(1);
    for word in words {
        finished.assert_says(word);
    }
    assert!(!finished.stderr.contains("panicked"), "{finished}");
}

fn a_missing_directory_is_named() {
    let builder = Master::builder();
    let missing = builder.file("missing");
    let builder = builder.option("--chdir").option(&missing);
    refused(&builder.run_to_end(), 1, &[missing.to_str().expect("UTF-8"), "No such file"]);
    let builder = Master::builder().options(["--chdir", "/bin/sh"]);
    refused(&builder.run_to_end(), 1, &["/bin/sh", "Not a directory"]);
}

fn a_pidfile_that_cannot_be_written_is_named() {
    let builder = Master::builder().options(["-e", "/no/such/directory/pid"]);
    refused(&builder.run_to_end(), 1, &["/no/such/directory/pid", "No such file"]);
    let builder = Master::builder().options(["-f", "/no/such/directory/lock"]);
    refused(&builder.run_to_end(), 1, &["/no/such/directory/lock", "No such file"]);
}

/// The worst that a second start can do is to harm the first.
fn a_pidfile_whose_place_was_taken_by_something_endless_does_not_halt_a_stop() {
    for endless in ["mkfifo \"$0\"", "ln -s /dev/zero \"$0\""] {
        let builder = Master::builder();
        let pidfile = builder.file("pid");
        let mut master = builder.option("-e").option(&pidfile).start();
        fs::remove_file(&pidfile).expect("a pid file");
        assert!(Command::new("/bin/sh").args(["-c", endless]).arg(&pidfile).status().expect("sh").success());
        master.signal(Signal::SIGTERM);
        master.wait_exit_code(0);
        assert!(fs::symlink_metadata(&pidfile).is_ok(), "{endless}: it was removed");
    }
}

/// As `fs.protected_regular` has it, with which O_CREAT fails even for root. Where that is 0, this shows nothing.
fn the_files_of_another_user_in_a_sticky_directory_are_used_by_root() {
    let builder = Master::builder();
    let sticky = builder.file("sticky");
    fs::create_dir(&sticky).expect("a directory");
    fs::set_permissions(&sticky, Permissions::from_mode(0o1777)).expect("a mode");
    let files = ["lock", "x.sock.lock", "log"].map(|name| sticky.join(name));
    for file in &files {
        fs::write(file, "").expect("a file");
        std::os::unix::fs::chown(file, Some(65_534), Some(65_534)).expect("another owner");
    }
    let builder = builder.without_socket().option("-d").option(sticky.join("x.sock"));
    let builder = builder.option("-f").option(&files[0]).option("--log-file").option(&files[2]);
    let mut master = builder.start_unready();
    master.at_socket(sticky.join("x.sock"));
    master.wait_up(1);
    master.signal(Signal::SIGTERM);
    master.wait_exit_code(0);
}

fn a_second_master_on_the_same_socket_is_refused_and_the_first_unharmed() {
    let builder = Master::builder().workers(2);
    let (pidfile, lockfile) = (builder.file("pid"), builder.file("lock"));
    let mut first = builder.option("-e").option(&pidfile).option("-f").option(&lockfile).start();
    let pids = first.workers_up();

    let second = Master::builder().without_socket().option("-d").option(first.socket());
    let second = second.option("-e").option(&pidfile);
    let socket = first.socket().to_str().expect("UTF-8").to_owned();
    refused(&second.run_to_end(), 1, &[&socket, &first.process().pid().to_string()]);

    let third = Master::builder().option("-f").option(&lockfile);
    refused(&third.run_to_end(), 1, &[lockfile.to_str().expect("UTF-8")]);

    first.assert_well(2);
    assert_eq!(first.workers_up(), pids, "its workers were touched\n{first}");
    assert_eq!(fs::read_to_string(&pidfile).expect("its pidfile").trim(), first.process().pid().to_string());
    assert!(lockfile.exists(), "{first}");
}

fn the_socket_of_a_killed_master_is_replaced() {
    let builder = Master::builder();
    let socket = builder.file("shared.sock");
    let mut first = builder.without_socket().option("-d").option(&socket).start_unready();
    first.at_socket(&socket);
    first.wait_up(1);
    first.signal(Signal::SIGKILL);
    first.wait_exit();
    assert!(fs::metadata(&socket).is_ok_and(|metadata| metadata.file_type().is_socket()), "{first}");

    let mut second = Master::builder().without_socket().option("-d").option(&socket).start_unready();
    second.at_socket(&socket);
    second.assert_well(1);
}

fn a_stale_socket_of_somebody_else_is_replaced() {
    let builder = Master::builder();
    let path = builder.file("einhorn.sock");
    drop(UnixListener::bind(&path).expect("a socket"));
    // What another test is starting just now has a copy of it until its exec.
    wait_for("the socket to be stale", || UnixStream::connect(&path).is_err().then_some(()));
    builder.start().assert_well(1);
}

fn a_control_path_that_is_no_socket_is_refused_and_left_alone() {
    let builder = Master::builder();
    let path = builder.file("einhorn.sock");
    fs::write(&path, "precious").expect("a file");
    refused(&builder.run_to_end(), 1, &[path.to_str().expect("UTF-8"), "socket"]);
    assert_eq!(fs::read_to_string(&path).expect("the file"), "precious");

    let builder = Master::builder();
    let path = builder.file("einhorn.sock");
    fs::create_dir(&path).expect("a directory");
    refused(&builder.run_to_end(), 1, &[path.to_str().expect("UTF-8"), "socket"]);
    assert!(path.is_dir());
}

fn a_control_path_that_is_too_long_is_named_with_its_limit() {
    let builder = Master::builder().without_socket();
    let path = builder.file(&"x".repeat(120));
    let builder = builder.option("-d").option(&path);
    refused(&builder.run_to_end(), 1, &[path.to_str().expect("UTF-8"), "107"]);
}

fn a_control_path_in_a_missing_directory_is_named() {
    let builder = Master::builder().without_socket().options(["-d", "/no/such/directory/einhorn.sock"]);
    refused(&builder.run_to_end(), 1, &["/no/such/directory", "No such file"]);
}

fn a_command_of_the_client_is_pointed_out() {
    let builder = Master::builder().program(["status"]);
    refused(&builder.run_to_end(), 1, &["status", "that is a command of einhyrningsinsctl"]);
}

fn too_few_descriptors_are_pointed_out() {
    let builder = Master::builder().under(["prlimit", "--nofile=8:8"]);
    refused(&builder.run_to_end(), 1, &["Too many open files", "hint: raise the limit on open files"]);
}

fn a_start_without_an_address_or_with_npm_warns() {
    let mut master = Master::builder().without_bind().start();
    master.wait_log("no -b: the workers get no socket");
    let builder = Master::builder();
    let npm = builder.file("npm");
    std::os::unix::fs::symlink(binaries::worker("serve"), &npm).expect("a link");
    let mut master = builder.program([&npm]).start();
    master.wait_log("npm does not pass the sockets on");
    let mut master = Master::builder().start();
    master.assert_well(1);
    assert!(!master.to_string().contains("no -b"), "{master}");
}

fn a_missing_ack_is_named_in_the_log_and_in_status() {
    let mut master = Master::builder().program(["sleep", "1000"]).start_unready();
    master.wait_log("has not acked after 5.");
    let status = master.ctl(["status"]);
    status.assert_code(0);
    assert!(status.stdout.contains("it is up once it sends worker:ack or READY=1"), "{status}");
}

fn dry_run(builder: MasterBuilder) -> Finished {
    builder.option("--dry-run").run_to_end()
}

fn a_dry_run_finds_what_is_wrong_and_leaves_nothing_behind() {
    let finished = dry_run(Master::builder().workers(3).options(["-b", "systemd", "-e", "/tmp/none.pid"]));
    finished.assert_code(0);
    for line in ["a start would run 3 workers of ", "not checked: -b systemd, since no socket was passed"] {
        assert!(finished.stdout.contains(line), "{finished}");
    }

    let builder = Master::builder();
    let (socket, unix) = (builder.file("einhorn.sock"), builder.file("web.sock"));
    let bind = format!("unix:{}", unix.display());
    let directory = socket.parent().expect("a directory").to_owned();
    let builder = builder.options(["-b", &bind, "-e"]).option(directory.join("pid"));
    let builder = builder.option("--history").option(directory.join("history"));
    // The directory goes with the builder.
    let builder = builder.option("--dry-run");
    builder.run_to_end().assert_code(0);
    assert_eq!(fs::read_dir(&directory).expect("the directory").count(), 0);

    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("its address").to_string();
    refused(&dry_run(Master::builder().options(["-b", &address])), 1, &["cannot bind", &address, "in use"]);
    refused(&dry_run(Master::builder().program(["no-program-has-this-name"])), 1, &["in PATH"]);
    refused(
        &dry_run(Master::builder().options(["-e", "/no/such/directory/pid"])),
        1,
        &["/no/such/directory/pid"],
    );
    refused(&dry_run(Master::builder().options(["--user", "no-such-user"])), 1, &["no-such-user"]);
    let mut other = tempfile::NamedTempFile::new().expect("a file");
    writeln!(other, "something else").expect("a line");
    for (file, why) in [
        ("/no/such/directory/history", "No such file or directory"),
        ("/dev/null", "it is not a file"),
        (other.path().to_str().expect("UTF-8"), "it is not a history of rollouts"),
    ] {
        let finished = dry_run(Master::builder().options(["--history", file]));
        finished.assert_code(0);
        let is_told = finished.stdout.contains("warning: cannot keep the history")
            && !finished.stdout.contains("nothing wrong");
        assert!(is_told && finished.stdout.contains(file) && finished.stdout.contains(why), "{finished}");
    }
    let bind = |spec: &str| dry_run(Master::builder().options(["-b", spec]));
    for address in ["udp:127.0.0.1:0", "127.0.0.1:0,reuseport", &format!("{address},reuseport")] {
        bind(address).assert_code(0);
        refused(&bind(&format!("{address},device=no-such")), 1, &["device=no-such", "No such device"]);
    }
    for address in ["udp:192.0.2.1:8000", "192.0.2.1:8000,reuseport"] {
        refused(&bind(address), 1, &["cannot bind", "192.0.2.1:8000", "Cannot assign requested address"]);
    }
}

fn a_dry_run_beside_the_master_that_runs_finds_nothing_wrong() {
    let mut master = Master::builder().workers(2).start();
    let address = master.status().listeners[0].address.clone();
    let beside = || Master::builder().without_socket().without_bind().option("-d").option(master.socket());
    let builder = beside().options(["-b", &address]);
    dry_run(builder).assert_code(0);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let other = listener.local_addr().expect("its address").to_string();
    refused(&dry_run(beside().options(["-b", &other])), 1, &["cannot bind", &other]);
    master.assert_well(2);
}

/// Starts the master in a `namespace` of its own, after `script` has changed that. `$D` is the directory of the test.
fn within(namespace: &str, builder: MasterBuilder, script: &str) -> MasterBuilder {
    let directory = builder.file("").display().to_string();
    let script = format!("D={directory}; {script}; exec \"$@\"");
    builder.under(["unshare", namespace, "sh", "-e", "-c", &script, "sh"])
}

fn what_a_mount_or_the_network_lacks_is_named() {
    let builder = Master::builder();
    let program = builder.file("mnt/serve");
    let script = format!(
        "mkdir $D/mnt; mount -t tmpfs -o noexec none $D/mnt; cp {} $D/mnt/serve",
        binaries::worker("serve").display()
    );
    let noexec = within("--mount", builder.program([&program]), &script);
    refused(&noexec.run_to_end(), 1, &["Permission denied", "mounted noexec: move it to another one"]);

    let script = "mkdir $D/mnt; mount -t tmpfs -o ro none $D/mnt";
    for option in ["-d", "-e", "-f"] {
        let builder = Master::builder().without_socket();
        let path = builder.file("mnt/x");
        let read_only = within("--mount", builder.option(option).option(&path), script);
        let finished = read_only.run_to_end();
        refused(&finished, 1, &["Read-only file system", "its file system is read-only", option]);
    }

    let script = "for f in /proc/sys/net/ipv6/conf/*/disable_ipv6; do echo 1 > $f; done";
    let without_ipv6 =
        within("--net", Master::builder().without_bind().options(["-b", "[::1]:8000"]), script);
    refused(&without_ipv6.run_to_end(), 1, &["[::1]:8000", "this machine has no IPv6", "0.0.0.0:8000"]);
}

/// As after "sudo -u app" in /root.
fn a_program_found_elsewhere_runs_in_a_directory_that_the_master_may_not_enter() {
    let builder = Master::builder();
    let closed = builder.file("closed");
    fs::create_dir(&closed).expect("a directory");
    fs::set_permissions(&closed, Permissions::from_mode(0o700)).expect("a mode");
    fs::set_permissions(builder.file(""), Permissions::from_mode(0o777)).expect("a mode");
    let builder = builder.current_dir(&closed);
    let mut master =
        builder.under(["setpriv", "--reuid", "1234", "--regid", "1234", "--clear-groups"]).start();
    master.assert_well(1);
    master.upgrade();
}
