//! Control clients across a replacement of the master: what they asked is answered, once, by whoever is the master
//! then.

use std::thread;

use einhorn_proto::{Notice, Reply, RequestId, Status, UpgradeStage, WorkerState};
use nix::sys::signal::Signal;
use tests::control::{Control, typed};
use tests::{Gate, Master, MasterBuilder, Process, Releases, Successor, process, wait};

tests::trials! {
    half_a_request_is_completed_by_its_other_half,
    answers_that_nobody_has_read_yet_come_once_and_in_order,
    a_follower_of_events_goes_on_and_hears_everything_once,
    an_upgrade_that_runs_is_finished_by_the_new_master_and_reported_once,
    an_upgrade_that_fails_under_the_new_master_is_reported_as_failed_and_gone_back_from,
    a_soak_goes_on_and_can_be_ended_by_hand,
    a_soak_ends_when_it_would_have_ended,
    the_master_works_while_the_check_runs_and_requests_for_it_join,
    a_client_that_goes_away_while_the_check_runs_is_not_waited_for,
    a_stop_while_the_check_runs_is_a_stop_and_everybody_is_told,
    a_stopping_master_is_not_replaced,
}

const WORKERS: u32 = 4;

#[track_caller]
fn reload(master: &Master) {
    let reply = master.control().ask("reload", &[]);
    assert_eq!(reply.ok, Some(true), "{reply:?}\n{master}");
}

fn half_a_request_is_completed_by_its_other_half() {
    let mut master = Master::builder().start();
    let mut clients: Vec<_> = (0..3).map(|_| master.control()).collect();
    let request = |id: usize| format!("{{\"command\":\"version\",\"id\":{id}}}\n");
    for (id, client) in clients.iter_mut().enumerate() {
        // A whole one is answered, so the half behind it has been read too.
        let sent = request(100) + &request(id);
        client.send_bytes(&sent.as_bytes()[..request(100).len() + 5 * id + 1]);
        assert_eq!(client.reply().request_id, Some(100.into()));
    }
    reload(&master);
    reload(&master);
    for (id, client) in clients.iter_mut().enumerate() {
        client.send_bytes(&request(id).as_bytes()[5 * id + 1..]);
        let reply = client.reply();
        assert_eq!((reply.ok, reply.request_id), (Some(true), Some((id as u64).into())), "{master}");
        client.finish_sending();
        assert_eq!(client.read_to_end(), "");
    }
    master.assert_well(1);
}

/// Far more answers than the sockets' buffers hold.
fn answers_that_nobody_has_read_yet_come_once_and_in_order() {
    const REQUESTS: u64 = 2500;
    let mut master = Master::builder().start();
    let mut client = master.control();
    let requests: String =
        (0..REQUESTS).map(|id| format!("{{\"command\":\"state\",\"id\":{id}}}\n")).collect();
    client.send_bytes(requests.as_bytes());
    let state = || master.control().ask("state", &[]).data.expect("a state").to_string().len() as u64;
    assert!(REQUESTS * state() > 2 << 20, "too little to fill anything");
    // Wherever it stands: at the beginning of an answer or within one, with all of its buffer sent, some or none.
    for id in 0..REQUESTS {
        if id < 1000 && id % 150 == 0 {
            reload(&master);
        }
        let reply = client.reply();
        assert_eq!((reply.ok, reply.request_id), (Some(true), Some(id.into())), "{master}");
    }
    client.finish_sending();
    assert_eq!(client.read_to_end(), "", "an answer came twice");
    master.assert_well(1);
}

fn a_follower_of_events_goes_on_and_hears_everything_once() {
    let mut master = Master::builder().workers(2).start();
    let mut follower = master.control();
    follower.send(r#"{"command":"events","id":"mine"}"#);
    assert_eq!(follower.reply().message, "following events");
    reload(&master);
    let victim = master.workers_up()[0];
    master.kill_worker(victim);
    master.wait_up(2);
    reload(&master);
    let mut heard = Vec::new();
    while heard.iter().filter(|notice| matches!(notice, Notice::MasterReplaced { .. })).count() < 2 {
        let reply = follower.reply();
        assert_eq!((reply.wait, reply.request_id.clone()), (true, Some(RequestId::Text("mine".into()))));
        heard.push(typed::<Notice>(reply));
    }
    let kinds: Vec<_> = heard
        .iter()
        .map(|notice| match notice {
            Notice::MasterChecking { .. } => "checking",
            Notice::MasterReplaced { .. } => "replaced",
            Notice::Died { .. } => "died",
            Notice::Spawned { .. } => "spawned",
            Notice::Acked { .. } => "acked",
            _ => "else",
        })
        .filter(|kind| *kind != "else")
        .collect();
    assert_eq!(
        kinds,
        ["checking", "replaced", "died", "spawned", "acked", "checking", "replaced"],
        "{heard:?}"
    );
}

/// A pool of release 1, and a release 2 that starts once the gate is open.
struct Deploy {
    gate: Gate,
    releases: Releases,
    master: Master,
}

impl Deploy {
    fn new(adapt: impl FnOnce(MasterBuilder) -> MasterBuilder, knobs: &str) -> Self {
        let builder = adapt(Master::builder().workers(WORKERS).options(["-s", "0.01", "-r", "2"]));
        let releases = Releases::new(builder.file("app"));
        let gate = Gate::closed(builder.file("gate"));
        releases.add(2, &format!("{} {knobs}", gate.knob()));
        let master = releases.run_by(builder).start();
        releases.link(2);
        Self { gate, releases, master }
    }

    /// Begins an upgrade, and gives its client once workers wait at the gate.
    fn begin(&mut self) -> Control {
        let mut client = self.master.control();
        client.send(r#"{"command":"upgrade","id":"deploy"}"#);
        self.master.wait_status("starting workers", |status| status.master.starting > 0);
        client
    }

    #[track_caller]
    fn assert_all_run(&mut self, number: u32) {
        self.releases.assert_all_run(&mut self.master, WORKERS, number);
    }
}

/// The replies of an upgrade, to its only last one.
#[track_caller]
fn replies_of_upgrade(client: &mut Control) -> (Vec<Reply>, Reply) {
    let mut progress = client.replies();
    let last = progress.pop().expect("a last reply");
    assert!(
        progress
            .iter()
            .chain([&last])
            .all(|reply| reply.request_id == Some(RequestId::Text("deploy".into())))
    );
    client.finish_sending();
    assert_eq!(client.read_to_end(), "", "more than one last reply");
    (progress, last)
}

fn count(replies: &[Reply], text: &str) -> usize {
    replies.iter().filter(|reply| reply.message.contains(text)).count()
}

fn an_upgrade_that_runs_is_finished_by_the_new_master_and_reported_once() {
    let mut deploy = Deploy::new(|builder| builder, "");
    let mut client = deploy.begin();
    reload(&deploy.master);
    reload(&deploy.master);
    deploy.gate.open();
    let (progress, last) = replies_of_upgrade(&mut client);
    assert_eq!(last.ok, Some(true), "{last:?}\n{}", deploy.master);
    for (step, times) in [("spawned", WORKERS as usize), ("acked", WORKERS as usize)] {
        assert_eq!(count(&progress, step), times, "{step}: {progress:?}\n{}", deploy.master);
    }
    let report = typed::<einhorn_proto::UpgradeReport>(last);
    assert_eq!((report.generation, report.upgraded), (2, WORKERS), "{report:?}");
    deploy.assert_all_run(2);
}

fn an_upgrade_that_fails_under_the_new_master_is_reported_as_failed_and_gone_back_from() {
    let mut deploy = Deploy::new(|builder| builder, "exit_before_ack=9");
    let mut client = deploy.begin();
    reload(&deploy.master);
    deploy.gate.open();
    let (_, last) = replies_of_upgrade(&mut client);
    assert_eq!(last.ok, Some(false), "{last:?}\n{}", deploy.master);
    let report = typed::<einhorn_proto::UpgradeReport>(last);
    assert_eq!(report.outcome, einhorn_proto::Outcome::RolledBack, "{report:?}");
    deploy.assert_all_run(1);
}

fn is_soaking(status: &Status) -> bool {
    status.upgrade.as_ref().is_some_and(|upgrade| upgrade.stage == UpgradeStage::Soaking)
}

fn a_soak_goes_on_and_can_be_ended_by_hand() {
    let mut deploy = Deploy::new(|builder| builder, "");
    deploy.gate.open();
    let command = deploy.master.ctl_command(["upgrade", "--canary", "2"]);
    let upgrade = thread::spawn(|| process::run(command));
    deploy.master.wait_status("the soak", is_soaking);
    let before = deploy.master.workers_up();
    reload(&deploy.master);
    assert!(is_soaking(&deploy.master.status()), "{}", deploy.master);
    assert_eq!(deploy.master.workers_up(), before);
    deploy.master.ctl(["upgrade", "--continue"]).assert_code(0);
    upgrade.join().expect("the client ends").assert_code(0);
    deploy.assert_all_run(2);
}

fn a_soak_ends_when_it_would_have_ended() {
    let mut deploy = Deploy::new(|builder| builder, "");
    deploy.gate.open();
    let mut client = deploy.master.control();
    client.send(r#"{"command":"upgrade","canary":1,"soak":1000,"id":"deploy"}"#);
    let left = |status: &Status| status.upgrade.as_ref().and_then(|upgrade| upgrade.soak_left_ms);
    let before = deploy
        .master
        .wait_status("a while of the soak", |status| left(status).is_some_and(|left| left < 1_000_000 - 100));
    reload(&deploy.master);
    let after = deploy.master.status();
    assert!(left(&after).is_some() && left(&after) <= left(&before), "{before:?}\n{after:?}");
    assert_eq!(deploy.master.control().ask("upgrade_abort", &[]).ok, Some(true), "{}", deploy.master);
    let (_, last) = replies_of_upgrade(&mut client);
    assert_eq!(last.ok, Some(false), "{last:?}");
    deploy.assert_all_run(1);
}

/// A successor whose check waits at a gate.
struct Waiting {
    gate: Gate,
    _successor: Successor,
    master: Master,
}

impl Waiting {
    fn new() -> Self {
        let builder = Master::builder().workers(2);
        let gate = Gate::closed(builder.file("gate"));
        let successor = Successor::new(builder.file("successor"));
        successor.is_script(&format!("flock -s '{}' true\nexec \"$DAEMON\" \"$@\"", gate.path().display()));
        let master = successor.of(builder).start();
        Self { gate, _successor: successor, master }
    }

    /// Sends `request`, and waits until the check runs.
    fn ask(&mut self, request: &str) -> Control {
        let mut client = self.master.control();
        client.send(request);
        assert!(client.reply().message.contains("checking whether"));
        client
    }

    /// The check and what it has started: all that the master has started but its workers.
    fn check(&mut self) -> Vec<Process> {
        let workers = self.master.workers_up();
        let mut others = self.master.process().descendants();
        others.retain(|process| !workers.contains(process));
        assert!(!others.is_empty(), "no check runs\n{}", self.master);
        others
    }
}

fn the_master_works_while_the_check_runs_and_requests_for_it_join() {
    let mut waiting = Waiting::new();
    let mut first = waiting.ask(r#"{"command":"reload","id":1}"#);
    let mut joined: Vec<_> = (0..2).map(|_| waiting.master.control()).collect();
    joined[0].send(r#"{"command":"reload","id":"deploy"}"#);
    joined[1].send(r#"{"command":"upgrade","id":"deploy"}"#);
    assert_eq!(waiting.master.control().ask("inc", &[]).ok, Some(true));
    let workers = waiting.master.wait_up(3).workers;
    waiting.gate.open();
    assert_eq!(first.replies().pop().and_then(|last| last.ok), Some(true), "{}", waiting.master);
    for client in &mut joined {
        let (progress, last) = replies_of_upgrade(client);
        assert_eq!(last.ok, Some(true), "{last:?}\n{}", waiting.master);
        // They are told what they wait for.
        assert_eq!(count(&progress, "checking whether"), 1, "{progress:?}");
    }
    assert_eq!(waiting.master.log().matches("the master replaced itself").count(), 1, "{}", waiting.master);
    // The upgrade that joined was one.
    waiting.master.wait_up(3);
    assert!(waiting.master.workers_up().iter().all(|up| workers.iter().all(|old| old.pid != up.pid())));
    waiting.master.assert_well(3);
}

fn a_client_that_goes_away_while_the_check_runs_is_not_waited_for() {
    let mut waiting = Waiting::new();
    drop(waiting.ask(r#"{"command":"upgrade","id":1}"#));
    waiting.gate.open();
    waiting.master.wait_log("upgrade to generation 2 done");
    waiting.master.assert_well(2);
}

fn a_stop_while_the_check_runs_is_a_stop_and_everybody_is_told() {
    for signal in [Signal::SIGTERM, Signal::SIGUSR2, Signal::SIGQUIT] {
        let mut waiting = Waiting::new();
        let mut reload = waiting.ask(r#"{"command":"reload","id":1}"#);
        let mut upgrade = waiting.master.control();
        upgrade.send(r#"{"command":"upgrade","id":2}"#);
        assert_eq!(upgrade.reply().request_id, Some(2.into()));
        let check = waiting.check();
        waiting.master.signal(signal);
        for (client, says) in
            [(&mut reload, "not reloaded: "), (&mut upgrade, "upgrade failed before it began")]
        {
            let last = client.replies().pop().expect("a last reply");
            assert!(
                last.ok == Some(false) && last.message.contains(says) && last.message.contains("stopping"),
                "{signal}: {last:?}\n{}",
                waiting.master
            );
        }
        waiting.master.wait_exit_code(i32::from(signal == Signal::SIGQUIT));
        check.iter().for_each(Process::wait_gone);
    }
}

fn a_stopping_master_is_not_replaced() {
    let builder = Master::builder().workers(1).serve(["ignore_stop"]);
    let mut master = builder.start();
    assert_eq!(master.control().ask("die", &[]).ok, Some(true));
    let refused = master.control().ask("reload", &[]);
    assert!(refused.ok == Some(false) && refused.message.contains("stopping"), "{refused:?}");
    assert_eq!(refused.message.matches("reload").count(), 1, "{refused:?}");
    let worker = master.wait_worker("the worker", |worker| worker.state == WorkerState::Draining);
    Process::of(worker.pid).expect("the worker").signal(Signal::SIGKILL);
    master.wait_exit_code(0);
    wait::wait_for("the socket's removal", || (!master.socket().exists()).then_some(()));
}
