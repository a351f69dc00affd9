//! Options that no other file is about: each gets where it belongs.

use std::fs;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::process::run;
use tests::{Master, binaries};

tests::trials! {
    what_the_pool_is_held_to_shows_in_the_state,
    what_it_is_held_to_without_options_is_as_documented,
    a_worker_counts_as_up_when_its_time_has_passed_or_it_says_so,
    auto_is_a_worker_for_each_cpu_that_the_cgroup_allows needs "cpu quota" "util-linux",
    the_queue_of_a_listener_is_as_long_as_asked,
    each_line_of_a_json_log_is_an_object,
    quiet_and_verbose_choose_what_is_logged,
    louder_and_quieter_change_what_is_logged,
    without_a_syslog_it_says_so_and_goes_on,
    relative_paths_count_from_where_the_master_was_started,
    variables_of_a_file_reach_the_workers_and_are_read_anew_by_an_upgrade,
    the_last_words_of_a_worker_are_in_the_report_if_they_are_captured,
    a_new_master_that_does_not_prove_itself_in_time_is_not_taken,
    the_workers_of_a_killed_master_get_the_signal_that_was_chosen,
}

fn state(master: &Master) -> Value {
    master.control().ask("state", &[]).data.expect("the state has data")
}

fn what_the_pool_is_held_to_shows_in_the_state() {
    let options = "-s 2.5 -r 4 -t 9 --ack-timeout 7 --max-unacked 3 --max-upgrade-additional 2 \
                   --graceful-signal term --max-age 60:5.5 --max-rss 3M --ping-timeout 4";
    let master = Master::builder().options(options.split_whitespace()).start();
    let expected = json!({
        "seconds": 2.5,
        "ack_mode": "manual",
        "ack_seconds": 7.0,
        "retries": { "unproven": 4, "upgrade": 4, "proven": 4 },
        "max_unacked": 3,
        "auto_unacked": false,
        "max_upgrade_additional": 2,
        "graceful_signal": "SIGTERM",
        "signal_timeout": 9.0,
        "max_age": 60.0,
        "max_age_jitter": 5.5,
        "max_rss": 3 << 20,
        "ping_timeout": 4.0,
    });
    assert_eq!(state(&master)["policy"], expected, "{master}");
}

fn what_it_is_held_to_without_options_is_as_documented() {
    let master = Master::builder().timer_acks(0.0).start();
    let expected = json!({
        "seconds": 1.0,
        "ack_mode": "timer",
        "ack_seconds": 0.0,
        "retries": { "unproven": 3, "upgrade": 3, "proven": null },
        "max_unacked": null,
        "auto_unacked": true,
        "max_upgrade_additional": null,
        "graceful_signal": null,
        "signal_timeout": null,
        "max_age": null,
        "max_age_jitter": null,
        "max_rss": null,
        "ping_timeout": null,
    });
    assert_eq!(state(&master)["policy"], expected, "{master}");
}

fn a_worker_counts_as_up_when_its_time_has_passed_or_it_says_so() {
    // Says nothing, and need not.
    Master::builder().timer_acks(0.05).serve(["ack=none"]).start().assert_well(1);
    // Need not wait an hour.
    Master::builder().timer_acks(3600.0).serve(["ack=control"]).start().assert_well(1);
}

/// Makes a cgroup of the name `$1` with a quota of one CPU, and runs the rest in it. Both versions of cgroups.
const WITH_ONE_CPU: &str = r#"
for directory in /sys/fs/cgroup/cpu /sys/fs/cgroup; do
    group=$directory/$1
    mkdir "$group" || continue
    trap 'rmdir "$group"' EXIT
    if [ -e "$group/cpu.cfs_quota_us" ]; then
        cat "$group/cpu.cfs_period_us" >"$group/cpu.cfs_quota_us"
    elif [ -e "$group/cpu.max" ]; then
        echo 100000 100000 >"$group/cpu.max"
    else
        continue
    fi
    shift
    (sh -c 'echo $PPID' >"$group/cgroup.procs" && exec "$@")
    exit
done
exit 1
"#;

fn auto_is_a_worker_for_each_cpu_that_the_cgroup_allows() {
    let directory = tempfile::tempdir().expect("a directory");
    let group = format!("einhyrningsins-test-{}", std::process::id());
    let mut command = Command::new("sh");
    command.args(["-c", WITH_ONE_CPU, "sh", &group]).arg(binaries::einhyrningsins());
    command.args(["-n", "auto", "--dry-run", "-d"]).arg(directory.path().join("socket")).arg("true");
    let finished = run(command);
    finished.assert_code(0);
    assert!(finished.stdout.contains("a start would run 1 worker of true"), "{finished}");

    let mut command = Command::new("taskset");
    command.args(["-c", "0"]).arg(binaries::einhyrningsins());
    command.args(["-n", "auto", "--dry-run", "-d"]).arg(directory.path().join("socket")).arg("true");
    let finished = run(command);
    assert!(finished.stdout.contains("a start would run 1 worker of true"), "{finished}");
}

fn the_queue_of_a_listener_is_as_long_as_asked() {
    let mut master = Master::builder().options(["-l", "7"]).start();
    assert_eq!(master.status().listeners[0].backlog, 7, "{master}");
}

fn each_line_of_a_json_log_is_an_object() {
    let mut master = Master::builder().workers(2).options(["--log-format", "json"]).start();
    master.upgrade();
    master.signal(Signal::SIGTERM);
    master.wait_exit_code(0);
    let log = master.log();
    let mut events = Vec::new();
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(line["time"].is_string() && line["level"].is_string(), "{line}");
        assert_eq!(line["pid"], master.process().pid(), "{line}");
        assert!(line["message"].as_str().is_some_and(|message| !message.is_empty()), "{line}");
        events.extend(line["data"]["event"].as_str().map(str::to_owned));
    }
    for event in ["spawned", "acked", "upgrade_started", "draining", "drained", "upgrade_done"] {
        assert!(events.iter().any(|seen| seen == event), "no {event} in {events:?}");
    }
}

fn quiet_and_verbose_choose_what_is_logged() {
    for (option, logged) in [("-qq", &[][..]), ("-q", &["WARN"]), ("-v", &["WARN", "INFO", "DEBUG"])] {
        let mut master = Master::builder().option(option).start();
        let mut control = master.control();
        // Odd, so a warning.
        control.send(r#"{"command":"worker:ack","pid":1}"#);
        control.read_to_end();
        // Who sent it is a detail.
        master.signal(Signal::SIGUSR2);
        master.wait_exit_code(0);
        for level in ["WARN", "INFO", "DEBUG"] {
            let is_there = master.log().contains(&format!(" {level}: "));
            assert_eq!(is_there, logged.contains(&level), "{level} with {option}\n{master}");
        }
    }
}

fn louder_and_quieter_change_what_is_logged() {
    let mut master = Master::builder().start();
    let mut control = master.control();
    let has = |master: &Master, what: &str| master.log().lines().any(|line| line.ends_with(what));
    assert_eq!(control.ask("louder", &[]).ok, Some(true));
    assert_eq!(control.ask("inc", &[]).ok, Some(true));
    master.wait_up(2);
    assert!(has(&master, "number of workers 1 -> 2"), "{master}");
    for _ in 0..2 {
        assert_eq!(control.ask("quieter", &[]).ok, Some(true));
    }
    assert_eq!(control.ask("inc", &[]).ok, Some(true));
    master.wait_up(3);
    assert!(!has(&master, "number of workers 2 -> 3"), "{master}");
}

fn without_a_syslog_it_says_so_and_goes_on() {
    if Path::new("/dev/log").exists() {
        // It would be written to, and that is not ours.
        return;
    }
    let mut master = Master::builder().option("--syslog").start();
    master.wait_log("/dev/log");
    master.assert_well(1);
}

fn relative_paths_count_from_where_the_master_was_started() {
    let builder = Master::builder().without_socket();
    let (here, there) = (builder.file("here"), builder.file("there"));
    for directory in [&here, &there] {
        fs::create_dir(directory).expect("a directory");
    }
    let builder = builder.current_dir(&here).option("--chdir").option(&there);
    let mut master = builder.options(["-d", "socket", "-e", "pid", "-f", "lock"]).start_unready();
    master.at_socket(here.join("socket"));
    master.wait_up(1);
    assert!(here.join("pid").exists() && here.join("lock").exists(), "{master}");
    assert_eq!(master.workers_up()[0].directory(), there.canonicalize().ok(), "{master}");
}

fn variables_of_a_file_reach_the_workers_and_are_read_anew_by_an_upgrade() {
    let builder = Master::builder();
    let file = builder.file("env");
    fs::write(&file, "COLOUR=red\n").expect("a file of variables");
    let mut master = builder.env("COLOUR", "none").option("--env-file").option(&file).start();
    let colour = |master: &mut Master| master.workers_up()[0].environment().get("COLOUR").cloned();
    assert_eq!(colour(&mut master).as_deref(), Some("red"), "{master}");
    fs::write(&file, "COLOUR=blue\n").expect("a file of variables");
    master.upgrade();
    master.wait_up(1);
    assert_eq!(colour(&mut master).as_deref(), Some("blue"), "{master}");
}

fn the_last_words_of_a_worker_are_in_the_report_if_they_are_captured() {
    for captured in [true, false] {
        let builder = Master::builder().options(captured.then_some("--capture-startup"));
        let script = builder.file("run");
        fs::write(&script, format!("exec {}", binaries::worker("serve").display())).expect("a script");
        let master = builder.program([Path::new("sh"), &script]).start();
        fs::write(&script, "echo settings.toml: no such file >&2; exit 3").expect("a script");
        let upgrade = master.ctl(["upgrade"]);
        upgrade.assert_code(1);
        assert_eq!(upgrade.stderr.contains("settings.toml: no such file"), captured, "{upgrade}");
    }
}

fn a_new_master_that_does_not_prove_itself_in_time_is_not_taken() {
    let options = ["--reexec-as", "sh -c 'exec sleep 1000'", "--reexec-timeout", "0.2"];
    let mut master = Master::builder().options(options).start();
    let reload = master.control().ask("reload", &[]);
    assert_eq!(reload.ok, Some(false), "{}", reload.message);
    assert!(reload.message.contains("within 0.2s (--reexec-timeout)"), "{}", reload.message);
    master.assert_well(1);
}

/// Another one would kill it before it has said so.
fn the_workers_of_a_killed_master_get_the_signal_that_was_chosen() {
    let builder = Master::builder().options(["-k", "--graceful-signal", "USR1"]).timer_acks(0.0);
    let heard = builder.file("heard");
    let script = "trap 'echo asked > \"$0\"; exit' USR1; echo ready > \"$0\"; while :; do sleep 0.01; done";
    let mut master = builder.program([Path::new("sh"), Path::new("-c"), Path::new(script), &heard]).start();
    let worker = master.workers_up()[0];
    let said = || fs::read_to_string(&heard).unwrap_or_default();
    master.wait("the worker to be ready", |_| (said() == "ready\n").then_some(()));
    master.signal(Signal::SIGKILL);
    master.wait_exit();
    worker.wait_gone();
    assert_eq!(said(), "asked\n");
}
