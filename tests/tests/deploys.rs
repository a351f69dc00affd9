//! Upgrades that somebody ends, joins, continues or walks away from; and fifty in a row.

use std::thread::{self, JoinHandle};

use einhorn_proto::{Notice, Status, UpgradeStage, WorkerState};
use nix::sys::signal::Signal;
use tests::control::typed;
use tests::load::Plan;
use tests::{Finished, Gate, Master, Releases, process, wait};

tests::trials! {
    an_abort_goes_back_from_each_way,
    a_canary_goes_on_when_it_is_told_to,
    a_canary_goes_on_by_itself_when_its_soak_is_over,
    a_second_client_follows_and_both_are_told_of_the_end,
    whoever_follows_while_workers_are_spawned_is_told_first_what_it_has_joined,
    a_second_upgrade_is_refused_and_told_how_far_the_first_is,
    upgrades_that_wait_begin_in_order_behind_one_that_soaks,
    an_abort_and_a_rollback_and_a_stop_end_the_wait_of_upgrades,
    an_upgrade_that_fails_does_not_end_the_wait_of_the_next,
    the_seventeenth_upgrade_that_would_wait_is_refused,
    hangups_during_an_upgrade_begin_one_more_when_it_has_ended,
    an_upgrade_goes_on_without_its_client,
    an_upgrade_goes_back_without_its_client,
    fifty_upgrades_a_third_of_them_broken_lose_nothing_and_leave_nothing,
}

const WORKERS: u32 = 4;

/// Upgrades that stand still half way: the first two for as long as the gate is closed.
const SMOOTH: &[&str] = &["upgrade"];
const FLEET: &[&str] = &["upgrade", "--fleet"];
const CANARY: &[&str] = &["upgrade", "--canary", "2"];

/// A pool of release 1, whose release 2 waits at a closed gate.
struct Deploy {
    gate: Gate,
    releases: Releases,
    master: Master,
}

impl Deploy {
    fn new() -> Self {
        let builder = Master::builder().workers(WORKERS).options(["-s", "0.01"]);
        let releases = Releases::new(builder.file("app"));
        let gate = Gate::closed(builder.file("gate"));
        releases.add(2, &gate.knob());
        let master = releases.run_by(builder).start();
        releases.link(2);
        Self { gate, releases, master }
    }

    /// Begins an upgrade, and waits until it can go no further: at the gate, or in a soak without end.
    fn begin(&mut self, way: &[&str]) -> JoinHandle<Finished> {
        let command = self.master.ctl_command(way);
        let upgrade = thread::spawn(|| process::run(command));
        if way == CANARY {
            self.gate.open();
            self.master.wait_status("the soak", is_soaking);
        } else {
            self.master.wait_status("starting workers", |status| status.master.starting > 0);
        }
        upgrade
    }

    #[track_caller]
    fn assert_all_run(&mut self, number: u32) {
        self.releases.assert_all_run(&mut self.master, WORKERS, number);
    }
}

fn is_soaking(status: &Status) -> bool {
    status.upgrade.as_ref().is_some_and(|upgrade| upgrade.stage == UpgradeStage::Soaking)
}

fn finished(upgrade: JoinHandle<Finished>) -> Finished {
    upgrade.join().expect("the control client ends")
}

fn an_abort_goes_back_from_each_way() {
    for way in [SMOOTH, FLEET, CANARY] {
        for end in [&["upgrade", "--abort"][..], &["rollback"]] {
            let mut deploy = Deploy::new();
            let upgrade = deploy.begin(way);
            deploy.master.ctl(end).assert_code(0);
            let status = deploy.master.status();
            assert_eq!(status.master.up, WORKERS, "{status:?}");
            assert!(
                status.workers.iter().all(|w| w.generation == 1 || w.state == WorkerState::Draining),
                "{status:?}"
            );
            finished(upgrade).assert_code(1).assert_says("of generation 1 serve");
            deploy.gate.open();
            deploy.assert_all_run(1);
        }
    }
}

fn a_canary_goes_on_when_it_is_told_to() {
    let mut deploy = Deploy::new();
    let upgrade = deploy.begin(CANARY);
    let status = deploy.master.status();
    assert_eq!(status.workers.iter().filter(|worker| worker.generation == 2).count(), 2, "{status:?}");
    deploy.master.ctl(["upgrade", "--continue"]).assert_code(0);
    finished(upgrade).assert_code(0);
    deploy.assert_all_run(2);
    for end in ["--continue", "--abort", "--follow"] {
        deploy.master.ctl(["upgrade", end]).assert_code(1).assert_says("no upgrade runs");
    }
}

fn a_canary_goes_on_by_itself_when_its_soak_is_over() {
    let mut deploy = Deploy::new();
    deploy.gate.open();
    let upgrade = deploy.master.ctl(["upgrade", "--canary", "1", "--soak", "0.2"]);
    upgrade.assert_code(0);
    assert!(upgrade.stdout.contains("soaking for 0.2s"), "{upgrade}");
    deploy.assert_all_run(2);
}

fn a_second_client_follows_and_both_are_told_of_the_end() {
    let mut deploy = Deploy::new();
    let upgrade = deploy.begin(SMOOTH);
    let mut follower = deploy.master.control();
    follower.send(r#"{"command":"upgrade_follow"}"#);
    let joined = follower.reply();
    assert!(joined.message.contains("0 of 4 workers have it"), "{joined:?}");
    assert!(matches!(typed(joined), Notice::UpgradeJoined(_)));
    deploy.gate.open();
    let replies = follower.replies();
    let last = replies.last().expect("a last reply");
    assert!(last.ok == Some(true) && last.message.contains("upgrade to generation 2 done"), "{last:?}");
    let acks = replies.iter().filter(|reply| reply.wait && reply.message.contains("acked"));
    assert_eq!(acks.count(), WORKERS as usize, "{replies:?}");
    finished(upgrade).assert_code(0);
    deploy.assert_all_run(2);
}

/// The spawns of so many workers take many rounds of the loop.
fn whoever_follows_while_workers_are_spawned_is_told_first_what_it_has_joined() {
    const MANY: u32 = 100;
    let options = ["-s", "0.01", "--max-unacked", "100"];
    let master = Master::builder().workers(MANY).options(options).start();
    let mut upgrading = master.control();
    for _ in 0..3 {
        let mut follower = master.control();
        upgrading.send(r#"{"command":"upgrade","id":1}"#);
        while !upgrading.reply().message.contains("spawned") {}
        follower.send(r#"{"command":"upgrade_follow","id":1}"#);
        let joined = follower.reply();
        assert!(matches!(typed(joined), Notice::UpgradeJoined(_)));
        follower.replies();
        upgrading.replies();
    }
}

fn a_second_upgrade_is_refused_and_told_how_far_the_first_is() {
    for (way, progress) in [(SMOOTH, "0 of 4"), (FLEET, "0 of 4"), (CANARY, "2 of 4")] {
        let mut deploy = Deploy::new();
        let upgrade = deploy.begin(way);
        let second = deploy.master.ctl(["upgrade"]);
        second.assert_code(5).assert_says("upgrade refused: generation 2").assert_says(progress);
        second.assert_says("hint: \"upgrade --wait\" begins when that has ended");
        deploy
            .master
            .ctl(["replace", "--slot", "0"])
            .assert_code(5)
            .assert_says("replace refused: generation 2");
        let told = deploy.master.ctl(["--json", "upgrade_fleet"]);
        told.assert_code(5);
        assert!(
            told.stdout.contains(r#""ok":false"#) && told.stdout.contains(r#""refused":"rollout_runs""#),
            "{told}"
        );
        deploy.gate.open();
        if way == CANARY {
            deploy.master.ctl(["upgrade", "--continue"]).assert_code(0);
        }
        finished(upgrade).assert_code(0);
        let status = deploy.master.status();
        assert_eq!(status.master.generation, 2, "{status:?}");
        deploy.assert_all_run(2);
    }
}

/// Puts an upgrade in line behind the one that runs, and waits until `waiting` wait.
fn queue(deploy: &mut Deploy, options: &[&str], waiting: u32) -> JoinHandle<Finished> {
    let command = deploy.master.ctl_command(["upgrade", "--wait"].iter().chain(options));
    let upgrade = thread::spawn(|| process::run(command));
    deploy.master.wait_status("an upgrade that waits", |status| status.queued == waiting);
    upgrade
}

fn upgrades_that_wait_begin_in_order_behind_one_that_soaks() {
    let mut deploy = Deploy::new();
    let first = deploy.begin(CANARY);
    let second = queue(&mut deploy, &["--fleet"], 1);
    let third = queue(&mut deploy, &["--canary", "1", "--soak", "0.1"], 2);
    let fourth = deploy.master.ctl(["upgrade", "--wait", "--no-wait"]);
    fourth.assert_code(0);
    assert!(fourth.stdout.ends_with("it begins by itself; \"status\" shows how many wait\n"), "{fourth}");
    deploy.master.ctl(["upgrade", "--continue"]).assert_code(0);
    let ends = [first, second, third].map(finished);
    for (end, generation) in ends.iter().zip(2..) {
        end.assert_code(0);
        let done = format!("upgrade to generation {generation} done");
        assert!(end.stdout.contains(&done), "{end}");
    }
    assert!(
        ends[1].stdout.starts_with("upgrade queued: 1 upgrade waits for the end of generation 2's"),
        "{}",
        ends[1]
    );
    assert!(ends[2].stdout.contains("soaking for 0.1s"), "{}", ends[2]);
    deploy.master.wait_status("the end of all", |status| {
        (status.master.generation, status.queued) == (5, 0) && status.upgrade.is_none()
    });
    deploy.assert_all_run(2);
}

fn an_abort_and_a_rollback_and_a_stop_end_the_wait_of_upgrades() {
    for (end, why) in [
        (&["upgrade", "--abort"][..], "the running upgrade was aborted"),
        (&["rollback"], "a rollback was requested"),
        (&["die"], "the master is stopping"),
    ] {
        let mut deploy = Deploy::new();
        let first = deploy.begin(CANARY);
        let waiting = [queue(&mut deploy, &[], 1), queue(&mut deploy, &["--fleet"], 2)];
        deploy.master.ctl(end).assert_code(0);
        for upgrade in waiting {
            finished(upgrade).assert_code(1).assert_says(&format!("upgrade not started: {why}"));
        }
        finished(first).assert_code(1);
        if end == ["die"] {
            deploy.master.wait_exit_code(0);
        } else {
            assert_eq!(deploy.master.status().queued, 0);
            deploy.assert_all_run(1);
        }
    }
}

fn an_upgrade_that_fails_does_not_end_the_wait_of_the_next() {
    let mut deploy = Deploy::new();
    deploy.releases.add(3, &format!("{} exit_before_ack=9", deploy.gate.knob()));
    deploy.releases.add(4, "");
    deploy.releases.link(3);
    let first = deploy.begin(FLEET);
    let second = queue(&mut deploy, &[], 1);
    deploy.releases.link(4);
    deploy.gate.open();
    finished(first).assert_code(1);
    finished(second).assert_code(0);
    deploy.assert_all_run(4);
}

fn the_seventeenth_upgrade_that_would_wait_is_refused() {
    let mut deploy = Deploy::new();
    let first = deploy.begin(CANARY);
    let mut client = deploy.master.control();
    for waiting in 1..=16 {
        client.send(&format!(r#"{{"command":"upgrade","wait":true,"id":{waiting}}}"#));
        assert!(
            matches!(typed(client.reply()), Notice::UpgradeQueued { waiting: told, .. } if told == waiting)
        );
    }
    let refused = deploy.master.ctl(["upgrade", "--wait"]);
    refused.assert_code(5).assert_says("upgrade refused: 16 upgrades are already waiting");
    deploy.master.signal(Signal::SIGHUP);
    deploy.master.wait_status("the hangup that waits all the same", |status| status.queued == 17);
    deploy.master.ctl(["upgrade", "--abort"]).assert_code(0);
    for _ in 1..=16 {
        let reply = client.reply();
        assert_eq!((reply.ok, reply.refused), (Some(false), None), "{reply:?}");
    }
    finished(first).assert_code(1);
    assert_eq!(deploy.master.status().queued, 0);
    deploy.assert_all_run(1);
}

fn hangups_during_an_upgrade_begin_one_more_when_it_has_ended() {
    let mut deploy = Deploy::new();
    let upgrade = deploy.begin(SMOOTH);
    for count in 1..=3 {
        deploy.master.signal(Signal::SIGHUP);
        // Otherwise the last one may come when the upgrade of the first has begun.
        deploy.master.wait("a hangup that is heard", |master| {
            (master.log().matches("upgrade queued: 1 upgrade waits").count() == count).then_some(())
        });
    }
    deploy.gate.open();
    finished(upgrade).assert_code(0);
    deploy.master.wait_status("the end of both", |status| {
        (status.master.generation, status.queued) == (3, 0) && status.upgrade.is_none()
    });
    deploy.assert_all_run(2);
}

fn an_upgrade_goes_on_without_its_client() {
    let mut deploy = Deploy::new();
    let mut client = deploy.master.ctl_command(SMOOTH).spawn().expect("the control client");
    deploy.master.wait_status("the upgrade", |status| status.master.starting > 0);
    client.kill().expect("the control client still runs");
    client.wait().expect("the control client was killed");
    deploy.gate.open();
    let status = deploy.master.wait_status("its end", |status| status.upgrade.is_none());
    assert_eq!(status.master.generation, 2, "{status:?}");
    deploy.assert_all_run(2);
}

fn an_upgrade_goes_back_without_its_client() {
    let mut deploy = Deploy::new();
    deploy.releases.add(3, &format!("{} exit_before_ack=9", deploy.gate.knob()));
    deploy.releases.link(3);
    let mut client = deploy.master.control();
    client.send(r#"{"command":"upgrade_fleet"}"#);
    deploy.master.wait_status("the fleet", |status| status.master.starting == WORKERS);
    drop(client);
    deploy.gate.open();
    deploy.master.wait_log("upgrade to generation 2 failed");
    deploy.assert_all_run(1);
}

/// Upgrades in a row.
const UPGRADES: u32 = 50;

/// Upgrades before the master's memory is measured: its tables and its allocator have grown to their size.
const WARM_UP: u32 = 6;

/// What the master's resident memory may grow by in the upgrades that are measured, in kB: pages that its
/// allocator happens to have touched. It is less than 6 kB for each upgrade,
/// about what the environment of one release takes.
const GROWTH_KB_MAX: u64 = 256;

fn resident_kb(master: &Master) -> u64 {
    let text = master.process().status("VmRSS").expect("the master runs");
    let number = text.strip_suffix(" kB").and_then(|number| number.trim().parse().ok());
    number.unwrap_or_else(|| panic!("no size: {text}"))
}

/// How many descriptors the master has when nobody talks to it.
fn quiet_descriptors(master: &mut Master) -> usize {
    // Whoever has just hung up is noticed within a turn of the master's loop or two.
    let mut fewest = usize::MAX;
    let mut same = 0;
    wait::wait_for("the same number of descriptors at many looks", || {
        let count = master.process().descriptors().len();
        same = if count < fewest { 0 } else { same + 1 };
        fewest = fewest.min(count);
        (same >= 50).then_some(fewest)
    })
}

/// Makes release `number`, broken in one of several ways or not at all, and deploys it in one of three ways.
fn deploy(releases: &Releases, master: &Master, number: u32) -> Finished {
    let is_broken = number.is_multiple_of(3);
    match (is_broken, number % 4) {
        (false, _) => releases.add(number, ""),
        (true, 0 | 1) => releases.add(number, "exit_before_ack=9"),
        (true, 2) => releases.add_script(number, "#!/no/such/interpreter\n", 0o755),
        (true, _) => {
            releases.add(number, "");
            releases.remove_program(number);
        }
    }
    releases.link(number);
    let way: &[&str] = match number % 5 {
        0 | 1 => SMOOTH,
        2 | 3 => FLEET,
        _ => &["upgrade", "--canary", "1", "--soak", "0.02"],
    };
    let upgrade = master.ctl(way);
    upgrade.assert_code(i32::from(is_broken));
    upgrade
}

fn fifty_upgrades_a_third_of_them_broken_lose_nothing_and_leave_nothing() {
    let builder = Master::builder().workers(WORKERS).options(["-s", "0.01", "-r", "2"]);
    let releases = Releases::new(builder.file("app"));
    let mut master = releases.run_by(builder).start();
    let load = Plan { fresh: 4, keep_alive: 4, ..Plan::new(master.address()) }.start();
    let (first, last) = (2, UPGRADES + 1);
    let mut before = (0, 0);
    let mut failed = 0;
    for number in first..=last {
        let upgrade = deploy(&releases, &master, number);
        failed += u32::from(upgrade.code() == 1);
        // More than the workers before can still have in hand.
        load.wait_for_answers(30);
        if number == first + WARM_UP {
            master.wait_up(WORKERS);
            before = (quiet_descriptors(&mut master), resident_kb(&master));
        }
    }
    assert_eq!(failed, UPGRADES / 3 + 1, "every third was broken");
    master.wait_up(WORKERS);
    let after = (quiet_descriptors(&mut master), resident_kb(&master));
    let report = load.stop();
    report.assert_nothing_lost();
    assert_eq!(report.generations().len(), (UPGRADES + 1 - failed) as usize, "not all served\n{report}");
    assert_eq!(after.0, before.0, "descriptors: {:?}", master.process().descriptors());
    assert!(after.1 <= before.1 + GROWTH_KB_MAX, "{} kB before, {} kB after", before.1, after.1);
    // The last good one.
    let workers = master.workers_up();
    workers.iter().for_each(|worker| releases.assert_runs(*worker, last - 1));
    master.assert_well(WORKERS);
}
