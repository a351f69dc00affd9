//! The standard output and error of workers in journald (`--log-workers journal`): with a socket of the test's own in its place,
//! and with the real one.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::libc::O_NONBLOCK;
use nix::sys::signal::Signal;
use serde_json::Value;
use socket2::{Domain, SockAddr, Socket, Type};
use tests::wait::{patience, wait_for};
use tests::{Master, MasterBuilder, Process, process};

tests::trials! {
    each_worker_has_a_stream_of_its_own_under_its_name needs "mount namespace",
    a_trial_worker_has_a_stream_and_its_standard_error_goes_to_the_master needs "mount namespace",
    where_journald_has_no_room_workers_write_as_the_master_does needs "mount namespace",
    where_there_is_no_journald_workers_write_as_the_master_does needs "mount namespace",
    a_new_option_line_counts_for_the_next_release needs "mount namespace",
    more_workers_than_journald_takes_are_refused,
    lines_in_the_journal_have_the_name_of_the_slot_and_the_process_that_wrote_them needs "mount namespace" "journald",
}

/// Says who it is on both, then sleeps.
const WORKER: &str = "echo out $JOURNAL_STREAM; echo err >&2; exec sleep 1000";

/// What comes before the lines of a worker, except its name.
const HEADER: [&str; 6] = ["", "30", "1", "0", "0", "0"];

fn shells(builder: MasterBuilder, script: &str) -> MasterBuilder {
    builder.timer_acks(0.0).env_remove("JOURNAL_STREAM").program(["/bin/sh", "-c", script])
}

/// The master in a mount namespace in which journald's sockets are those in `directory`.
fn beside_journald_in(directory: &Path, builder: MasterBuilder) -> MasterBuilder {
    let script = format!(
        "mount -t tmpfs none /run; mkdir -p /run/systemd/journal; mount --bind {} /run/systemd/journal; exec \"$@\"",
        directory.display()
    );
    builder.under(["unshare", "--mount", "sh", "-e", "-c", &script, "sh"])
}

/// Takes the place of journald.
struct Journald {
    directory: tempfile::TempDir,
    listener: UnixListener,
}

impl Journald {
    fn new(backlog: i32) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
        let address = SockAddr::unix(directory.path().join("stdout")).expect("an address");
        socket.bind(&address).expect("a free name");
        socket.listen(backlog).expect("a listener");
        socket.set_nonblocking(true).expect("a listener that does not wait");
        Self { directory, listener: socket.into() }
    }

    fn pool(&self, script: &str) -> MasterBuilder {
        shells(beside_journald_in(self.directory.path(), Master::builder()), script)
    }

    /// The next stream.
    #[track_caller]
    fn stream(&self) -> BufReader<UnixStream> {
        let (stream, _) = wait_for("a stream", || self.listener.accept().ok());
        stream.set_nonblocking(false).expect("a stream that waits");
        stream.set_read_timeout(Some(patience())).expect("a deadline");
        BufReader::new(stream)
    }
}

#[track_caller]
fn lines<const N: usize>(stream: &mut impl BufRead) -> [String; N] {
    [(); N].map(|()| {
        let mut line = String::new();
        stream.read_line(&mut line).expect("a line");
        line.strip_suffix('\n').unwrap_or_else(|| panic!("the end of the stream after {line:?}")).to_owned()
    })
}

fn each_worker_has_a_stream_of_its_own_under_its_name() {
    let journald = Journald::new(64);
    let mut master = journald.pool(WORKER).workers(2).option("--log-workers=journal=web").start();
    let mut streams = [journald.stream(), journald.stream()];
    for (slot, stream) in streams.iter_mut().enumerate() {
        let worker = process_of_slot(&mut master, slot);
        let file = fs::metadata(format!("/proc/{}/fd/1", worker.pid())).expect("its standard output");
        let name = format!("{}:{}", file.dev(), file.ino());
        let [identifier] = lines(stream);
        assert_eq!(identifier, format!("web/{slot}"));
        assert_eq!(lines::<6>(stream), HEADER);
        assert_eq!(lines(stream), [format!("out {name}"), "err".to_owned()], "{master}");
        let flags = fs::read_to_string(format!("/proc/{}/fdinfo/1", worker.pid())).expect("its flags");
        let flags = flags.lines().find_map(|line| line.strip_prefix("flags:")).expect("a line of flags");
        let flags = i32::from_str_radix(flags.trim(), 8).expect("a number");
        assert_eq!(flags & O_NONBLOCK, 0, "a program expects to wait for its standard output");
    }
    // The master has no copy: a stream ends with its worker, and not with an image of the master.
    master.ctl(["reload"]).assert_code(0);
    let old: Vec<_> = (0..2).map(|slot| process_of_slot(&mut master, slot)).collect();
    master.kill_workers(&old);
    for stream in &mut streams {
        assert_eq!(stream.read_line(&mut String::new()).expect("its end"), 0, "{master}");
    }
    let mut next = [journald.stream(), journald.stream()].map(|mut stream| lines::<1>(&mut stream));
    next.sort();
    assert_eq!(next, [["web/0"], ["web/1"]]);
    assert!(!master.log().contains("err\n") && !master.log().contains("--log-workers"), "{master}");
}

fn process_of_slot(master: &mut Master, slot: usize) -> Process {
    let status = master.wait_up(2);
    let worker = status.workers.iter().find(|worker| worker.slot.0 == u32::try_from(slot).ok());
    worker.and_then(|worker| Process::of(worker.pid)).expect("a worker in the slot")
}

fn a_trial_worker_has_a_stream_and_its_standard_error_goes_to_the_master() {
    let journald = Journald::new(64);
    let pool = journald.pool(WORKER).workers(1).options(["-c", "shop", "--log-workers", "journal"]);
    let mut master = pool.options(["--check", "true"]).start();
    let [identifier] = lines(&mut journald.stream());
    assert_eq!(identifier, "shop/0");
    master.ctl(["upgrade"]).assert_code(0);
    let mut stream = journald.stream();
    let [identifier] = lines(&mut stream);
    assert_eq!((identifier.as_str(), lines::<6>(&mut stream)), ("shop/trial", HEADER.map(str::to_owned)));
    assert!(lines::<1>(&mut stream)[0].starts_with("out "), "{master}");
    master.wait_log("err\n");
    let [identifier] = lines(&mut journald.stream());
    assert_eq!(identifier, "shop/0");
}

fn where_journald_has_no_room_workers_write_as_the_master_does() {
    let journald = Journald::new(0);
    let mut waiting = Vec::new();
    let address = SockAddr::unix(journald.directory.path().join("stdout")).expect("an address");
    loop {
        let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None).expect("a socket");
        if socket.connect(&address).is_err() {
            break;
        }
        waiting.push(socket);
    }
    let mut master = journald.pool(WORKER).workers(3).options(["--log-workers", "journal"]).start();
    master.wait_log("err\n");
    assert_told_once(&mut master, "Resource temporarily unavailable", 3);
    drop((waiting, journald));
}

/// Asserts that the workers of the pool write to the standard error of the master, for the reason, which is a single warning.
#[track_caller]
fn assert_told_once(master: &mut Master, why: &str, workers: u32) {
    master.wait("lines of workers", |master| {
        (master.log().matches("err\n").count() == workers as usize).then_some(())
    });
    let log = master.log();
    let told: Vec<_> = log.lines().filter(|line| line.contains("--log-workers")).collect();
    let is_told = |line: &str| line.contains("WARN") && line.contains(why);
    assert!(told.len() == 1 && is_told(told[0]), "{master}");
    master.wait_up(workers);
}

fn where_there_is_no_journald_workers_write_as_the_master_does() {
    let empty = tempfile::tempdir().expect("a directory");
    let pool =
        || beside_journald_in(empty.path(), Master::builder()).workers(2).option("--log-workers=journal");
    let mut master = shells(pool(), WORKER).start();
    assert_told_once(&mut master, "No such file or directory", 2);

    let dry_run = pool().option("--dry-run").run_to_end();
    let is_told = dry_run.assert_code(0).stdout.contains("cannot connect to journald (--log-workers)");
    assert!(is_told && !dry_run.stdout.contains("nothing wrong"), "{dry_run}");
}

fn a_new_option_line_counts_for_the_next_release() {
    let journald = Journald::new(64);
    let builder = journald.pool(WORKER).workers(1);
    let file = builder.file("options");
    fs::write(&file, "# none\n").expect("a file");
    let mut master = builder.option("--options-file").option(&file).start();
    master.wait_log("err\n");
    fs::write(&file, "--log-workers=journal=web\n").expect("a file");
    master.ctl(["upgrade"]).assert_code(0);
    assert_eq!(lines(&mut journald.stream()), ["web/0"]);
}

fn more_workers_than_journald_takes_are_refused() {
    let pool = |count| shells(Master::builder().workers(count), WORKER).option("--log-workers=journal");
    let refused = pool(4001).option("--dry-run").run_to_end();
    refused.assert_code(1).assert_says("--log-workers").assert_says("4000");
    pool(4000).option("--dry-run").run_to_end().assert_code(0);
    for bad in ["journald", "journal=", "journal=a b\n", "file"] {
        let options = shells(Master::builder(), WORKER).option(format!("--log-workers={bad}"));
        options.run_to_end().assert_code(2).assert_says("--log-workers");
    }
}

/// The real one, in a mount namespace of its own.
struct RealJournald(Child);

impl RealJournald {
    fn start() -> Self {
        let script = "mount -t tmpfs none /run; mount -t tmpfs none /var/log; mkdir -p /run/systemd/journal /run/log/journal
                      exec /lib/systemd/systemd-journald";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-e", "-c", script]);
        let child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("unshare");
        let journald = Self(child);
        let socket = journald.inside("run/systemd/journal/stdout");
        wait_for("journald", || socket.exists().then_some(()));
        journald
    }

    fn inside(&self, path: &str) -> PathBuf {
        Path::new("/proc").join(self.0.id().to_string()).join("root").join(path)
    }

    fn enter(&self) -> [String; 4] {
        ["nsenter".to_owned(), "-t".to_owned(), self.0.id().to_string(), "--mount".to_owned()]
    }

    /// The entries in the journal with this identifier: priority, process and message.
    fn entries(&self, identifier: &str) -> Vec<(String, i32, String)> {
        let [nsenter, arguments @ ..] = self.enter();
        let mut command = Command::new(nsenter);
        command.args(arguments).args(["journalctl", "--directory=/run/log/journal", "-o", "json", "-t"]);
        let found = process::run({
            command.arg(identifier);
            command
        });
        let entries = found.stdout.lines().map(|line| serde_json::from_str::<Value>(line).expect("an entry"));
        let text = |entry: &Value, field: &str| entry[field].as_str().unwrap_or_default().to_owned();
        let entry = |entry: Value| {
            let pid = text(&entry, "_PID").parse().expect("a pid");
            (text(&entry, "PRIORITY"), pid, text(&entry, "MESSAGE"))
        };
        entries.map(entry).collect()
    }
}

impl Drop for RealJournald {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn lines_in_the_journal_have_the_name_of_the_slot_and_the_process_that_wrote_them() {
    let journald = RealJournald::start();
    let script = "echo it is $$; (sh -c 'echo its child is $$'); echo '<3>an error' >&2; exec sleep 1000";
    let builder = shells(Master::builder().under(journald.enter()), script);
    let mut master = builder.workers(2).option("--log-workers=journal=web").start();
    for slot in 0..2 {
        let worker = process_of_slot(&mut master, slot).pid();
        let entries = wait_for("lines in the journal", || {
            Some(journald.entries(&format!("web/{slot}"))).filter(|entries| entries.len() == 3)
        });
        let child = entries[1].1;
        assert_eq!(
            entries,
            [
                ("6".to_owned(), worker, format!("it is {worker}")),
                ("6".to_owned(), child, format!("its child is {child}")),
                ("3".to_owned(), worker, "an error".to_owned()),
            ],
            "{master}"
        );
        assert_ne!(child, worker);
    }
    master.signal(Signal::SIGTERM);
    master.wait_exit_code(0);
    assert!(!master.log().contains("an error"), "{master}");
}
