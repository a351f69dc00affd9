//! Where the log goes, and what its lines look like there: the journal, a terminal, a file that is rotated.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use nix::sys::stat::fstat;
use tests::wait::wait_for;
use tests::{Master, MasterBuilder, process};

tests::trials! {
    in_the_journal_a_line_begins_with_its_priority_and_has_nothing_else,
    a_standard_error_that_is_not_the_journals_is_logged_to_as_elsewhere,
    on_a_terminal_a_line_has_a_short_time_and_a_colour needs "util-linux",
    a_log_file_that_was_rotated_is_opened_again,
    a_new_master_goes_on_in_the_same_file,
    a_log_file_that_cannot_be_opened_keeps_the_master_from_starting,
    a_log_file_that_is_full_loses_whole_lines_and_gets_their_number needs "util-linux",
    usr1_spares_workers_that_it_would_kill_and_names_reopen,
    in_the_dialect_usr1_goes_to_every_worker,
}

/// A master whose standard error is a socket, and the socket's other end.
fn logging_to_socket(name_it: impl FnOnce(&OwnedFd) -> String) -> (Master, BufReader<UnixStream>) {
    let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    let theirs = OwnedFd::from(theirs);
    let builder = Master::builder().env("JOURNAL_STREAM", name_it(&theirs));
    (builder.stderr(theirs.into()).start(), BufReader::new(ours))
}

fn stream_of(fd: &OwnedFd) -> String {
    let found = fstat(fd).expect("its inode");
    format!("{}:{}", found.st_dev, found.st_ino)
}

fn in_the_journal_a_line_begins_with_its_priority_and_has_nothing_else() {
    let (mut master, mut log) = logging_to_socket(stream_of);
    let mut control = master.control();
    // Odd, so a warning.
    control.send(r#"{"command":"worker:ack","pid":1}"#);
    control.read_to_end();
    master.signal(Signal::SIGTERM);
    master.wait_exit_code(0);
    let mut lines = Vec::new();
    let mut line = String::new();
    while log.read_line(&mut line).expect("a line") > 0 {
        lines.push(std::mem::take(&mut line));
    }
    assert!(lines.iter().any(|line| line.starts_with("<6>listening on ")), "{lines:?}");
    assert!(lines.iter().any(|line| line.starts_with("<4>worker:ack for 1 refused: ")), "{lines:?}");
    let is_plain = |line: &String| !line.contains("INFO") && !line.contains("einhyrningsins[");
    assert!(lines.iter().all(|line| line.starts_with('<') && is_plain(line)), "{lines:?}");
}

fn a_standard_error_that_is_not_the_journals_is_logged_to_as_elsewhere() {
    let (_master, mut log) = logging_to_socket(|_| "1:1".to_owned());
    let mut line = String::new();
    log.read_line(&mut line).expect("a line");
    assert!(line.contains(" einhyrningsins[") && line.contains(" INFO: "), "{line}");
}

/// What a master writes to a terminal that gives up its only slot.
fn on_terminal(prepare: impl FnOnce(MasterBuilder) -> MasterBuilder) -> String {
    let builder = Master::builder().options(["--retries", "1"]).program(["/bin/sh", "-c", "exit 3"]);
    let builder = prepare(builder.env_remove("NO_COLOR").env("TERM", "xterm"));
    let command = builder.command();
    let words = [command.get_program()].into_iter().chain(command.get_args());
    let quoted = words.map(|word| format!("'{}'", word.to_str().expect("text")));
    let mut script = Command::new("script");
    script.args(["-qec", &quoted.collect::<Vec<_>>().join(" "), "/dev/null"]);
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => script.env(name, value),
            None => script.env_remove(name),
        };
    }
    let finished = process::run(script);
    assert!(finished.stdout.contains("given up"), "{finished}");
    finished.stdout
}

fn on_a_terminal_a_line_has_a_short_time_and_a_colour() {
    let is_time = |text: &str| text.len() == 8 && text.split(':').all(|part| part.parse::<u8>().is_ok());
    for (text, level) in [
        (on_terminal(|builder| builder), "\u{1b}[31mERROR\u{1b}[0m: "),
        (on_terminal(|builder| builder.env("NO_COLOR", "1")), "ERROR: "),
        (on_terminal(|builder| builder.env("TERM", "dumb")), "ERROR: "),
        (on_terminal(|builder| builder.option("--color=never")), "ERROR: "),
        (
            on_terminal(|builder| builder.env("NO_COLOR", "1").options(["--color", "always"])),
            "\u{1b}[31mERROR\u{1b}[0m: ",
        ),
    ] {
        let lines: Vec<_> = text.lines().collect();
        assert!(lines.iter().all(|line| line.split(' ').next().is_some_and(is_time)), "{text}");
        let message = lines.iter().find(|line| line.contains("given up")).expect("the last slot");
        assert_eq!(message.split_once(' ').map(|(_, rest)| rest.starts_with(level)), Some(true), "{text}");
    }
}

/// A master with a log file.
fn with_file() -> (Master, std::path::PathBuf) {
    let builder = Master::builder().workers(2);
    let file = builder.file("log");
    (builder.option("--log-file").option(&file).start(), file)
}

#[track_caller]
fn read(file: &Path) -> String {
    fs::read_to_string(file).expect("a log file")
}

/// Waits until the log has `text`: a thread writes it.
#[track_caller]
fn wait_for_text(file: &Path, text: &str) -> String {
    wait_for(text, || Some(read(file)).filter(|log| log.contains(text)))
}

fn a_log_file_that_was_rotated_is_opened_again() {
    let (mut master, file) = with_file();
    wait_for_text(&file, " INFO: 2 of 2 workers up");
    assert_eq!(master.log(), "", "the log is in the file alone");
    let rotated = master.file("log.1");
    fs::rename(&file, &rotated).expect("a rotation");
    let finished = master.ctl(["reopen"]);
    assert_eq!(
        (finished.code(), finished.stdout.trim()),
        (0, &*format!("the log goes to {}", file.display()))
    );
    let before = read(&rotated);
    master.upgrade();
    wait_for_text(&file, "upgrade to generation 2 done");
    assert_eq!(read(&rotated), before, "nothing more goes to the old file");

    let elsewhere = Master::builder().start();
    let finished = elsewhere.ctl(["reopen"]);
    assert_eq!(finished.code(), 1, "{finished}");
    assert!(finished.stderr.contains("--log-file FILE"), "{finished}");
}

fn a_new_master_goes_on_in_the_same_file() {
    let (master, file) = with_file();
    let rotated = master.file("log.1");
    fs::rename(&file, &rotated).expect("a rotation");
    assert_eq!(master.ctl(["reload"]).code(), 0, "{master}");
    wait_for_text(&rotated, "the master replaced itself");
    assert_eq!(master.ctl(["reopen"]).code(), 0, "{master}");
    assert!(file.exists());
}

fn a_log_file_that_cannot_be_opened_keeps_the_master_from_starting() {
    let finished = Master::builder().options(["--log-file", "/no/such/directory/log"]).run_to_end();
    assert_eq!(finished.code(), 1);
    let message =
        "einhyrningsins: cannot open the log file /no/such/directory/log: No such file or directory";
    assert!(finished.stderr.starts_with(message), "{finished}");
    assert!(finished.stderr.contains("--log-file FILE"), "{finished}");
}

fn a_log_file_that_is_full_loses_whole_lines_and_gets_their_number() {
    let builder = Master::builder().under(["/bin/sh", "-c", "ulimit -S -f 4; exec \"$@\"", "sh"]);
    let file = builder.file("log-file");
    let mut master = builder.option("--log-file").option(&file).start();
    while fs::metadata(&file).expect("a log").len() < 2048 {
        master.upgrade();
    }
    let upgrades = 3;
    (0..upgrades).for_each(|_| drop(master.upgrade()));
    let pid = master.process().pid().to_string();
    let raised = Command::new("prlimit").args(["--pid", &pid, "--fsize=unlimited:unlimited"]).status();
    assert!(raised.expect("prlimit").success());
    let last = master.upgrade().generation;
    let log = wait_for_text(&file, &format!("upgrade to generation {last} done"));
    let own = format!(" einhyrningsins[{pid}] ");
    assert!(log.ends_with('\n') && log.lines().all(|line| line.matches(&own).count() == 1), "{log}");
    let report = log
        .lines()
        .find_map(|line| line.strip_suffix(" log lines were dropped: File too large (os error 27)"));
    let lost: usize =
        report.expect("a report").rsplit(' ').next().and_then(|n| n.parse().ok()).expect("a number");
    // Each upgrade has a line at its begin and at its end, and three about its worker.
    assert!(lost >= upgrades * 5, "{log}");
}

fn usr1_spares_workers_that_it_would_kill_and_names_reopen() {
    let mut master = Master::builder().workers(2).serve(["ack=control"]).start();
    let workers = master.workers_up();
    master.signal(Signal::SIGUSR1);
    master.wait_log("einhyrningsinsctl reopen");
    assert_eq!(master.log().matches("einhyrningsinsctl reopen").count(), 1, "{master}");
    assert_eq!(master.workers_up(), workers, "{master}");
    master.assert_well(2);
}

fn in_the_dialect_usr1_goes_to_every_worker() {
    let mut master = Master::builder().einhorn().start();
    let worker = master.workers_up()[0];
    master.signal(Signal::SIGUSR1);
    master.wait_reaped(&[worker]);
    assert!(!master.log().contains("reopen"), "{master}");
    master.wait_up(1);
}
