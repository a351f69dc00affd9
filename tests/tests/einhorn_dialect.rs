//! The daemon, called as einhorn: command line, files, exit codes, signals, pool and log of the real program.

use std::fs;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use einhorn_proto::{Outcome, UpgradeReport};
use nix::sys::signal::Signal;
use tests::control::typed;
use tests::process::run;
use tests::{Finished, Gate, Master, MasterBuilder, binaries};

tests::trials! {
    version_help_and_usage_are_as_einhorns,
    no_workers_are_an_error_line_and_exit_code_0,
    what_is_wrong_with_a_command_line_is_named_and_the_exit_code_is_1,
    a_check_whether_it_can_run_at_all_succeeds,
    long_options_may_be_abbreviated,
    its_files_are_where_einhorn_has_them,
    without_tmpdir_the_files_are_in_tmp,
    a_second_master_is_refused_and_leaves_the_firsts_files_alone,
    masters_with_sockets_of_their_own_share_the_other_default_files,
    a_stale_socket_is_replaced_and_what_is_no_socket_is_not,
    a_workers_first_argument_is_the_absolute_path_of_its_program,
    a_variable_is_dropped_at_the_next_upgrade_and_not_at_the_start,
    int_usr2_and_term_stop_and_the_exit_code_is_0,
    die_stops_and_the_exit_code_is_0,
    a_second_int_or_term_signals_again_and_not_harder,
    quit_passes_quit_on_and_the_exit_code_is_1,
    hup_and_alrm_upgrade,
    an_upgrade_during_an_upgrade_starts_over_with_the_next_version,
    who_waits_for_an_upgrade_reads_the_lines_of_the_log,
    usr1_does_not_end_the_master,
    its_log_is_einhorns_and_tells_how_a_worker_ended,
    a_death_before_the_ack_says_so_and_timer_acks_are_called_that,
    quiet_leaves_errors_and_verbose_adds_decisions,
    our_form_of_the_log_can_be_had_too,
    preloading_is_done_without_and_said_once,
    flags_of_an_address_are_in_any_case_and_unknown_ones_ignored,
    the_queue_of_a_listener_is_100_long_by_default,
    with_ack_mode_0_a_worker_is_up_at_once,
    nice_values_are_set_and_need_no_command,
    a_worker_may_ack_over_the_descriptor_that_it_was_given,
    a_worker_that_stays_is_killed_after_the_signal_timeout,
    workers_are_stopped_when_the_master_is_killed_if_asked_for,
    a_slot_is_tried_without_end_but_in_an_upgrade,
    there_is_no_boot_deadline_but_with_our_own_option,
}

fn einhorn() -> MasterBuilder {
    Master::builder().einhorn()
}

/// A command line with nothing of the harness's own, and the names of the files that it left behind.
fn bare(words: &[&str]) -> (Finished, Vec<String>) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let link = directory.path().join("einhorn");
    symlink(binaries::einhyrningsins(), &link).expect("a link");
    let files = directory.path().join("files");
    fs::create_dir(&files).expect("a directory");
    let mut command = Command::new(link);
    command.args(words).env("TMPDIR", &files);
    (run(command), names(&files))
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("the directory");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn version_help_and_usage_are_as_einhorns() {
    let (version, _) = bare(&["--version"]);
    version.assert_code(0);
    assert_eq!(version.stdout, concat!(env!("CARGO_PKG_VERSION"), "\n"));
    for line in [&["-h"][..], &["--help"], &["-n", "2", "-h"]] {
        let (help, _) = bare(line);
        help.assert_code(1);
        assert!(help.stdout.starts_with("## Usage\n") && help.stdout.contains("--ack-mode"), "{help}");
    }
    for line in [&[][..], &["-n", "2"], &["--"]] {
        let (usage, files) = bare(line);
        usage.assert_code(1);
        assert!(usage.stdout.starts_with("## Usage\n") && !usage.stdout.contains("--ack-mode"), "{usage}");
        assert_eq!(files, [""; 0], "{usage}");
    }
}

fn no_workers_are_an_error_line_and_exit_code_0() {
    let (finished, files) = bare(&["-n", "0", "/bin/true"]);
    finished.assert_code(0).assert_says("--number");
    assert_eq!(finished.stderr.lines().count(), 1, "{finished}");
    assert_eq!(files, [""; 0], "{finished}");
}

fn what_is_wrong_with_a_command_line_is_named_and_the_exit_code_is_1() {
    for (line, named) in [
        (&["-s", "0", "/bin/true"][..], "seconds must be > 0"),
        (&["-m", "soon", "/bin/true"], "--ack-mode"),
        (&["-b", "nonsense", "/bin/true"], "nonsense"),
        (&["--frobnicate", "/bin/true"], "--frobnicate"),
        (&["./no-such-program"], "No such file"),
        (&["no-program-has-this-name"], "PATH"),
        (&["-e", "/nowhere/at/all", "/bin/true"], "give another path (-e FILE)"),
        (&["-f", "/nowhere/at/all", "/bin/true"], "give another path (-f FILE)"),
    ] {
        let (finished, files) = bare(line);
        finished.assert_code(1).assert_says(named);
        assert_eq!(finished.stdout, "", "{finished}");
        assert_eq!(files, [""; 0], "it left files behind\n{finished}");
    }
}

fn a_check_whether_it_can_run_at_all_succeeds() {
    let (finished, files) = bare(&["--upgrade-check", "--", "no-program-has-this-name"]);
    finished.assert_code(0);
    assert_eq!((finished.stderr.as_str(), files.len()), ("", 0), "{finished}");
}

fn long_options_may_be_abbreviated() {
    let options = ["--num", "3", "--seco=0.5", "--drop", "A", "--reexec-a", "x"];
    einhorn().options(options).start_unready().wait_up(3);
}

fn its_files_are_where_einhorn_has_them() {
    for (options, stem) in [(&[][..], "einhorn"), (&["-c", "web"], "einhorn-web")] {
        let builder = einhorn().without_socket().options(options);
        let file = |extension: &str| builder.file(&format!("{stem}.{extension}"));
        let (socket, pidfile) = (file("sock"), file("pid"));
        let mut master = builder.start_unready();
        master.at_socket(&socket);
        master.wait_up(1);
        assert_eq!(read(&pidfile), master.process().pid().to_string(), "the pid and no newline");
        master.signal(Signal::SIGTERM);
        master.wait_exit_code(0);
        let left = names(pidfile.parent().expect("a directory"));
        assert_eq!(left, ["einhorn"], "only the link stays\n{master}");
    }
}

fn without_tmpdir_the_files_are_in_tmp() {
    let pid = std::process::id();
    let name = format!("test-{pid}");
    let mut master = einhorn().without_socket().env_remove("TMPDIR").options(["-c", &name]).start_unready();
    let files = ["sock", "pid"].map(|extension| PathBuf::from(format!("/tmp/einhorn-{name}.{extension}")));
    master.at_socket(&files[0]);
    assert!(files.iter().all(|file| file.exists()), "{master}");
    master.signal(Signal::SIGINT);
    master.wait_exit_code(0);
    assert!(!files.iter().any(|file| file.exists()), "{master}");
}

fn a_second_master_is_refused_and_leaves_the_firsts_files_alone() {
    let builder = einhorn().without_socket();
    let (socket, pidfile) = (builder.file("einhorn.sock"), builder.file("einhorn.pid"));
    let mut first = builder.start_unready();
    first.at_socket(&socket);
    first.wait_up(1);
    let before = names(&first.file(""));
    let second = einhorn().without_socket().env("TMPDIR", first.file("")).run_to_end();
    second.assert_code(1).assert_says("is listening there").assert_says("-d PATH");
    assert_eq!(names(&first.file("")), before, "{second}");
    assert_eq!(read(&pidfile), first.process().pid().to_string(), "{second}");
    first.assert_well(1);
}

fn masters_with_sockets_of_their_own_share_the_other_default_files() {
    let mut first = einhorn().start();
    let mut second = einhorn().env("TMPDIR", first.file("")).start();
    let pidfile = first.file("einhorn.pid");
    let pid = second.process().pid().to_string();
    assert_eq!(read(&pidfile), pid, "it names who came last");
    first.assert_well(1);
    first.signal(Signal::SIGTERM);
    first.wait_exit_code(0);
    assert_eq!(read(&pidfile), pid, "it was another's to remove\n{first}");
    second.signal(Signal::SIGTERM);
    second.wait_exit_code(0);
    assert!(!pidfile.exists(), "{second}");
}

fn a_stale_socket_is_replaced_and_what_is_no_socket_is_not() {
    let builder = einhorn().without_socket();
    let socket = builder.file("einhorn.sock");
    drop(UnixListener::bind(&socket).expect("a socket"));
    let mut master = builder.start_unready();
    master.at_socket(&socket);
    master.wait_up(1);

    let builder = einhorn().without_socket();
    let socket = builder.file("einhorn.sock");
    fs::write(&socket, "precious").expect("a file");
    builder.run_to_end().assert_code(1).assert_says("not a socket").assert_says("-d PATH");
    assert!(!fs::metadata(&socket).expect("the file").file_type().is_socket());
    assert_eq!(read(&socket), "precious");
}

fn a_workers_first_argument_is_the_absolute_path_of_its_program() {
    let by_name = einhorn().timer_acks(0.0).program(["sleep", "1000"]);
    let relative = einhorn().timer_acks(0.0).program(["./server", "1000"]);
    let directory = relative.file("");
    let server = relative.file("server");
    fs::copy("/bin/sleep", &server).expect("a program");
    let relative = relative.current_dir(&directory);
    for (builder, is_it) in [
        (by_name, (&|path: &Path| path.is_absolute() && path.ends_with("sleep")) as &dyn Fn(&Path) -> bool),
        (relative, &|path: &Path| path == server),
    ] {
        let mut master = builder.start();
        let arguments = master.workers_up()[0].arguments();
        assert!(is_it(Path::new(&arguments[0])) && arguments[1] == "1000", "{arguments:?}\n{master}");
    }
}

fn a_variable_is_dropped_at_the_next_upgrade_and_not_at_the_start() {
    let builder = einhorn().env("SECRET", "1").env("KEPT", "1").options(["--drop-env-var", "SECRET"]);
    let mut master = builder.start();
    let has = |master: &mut Master, name: &str| master.workers_up()[0].environment().contains_key(name);
    assert!(has(&mut master, "SECRET") && has(&mut master, "KEPT"), "{master}");
    master.upgrade();
    assert!(!has(&mut master, "SECRET") && has(&mut master, "KEPT"), "{master}");
}

/// A worker that writes each stop signal that it gets to the file `told`, and exits at the last of `count`.
fn telling(count: u32) -> (Master, PathBuf) {
    let builder = einhorn();
    let told = builder.file("told");
    let script = format!(
        "trap 'kill $!' EXIT; n=0; tell() {{ echo $1 >> {told}; n=$((n + 1)); [ $n -lt {count} ] || exit 0; }}; \
         for signal in USR2 TERM QUIT; do trap \"tell $signal\" $signal; done; \
         while :; do sleep 1000 & wait $!; kill $!; done",
        told = told.display()
    );
    let mut master = builder.timer_acks(0.0).program(["/bin/sh", "-c", &script]).start();
    // The shell has set its traps once it sleeps.
    master.wait("the worker's sleep", |master| {
        master.workers_up().iter().all(|worker| !worker.children().is_empty()).then_some(())
    });
    (master, told)
}

#[track_caller]
fn wait_told(master: &mut Master, told: &Path, text: &str) {
    master.wait(&format!("{text:?} from the worker"), |_| {
        fs::read_to_string(told).ok().filter(|seen| seen.split_whitespace().eq(text.split_whitespace()))
    });
}

fn int_usr2_and_term_stop_and_the_exit_code_is_0() {
    for (signal, expected) in [(Signal::SIGINT, "USR2"), (Signal::SIGUSR2, "USR2"), (Signal::SIGTERM, "TERM")]
    {
        let (mut master, told) = telling(1);
        master.signal(signal);
        master.wait_exit_code(0);
        assert_eq!(read(told).trim(), expected, "{signal}\n{master}");
    }
}

fn die_stops_and_the_exit_code_is_0() {
    let (mut master, told) = telling(1);
    assert_eq!(master.control().ask("die", &[]).ok, Some(true), "{master}");
    master.wait_exit_code(0);
    assert_eq!(read(told).trim(), "USR2", "{master}");
}

fn a_second_int_or_term_signals_again_and_not_harder() {
    for (signal, expected) in [(Signal::SIGINT, "USR2"), (Signal::SIGTERM, "TERM")] {
        let (mut master, told) = telling(3);
        for count in 1..3 {
            master.signal(signal);
            wait_told(&mut master, &told, &[expected, " "].concat().repeat(count));
        }
        master.signal(signal);
        master.wait_exit_code(0);
        assert_eq!(read(told).lines().collect::<Vec<_>>(), [expected; 3], "{signal}\n{master}");
    }
}

fn quit_passes_quit_on_and_the_exit_code_is_1() {
    let (mut master, told) = telling(1);
    let worker = master.workers_up()[0];
    master.signal(Signal::SIGQUIT);
    master.wait_exit_code(1);
    worker.wait_gone();
    assert_eq!(read(told).trim(), "QUIT", "{master}");
}

fn hup_and_alrm_upgrade() {
    let mut master = einhorn().workers(2).start();
    for (signal, generation) in [(Signal::SIGHUP, 2), (Signal::SIGALRM, 3)] {
        let before = master.workers_up();
        master.signal(signal);
        master.wait_status("the upgrade's end", |status| {
            let master = &status.master;
            (master.generation, master.up, master.starting, master.draining) == (generation, 2, 0, 0)
        });
        assert!(before.iter().all(|worker| !worker.is_alive()), "{signal}\n{master}");
        master.wait_log(&format!("Upgraded successfully to version {generation}"));
    }
}

fn an_upgrade_during_an_upgrade_starts_over_with_the_next_version() {
    let builder = einhorn().workers(2);
    let mut gate = Gate::new(builder.file("gate"));
    let mut master = builder.serve([gate.knob()]).start();
    gate.close();
    for generation in [2, 3] {
        master.signal(Signal::SIGHUP);
        master.wait_worker("a worker of the new version", |worker| worker.generation == generation);
    }
    gate.open();
    let status = master.wait_status("the second upgrade's end", |status| {
        let master = &status.master;
        (master.generation, master.up, master.starting, master.draining) == (3, 2, 0, 0)
    });
    assert!(status.workers.iter().all(|worker| worker.generation == 3), "{status:?}\n{master}");
    master.wait_log("Upgraded successfully to version 3");
    assert!(!master.log().contains("Upgraded successfully to version 2"), "{master}");
}

fn who_waits_for_an_upgrade_reads_the_lines_of_the_log() {
    let mut master = einhorn().start();
    let mut client = master.control();
    client.send(r#"{"command":"upgrade","id":"1"}"#);
    let told: Vec<_> = client.replies().into_iter().map(|reply| reply.message).collect();
    for line in ["===> Launched ", "Up to 1 / 1 manual ACKs"] {
        let found = told.iter().filter(|message| message.starts_with(line)).count();
        assert_eq!(found, 1, "{line:?} in {told:?}\n{master}");
    }
    assert_eq!(told.last().map(String::as_str), Some("Upgrade done"));
    master.wait_log("INFO: Upgraded successfully to version 2 in ");
    master.assert_well(1);
}

fn usr1_does_not_end_the_master() {
    let mut master =
        einhorn().timer_acks(0.0).program(["/bin/sh", "-c", "trap : USR1; sleep 1000 & wait; wait"]).start();
    master.signal(Signal::SIGUSR1);
    master.wait_up(1);
}

fn its_log_is_einhorns_and_tells_how_a_worker_ended() {
    let mut master = einhorn().workers(2).start();
    let workers = master.workers_up();
    let (pid, one, other) = (master.process().pid(), workers[0].pid(), workers[1].pid());
    master.kill_worker(workers[0]);
    master.wait_up(2);
    master.signal(Signal::SIGTERM);
    master.wait_exit_code(0);
    for line in [
        format!("INFO: ===> Launched {one} (index: 0)"),
        format!("INFO: ===> Launched {other} (index: 1)"),
        "INFO: Up to 1 / 2 manual ACKs".to_owned(),
        "INFO: Up to 2 / 2 manual ACKs".to_owned(),
        format!("WARN: ===> Exited worker {one}: it was killed by SIGKILL after "),
        format!("INFO: ===> Exited worker {other}: it exited with status 0 "),
    ] {
        let line = format!("[MASTER {pid}] {line}");
        assert!(master.log().lines().any(|logged| logged.starts_with(&line)), "no {line:?}\n{master}");
    }
    let log = master.log();
    let strange: Vec<_> = log.lines().filter(|line| !line.starts_with(&format!("[MASTER {pid}] "))).collect();
    assert_eq!(strange, [""; 0], "{master}");
}

fn a_death_before_the_ack_says_so_and_timer_acks_are_called_that() {
    let mut master =
        einhorn().timer_acks(3600.0).options(["-s", "0.01"]).program(["/bin/false"]).start_unready();
    master.wait_log(" before it was ACKed: it exited with status 1 after ");
    let mut master = einhorn().timer_acks(0.0).program(["/bin/sleep", "1000"]).start();
    master.wait_log("INFO: Up to 1 / 1 timer ACKs");
}

fn quiet_leaves_errors_and_verbose_adds_decisions() {
    let mut quiet = einhorn().option("-q").start();
    let worker = quiet.workers_up()[0];
    quiet.kill_worker(worker);
    quiet.wait_up(1);
    assert_eq!(quiet.log(), "", "{quiet}");
    let mut verbose = einhorn().option("-v").start();
    verbose.signal(Signal::SIGHUP);
    verbose.wait_log("DEBUG: ");
}

fn our_form_of_the_log_can_be_had_too() {
    let mut master = einhorn().options(["--log-format", "json"]).start();
    master.wait_log(r#""event":"spawned""#);
    assert!(!master.log().contains("[MASTER"), "{master}");
}

fn preloading_is_done_without_and_said_once() {
    let mut master = einhorn().workers(2).options(["-p", "app.rb", "--gc-before-fork"]).start();
    master.assert_well(2);
    let log = master.log();
    let warnings: Vec<_> = log.lines().filter(|line| line.contains("WARN")).collect();
    assert!(warnings.len() == 1 && warnings[0].contains("app.rb is not preloaded"), "{master}");
}

fn flags_of_an_address_are_in_any_case_and_unknown_ones_ignored() {
    let mut master =
        einhorn().without_bind().options(["-b", "127.0.0.1:0,R,O_NONBLOCK,frob", "-l", "7"]).start();
    let listener = &master.status().listeners[0];
    assert_eq!(listener.backlog, 7, "{master}");
    let descriptors = master.workers_up()[0].descriptors();
    assert!(descriptors[&3].nonblocking, "{descriptors:?}\n{master}");
}

fn the_queue_of_a_listener_is_100_long_by_default() {
    assert_eq!(einhorn().start().status().listeners[0].backlog, 100);
}

fn with_ack_mode_0_a_worker_is_up_at_once() {
    einhorn().options(["-m", "0"]).serve(["ack=none"]).start().assert_well(1);
}

fn nice_values_are_set_and_need_no_command() {
    let mut master = einhorn().options(["--nice", "1:3:/no/such/renice"]).start();
    assert_eq!((master.process().nice(), master.workers_up()[0].nice()), (Some(1), Some(3)), "{master}");
}

fn a_worker_may_ack_over_the_descriptor_that_it_was_given() {
    einhorn().option("-g").serve(["ack=fd"]).start().assert_well(1);
}

fn a_worker_that_stays_is_killed_after_the_signal_timeout() {
    let mut master = einhorn().options(["-t", "0.2"]).serve(["ignore_stop"]).start();
    master.signal(Signal::SIGINT);
    master.wait_exit_code(0);
    assert!(master.log().contains("SIGKILL"), "{master}");
}

fn workers_are_stopped_when_the_master_is_killed_if_asked_for() {
    let mut master = einhorn().option("-k").start();
    let worker = master.workers_up()[0];
    master.signal(Signal::SIGKILL);
    worker.wait_gone();
}

fn a_slot_is_tried_without_end_but_in_an_upgrade() {
    let builder = einhorn().options(["-s", "0.001"]);
    let knobs = builder.file("knobs");
    fs::write(&knobs, "exit_before_ack=3").expect("a file");
    let mut master = builder.serve([format!("@{}", knobs.display())]).start_unready();
    master.wait_status("the eleventh try", |status| status.slots[0].restarts > 10);
    fs::write(&knobs, "").expect("a file");
    master.wait_up(1);

    fs::write(&knobs, "exit_before_ack=3").expect("a file");
    let reply = master.try_upgrade();
    assert_eq!(reply.ok, Some(false), "{reply:?}\n{master}");
    let report: UpgradeReport = typed(reply);
    assert_eq!(report.outcome, Outcome::RolledBack, "{report:?}\n{master}");
    let reason = report.reason.unwrap_or_default();
    assert!(reason.contains("10 tries"), "{reason}\n{master}");
}

fn there_is_no_boot_deadline_but_with_our_own_option() {
    let state = |master: &Master| master.control().ask("state", &[]).data.expect("the state has data");
    let master = einhorn().serve(["ack=none"]).start_unready();
    assert_eq!(state(&master)["policy"]["ack_seconds"], serde_json::Value::Null, "{master}");
    let master = einhorn().options(["--ack-timeout", "7"]).start_unready();
    assert_eq!(state(&master)["policy"]["ack_seconds"], 7.0, "{master}");
}
