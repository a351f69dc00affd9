use std::collections::HashMap;
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;

use einhorn_proto::{RolloutKind, UpgradeStatus};
use einhyrningsins_supervisor::Generation;
use tempfile::TempDir;

use super::protocol::{QUEUE_MAX, RETRY_EVERY};
use super::text::STATUS_BYTES_MAX;
use super::*;
use crate::cli::LogFormat;
use crate::config::LogConfig;
use crate::sys::manager::ManagerSocket;

/// A manager that reads what it is told.
struct Manager {
    directory: TempDir,
    socket: UnixDatagram,
}

impl Manager {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { directory, socket }
    }

    fn settings(&self) -> ServiceSettings {
        let notify = self.directory.path().join("notify").into_os_string();
        ServiceSettings { notify: Some(notify), ..ServiceSettings::default() }
    }

    fn service(&self) -> Service {
        Service::new(self.settings())
    }

    /// All that has arrived, without the time of a reload, which is another each time.
    fn heard(&self) -> Vec<String> {
        let mut heard = Vec::new();
        let mut bytes = [0; 4096];
        while let Ok(length) = self.socket.recv(&mut bytes) {
            let text = std::str::from_utf8(&bytes[..length]).unwrap();
            let lines = text.lines().filter(|line| !line.starts_with("MONOTONIC_USEC="));
            heard.push(lines.collect::<Vec<_>>().join("|"));
        }
        heard
    }
}

fn log() -> Log {
    let verbosity = einhorn_proto::Severity::Error;
    Log::open(LogConfig { verbosity, format: LogFormat::Text, syslog: false, file: None, has_colours: None })
}

fn condition(state: MasterState, up: u32) -> Condition {
    let pool = Summary {
        state,
        was_ready: state != MasterState::Starting,
        generation: Generation(3),
        wanted: 4,
        up,
        live: up,
        given_up: 0,
        upgrade: None,
        queued: 0,
    };
    Condition { pool, is_replacing: false, is_bounded: true }
}

fn upgrading(upgraded: u32) -> Condition {
    let mut condition = condition(MasterState::Upgrading, 4);
    condition.pool.upgrade = Some(UpgradeStatus {
        kind: RolloutKind::Upgrade,
        stage: UpgradeStage::Replacing,
        generation: 4,
        from: 3,
        soak_left_ms: None,
        upgraded,
        wanted: 4,
        starting: 1,
        ack_within_ms: None,
        age_ms: 0,
    });
    condition
}

#[test]
fn messages_follow_the_life_of_the_pool_in_order() {
    let (manager, mut log) = (Manager::new(), log());
    let mut service = manager.service();
    let now = Instant::now();
    let steps = [
        (condition(MasterState::Starting, 0), vec!["STATUS=starting: 0 of 4 workers up"]),
        (condition(MasterState::Running, 4), vec!["READY=1|STATUS=4 of 4 workers up, generation 3"]),
        (upgrading(0), vec!["RELOADING=1|STATUS=upgrading to generation 4: 0 of 4"]),
        (upgrading(0), vec![]),
        (condition(MasterState::Running, 4), vec!["READY=1|STATUS=4 of 4 workers up, generation 3"]),
        (condition(MasterState::Stopping, 4), vec!["STOPPING=1|STATUS=stopping, 4 workers left"]),
        (condition(MasterState::Stopping, 4), vec![]),
    ];
    for (step, (condition, expected)) in steps.iter().enumerate() {
        service.tell(now, condition, &mut log);
        assert_eq!(manager.heard(), *expected, "step {step}");
    }
}

#[test]
fn sighup_is_always_followed_by_reloading_and_ready() {
    let (manager, mut log) = (Manager::new(), log());
    let mut service = manager.service();
    let (now, running) = (Instant::now(), condition(MasterState::Running, 4));
    service.on_hangup();
    service.tell(now, &condition(MasterState::Starting, 1), &mut log);
    assert_eq!(
        manager.heard(),
        ["STATUS=starting: 1 of 4 workers up"],
        "no READY=1 before the workers are ready"
    );
    service.tell(now, &running, &mut log);
    manager.heard();
    // Nothing has come of it.
    service.on_hangup();
    service.tell(now, &running, &mut log);
    let status = "STATUS=4 of 4 workers up, generation 3";
    assert_eq!(manager.heard(), [format!("RELOADING=1|{status}"), format!("READY=1|{status}")]);
    // An upgrade has been told of already, and the manager that asks for one waits to hear of its own.
    service.tell(now, &upgrading(1), &mut log);
    service.on_hangup();
    service.tell(now, &upgrading(1), &mut log);
    let status = "STATUS=upgrading to generation 4: 1 of 4";
    assert_eq!(manager.heard(), [format!("RELOADING=1|{status}"), format!("RELOADING=1|{status}")]);
    service.on_hangup();
    service.tell(now, &condition(MasterState::Stopping, 1), &mut log);
    service.tell(now, &condition(MasterState::Stopping, 1), &mut log);
    assert_eq!(manager.heard(), ["STOPPING=1|STATUS=stopping, 1 worker left"], "nothing is ready any more");
}

#[test]
fn an_upgrade_that_ends_within_one_round_is_reported() {
    let (manager, mut log) = (Manager::new(), log());
    let mut service = manager.service();
    let (now, running) = (Instant::now(), condition(MasterState::Running, 4));
    service.tell(now, &running, &mut log);
    manager.heard();
    service.on_notice(&Notice::UpgradeStarted { kind: RolloutKind::Upgrade, generation: 4, workers: 4 });
    service.tell(now, &running, &mut log);
    let status = "STATUS=4 of 4 workers up, generation 3";
    assert_eq!(manager.heard(), [format!("RELOADING=1|{status}"), format!("READY=1|{status}")]);
    service.tell(now, &running, &mut log);
    assert!(manager.heard().is_empty());
    // And one that is over in the round in which the pool was ready.
    let mut service = manager.service();
    service.on_notice(&Notice::UpgradeStarted { kind: RolloutKind::Upgrade, generation: 2, workers: 4 });
    service.tell(now, &running, &mut log);
    let told = ["READY=1", "RELOADING=1", "READY=1"].map(|transition| format!("{transition}|{status}"));
    assert_eq!(manager.heard(), told);
}

#[test]
fn status_lines_are_rate_limited_and_the_last_one_is_sent() {
    let (manager, mut log) = (Manager::new(), log());
    let mut service = manager.service();
    let now = Instant::now();
    service.tell(now, &condition(MasterState::Starting, 0), &mut log);
    service.tell(now, &condition(MasterState::Starting, 1), &mut log);
    service.tell(now, &condition(MasterState::Starting, 2), &mut log);
    assert_eq!(manager.heard(), ["STATUS=starting: 0 of 4 workers up"]);
    let later = service.deadline().unwrap();
    assert!(later > now && later <= now + STATUS_EVERY);
    service.tell(later, &condition(MasterState::Starting, 2), &mut log);
    assert_eq!(manager.heard(), ["STATUS=starting: 2 of 4 workers up"]);
}

#[test]
fn an_idle_master_has_no_deadline() {
    let (manager, mut log) = (Manager::new(), log());
    let mut service = manager.service();
    let now = Instant::now();
    service.tell(now, &condition(MasterState::Running, 4), &mut log);
    service.tell(now + STATUS_EVERY, &condition(MasterState::Running, 4), &mut log);
    assert_eq!(service.deadline(), None);
}

#[test]
fn watchdog_messages_come_at_half_the_interval() {
    let (manager, mut log) = (Manager::new(), log());
    let within = Duration::from_secs(20);
    let settings = ServiceSettings { watchdog: Some(within), ..manager.settings() };
    let mut service = Service::new(settings);
    let now = Instant::now();
    service.tell(now, &condition(MasterState::Running, 4), &mut log);
    service.tell(now + STATUS_EVERY, &condition(MasterState::Running, 4), &mut log);
    manager.heard();
    let at = service.deadline().unwrap();
    assert!(at <= now + within / 2, "{:?}", at - now);
    service.tell(at, &condition(MasterState::Running, 4), &mut log);
    assert_eq!(manager.heard(), ["WATCHDOG=1"]);
    assert_eq!(service.deadline(), Some(at + within / 2));
}

#[test]
fn more_time_is_asked_for_only_while_the_phase_is_bounded() {
    let (manager, mut log) = (Manager::new(), log());
    let mut service = manager.service();
    let mut now = Instant::now();
    service.tell(now, &condition(MasterState::Starting, 1), &mut log);
    manager.heard();
    for _ in 0..3 {
        now = service.deadline().unwrap().max(now + STATUS_EVERY);
        service.tell(now, &condition(MasterState::Starting, 1), &mut log);
        now = service.deadline().unwrap();
        service.tell(now, &condition(MasterState::Starting, 1), &mut log);
    }
    let heard = manager.heard();
    assert!(heard.len() >= 3 && heard.iter().all(|text| text == "EXTEND_TIMEOUT_USEC=30000000"), "{heard:?}");
    let endless = Condition { is_bounded: false, ..condition(MasterState::Starting, 1) };
    service.tell(now, &endless, &mut log);
    assert_eq!(service.extend_at, None);
}

#[test]
fn messages_to_a_full_manager_are_sent_later_in_order() {
    let (manager, mut log) = (Manager::new(), log());
    let mut service = manager.service();
    let filler = ManagerSocket::new(manager.settings().notify.unwrap().as_os_str()).unwrap();
    while filler.send("X=1", &[]).is_ok() {}
    let now = Instant::now();
    service.tell(now, &condition(MasterState::Running, 4), &mut log);
    service.tell(now, &upgrading(1), &mut log);
    service.tell(now, &condition(MasterState::Running, 4), &mut log);
    assert!(service.deadline().unwrap() <= now + RETRY_EVERY);
    // The next image goes on with it.
    let mut service = Service::read(service.write().unwrap()).unwrap();
    let heard = manager.heard();
    assert!(heard.iter().all(|text| text == "X=1"), "{heard:?}");
    service.tell(now + RETRY_EVERY, &condition(MasterState::Running, 4), &mut log);
    let first: Vec<_> =
        manager.heard().iter().map(|text| text.split('|').next().unwrap().to_owned()).collect();
    assert_eq!(first, ["READY=1", "RELOADING=1", "READY=1"]);
    assert_eq!(service.outbox.retry_at, None);
}

#[test]
fn a_manager_that_is_gone_is_harmless() {
    let (manager, mut log) = (Manager::new(), log());
    let mut service = manager.service();
    drop(manager);
    let now = Instant::now();
    service.tell(now, &condition(MasterState::Running, 4), &mut log);
    assert!(service.outbox.queue.is_empty() && service.outbox.retry_at.is_none() && service.outbox.is_lost);
}

#[test]
fn the_queue_is_bounded_when_nobody_reads() {
    let (manager, mut log) = (Manager::new(), log());
    let mut service = manager.service();
    let filler = ManagerSocket::new(manager.settings().notify.unwrap().as_os_str()).unwrap();
    while filler.send("X=1", &[]).is_ok() {}
    let now = Instant::now();
    service.tell(now, &condition(MasterState::Running, 4), &mut log);
    for _ in 0..QUEUE_MAX {
        service.tell(now, &upgrading(1), &mut log);
        service.tell(now, &condition(MasterState::Running, 4), &mut log);
    }
    assert_eq!(service.outbox.queue.len(), QUEUE_MAX);
    assert!(service.outbox.queue.back().unwrap().text.starts_with("READY=1"), "the end of it is what counts");
}

/// A manager that keeps descriptors, and something to keep under each of these names.
fn keep(manager: &Manager, service: &mut Service, names: &[String]) {
    let listeners = names.iter().map(|name| vec![(name.clone(), manager.socket.as_fd())]);
    service.store.follow(listeners, &mut service.outbox);
}

fn names(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| format!("bind-{number}")).collect()
}

fn keeper() -> (Manager, Service, Log) {
    let manager = Manager::new();
    let settings = ServiceSettings { kept_fds_max: 1000, ..manager.settings() };
    let (mut log, now) = (log(), Instant::now());
    let mut service = Service::new(settings);
    service.tell(now, &condition(MasterState::Running, 4), &mut log);
    manager.heard();
    (manager, service, log)
}

#[test]
fn listeners_not_stored_before_the_exec_are_stored_after_it() {
    let (manager, mut service, mut log) = keeper();
    keep(&manager, &mut service, &names(0..1));
    service.outbox.flush(Instant::now(), &mut log);
    keep(&manager, &mut service, &names(0..2));
    let mut service = Service::read(service.write().unwrap()).unwrap();
    assert!(service.store.is_behind());
    keep(&manager, &mut service, &names(0..2));
    service.outbox.flush(Instant::now(), &mut log);
    let stored = [0, 1].map(|number| format!("FDSTORE=1|FDNAME=bind-{number}|FDPOLL=0"));
    assert_eq!(manager.heard(), stored, "each once");
}

#[test]
fn every_listener_that_has_gone_is_removed_from_the_store() {
    let (manager, mut service, mut log) = keeper();
    keep(&manager, &mut service, &names(0..3 * QUEUE_MAX));
    while !service.outbox.queue.is_empty() {
        service.outbox.flush(Instant::now(), &mut log);
        manager.heard();
    }
    keep(&manager, &mut service, &names(0..1));
    let mut removed = 0;
    while !service.outbox.queue.is_empty() {
        service.outbox.flush(Instant::now(), &mut log);
        removed += manager.heard().iter().filter(|text| text.starts_with("FDSTOREREMOVE=1|")).count();
    }
    assert_eq!(removed, 3 * QUEUE_MAX - 1);
}

#[test]
fn the_status_line_has_numbers_and_a_remark() {
    let running = condition(MasterState::Running, 4);
    assert_eq!(text(&running, None), "4 of 4 workers up, generation 3");
    let mut weak = condition(MasterState::Running, 3);
    weak.pool.given_up = 1;
    assert_eq!(text(&weak, None), "3 of 4 workers up, generation 3; 1 slot given up");
    let remark = Some("the upgrade to generation 4 failed");
    assert_eq!(text(&running, remark), "4 of 4 workers up, generation 3; the upgrade to generation 4 failed");
    let replacing = Condition { is_replacing: true, ..running };
    assert_eq!(text(&replacing, None), "4 of 4 workers up, generation 3; replacing the master");
    let mut back = upgrading(2);
    let upgrade = back.pool.upgrade.as_mut().unwrap();
    upgrade.stage = UpgradeStage::RollingBack;
    assert_eq!(text(&back, None), "going back to generation 3: 2 of 4 still have generation 4");
    let stopping = condition(MasterState::Stopping, 0);
    assert_eq!(text(&stopping, Some("no\nworker came up")), "stopping: no worker came up");
    let long = text(&stopping, Some(&"\u{f6}".repeat(400)));
    assert!(long.len() <= STATUS_BYTES_MAX && long.ends_with('\u{2026}'), "{long}");
}

#[test]
fn settings_are_those_of_this_process() {
    let settings = |variables: &[(&str, &str)]| {
        let variables: HashMap<_, _> = variables.iter().copied().collect();
        ServiceSettings::new(|name| variables.get(name).map(OsString::from), 7)
    };
    assert_eq!(settings(&[]), ServiceSettings::default());
    assert_eq!(settings(&[("NOTIFY_SOCKET", "")]), ServiceSettings::default());
    let all =
        [("NOTIFY_SOCKET", "/n"), ("WATCHDOG_USEC", "2000000"), ("WATCHDOG_PID", "7"), ("FDSTORE", "8")];
    let expected = ServiceSettings {
        notify: Some("/n".into()),
        watchdog: Some(Duration::from_secs(2)),
        kept_fds_max: 8,
    };
    assert_eq!(settings(&all), expected);
    for other in [[("WATCHDOG_USEC", "2000000"), ("WATCHDOG_PID", "8")], [("WATCHDOG_USEC", "0"), ("X", "")]]
    {
        assert_eq!(settings(&other).watchdog, None);
    }
    assert_eq!(settings(&[("WATCHDOG_USEC", "x"), ("FDSTORE", "-1")]), ServiceSettings::default());
}
