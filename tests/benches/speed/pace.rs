//! Upgrades of workers whose boots wait or compute, with as many at a time as the master finds out, and what clients notice of
//! that.

use std::time::Duration;

use tests::Master;
use tests::load::Plan;

use crate::client::Client;
use crate::floor::Floor;
use crate::peers::{self, Peers};
use crate::report::{self, Aim, Figure, Unit};
use crate::upgrade::{self, Subject, timed};

/// Workers, for how long each sleeps and computes at its boot, in milliseconds, and the ratio to aim at.
const BOOTS: [(u32, u64, u64, f64); 3] = [(32, 200, 0, 1.3), (128, 200, 0, 1.3), (8, 0, 200, 1.1)];

/// Workers that sleep and then compute, under a load.
const SIZES: [u32; 2] = [8, 32];

const ROUNDS: usize = 5;

pub(crate) fn run() {
    report::topic("pace", "a bare loop replaces all at once; or the master with --max-unacked 2");
    let mut candidates = peers::candidates_that_boot();
    for (workers, sleep, burn, aim) in BOOTS {
        // The boots of others sleep only.
        candidates.retain(|_| burn == 0);
        let variables =
            [("TINY_BOOT_MS", sleep), ("TINY_BURN_MS", burn)].map(|(name, ms)| (name, ms.to_string()));
        let texts = variables.each_ref().map(|(name, value)| format!("{name}={value}"));
        let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
        let mut floor = Floor::start(workers as usize, &texts.each_ref().map(String::as_str));
        let mut of_floor = Figure::new(Unit::Time);
        let mut subject = Subject::start(workers, &[], &variables);
        let mut peers = Peers::start(&candidates, workers, sleep);
        for _ in 0..ROUNDS {
            of_floor.add_time(timed(|| floor.upgrade()));
            subject.round();
            peers.round();
        }
        let what = |workers| format!("{workers} of {sleep} ms asleep, {burn} ms busy");
        subject.show(&what(workers), &of_floor, aim);
        candidates = peers.show(what, &of_floor);
    }
    for workers in SIZES {
        let mut auto = Loaded::start(workers, &[]);
        let mut two = Loaded::start(workers, &["--max-unacked", "2"]);
        for _ in 0..ROUNDS {
            auto.round();
            two.round();
        }
        let what = format!("{workers} of 50 ms asleep, 150 ms busy");
        report::line(&format!("{what}: answered"), &auto.answered, Some(&two.answered), Aim::None);
        report::line(
            &format!("{what}: 99 % of requests"),
            &auto.latency,
            Some(&two.latency),
            Aim::Ratio(1.2),
        );
        report::line(&format!("{what}: most at a time"), &auto.most, Some(&two.most), Aim::None);
        [auto, two].iter_mut().for_each(|loaded| upgrade::stop(&mut loaded.master));
    }
}

/// A master that is upgraded under a load.
struct Loaded {
    master: Master,
    /// From the request to its last reply.
    answered: Figure,
    /// That 99 of 100 requests did not exceed meanwhile.
    latency: Figure,
    /// Workers that started at a time.
    most: Figure,
}

impl Loaded {
    fn start(workers: u32, options: &[&str]) -> Self {
        let builder = Master::builder().workers(workers).options(options);
        let master = builder.serve(["boot_ms=50", "burn_ms=150"]).start();
        let [answered, latency] = [(); 2].map(|()| Figure::new(Unit::Time));
        Self { master, answered, latency, most: Figure::new(Unit::Count) }
    }

    fn round(&mut self) {
        let pause = Duration::from_millis(5);
        let load = Plan { fresh: 4, keep_alive: 0, pause, ..Plan::new(self.master.address()) }.start();
        load.wait_for_answers(100);
        let mut client = Client::connect(self.master.socket());
        self.answered.add_time(timed(|| {
            client.ask("{\"command\":\"upgrade\"}\n");
        }));
        self.latency.add_time(load.stop().percentile(99.0));
        let last = self.master.status().last_upgrade.expect("an upgrade has ended");
        self.most.add(last.report.pace.map_or(0.0, |pace| f64::from(pace.workers)));
    }
}
