//! Only a worker and its descendants can speak for the worker, on the notify socket and on the control socket. A process
//! that has got the pid of one of them cannot.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tests::{Master, MasterBuilder, place_worker, wait};

tests::trials! {
    a_helper_that_has_ended_is_refused_with_the_remedy needs "python3",
    a_message_counts_for_nobody_once_its_pid_is_reused needs "root" "pid namespace" "python3",
    a_connection_counts_for_nobody_once_its_pid_is_reused needs "root" "pid namespace" "python3",
    a_stranger_that_speaks_for_a_worker_changes_nothing,
    floods_of_another_user_leave_a_few_lines_and_every_worker_heard needs "root" "python3",
    many_strangers_are_counted_and_not_listed needs "python3",
    another_user_leaves_no_line_at_an_abstract_name needs "root" "python3",
}

/// Sends what it is given to the notify socket, once.
const SEND: &str = "import os, socket, sys
address = os.environ['NOTIFY_SOCKET'].replace('@', '\\0', 1)
socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(sys.argv[1].encode(), address)";

/// The pid that a stranger has first, and then a worker's helper; nothing else in its pid namespace comes so far.
const REUSED: i32 = 20_000;

/// The notify socket of a master with a file.
fn notify_socket(master: &Master) -> PathBuf {
    master.socket().with_extension("sock.notify")
}

#[track_caller]
fn wait_for_file(path: &Path) {
    wait::wait_for(&format!("{}", path.display()), || path.exists().then_some(()));
}

fn a_helper_that_has_ended_is_refused_with_the_remedy() {
    let builder = Master::builder();
    let (go, sent) = (builder.file("go"), builder.file("sent"));
    mkfifo(&go, Mode::S_IRWXU).expect("a fifo");
    let script = r#"read line < "$1"; python3 -c "$2" READY=1; : > "$3"; read line < "$1""#;
    let program =
        ["/bin/sh".into(), "-c".into(), script.into(), "sh".into(), go.clone(), SEND.into(), sent.clone()];
    let mut master = builder.program(program).start_unready();
    master.signal(Signal::SIGSTOP);
    master.wait("a stopped master", |master| master.process().is_stopped().then_some(()));
    fs::write(&go, "\n").expect("the worker's turn");
    wait_for_file(&sent);
    master.signal(Signal::SIGCONT);
    master.wait_log("a message to the notify socket refused: it came from process ");
    let log = master.log();
    let refusal = log.lines().find(|line| line.contains("refused: it came from")).expect("the line");
    assert!(refusal.contains("which has ended; hint: ") && refusal.contains("systemd-notify"), "{refusal}");
    assert!(refusal.contains("\"exec\""), "{refusal}");
    assert_eq!(master.status().master.up, 0, "{master}");
}

/// A master in its own pid namespace. On request its worker starts a helper, which gets the pid [`REUSED`].
struct Reuse {
    master: Master,
    go: PathBuf,
    reused: PathBuf,
}

impl Reuse {
    fn new() -> Self {
        let builder = Master::builder();
        let (go, reused) = (builder.file("go"), builder.file("reused"));
        mkfifo(&go, Mode::S_IRWXU).expect("a fifo");
        let script = format!(
            "read line < \"$1\"; {}; sleep 600 & echo $! > \"$2.new\"; mv \"$2.new\" \"$2\"; wait",
            next_pid()
        );
        let program = ["/bin/sh".into(), "-c".into(), script.into(), "sh".into(), go.clone(), reused.clone()];
        let namespace = ["unshare", "--pid", "--fork", "--kill-child=SIGKILL", "--mount-proc", "--"];
        let master = builder.under(namespace).program(program).start_unready();
        Self { master, go, reused }
    }

    /// The master, as it is seen from here.
    fn process(&self) -> tests::Process {
        self.master.process().children()[0]
    }

    /// Runs a stranger, a program in Python, with the pid [`REUSED`] in the master's namespace, to its end.
    #[track_caller]
    fn run_stranger(&self, program: &str, argument: &str) {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.process().pid().to_string(), "--pid", "--mount", "sh", "-ec"]);
        command
            .arg(format!("{}; python3 -c \"$1\" \"$2\"; exit", next_pid()))
            .args(["sh", program, argument]);
        command.env("NOTIFY_SOCKET", notify_socket(&self.master)).env("REUSED", &self.reused);
        let status = command.stdin(Stdio::null()).status().expect("nsenter");
        assert!(status.success(), "{status}");
    }

    /// Lets the worker start its helper.
    #[track_caller]
    fn reuse(&self) {
        fs::write(&self.go, "\n").expect("the worker's turn");
        wait_for_file(&self.reused);
        let pid = fs::read_to_string(&self.reused).expect("the pid of the helper");
        assert_eq!(pid.trim(), REUSED.to_string(), "the helper has another pid");
    }
}

/// A command of the shell after which the next process gets the pid [`REUSED`].
fn next_pid() -> String {
    format!("echo {} > /proc/sys/kernel/ns_last_pid", REUSED - 1)
}

fn a_message_counts_for_nobody_once_its_pid_is_reused() {
    let mut reuse = Reuse::new();
    let process = reuse.process();
    assert!(process.signal(Signal::SIGSTOP));
    wait::wait_for("a stopped master", || process.is_stopped().then_some(()));
    reuse.run_stranger(SEND, "READY=1");
    reuse.reuse();
    assert!(process.signal(Signal::SIGCONT));
    reuse.master.wait_log(&format!("it came from process {REUSED}, which has ended"));
    assert_eq!(reuse.master.status().master.up, 0, "{}", reuse.master);
}

/// The connection outlives the process that made it: a child of that has it.
fn a_connection_counts_for_nobody_once_its_pid_is_reused() {
    const CONNECT: &str = "import os, socket, sys, time
connection = socket.socket(socket.AF_UNIX)
connection.connect(os.environ['NOTIFY_SOCKET'].removesuffix('.notify'))
if os.fork() == 0:
    until = time.monotonic() + 60
    while not os.path.exists(os.environ['REUSED']) and time.monotonic() < until: time.sleep(0.01)
    connection.send(sys.argv[1].encode() + b'\\n')";
    let mut reuse = Reuse::new();
    let worker = reuse.master.status().workers[0].pid;
    reuse.run_stranger(CONNECT, &format!("{{\"command\":\"worker:ack\",\"pid\":{worker}}}"));
    reuse.reuse();
    let refusal = format!("worker:ack for {worker} refused: it came from process {REUSED}, which has ended");
    reuse.master.wait_log(&refusal);
    assert_eq!(reuse.master.status().master.up, 0, "{}", reuse.master);
}

fn a_stranger_that_speaks_for_a_worker_changes_nothing() {
    let mut master = Master::builder().serve(["ack=none"]).start_unready();
    let worker = master.status().workers[0].pid;
    let stranger = UnixDatagram::unbound().expect("a socket");
    let long = format!("READY=1\nSTATUS={}", "x".repeat(5000));
    let main = format!("MAINPID={worker}\nREADY=1\nSTATUS=mine\nWATCHDOG=1\nSTOPPING=1");
    for message in [main.as_bytes(), b"READY=1\n\xff", long.as_bytes(), b"", b"BARRIER=1"] {
        stranger.send_to(message, notify_socket(&master)).expect("room for a datagram");
    }
    let mut control = master.control();
    control.send_bytes(format!("{{\"command\":\"worker:ack\",\"pid\":{worker}}}\n").as_bytes());
    master.wait_log(&format!("worker:ack for {worker} refused: it came from process {}", std::process::id()));
    let status = master.status();
    let found = &status.workers[0];
    assert_eq!((status.master.up, found.pid, &found.text), (0, worker, &None), "{master}");
    assert!(!master.log().contains("is stopping"), "{master}");
    assert_eq!(master.log().matches("notify socket").count(), 1, "one line about one stranger\n{master}");
}

/// Another user that sends this again and again. It ends with the test.
struct Flooder(Child);

impl Flooder {
    fn start(socket: &Path, message: &str) -> Self {
        const FLOOD: &str = "sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
sender.connect(sys.argv[1])
while True: sender.send(eval(sys.argv[2]))";
        let mut command = as_another_user(FLOOD);
        command.arg(socket).arg(message);
        Self(command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("python3"))
    }
}

impl Drop for Flooder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A program in Python that a user runs who has nothing to do with the master. Others may not execute every python3.
fn as_another_user(program: &str) -> Command {
    let mut command = Command::new("python3");
    let before = "import os, socket, sys\nos.setgroups([]); os.setgid(54323); os.setuid(54323)";
    command.args(["-c", &format!("{before}\n{program}")]);
    command
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("its mode");
}

/// A builder whose directory any user may enter.
fn open_to_all() -> MasterBuilder {
    let builder = Master::builder().workers(2).options(["-s", "0.1"]);
    set_mode(builder.file("serve").parent().expect("a directory"), 0o755);
    builder
}

fn floods_of_another_user_leave_a_few_lines_and_every_worker_heard() {
    let mut master = open_to_all().serve(["ack=notify"]).start();
    let socket = notify_socket(&master);
    let messages = ["b'x' * 5000", "b'\\xff'", "b'READY=1'", "b'STATUS=' + b'x' * 100"];
    let floods: Vec<_> = messages.iter().map(|message| Flooder::start(&socket, message)).collect();
    master.wait_log("notify socket refused: it came from process ");
    for _ in 0..3 {
        master.upgrade();
    }
    assert!(
        floods.len() == messages.len() && master.status().workers.iter().all(|worker| worker.text.is_none())
    );
    let lines = master.log().matches("notify socket").count();
    assert!(lines <= 12, "{lines} lines\n{master}");
    drop(floods);
    master.assert_well(2);
}

/// More of them than there are lines, and then nothing that wakes the master up.
fn many_strangers_are_counted_and_not_listed() {
    let mut master = Master::builder().workers(1).serve(["ack=notify"]).start();
    let many =
        format!("import os\nfor _ in range(30):\n    if os.fork() == 0: break\nelse: sys.exit()\n{SEND}");
    let mut command = Command::new("python3");
    command.args(["-c", &format!("import sys\n{many}"), "WATCHDOG=1"]);
    command.env("NOTIFY_SOCKET", notify_socket(&master));
    assert!(command.status().expect("python3").success());
    master.wait_log("20 more messages to the notify socket were refused within 10 s");
    assert_eq!(master.log().matches("notify socket refused: it came from process ").count(), 10, "{master}");
}

/// It has no owner and no mode, and is for the same users all the same.
fn another_user_leaves_no_line_at_an_abstract_name() {
    let builder = open_to_all();
    let release = tempfile::tempdir().expect("a directory");
    set_mode(release.path(), 0o755);
    place_worker(&release.path().join("serve"));
    set_mode(builder.file("serve").parent().expect("a directory"), 0o700);
    let builder = builder.options(["--user", "54321:54322"]).option("--chdir").option(release.path());
    let mut master = builder.program(["./serve", "ack=notify"]).start();
    let address = master.workers_up()[0].environment().remove("NOTIFY_SOCKET").expect("the notify socket");
    assert!(address.starts_with('@'), "{address}");
    for message in ["READY=1", "STATUS=x"] {
        let mut command = as_another_user(SEND);
        let status = command.arg(message).env("NOTIFY_SOCKET", &address).status().expect("python3");
        assert!(status.success(), "{status}");
    }
    // What the next worker says comes behind it.
    let worker = master.workers_up()[0];
    master.kill_worker(worker);
    master.wait_up(2);
    assert!(!master.log().contains("notify socket refused"), "{master}");
}
