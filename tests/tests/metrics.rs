//! Metrics: what the master counts, what `/proc` says of its workers, and that Prometheus' own tool reads what is written.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::SystemTime;

use einhorn_proto::Metrics;
use nix::sys::signal::Signal;
use nix::unistd::geteuid;
use serde_json::{Value, json};
use tests::control::typed;
use tests::process::{run, run_with_input};
use tests::{Cgroup, Finished, Master, MasterBuilder, Releases, binaries};

tests::trials! {
    each_end_of_workers_and_upgrades_is_counted_and_a_reload_keeps_the_counts,
    a_worker_that_its_stop_signal_ends_is_a_death,
    a_worker_that_the_kernel_kills_for_its_memory_is_counted_as_that needs "memory limit",
    what_did_not_come_from_its_worker_is_counted,
    promtool_takes_the_metrics_of_any_pool needs "promtool",
    promtool_takes_whatever_a_master_may_say needs "promtool",
    memory_cpu_time_and_start_are_those_of_the_worker_of_the_slot,
    a_master_in_another_pid_namespace_has_no_samples_and_the_reason_is_told needs "pid namespace" "mount namespace",
    a_file_is_replaced_whole_and_kept_if_nobody_answers,
    the_shipped_alerts_fire_when_they_should_and_no_sooner needs "promtool",
    the_shipped_alerts_and_panels_ask_for_metrics_that_there_are needs "promtool",
}

/// The samples of a text: by name and labels, as they are written there.
fn samples(text: &str) -> BTreeMap<&str, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.map(|line| {
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line:?}"));
        (name, value.parse().unwrap_or_else(|_| panic!("no number: {line:?}")))
    });
    pairs.collect()
}

/// What the client writes.
#[track_caller]
fn metrics(master: &Master, options: &[&str]) -> Finished {
    let finished = master.ctl(["metrics"].iter().chain(options));
    finished.assert_code(0);
    assert_eq!(finished.stderr, "");
    finished
}

fn counted(master: &Master) -> Metrics {
    typed(master.control().ask("metrics", &[]))
}

fn builder() -> MasterBuilder {
    Master::builder().workers(2).options(["-s", "0.01"])
}

fn each_end_of_workers_and_upgrades_is_counted_and_a_reload_keeps_the_counts() {
    let builder = builder().options(["--ack-timeout", "1", "-t", "1"]);
    let releases = Releases::new(builder.file("app"));
    for (number, knobs) in
        [(2, "version=2"), (3, "exit_before_ack=3"), (4, "ack=none"), (5, "exit_after_ms=100")]
    {
        releases.add(number, knobs);
    }
    let mut master = releases.run_by(builder).start();
    let start = counted(&master).counts;
    assert_eq!((start.spawns, start.acks, start.boot.count, start.drain.count), (2, 2, 2, 0));
    let deploy = |number, code| {
        releases.link(number);
        master.ctl(["upgrade"]).assert_code(code);
    };
    deploy(2, 0);
    master.ctl(["rollback"]).assert_code(0);
    deploy(3, 1);
    deploy(4, 1);
    master.wait_up(2);
    let worker = master.workers_up()[0];
    master.kill_worker(worker);
    master.wait_up(2);
    let metrics = counted(&master);
    let counts = &metrics.counts;
    assert_eq!(
        (counts.upgrades.done, counts.upgrades.rolled_back, counts.upgrades.failed),
        (1, 2, 0),
        "{master}"
    );
    assert_eq!((counts.rollbacks.done, counts.rollbacks.rolled_back), (1, 0));
    assert_eq!(counts.rollout.count, 4);
    let deaths = counts.deaths;
    assert!(deaths.unacked > 0 && deaths.boot_deadline > 0, "{deaths:?}\n{master}");
    assert_eq!((deaths.signal, deaths.exit, deaths.oom, deaths.stop_signal, deaths.spawn), (1, 0, 0, 0, 0));
    // Whoever was spawned runs, has died, or was asked to stop and did.
    let ended = deaths.unacked + deaths.signal + counts.drain.count;
    assert_eq!(counts.spawns, 2 + ended, "{counts:?}\n{master}");
    assert_eq!(counts.boot.count, counts.acks);
    master.ctl(["reload"]).assert_code(0);
    let mut later = counted(&master);
    assert_eq!(std::mem::replace(&mut later.counts.reexecs, 0), 1);
    assert_eq!(later, metrics, "the new master goes on with the counts\n{master}");
    releases.link(5);
    master.ctl(["upgrade"]).assert_code(0);
    master.wait("a worker that exits", |master| (counted(master).counts.deaths.exit > 0).then_some(()));
}

/// It acks by the time, and the signal ends it because it has no handler for it.
fn a_worker_that_its_stop_signal_ends_is_a_death() {
    let mut master = builder().timer_acks(0.01).program(["sleep", "1000"]).start();
    master.upgrade();
    master.wait_up(2);
    let counts = counted(&master).counts;
    assert_eq!((counts.deaths.stop_signal, counts.drain.count), (2, 2), "{master}");
}

fn a_worker_that_the_kernel_kills_for_its_memory_is_counted_as_that() {
    // The programs under test are read into the cgroup's memory, too.
    let group = Cgroup::with_memory("metrics", 400);
    let mut master = Master::builder().serve(["hold_mb=600"]).under(group.enter()).start_unready();
    master.wait("a worker that is killed for its memory", |master| {
        let deaths = counted(master).counts.deaths;
        assert_eq!(deaths.unacked, 0, "{master}");
        (deaths.oom > 0).then_some(())
    });
    // While the master runs, it spawns workers into the cgroup, which then cannot be removed.
    master.signal(Signal::SIGTERM);
    master.wait_exit();
}

fn what_did_not_come_from_its_worker_is_counted() {
    let mut master = Master::builder().workers(1).serve(["ack=notify"]).start();
    let mut path = master.socket().as_os_str().to_owned();
    path.push(".notify");
    let stranger = UnixDatagram::unbound().expect("a socket");
    stranger.send_to(b"READY=1", Path::new(&path)).expect("room for a datagram");
    let worker = master.workers_up()[0].pid();
    master.control().send(&format!(r#"{{"command":"worker:ack","pid":{worker}}}"#));
    master.wait("both to be refused", |master| (counted(master).refused == 2).then_some(()));
    master.ctl(["reload"]).assert_code(0);
    assert_eq!(counted(&master).refused, 2, "{master}");
}

/// Paths of sockets are labels, and may have nearly any character.
fn promtool_takes_the_metrics_of_any_pool() {
    let builder = Master::builder().workers(3);
    let odd = format!("unix:{}", builder.file("a \"quoted\" back\\slash {brace}=żółw").display());
    let mut master = builder
        .options(["-b", &odd, "-b", "udp:127.0.0.1:0", "-b", "127.0.0.1:0,reuseport"])
        .options(["-b", "seqpacket:@einhyrningsins metrics \"1\""])
        .start();
    master.upgrade();
    master.wait_up(3);
    for options in [&[][..], &["--pss"]] {
        let text = metrics(&master, options).stdout;
        let mut promtool = Command::new("promtool");
        promtool.args(["check", "metrics"]);
        let checked = run_with_input(promtool, &text);
        checked.assert_code(0);
        assert_eq!((checked.stdout.as_str(), checked.stderr.as_str()), ("", ""), "{text}");
        let of_slots = samples(&text)
            .into_keys()
            .filter(|name| name.contains("address=\"127.0.0.1:") && name.contains("slot="));
        assert_eq!(of_slots.count(), 3 * 3, "length, limit and drops of three slots: {text}");
        assert!(text.contains(r#"a \"quoted\" back\\slash {brace}=żółw"#), "{text}");
    }
}

fn memory_cpu_time_and_start_are_those_of_the_worker_of_the_slot() {
    let mut master = Master::builder().workers(2).serve(["hold_mb=40", "burn_ms=50", "ignore_stop"]).start();
    let began = SystemTime::now();
    let workers = master.workers_up();
    let shown = metrics(&master, &["--pss"]);
    let samples = samples(&shown.stdout);
    for (slot, worker) in workers.iter().enumerate() {
        let of = |name: &str| samples[&*format!("einhyrningsins_worker_{name}{{slot=\"{slot}\"}}")];
        let resident = of("resident_memory_bytes");
        assert!((40e6..200e6).contains(&resident), "{resident}");
        let proportional = of("proportional_memory_bytes");
        assert!(proportional > 40e6 && proportional <= resident, "{proportional} of {resident}");
        assert!((0.04..5.0).contains(&of("cpu_seconds_total")), "{shown}");
        let now = began.duration_since(SystemTime::UNIX_EPOCH).expect("a clock").as_secs_f64();
        let age = now - of("start_time_seconds");
        assert!((-2.0..300.0).contains(&age), "it started {age} s ago");
        let info = format!("einhyrningsins_worker_info{{slot=\"{slot}\",pid=\"{}\"", worker.pid());
        assert!(shown.stdout.contains(&info), "{shown}");
    }
    let version =
        samples.keys().find(|name| name.starts_with("einhyrningsins_build_info")).expect("a version");
    assert!(version.contains("version=\""), "{version}");
    assert_eq!(samples["einhyrningsins_workers_wanted"], 2.0);
    assert_eq!(samples["einhyrningsins_workers{state=\"up\",release=\"current\"}"], 2.0);
    assert!(!metrics(&master, &[]).stdout.contains("proportional"), "only where it is asked for");
    // A worker that drains is not the one of its slot.
    master.upgrade();
    let shown = metrics(&master, &[]);
    assert!(
        shown.stdout.contains("einhyrningsins_workers{state=\"draining\",release=\"previous\"} 2"),
        "{shown}"
    );
    assert_eq!(shown.stdout.matches("\neinhyrningsins_worker_resident_memory_bytes{").count(), 2, "{shown}");
    assert_eq!(shown.stdout.matches("\neinhyrningsins_worker_info{").count(), 4, "{shown}");
    master.kill_workers(&workers);
}

fn a_master_in_another_pid_namespace_has_no_samples_and_the_reason_is_told() {
    let master = Master::builder().workers(1).start();
    let mut client = Command::new("unshare");
    if !geteuid().is_root() {
        client.arg("--map-root-user");
    }
    client.args(["--pid", "--fork", "--mount-proc", "--"]).arg(binaries::einhyrningsinsctl());
    client.arg("-d").arg(master.socket()).arg("metrics");
    let finished = run(client);
    finished.assert_code(0);
    assert!(!finished.stdout.contains("resident"), "{finished}");
    assert!(finished.stdout.contains("einhyrningsins_workers_wanted 1"), "{finished}");
    let reason = "its own pid is not known here, so its workers may be in another pid namespace";
    assert_eq!(finished.stderr.lines().count(), 1, "{finished}");
    assert!(finished.stderr.contains(reason), "{finished}");
}

fn a_file_is_replaced_whole_and_kept_if_nobody_answers() {
    let mut master = Master::builder().workers(1).start();
    let directory = master.file("textfiles");
    fs::create_dir(&directory).expect("a directory");
    let file = directory.join("web.prom");
    fs::write(&file, "the text before").expect("a file");
    let before = fs::File::open(&file).expect("a file");
    let output = ["--output", file.to_str().expect("UTF-8")];
    assert_eq!(metrics(&master, &output).stdout, "");
    let text = fs::read_to_string(&file).expect("a file");
    assert_eq!(samples(&text)["einhyrningsins_workers_wanted"], 1.0);
    assert_eq!(
        std::io::read_to_string(before).expect("a file"),
        "the text before",
        "it was written in place"
    );
    let mode = fs::metadata(&file).expect("a file").permissions().mode() & 0o777;
    assert_eq!(mode, 0o644, "the collector runs as another user");
    assert_eq!(fs::read_dir(&directory).expect("a directory").count(), 1, "nothing else is left there");
    let missing = directory.join("none/web.prom");
    let failed = master.ctl(["metrics", "--output", missing.to_str().expect("UTF-8")]);
    failed
        .assert_code(1)
        .assert_says("cannot write")
        .assert_says("none/web.prom")
        .assert_says("No such file");
    master.ctl(["--json", "metrics", "--output", "x"]).assert_code(2);
    master.signal(Signal::SIGTERM);
    master.wait_exit_code(0);
    master.ctl(["metrics"].iter().chain(&output)).assert_code(3);
    assert_eq!(fs::read_to_string(&file).expect("a file"), text, "the last text stays");
}

/// What is shipped for Prometheus and Grafana.
fn shipped(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../einhyrningsins/contrib/prometheus").join(file)
}

fn promtool(args: &[&str]) -> Finished {
    let mut promtool = Command::new("promtool");
    promtool.current_dir(env!("CARGO_MANIFEST_DIR")).args(args);
    run(promtool)
}

/// The names of metrics in a text.
fn names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|char: char| !char.is_ascii_alphanumeric() && char != '_');
    words.filter(|word| word.starts_with("einhyrningsins_")).collect()
}

fn the_shipped_alerts_fire_when_they_should_and_no_sooner() {
    promtool(&["check", "rules", shipped("alerts.yml").to_str().expect("UTF-8")]).assert_code(0);
    promtool(&["test", "rules", "alerts.test.yml"]).assert_code(0);
    let (alerts, tests) = (fs::read_to_string(shipped("alerts.yml")), include_str!("../alerts.test.yml"));
    for alert in alerts.expect("a file").lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(tests.contains(&format!("alertname: {alert}\n        exp_alerts")), "{alert} is not tested");
    }
}

fn the_shipped_alerts_and_panels_ask_for_metrics_that_there_are() {
    let master = Master::builder().workers(1).start();
    let text = metrics(&master, &[]).stdout;
    let written = names(&text);
    let dashboard = fs::read_to_string(shipped("dashboard.json")).expect("a file");
    let alerts = fs::read_to_string(shipped("alerts.yml")).expect("a file");
    for (text, least) in [(&dashboard, 12), (&alerts, 6)] {
        let asked = names(text);
        let missing: Vec<_> = asked.difference(&written).collect();
        assert!(asked.len() >= least && missing.is_empty(), "{missing:?}");
    }
    // As rules, because promtool reads those.
    let dashboard: Value = serde_json::from_str(&dashboard).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels").iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().expect("targets"));
    let marks = dashboard["annotations"]["list"].as_array().expect("annotations");
    let rules: Vec<_> = targets
        .chain(marks)
        .enumerate()
        .map(|(number, target)| {
            let expr = target["expr"].as_str().expect("an expression").replace("$__rate_interval", "5m");
            json!({ "record": format!("panel:{number}"), "expr": expr })
        })
        .collect();
    assert!(rules.len() > 10);
    let file = master.file("panels.yml");
    fs::write(&file, json!({ "groups": [{ "name": "panels", "rules": rules }] }).to_string())
        .expect("a file");
    promtool(&["check", "rules", file.to_str().expect("UTF-8")]).assert_code(0);
}

/// A text that an address may be: of characters that the format treats specially, and of any others.
fn odd_text(dice: &mut fastrand::Rng) -> String {
    let odd = ['"', '\\', '\n', '\r', '\t', '{', '}', ',', '=', ' ', '#', '\u{0}', '\u{7f}', 'ż', '🦄'];
    let char =
        |dice: &mut fastrand::Rng| if dice.bool() { odd[dice.usize(..odd.len())] } else { dice.char(..) };
    let length = dice.usize(..20);
    (0..length).map(|_| char(dice)).collect()
}

/// A listener as `status` has it, with odd texts and any numbers.
fn odd_listener(index: u32, dice: &mut fastrand::Rng) -> Value {
    let queue = |dice: &mut fastrand::Rng| json!({ "length": dice.u32(..), "limit": dice.u32(..), "drops": dice.u32(..) });
    let slots = dice.u32(..4);
    json!({
        "index": index, "fd": index, "name": odd_text(dice), "address": odd_text(dice), "kind": "tcp",
        "family": "AF_INET", "backlog": 1, "queue": queue(dice),
        "slots": (0..slots).map(|slot| json!({ "slot": slot, "live": true, "queue": queue(dice) })).collect::<Vec<_>>(),
    })
}

/// The answers of masters that there are not, to the real client.
fn promtool_takes_whatever_a_master_may_say() {
    let mut master = Master::builder().workers(1).start();
    let mut status = serde_json::to_value(master.status()).expect("JSON");
    let directory = tempfile::tempdir().expect("a directory");
    for round in 0..8 {
        let mut dice = fastrand::Rng::with_seed(round);
        status["listeners"] = (0..20).map(|index| odd_listener(index, &mut dice)).collect();
        status["master"]["version"] = odd_text(&mut dice).into();
        let mut counted = serde_json::to_value(counted(&master)).expect("JSON");
        counted["counts"]["spawns"] = dice.u64(..).into();
        counted["counts"]["boot"]["sum_ms"] = dice.u64(..).into();
        let socket = directory.path().join(format!("{round}.sock"));
        let listener = UnixListener::bind(&socket).expect("a socket");
        let answers = [counted, status.clone()];
        let server = thread::spawn(move || {
            let (stream, _) = listener.accept().expect("a client");
            let mut requests = BufReader::new(stream.try_clone().expect("a descriptor")).lines();
            for data in answers {
                let request: Value =
                    serde_json::from_str(&requests.next().expect("a request").expect("UTF-8")).expect("JSON");
                let reply = json!({ "message": "", "ok": true, "request_id": request["id"], "data": data });
                (&stream).write_all(format!("{reply}\n").as_bytes()).expect("a reader");
            }
        });
        let mut client = Command::new(binaries::einhyrningsinsctl());
        client.arg("-d").arg(&socket).arg("metrics");
        let written = run(client);
        written.assert_code(0);
        server.join().expect("the master's part");
        let mut promtool = Command::new("promtool");
        promtool.args(["check", "metrics"]);
        let checked = run_with_input(promtool, &written.stdout);
        checked.assert_code(0);
        assert_eq!((checked.stdout.as_str(), checked.stderr.as_str()), ("", ""), "seed {round}: {written}");
    }
}
