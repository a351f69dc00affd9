//! The control client against a real master: exit codes, one-shot commands, scripts and pipes.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use einhorn_proto::Status;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::process::{run, run_with_input};
use tests::wait::wait_for;
use tests::{Gate, Master, Process, binaries};

tests::trials! {
    exit_code_0_when_it_is_done,
    a_status_is_shown_in_parts_and_again_and_again,
    an_end_with_a_delay_can_be_called_off_until_then,
    exit_code_1_when_it_was_refused_or_failed,
    exit_code_2_for_bad_usage,
    exit_code_3_when_there_is_no_master,
    exit_code_4_when_the_answer_does_not_come,
    each_ack_of_an_upgrade_or_a_rollback_is_counted,
    an_upgrade_of_a_large_pool_has_a_line_for_ten_acks_in_a_pipe,
    json_is_the_data_on_one_line,
    a_script_stops_at_the_first_command_that_fails,
    the_prompt_works_through_a_pipe,
    a_master_is_found_by_its_name,
    a_variable_names_the_socket_and_an_option_comes_before_it,
    masters_are_listed_and_a_silent_one_delays_nobody,
    a_possible_impostor_is_listed_and_not_asked needs "root" "util-linux",
    texts_and_names_of_workers_control_no_terminal needs "python3",
}

fn exit_code_0_when_it_is_done() {
    let mut master = Master::builder().workers(2).start();
    let status = master.ctl(["status"]);
    status.assert_code(0);
    let address = master.address().to_string();
    assert!(status.stdout.contains(&address), "{status}");
    for worker in master.workers_up() {
        assert!(status.stdout.contains(&worker.pid().to_string()), "{status}");
    }
    master.ctl(["inc", "2"]).assert_code(0);
    master.wait_up(4);
    master.ctl(["upgrade"]).assert_code(0);
    assert_eq!(master.wait_up(4).master.generation, 2);
}

fn an_end_with_a_delay_can_be_called_off_until_then() {
    let mut master = Master::builder().workers(2).start();
    let mut command = master.ctl_command(["die", "--delay", "1h"]);
    let mut waiting = command.stdin(Stdio::null()).spawn().expect("the client");
    let process = Process::of(waiting.id().cast_signed()).expect("it runs");
    wait_for("its pause", || process.is_asleep().then_some(()));
    assert_eq!(master.status().master.up, 2);
    process.signal(Signal::SIGINT);
    assert_eq!(waiting.wait().expect("its end").signal(), Some(Signal::SIGINT as i32));
    master.assert_well(2);
    master.ctl(["die", "--delay", "0.05", "--wait"]).assert_code(0);
    master.wait_exit_code(0);
}

fn a_status_is_shown_in_parts_and_again_and_again() {
    let master = Master::builder().workers(2).options(["--max-rss", "500M"]).start();
    master.ctl(["upgrade", "--label", "v2"]).assert_code(0);
    let brief = master.ctl(["status", "--brief"]);
    assert!(
        brief.stdout.starts_with("master    ") && brief.stdout.contains("\nworkers   2 of 2 up"),
        "{brief}"
    );
    assert!(!brief.stdout.contains("SLOT"), "{brief}");
    let whole = master.ctl(["status"]);
    assert!(whole.stdout.contains("\nrelease   2 (v2), current: "), "{whole}");
    let rows = |state| {
        let status = master.ctl(["status", "--state", state]);
        status.assert_code(0).stdout.split_once("SLOT").map_or(0, |(_, table)| table.lines().count() - 1)
    };
    assert_eq!((rows("up"), rows("draining"), rows("empty")), (2, 0, 0));
    let use_of_all = whole.stdout.lines().filter(|line| line.contains("  up  ")).collect::<Vec<_>>();
    assert!(use_of_all.len() == 2 && use_of_all.iter().all(|line| line.contains("M of 500M  ")), "{whole}");
    // Ends with its reader.
    let [ctl, socket] = [binaries::einhyrningsinsctl(), master.socket().to_owned()];
    let line = format!("{} -d {} status --brief --watch=0.1 | head -n 7", ctl.display(), socket.display());
    let mut command = Command::new("sh");
    command.args(["-c", &line]);
    let watched = run(command);
    let heads = watched.stdout.lines().filter(|line| line.starts_with("master ")).count();
    assert_eq!(heads, 2, "{watched}");
    assert_eq!(watched.stdout.lines().filter(|line| line.is_empty()).count(), 1, "{watched}");
    assert_eq!(watched.stderr, "", "{watched}");
    let mut command = master.ctl_command(["--json", "status", "--watch=0.1", "--timeout", "5"]);
    command.stdout(Stdio::piped());
    let mut watching = command.spawn().expect("the client");
    let mut lines = BufReader::new(watching.stdout.take().expect("a pipe")).lines();
    for line in lines.by_ref().take(3) {
        serde_json::from_str::<Status>(&line.expect("a line")).expect("a status");
    }
    let process = Process::of(watching.id().cast_signed()).expect("the client");
    assert!(process.signal(Signal::SIGINT));
    assert_eq!(watching.wait().expect("its end").signal(), Some(Signal::SIGINT as i32));
}

fn exit_code_1_when_it_was_refused_or_failed() {
    let builder = Master::builder().options(["-s", "0.01"]);
    let knobs = builder.file("knobs");
    std::fs::write(&knobs, "").expect("a file of knobs");
    let mut master = builder.serve([format!("@{}", knobs.display())]).start();
    master.ctl(["dec"]).assert_code(1);
    std::fs::write(&knobs, "exit_before_ack=9").expect("other knobs");
    let upgrade = master.ctl(["upgrade"]);
    upgrade.assert_code(1).assert_says("exited with status 9");
    master.assert_well(1);
}

fn exit_code_2_for_bad_usage() {
    let master = Master::builder().start();
    for args in [&["frobnicate"][..], &["inc", "x"], &["set_workers"], &["status", "now"], &["--frob"]] {
        master.ctl(args).assert_code(2);
    }
}

fn exit_code_3_when_there_is_no_master() {
    let mut master = Master::builder().start();
    let command = master.ctl_command(["status"]);
    master.ctl(["die"]).assert_code(0);
    master.wait_exit_code(0);
    run(command).assert_code(3).assert_says(master.socket().to_str().expect("UTF-8"));
}

fn exit_code_4_when_the_answer_does_not_come() {
    let builder = Master::builder();
    let mut gate = Gate::new(builder.file("gate"));
    let mut master = builder.serve([gate.knob()]).start();
    gate.close();
    master.ctl(["--timeout", "0.3", "upgrade"]).assert_code(4);
    gate.open();
    master.wait_status("the upgrade that goes on", |status| {
        status.upgrade.is_none() && status.master.generation == 2
    });
}

fn each_ack_of_an_upgrade_or_a_rollback_is_counted() {
    let master = Master::builder().workers(3).start();
    for way in ["upgrade", "rollback"] {
        let told = master.ctl([way]);
        told.assert_code(0);
        let totals: Vec<_> = told.stdout.lines().filter_map(|line| line.split(" acked ").nth(1)).collect();
        assert_eq!(totals.len(), 3, "{told}");
        for (total, expected) in totals.iter().zip([", 1 of 3", ", 2 of 3", ", 3 of 3"]) {
            assert!(total.ends_with(expected), "{total} does not end with \"{expected}\": {told}");
        }
    }
}

fn an_upgrade_of_a_large_pool_has_a_line_for_ten_acks_in_a_pipe() {
    let master = Master::builder().workers(40).program([binaries::worker("tiny")]).start();
    let told = master.ctl(["upgrade"]);
    told.assert_code(0);
    let steps: Vec<_> = told.stdout.lines().filter(|line| line.starts_with("generation 2: ")).collect();
    let done: Vec<_> = steps
        .iter()
        .filter_map(|line| line.split(": ").nth(1)?.split('/').next()?.parse::<u32>().ok())
        .collect();
    assert!(done.ends_with(&[40]) && [10, 20, 30].iter().all(|ten| done.contains(ten)), "{told}");
    assert!(told.stdout.lines().count() <= 12, "{told}");
    let quiet = master.ctl(["upgrade", "--quiet"]);
    quiet.assert_code(0);
    assert_eq!(quiet.stdout.lines().count(), 1, "{quiet}");
    assert!(quiet.stdout.contains("generation 3"), "{quiet}");
}

fn json_is_the_data_on_one_line() {
    let master = Master::builder().workers(2).start();
    let finished = master.ctl(["--json", "status"]);
    finished.assert_code(0);
    let status: Status = serde_json::from_str(&finished.stdout)
        .unwrap_or_else(|error| panic!("no status: {error}\n{finished}"));
    assert_eq!(status.master.up, 2);
    assert_eq!(finished.stdout.lines().count(), 1, "{finished}");
}

fn a_script_stops_at_the_first_command_that_fails() {
    let mut master = Master::builder().start();
    master.ctl(["-e", "inc; inc 2; status"]).assert_code(0);
    master.wait_up(4);
    master.ctl(["-e", "dec 9; inc"]).assert_code(1);
    assert_eq!(master.status().master.wanted, 4);
}

fn the_prompt_works_through_a_pipe() {
    let mut master = Master::builder().start();
    let finished = run_with_input(master.ctl_command::<&str>([]), "inc\nversion\nstatus\nquit\ninc\n");
    finished.assert_code(0);
    assert!(finished.stdout.contains(env!("CARGO_PKG_VERSION")), "{finished}");
    // What comes after "quit" is not read.
    master.wait_up(2);
    let finished = run_with_input(master.ctl_command::<&str>([]), "frobnicate\n");
    assert_ne!(finished.code(), 0, "{finished}");
}

fn a_master_is_found_by_its_name() {
    let name = format!("test-{}", std::process::id());
    let socket = std::path::PathBuf::from(format!("/tmp/einhorn-{name}.sock"));
    let mut master = Master::builder().without_socket().options(["-c", &name]).start_unready();
    master.at_socket(&socket);
    let mut command = Command::new(binaries::einhyrningsinsctl());
    command.args(["-c", &name, "die"]);
    run(command).assert_code(0);
    master.wait_exit_code(0);
    assert!(!socket.exists(), "{master}");
}

/// A worker that puts control characters and changes of direction into all that it can: its name, its status, and the
/// last words before it fails.
fn texts_and_names_of_workers_control_no_terminal() {
    let builder = Master::builder().options(["--capture-startup", "--retries", "1", "-vv"]);
    let program = builder.file("se\u{1b}[2Jrve\u{202e}");
    let path = "/proc/self/comm";
    let hostile = format!(
        "import os, signal, socket, sys\n\
         bad = '\\x1b[2J\\x9b1m\\u202e'\n\
         open('{path}', 'wb').write((bad[:4] + '\\nx').encode())\n\
         if os.environ['EINHORN_GENERATION'] == '2':\n    \
             sys.stderr.buffer.write((bad + '\\n').encode())\n    \
             sys.exit(3)\n\
         s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n\
         s.sendto(('READY=1\\nSTATUS=' + bad).encode(), os.environ['NOTIFY_SOCKET'])\n\
         signal.pause()\n"
    );
    let script = builder.file("hostile.py");
    std::fs::write(&script, hostile).expect("a script");
    std::os::unix::fs::symlink("/usr/bin/env", &program).expect("a link");
    let words = [program.into_os_string(), "python3".into(), script.into_os_string()];
    let mut master = builder.program(words).start();
    master.wait_status("its text", |status| status.workers[0].text.is_some());
    let is_clean = |text: &str| !text.contains(['\u{1b}', '\u{9b}', '\u{202e}']);
    let failed = master.ctl(["upgrade"]);
    failed.assert_code(1).assert_says("| \\u{1b}[2J\\u{9b}1m\\u{202e}");
    let status = master.ctl(["status"]);
    status.assert_code(0);
    assert!(status.stdout.contains("says: \\u{1b}[2J\\u{9b}1m\\u{202e}"), "{status}");
    let mut outputs = vec![failed, status];
    for args in [&["--json", "status"][..], &["state"], &["--json", "state"]] {
        outputs.push(master.ctl(args));
    }
    for output in outputs {
        assert!(is_clean(&output.stdout) && is_clean(&output.stderr), "{output}");
    }
    // What a worker writes to standard error is passed on as it is; the rest of the log is the master's.
    let own = master.log();
    let own: Vec<_> = own.lines().filter(|line| line.contains("einhyrningsins[")).collect();
    assert!(own.len() > 5 && own.iter().all(|line| is_clean(line)), "{own:#?}");
}

fn a_variable_names_the_socket_and_an_option_comes_before_it() {
    for is_einhorn in [false, true] {
        let builder = Master::builder().without_socket();
        let builder = if is_einhorn { builder.einhorn() } else { builder };
        let socket = builder.file("of-the-variable.sock");
        let mut master = builder.env("EINHYRNINGSINS_SOCKET", &socket).start_unready();
        master.at_socket(&socket);
        master.wait_up(1);
        master.upgrade();
        for worker in master.workers_up() {
            let environment = worker.environment();
            assert!(!environment.contains_key("EINHYRNINGSINS_SOCKET"), "{environment:?}");
        }
        let link = master.file("einhornsh");
        std::os::unix::fs::symlink(binaries::einhyrningsinsctl(), &link).expect("a link");
        for program in [binaries::einhyrningsinsctl(), link] {
            for (options, code) in [(&[][..], 0), (&["-c", "no-such-master"], 3), (&["-d", "/nowhere"], 3)] {
                let mut command = Command::new(&program);
                command.args(options).args(["-e", "version"]).env("EINHYRNINGSINS_SOCKET", &socket);
                run(command).assert_code(code);
            }
        }
    }
    let master = Master::builder().env("EINHYRNINGSINS_SOCKET", "/nowhere/at/all").start();
    master.ctl(["version"]).assert_code(0);
}

/// `list`, for a user whose runtime directory this is: what it shows of sockets there, as JSON.
fn listed(runtime: &Path, options: &[&str]) -> Vec<Value> {
    let mut command = Command::new(binaries::einhyrningsinsctl());
    command.args(["--json", "list"]).args(options).env("XDG_RUNTIME_DIR", runtime);
    command.env_remove("EINHYRNINGSINS_SOCKET").env_remove("EINHYRNINGSINS_TRUST_OWNER");
    let finished = run(command);
    finished.assert_code(0);
    let lines = finished.stdout.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let is_ours = |master: &Value| Path::new(master["socket"].as_str().expect("text")).starts_with(runtime);
    lines.filter(is_ours).collect()
}

fn masters_are_listed_and_a_silent_one_delays_nobody() {
    let builder = Master::builder().workers(2).without_socket();
    let runtime = builder.file("runtime");
    let nested = runtime.join("einhyrningsins/web");
    std::fs::create_dir_all(&nested).expect("directories");
    let socket = nested.join("einhorn.sock");
    let mut master = builder.options(["-c", "web", "-d"]).option(&socket).start_unready();
    master.at_socket(&socket);
    master.wait_up(2);
    drop(UnixListener::bind(runtime.join("einhorn-dead.sock")).expect("a socket"));
    let _silent = UnixListener::bind(runtime.join("einhorn.sock")).expect("a socket");
    let garbage = UnixListener::bind(runtime.join("einhyrningsins/garbage.sock")).expect("a socket");
    let talk = |mut stream: UnixStream| drop(std::io::Write::write_all(&mut stream, b"220 ready\x1b[2J\n"));
    std::thread::spawn(move || garbage.incoming().flatten().for_each(talk));
    // Neither is a control socket.
    std::fs::write(runtime.join("einhorn-file.sock"), "").expect("a file");
    let _datagrams = UnixDatagram::bind(runtime.join("einhorn-datagrams.sock")).expect("a socket");
    let begun = Instant::now();
    let listed = listed(&runtime, &[]);
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    let state = |name: &str| {
        let socket = runtime.join(name);
        let found = listed.iter().find(|found| found["socket"] == socket.to_str().expect("text"));
        found.unwrap_or_else(|| panic!("{name} is missing: {listed:#?}")).clone()
    };
    assert_eq!(listed.len(), 4, "{listed:#?}");
    assert_eq!(state("einhorn-dead.sock")["state"], "dead");
    assert_eq!(state("einhorn.sock")["state"], "silent");
    assert_eq!(state("einhyrningsins/garbage.sock")["state"], "unreadable");
    let found = state("einhyrningsins/web/einhorn.sock");
    assert_eq!((&found["state"], &found["name"]), (&json!("running"), &json!("web")), "{found}");
    assert_eq!((&found["up"], &found["wanted"]), (&json!(2), &json!(2)), "{found}");
    assert_eq!(found["pid"], master.process().pid(), "{found}");
    assert!(found["program"][0].as_str().expect("text").ends_with("serve"), "{found}");
    // For people, as a table.
    let mut command = master.ctl_command(["list", "--timeout", "0.5"]);
    command.env("XDG_RUNTIME_DIR", &runtime);
    let finished = run(command);
    finished.assert_code(0);
    let line = finished.stdout.lines().find(|line| line.starts_with("web "));
    assert!(line.is_some_and(|line| line.contains(" running ") && line.contains(" 2 of 2 ")), "{finished}");
    assert!(!finished.stdout.contains('\x1b'), "{finished}");
}

fn a_possible_impostor_is_listed_and_not_asked() {
    let builder = Master::builder().without_socket();
    let runtime = builder.file("runtime");
    std::fs::create_dir(&runtime).expect("a directory");
    for directory in [runtime.as_path(), runtime.parent().expect("a directory")] {
        let mode = if directory == runtime { 0o1777 } else { 0o755 };
        std::fs::set_permissions(directory, std::fs::Permissions::from_mode(mode)).expect("its mode");
    }
    tests::place_worker(&runtime.parent().expect("a directory").join("serve"));
    let socket = runtime.join("einhorn.sock");
    let builder = builder.under(["setpriv", "--reuid", "54321", "--regid", "54321", "--clear-groups"]);
    let builder = builder.option("--chdir").option(runtime.parent().expect("a directory"));
    let mut master = builder.option("-d").option(&socket).program(["./serve"]).start_unready();
    master.at_socket(&socket);
    master.wait_up(1);
    let listed_so = listed(&runtime, &[]);
    assert_eq!(listed_so.len(), 1, "{listed_so:?}");
    assert_eq!((&listed_so[0]["state"], &listed_so[0]["user"]), (&json!("not trusted"), &json!("54321")));
    assert!(listed_so[0]["reason"].as_str().is_some_and(|why| why.contains("runs as 54321 (uid 54321)")));
    assert_eq!(listed_so[0].get("pid"), None, "{listed_so:?}");
    assert_eq!(listed(&runtime, &["--trust-owner", "54321"])[0]["state"], "running");
}
