//! The hook (`--on-event`): what it hears of, in which order, and that nothing depends on it.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;
use tests::wait::{wait_for, within};
use tests::{Gate, Master, MasterBuilder, Process, Releases};

tests::trials! {
    a_hook_hears_of_each_event_in_order_with_its_facts,
    the_hook_of_a_master_that_gives_up_hears_of_it_after_its_end,
    events_that_wait_for_a_slow_hook_outlive_a_reload_and_keep_their_order needs "util-linux",
    in_a_storm_deaths_merge_and_an_upgrade_is_not_lost needs "util-linux",
    a_hook_that_fails_each_time_is_one_warning_and_keeps_nobody_waiting,
    a_hook_that_hangs_is_killed_with_its_group_and_the_next_one_runs,
    a_hook_whose_program_is_missing_is_one_warning,
    a_master_that_ends_starts_the_last_hook_and_waits_for_none needs "util-linux",
    a_hook_runs_as_the_master_does,
}

/// What a hook has heard: the name of each event, and its line.
#[derive(Debug)]
struct Heard(PathBuf);

/// A master whose hook writes down what it hears, after these lines of a shell script.
fn hooked(builder: MasterBuilder, lines: &str) -> (MasterBuilder, Heard) {
    let (script, heard) = (builder.file("hook"), builder.file("heard"));
    let record = format!("echo \"$EINHORN_EVENT $(cat)\" >>{}", heard.display());
    fs::write(&script, format!("{lines}\n{record}\n")).expect("a script");
    let builder = builder.options(["--on-event", &format!("/bin/sh {}", script.display())]);
    (builder.options(["-s", "0.01"]), Heard(heard))
}

/// The line of a script that waits at a gate.
fn passing(gate: &Gate) -> String {
    format!("flock --shared {} true", gate.path().display())
}

impl Heard {
    fn events(&self) -> Vec<(String, Value)> {
        let text = fs::read_to_string(&self.0).unwrap_or_default();
        let whole = text.lines().filter_map(|line| line.split_once(' '));
        whole.map(|(name, json)| (name.to_owned(), serde_json::from_str(json).expect("JSON"))).collect()
    }

    fn names(&self) -> Vec<String> {
        self.events().into_iter().map(|(name, _)| name).collect()
    }

    /// The same, for as long as that.
    #[track_caller]
    fn wait_within(&self, limit: Duration, count: usize) -> Vec<(String, Value)> {
        let heard = within(limit, || Some(self.events()).filter(|events| events.len() >= count));
        heard.unwrap_or_else(|| panic!("waited {limit:?} in vain for the hook"))
    }

    /// Waits until so many events have been heard, and gives them.
    #[track_caller]
    fn wait(&self, count: usize) -> Vec<(String, Value)> {
        wait_for("the hook", || Some(self.events()).filter(|events| events.len() >= count))
    }
}

fn a_hook_hears_of_each_event_in_order_with_its_facts() {
    let (builder, heard) =
        hooked(Master::builder().workers(2).options(["-c", "web", "--max-unacked=1", "--retries=1"]), "");
    let releases = Releases::new(builder.file("app"));
    releases.add(2, "");
    releases.add(3, "exit_before_ack=9");
    let mut master = releases.run_by(builder).start();
    heard.wait(1);
    releases.link(2);
    master.ctl(["upgrade"]).assert_code(0);
    heard.wait(2);
    releases.link(3);
    master.ctl(["upgrade"]).assert_code(1);
    heard.wait(4);
    let victim = master.workers_up()[0];
    master.kill_worker(victim);
    let events = heard.wait(5);
    let names: Vec<_> = events.iter().map(|(name, _)| name.as_str()).collect();
    let died = "worker-died";
    let expected = ["ready", "upgrade-done", died, "rolled-back", died];
    assert_eq!(names[..5], expected, "{master}");
    let forms: Vec<_> = events.iter().map(|(_, line)| line["event"].as_str().expect("a name")).collect();
    let form = "died";
    assert_eq!(forms[..5], ["ready", "upgrade_done", form, "upgrade_failed", form]);
    for (_, line) in &events {
        assert_eq!(line["master"]["pid"], master.process().pid());
        assert_eq!(line["master"]["name"], "web");
        humantime::parse_rfc3339(line["at"].as_str().expect("a time")).expect("a time");
    }
    let [(_, ready), (_, done), (_, first), (_, back), (_, killed)] = &events[..5] else { panic!() };
    assert_eq!((&ready["workers"], &ready["generation"]), (&2.into(), &1.into()));
    assert_eq!(
        (&done["kind"], &done["generation"], &done["master"]["generation"]),
        (&"upgrade".into(), &2.into(), &2.into())
    );
    assert_eq!((&first["death"]["generation"], &first["count"]), (&3.into(), &1.into()));
    assert_eq!((&back["generation"], &back["master"]["generation"]), (&3.into(), &2.into()));
    assert!(back["reason"].as_str().expect("a reason").contains("exited with status 9"), "{back}");
    assert_eq!((&killed["death"]["pid"], &killed["death"]["acked"]), (&victim.pid().into(), &true.into()));
    assert_eq!(killed["death"]["reason"], "was killed by SIGKILL");
    assert!(!master.log().contains("the hook"), "{master}");
}

fn the_hook_of_a_master_that_gives_up_hears_of_it_after_its_end() {
    let builder = Master::builder().options(["--retries", "1"]).program(["/bin/sh", "-c", "exit 3"]);
    let (builder, heard) = hooked(builder, "");
    let mut master = builder.without_socket().start_unready();
    master.wait_exit_code(1);
    let given_up =
        wait_for("the last hook", || heard.events().into_iter().find(|(name, _)| name == "gave-up"));
    assert_eq!((&given_up.1["slot"], &given_up.1["tries"]), (&0.into(), &1.into()));
}

fn events_that_wait_for_a_slow_hook_outlive_a_reload_and_keep_their_order() {
    let builder = Master::builder().workers(2);
    let mut gate = Gate::closed(builder.file("gate"));
    let (builder, heard) = hooked(builder, &passing(&gate));
    let mut master = builder.start();
    let mut killed = Vec::new();
    for _ in 0..3 {
        let victim = master.workers_up()[0];
        master.kill_worker(victim);
        killed.push(Value::from(victim.pid()));
        master.wait_up(2);
    }
    master.ctl(["reload"]).assert_code(0);
    assert!(heard.events().is_empty(), "{master}");
    gate.open();
    let events = heard.wait(4);
    assert_eq!(events[0].0, "ready");
    let died: Vec<_> = events[1..].iter().map(|(_, line)| line["death"]["pid"].clone()).collect();
    assert_eq!(died, killed, "{master}");
    master.assert_well(2);
}

fn in_a_storm_deaths_merge_and_an_upgrade_is_not_lost() {
    const ROUNDS: usize = 9;
    let builder = Master::builder().workers(10);
    let mut gate = Gate::closed(builder.file("gate"));
    let (builder, heard) = hooked(builder, &passing(&gate));
    let mut master = builder.start();
    for round in 0..ROUNDS {
        let victims = master.workers_up();
        assert_eq!(victims.len(), 10, "{master}");
        master.kill_workers(&victims);
        master.wait_up(10);
        if round == 0 {
            master.upgrade();
        }
    }
    gate.open();
    let count = |events: &[(String, Value)]| -> u64 {
        events.iter().filter_map(|(_, line)| line["count"].as_u64()).sum()
    };
    let events =
        wait_for("all deaths", || Some(heard.events()).filter(|events| count(events) >= 10 * ROUNDS as u64));
    assert_eq!(count(&events), 10 * ROUNDS as u64, "{master}");
    let merged: Vec<_> = events.iter().filter(|(_, line)| line["count"].as_u64() > Some(1)).collect();
    assert_eq!(merged.len(), 1, "{events:?}");
    assert_eq!(events.iter().filter(|(name, _)| name == "upgrade-done").count(), 1, "{events:?}");
    assert!(events.len() <= 1 + 64, "{}", events.len());
    assert!(!master.log().contains("which is not told"), "{master}");
}

fn a_hook_that_fails_each_time_is_one_warning_and_keeps_nobody_waiting() {
    let (builder, heard) = hooked(Master::builder().workers(2), "trap 'echo oops >&2; exit 3' EXIT");
    let mut master = builder.start();
    for _ in 0..4 {
        let victim = master.workers_up()[0];
        master.kill_worker(victim);
        master.wait_up(2);
    }
    heard.wait(5);
    let warning = "WARN: the hook for ready failed: exited with status 3; its last line: oops";
    let log = master.log();
    assert!(log.contains(warning) && log.matches("the hook").count() == 1, "{master}");
    master.assert_well(2);
}

/// It waits for the 30 seconds that a hook has.
fn a_hook_that_hangs_is_killed_with_its_group_and_the_next_one_runs() {
    let builder = Master::builder();
    let child = builder.file("child");
    let hang = format!(
        "[ $EINHORN_EVENT != ready ] || {{ echo it hangs; sleep 1000 & echo $! >{}; wait; }}",
        child.display()
    );
    let (builder, heard) = hooked(builder.workers(1), &hang);
    let mut master = builder.start();
    let pid = wait_for("the hook", || fs::read_to_string(&child).ok()?.trim().parse().ok());
    let child = Process::of(pid).expect("the child of the hook");
    let began = Instant::now();
    master.ctl(["upgrade"]).assert_code(0);
    let events = heard.wait_within(Duration::from_secs(60), 1);
    assert!(began.elapsed() > Duration::from_secs(25), "it waited for the hook before");
    assert_eq!(events[0].0, "upgrade-done", "{master}");
    child.wait_gone();
    master.wait_log("WARN: the hook for ready failed: did not end within 30.0s; its last line: it hangs");
    master.assert_well(1);
}

fn a_hook_whose_program_is_missing_is_one_warning() {
    let mut master = Master::builder().workers(2).options(["--on-event", "no-such-hook -x"]).start();
    master.wait_log("WARN: the hook for ready failed: cannot find no-such-hook in PATH");
    let victim = master.workers_up()[0];
    master.kill_worker(victim);
    master.assert_well(2);
    assert_eq!(master.log().matches("the hook").count(), 1, "{master}");
    let refused = Master::builder().options(["--on-event", "hook 'unclosed"]).run_to_end();
    refused.assert_code(2).assert_says("a quote is not closed");
}

fn a_master_that_ends_starts_the_last_hook_and_waits_for_none() {
    let builder = Master::builder().workers(2);
    let mut gate = Gate::closed(builder.file("gate"));
    let (builder, heard) = hooked(builder, &passing(&gate));
    let mut master = builder.start();
    for _ in 0..2 {
        let victim = master.workers_up()[0];
        master.kill_worker(victim);
        master.wait_up(2);
    }
    master.upgrade();
    master.signal(Signal::SIGTERM);
    master.wait_exit_code(0);
    assert!(heard.names().is_empty(), "{master}");
    assert!(master.log().contains("WARN: the master ends, and 2 events"), "{master}");
    gate.open();
    heard.wait(2);
    let mut names = heard.names();
    names.sort_unstable();
    assert_eq!(names, ["ready", "upgrade-done"], "{master}");
}

fn a_hook_runs_as_the_master_does() {
    let builder = Master::builder().env("COLOUR", "blue");
    let (heard, seen) = (builder.file("heard"), builder.file("seen"));
    fs::create_dir(builder.file("here")).expect("a directory");
    let here = builder.file("here");
    let script = format!(
        "{{ pwd; id -u; echo $COLOUR; env | grep -c -e ^EINHORN_ -e ^LISTEN_ -e ^NOTIFY_; }} >{} 2>&1; \
         mv {0} {}",
        seen.display(),
        heard.display()
    );
    fs::write(builder.file("hook"), script).expect("a script");
    let hook = format!("sh {}", builder.file("hook").display());
    let _master = builder.options(["--on-event", &hook]).current_dir(&here).start();
    let seen = wait_for("the hook", || fs::read_to_string(&heard).ok());
    let lines: Vec<_> = seen.lines().collect();
    let here = fs::canonicalize(here).expect("it is there");
    let uid = nix::unistd::getuid().to_string();
    assert_eq!(lines, [here.to_str().expect("text"), &uid, "blue", "1"], "{seen}");
}
