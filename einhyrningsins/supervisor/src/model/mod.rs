//! Goal: no supervisor of a small pool ever breaks I1 to I9. Method: try everything, on the real one.
//!
//! From a pool of one, two or three workers, every step that the world could take is tried in every state that
//! can be reached: spawns work, fail for now or for good; workers die in any state and ack early, late or
//! again; deadlines come, or come late; releases are resolved or not; people upgrade, go on, abort, roll back,
//! resize, respawn, go away and stop the master. The core checks I1 to I5 and I9 after each step, the onlooker what was
//! sent; and from each new state two questions are asked: if everybody behaves from here on, does the pool come
//! to rest whole (I8), and if the master is told to stop, does it exit once its last worker has gone?
//!
//! What makes this end is that things go wrong, and people want things, only so often in one life ([`Means`]);
//! within them every order of events is tried, to closure. Time moves from deadline to deadline, or far when
//! there is none. `EINHYRNINGSINS_MODEL_DEPTH=n` gives each life n more of everything that it has.

mod key;
mod sabotage;
mod search;
mod world;

use core::time::Duration;

use super::Signal;

use einhorn_proto::{Requester, Target};

use super::onlooker::BYSTANDER;
use super::plan::Rollout;
use super::tests::plain_policy;
use super::*;
use sabotage::Sabotage;
use search::explore;

const SECOND: Duration = Duration::from_secs(1);

/// How long nobody runs at a time.
const FREEZE: Duration = Duration::from_secs(7);

/// What a look at the workers that start can show: CPUs that are idle or busy, and pressure.
const LOADS: [BootLoad; 3] = {
    let idle = BootLoad { busy_permille: 0, is_pressed: false, filling: None, room: None };
    [idle, BootLoad { busy_permille: 1000, ..idle }, BootLoad { is_pressed: true, ..idle }]
};
/// A plan of nobody.
pub(crate) const fn plan(is_fleet: bool) -> UpgradePlan {
    UpgradePlan {
        is_fleet,
        canary: None,
        soak: None,
        may_keep_master: false,
        is_reported_drained: false,
        label: None,
        requester: NOBODY,
        soak_check: None,
        check: CheckPlan::ByPolicy,
        options: OptionsChange { settings: Vec::new(), changes: Vec::new() },
    }
}

/// Who asks, where it does not matter.
pub(crate) const NOBODY: Requester = Requester { signal: None, uid: None, login_uid: None, process: None };
const PLAN: UpgradePlan = plan(false);
const SMOOTH: PoolCommand = PoolCommand::Upgrade(PLAN);
const LATER: PoolCommand = PoolCommand::QueueUpgrade(PLAN);
const FLEET: PoolCommand = PoolCommand::Upgrade(plan(true));

fn canary(slots: u32, soak: Option<Duration>) -> PoolCommand {
    PoolCommand::Upgrade(UpgradePlan { canary: Some(slots), soak, ..PLAN })
}

fn stop(how: Stop) -> PoolCommand {
    PoolCommand::Stop { how, why: String::new() }
}

/// How often each kind of thing may still happen in one life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Means {
    /// Workers die that were not asked to, or miss their boot deadline.
    deaths: u8,
    /// Spawns do not work, releases are not resolved.
    failures: u8,
    upgrades: u8,
    /// More or fewer workers are asked for.
    resizes: u8,
    /// Somebody goes on, aborts, rolls back, follows, respawns.
    turns: u8,
    stops: u8,
    /// Somebody who waits goes away.
    abandons: u8,
    /// A deadline has come, and something else is heard first.
    lates: u8,
    /// A worker holds more memory than it may.
    swells: u8,
    /// A worker leaves somebody behind.
    leavings: u8,
    /// A worker changes to another user, so the master may not signal it any more.
    hardens: u8,
    /// The master is replaced.
    handovers: u8,
    /// Nobody runs for a while.
    freezes: u8,
    /// Somebody looks at the workers that start.
    loads: u8,
}

impl Means {
    /// Both, each kind of thing put together by `join`.
    fn join(self, other: Self, join: impl Fn(u8, u8) -> u8) -> Self {
        Self {
            deaths: join(self.deaths, other.deaths),
            failures: join(self.failures, other.failures),
            upgrades: join(self.upgrades, other.upgrades),
            resizes: join(self.resizes, other.resizes),
            turns: join(self.turns, other.turns),
            stops: join(self.stops, other.stops),
            abandons: join(self.abandons, other.abandons),
            lates: join(self.lates, other.lates),
            swells: join(self.swells, other.swells),
            leavings: join(self.leavings, other.leavings),
            hardens: join(self.hardens, other.hardens),
            handovers: join(self.handovers, other.handovers),
            freezes: join(self.freezes, other.freezes),
            loads: join(self.loads, other.loads),
        }
    }

    /// Whether there is no more of anything than in `other`.
    fn fits(self, other: Self) -> bool {
        self.less(other) == Self::default()
    }

    /// What is left.
    fn less(self, price: Self) -> Self {
        self.join(price, u8::saturating_sub)
    }

    /// `more` of everything that there is some of.
    fn and(self, more: u8) -> Self {
        self.join(self, |count, _| if count == 0 { 0 } else { count + more })
    }
}

/// One search: a pool, and what may happen to it.
#[derive(Debug, Clone)]
struct Scope {
    name: &'static str,
    policy: Policy,
    /// Whether it begins with every worker up and old, rather than with none spawned.
    is_steady_at_first: bool,
    /// Whether spawns are answered, in order, before anything else is heard, as the master does. If not,
    /// anything may be heard first: the core promises to bear that too.
    spawns_at_once: bool,
    /// Whether anything may happen before an upgrade begins, because the master is replaced first.
    hands_over: bool,
    commands: Vec<PoolCommand>,
    means: Means,
}

impl Scope {
    fn starting(name: &'static str, workers: u32) -> Self {
        let ack = AckMode::Manual(Some(10 * SECOND));
        let policy = Policy { ack, unacked_max: 1, ..plain_policy(workers) };
        let (commands, means) = (Vec::new(), Means::default());
        let (is_steady_at_first, spawns_at_once, hands_over) = (false, true, false);
        Self { name, policy, is_steady_at_first, spawns_at_once, hands_over, commands, means }
    }

    fn steady(name: &'static str, workers: u32) -> Self {
        Self { is_steady_at_first: true, ..Self::starting(name, workers) }
    }

    /// The age from which on a worker is just old: the longest backoff that any slot can come to.
    fn age_max(&self) -> Duration {
        let deaths = u32::from(self.means.deaths) + u32::from(self.means.failures) + 1;
        let then = Moment::from_clock(Duration::from_secs(1000));
        pacing::respawn_at(then, then, self.policy.seconds, deaths) - then
    }
}

/// Explores each scope and prints what was seen.
fn check(scopes: impl IntoIterator<Item = Scope>) {
    let more = std::env::var("EINHYRNINGSINS_MODEL_DEPTH")
        .map_or(0, |more| more.parse().expect("EINHYRNINGSINS_MODEL_DEPTH is a small number"));
    for mut scope in scopes {
        scope.means = scope.means.and(more);
        let began = std::time::Instant::now();
        let explored = match explore(&scope, None) {
            Ok(explored) => explored,
            Err(violation) => {
                panic!("{scope:?}\n{}\n{}", violation.path.join("\n"), violation.what)
            }
        };
        eprintln!(
            "{} of {}: {explored:?} in {:.1}s, {:?}",
            scope.name,
            scope.policy.workers,
            began.elapsed().as_secs_f64(),
            scope.means,
        );
    }
}

fn sizes(scope: impl Fn(u32) -> Scope) -> impl Iterator<Item = Scope> {
    (1..=3).map(scope)
}

/// Two of something, and one in the largest pools, which have states enough.
fn few(workers: u32) -> u8 {
    if workers < 3 { 2 } else { 1 }
}

#[test]
fn first_starts_hold() {
    check(sizes(|workers| Scope {
        commands: vec![stop(Stop::Gracefully)],
        spawns_at_once: workers > 2,
        means: Means { deaths: 2, failures: 1, stops: 1, lates: u8::from(workers < 3), ..Means::default() },
        ..Scope::starting("first start", workers)
    }));
}

#[test]
fn first_starts_that_use_up_their_retries_hold() {
    check(sizes(|workers| {
        let mut scope = Scope::starting("given up", workers);
        scope.policy.retries = Retries::always(1);
        scope.commands = vec![PoolCommand::Respawn, PoolCommand::Inc(1), PoolCommand::Dec(1)];
        scope.means = Means { deaths: few(workers), failures: 1, resizes: 1, turns: 1, ..Means::default() };
        scope
    }));
}

#[test]
fn smooth_upgrades_hold() {
    check(sizes(|workers| Scope {
        commands: vec![SMOOTH, PoolCommand::Abort],
        means: Means { deaths: few(workers), failures: 1, upgrades: 1, turns: 1, ..Means::default() },
        ..Scope::steady("smooth", workers)
    }));
}

#[test]
fn fleet_upgrades_hold() {
    check(sizes(|workers| Scope {
        commands: vec![FLEET, PoolCommand::Abort],
        means: Means { deaths: few(workers), failures: 1, upgrades: 1, turns: 1, ..Means::default() },
        ..Scope::steady("fleet", workers)
    }));
}

#[test]
fn canaries_hold() {
    check(sizes(|workers| Scope {
        commands: vec![canary(1, None), canary(2, Some(SECOND)), PoolCommand::Continue, PoolCommand::Abort],
        means: Means { deaths: few(workers), upgrades: 1, turns: 1, ..Means::default() },
        ..Scope::steady("canary", workers)
    }));
}

#[test]
fn rollbacks_on_demand_hold() {
    check(sizes(|workers| Scope {
        commands: vec![SMOOTH, PoolCommand::Rollback],
        means: Means { deaths: 1, upgrades: 1, turns: few(workers), ..Means::default() },
        ..Scope::steady("rollback", workers)
    }));
}

#[test]
fn resizes_in_upgrades_hold() {
    check(sizes(|workers| {
        let mut scope = Scope::steady("resize", workers);
        scope.policy.upgrade_additional_max = Some(1);
        scope.commands = vec![SMOOTH, canary(1, None), FLEET, PoolCommand::Inc(1), PoolCommand::Dec(1)];
        scope.means = Means { deaths: 1, upgrades: 1, resizes: few(workers), ..Means::default() };
        scope
    }));
}

#[test]
fn upgrades_that_change_the_number_of_workers_hold() {
    check(sizes(|workers| {
        let mut scope = Scope::steady("options", workers);
        let to = |number| {
            let options = OptionsChange { settings: vec![Setting::Workers(number)], changes: Vec::new() };
            UpgradePlan { options, ..PLAN }
        };
        let plans = [
            to(workers + 1),
            to(workers.saturating_sub(1).max(1)),
            UpgradePlan { canary: Some(1), ..to(workers + 1) },
        ];
        scope.commands = plans.map(PoolCommand::Upgrade).to_vec();
        scope.commands.extend([PoolCommand::Abort, PoolCommand::Inc(1), PoolCommand::Dec(1)]);
        let resizes = u8::from(workers < 3);
        scope.means = Means { deaths: 1, failures: 1, upgrades: 1, resizes, turns: 1, ..Means::default() };
        scope
    }));
}

/// An upgrade that changes how workers say that they are up, and how they are asked to stop.
fn other_terms() -> PoolCommand {
    let settings =
        vec![Setting::Ack(AckMode::Timer(SECOND / 2)), Setting::GracefulSignal(Some(Signal::SIGQUIT))];
    let options = OptionsChange { settings, changes: Vec::new() };
    PoolCommand::Upgrade(UpgradePlan { options, ..PLAN })
}

#[test]
fn upgrades_that_change_the_terms_of_workers_hold() {
    check(sizes(|workers| {
        let mut scope = Scope::steady("terms", workers);
        scope.commands = vec![other_terms(), PoolCommand::Abort, PoolCommand::Rollback];
        let upgrades = if workers < 3 { 2 } else { 1 };
        scope.means = Means { deaths: 1, upgrades, turns: few(workers), ..Means::default() };
        scope
    }));
}

#[test]
fn shrinking_with_a_grace_holds() {
    check(sizes(|workers| {
        let mut scope = Scope::steady("retiring", workers);
        scope.policy.grace = Some(SECOND);
        scope.policy.shrink_grace = Some(2 * SECOND);
        scope.commands = vec![
            SMOOTH,
            PoolCommand::Inc(1),
            PoolCommand::Dec(1),
            stop(Stop::Gracefully),
            stop(Stop::Escalating),
        ];
        let upgrades = u8::from(workers < 3);
        scope.means = Means { deaths: 1, upgrades, resizes: 2, stops: 1, ..Means::default() };
        scope
    }));
}

#[test]
fn stops_hold() {
    check(sizes(|workers| {
        let mut scope = Scope::steady("stop", workers);
        scope.policy.grace = Some(3 * SECOND);
        scope.commands = vec![SMOOTH, FLEET];
        let ways =
            [Stop::Gracefully, Stop::With(Signal::SIGTERM), Stop::Escalating, Stop::AtOnce(Signal::SIGQUIT)];
        scope.commands.extend(ways.map(stop));
        scope.means = Means { upgrades: 1, stops: 2, abandons: 1, ..Means::default() };
        scope
    }));
}

#[test]
fn workers_out_of_reach_hold() {
    check(sizes(|workers| {
        let mut scope = Scope::steady("out of reach", workers);
        scope.policy.grace = (workers != 2).then_some(3 * SECOND);
        scope.commands = vec![SMOOTH, PoolCommand::Inc(1), PoolCommand::Dec(1)];
        scope.commands.extend([Stop::Gracefully, Stop::Escalating].map(stop));
        let upgrades = u8::from(workers < 3);
        scope.means =
            Means { deaths: 1, upgrades, resizes: 1, stops: 2, hardens: few(workers), ..Means::default() };
        scope
    }));
}

#[test]
fn workers_that_people_name_hold() {
    check(sizes(|workers| {
        let slot = Target::Slot(0);
        let signals = [slot, Target::Draining].map(|target| PoolCommand::SignalOnly(vec![BYSTANDER], target));
        let mut scope = Scope::steady("named", workers);
        scope.commands = vec![SMOOTH, PoolCommand::Replace(slot), PoolCommand::Dec(1)];
        scope.commands.extend(signals);
        let (upgrades, turns) = (u8::from(workers < 3), few(workers));
        scope.means = Means { deaths: 1, failures: 1, upgrades, resizes: 1, turns, ..Means::default() };
        scope
    }));
}

#[test]
fn reports_that_wait_hold() {
    check(sizes(|workers| {
        let mut scope = Scope::steady("report", workers);
        scope.policy.report_wait = SECOND;
        let drained = PoolCommand::Upgrade(UpgradePlan { is_reported_drained: true, ..PLAN });
        scope.commands = vec![SMOOTH, drained, PoolCommand::Rollback, stop(Stop::Gracefully)];
        scope.means = Means {
            deaths: u8::from(workers < 3),
            upgrades: few(workers),
            turns: 1,
            stops: u8::from(workers < 3),
            abandons: u8::from(workers < 3),
            ..Means::default()
        };
        scope
    }));
}

#[test]
fn groups_that_outlive_their_leaders_hold() {
    check(sizes(|workers| {
        let mut scope = Scope::steady("leftovers", workers);
        scope.policy.stop_group = true;
        scope.policy.grace = (workers != 2).then_some(SECOND);
        scope.commands = vec![SMOOTH, PoolCommand::Dec(1)];
        scope.commands.extend([Stop::Gracefully, Stop::Escalating].map(stop));
        let (upgrades, resizes) = (u8::from(workers < 3), u8::from(workers < 2));
        let twice = if workers < 2 { 2 } else { 1 };
        scope.means =
            Means { deaths: 1, upgrades, resizes, stops: twice, leavings: twice, ..Means::default() };
        scope
    }));
}

#[test]
fn what_is_left_behind_without_a_signal_holds() {
    check(sizes(|workers| {
        let mut scope = Scope::steady("left behind", workers);
        scope.policy.report_wait = if workers == 2 { SECOND / 2 } else { SECOND };
        scope.commands = vec![SMOOTH, PoolCommand::Abort];
        scope.commands.extend([Stop::Gracefully, Stop::AtOnce(Signal::SIGQUIT)].map(stop));
        let twice = if workers < 2 { 2 } else { 1 };
        let (deaths, stops, freezes) = (u8::from(workers < 3), u8::from(workers < 3), u8::from(workers < 2));
        scope.means =
            Means { deaths, upgrades: 1, turns: 1, stops, leavings: twice, freezes, ..Means::default() };
        scope
    }));
}

#[test]
fn times_in_which_nobody_runs_hold() {
    check(sizes(|workers| {
        let mut scope = Scope::steady("frozen", workers);
        scope.policy.grace = Some(3 * SECOND);
        scope.policy.report_wait = SECOND;
        scope.commands = vec![SMOOTH, stop(Stop::Gracefully)];
        let deaths = u8::from(workers < 3);
        let means = Means { deaths, upgrades: 1, stops: 1, freezes: few(workers), ..Means::default() };
        scope.means = means;
        scope
    }));
}

#[test]
fn paces_that_follow_what_boots_use_hold() {
    check(sizes(|workers| {
        let mut scope = Scope::steady("pace", workers);
        (scope.policy.unacked_by_cpus, scope.policy.unacked_max) = (Some(1), 3);
        scope.commands = vec![SMOOTH, PoolCommand::Inc(1), PoolCommand::Abort];
        let (resizes, turns) = (u8::from(workers < 3), u8::from(workers < 3));
        scope.means = Means { deaths: 1, upgrades: 1, resizes, turns, loads: 2, ..Means::default() };
        scope
    }));
}

#[test]
fn timers_that_ack_hold() {
    check(sizes(|workers| {
        let mut scope = Scope::steady("timer", workers);
        scope.policy.ack = AckMode::Timer(SECOND / 2);
        scope.policy.grace = Some(SECOND);
        scope.commands = vec![SMOOTH, FLEET, PoolCommand::Abort];
        scope.means =
            Means { deaths: 1, upgrades: 1, turns: 1, lates: u8::from(workers < 3), ..Means::default() };
        scope
    }));
}

#[test]
fn recycling_holds() {
    check(sizes(|workers| {
        let mut scope = Scope::steady("recycling", workers);
        scope.policy.recycling.max_rss_bytes = Some(1);
        scope.commands = vec![SMOOTH, FLEET, PoolCommand::Dec(1)];
        let upgrades = u8::from(workers < 3);
        let failures = u8::from(workers != 2);
        let means = Means { deaths: 1, failures, upgrades, resizes: 1, ..Means::default() };
        scope.means = Means { swells: few(workers), ..means };
        scope
    }));
}

#[test]
fn upgrades_that_take_each_others_place_hold() {
    check((1..=2).map(|workers| {
        let mut scope = Scope::steady("restart", workers);
        scope.policy.upgrade_restarts = true;
        scope.commands = vec![SMOOTH, FLEET, PoolCommand::Abort];
        scope.means = Means { deaths: 1, upgrades: 2, turns: 1, ..Means::default() };
        scope
    }));
}

#[test]
fn queued_upgrades_hold() {
    check(sizes(|workers| Scope {
        commands: vec![SMOOTH, LATER, PoolCommand::Hangup, PoolCommand::Abort, stop(Stop::Gracefully)],
        means: Means {
            deaths: u8::from(workers < 3),
            failures: u8::from(workers < 2),
            upgrades: if workers < 3 { 3 } else { 2 },
            turns: 1,
            stops: u8::from(workers < 3),
            ..Means::default()
        },
        ..Scope::steady("queue", workers)
    }));
}

#[test]
fn upgrades_that_begin_with_a_handover_hold() {
    check(sizes(|workers| Scope {
        commands: vec![SMOOTH, PoolCommand::Hangup, PoolCommand::Abort, PoolCommand::Rollback],
        hands_over: true,
        means: Means {
            deaths: if workers == 1 { 2 } else { 1 },
            failures: u8::from(workers < 2),
            upgrades: few(workers),
            turns: u8::from(workers < 3),
            handovers: 1,
            ..Means::default()
        },
        ..Scope::steady("handover", workers)
    }));
}

#[test]
fn checks_before_a_rollout_hold() {
    check(sizes(|workers| {
        let mut scope = Scope::steady("check", workers);
        scope.policy.check = Some(String::new());
        scope.policy.upgrade_additional_max = Some(1);
        scope.policy.grace = (workers == 1).then_some(SECOND);
        scope.hands_over = workers == 1;
        scope.commands = vec![SMOOTH, FLEET, PoolCommand::Abort, stop(Stop::Gracefully)];
        let (deaths, handovers) = (u8::from(workers < 3), u8::from(workers == 1));
        let stops = u8::from(workers < 3);
        let means =
            Means { deaths, failures: 1, upgrades: 1, turns: 1, stops, handovers, ..Means::default() };
        scope.means = means;
        scope
    }));
}

#[test]
fn checks_of_canaries_hold() {
    check(sizes(|workers| {
        let mut scope = Scope::steady("canary check", workers);
        let soak_check = Some(SoakCheck { command: String::new(), every: SECOND, failures_max: 2 });
        let plan = |soak| UpgradePlan { canary: Some(1), soak, soak_check: soak_check.clone(), ..PLAN };
        scope.commands = [None, Some(2 * SECOND)].map(|soak| PoolCommand::Upgrade(plan(soak))).to_vec();
        scope.commands.extend([PoolCommand::Continue, PoolCommand::Abort, stop(Stop::Gracefully)]);
        let (deaths, stops) = (u8::from(workers < 3), u8::from(workers < 3));
        scope.means = Means { deaths, failures: 2, upgrades: 1, turns: 1, stops, ..Means::default() };
        scope
    }));
}

#[test]
fn first_starts_that_are_checked_hold() {
    check((1..=2).map(|workers| {
        let mut scope = Scope::starting("first check", workers);
        scope.policy.check = Some(String::new());
        scope.policy.checks_first = true;
        scope.commands = vec![SMOOTH, PoolCommand::Inc(1), PoolCommand::Dec(1), stop(Stop::Gracefully)];
        let (upgrades, resizes) = (u8::from(workers < 2), u8::from(workers > 1));
        scope.means = Means { deaths: 1, failures: 1, upgrades, resizes, stops: 1, ..Means::default() };
        scope
    }));
}

#[test]
fn one_worker_bears_everything() {
    let mut scope = Scope::steady("everything", 1);
    scope.spawns_at_once = false;
    scope.policy.grace = Some(3 * SECOND);
    scope.commands = vec![
        SMOOTH,
        canary(1, None),
        PoolCommand::Continue,
        PoolCommand::Abort,
        PoolCommand::Follow,
        PoolCommand::Respawn,
        PoolCommand::Inc(1),
        stop(Stop::Escalating),
    ];
    scope.means =
        Means { deaths: 1, upgrades: 1, resizes: 1, turns: 1, stops: 1, abandons: 1, ..Means::default() };
    check([scope]);
}
