//! An upgrade whose release is checked first, beside one without a check.

use std::process::Command;
use std::time::Duration;

use tests::{Master, binaries};

use crate::client::Client;
use crate::floor::Floor;
use crate::report::{self, Aim, Figure, Unit};
use crate::upgrade::{self, timed};

/// Workers, and for how long each sleeps at its boot, in milliseconds.
const SIZES: [(u32, u64); 3] = [(4, 0), (4, 200), (32, 200)];

/// The command of the check, and its time by itself, in seconds.
const CHECK: [&str; 2] = ["sleep", "0.1"];

const ROUNDS: usize = 9;

pub(crate) fn run() {
    report::topic(
        "check",
        "an upgrade without a check, the boot of one worker and the command of the check, by themselves",
    );
    for (workers, boot) in SIZES {
        let mut plain = Subject::start(workers, boot, &[]);
        let mut checked = Subject::start(workers, boot, &["--check", &CHECK.join(" ")]);
        let mut one = Floor::start(1, &[&format!("TINY_BOOT_MS={boot}")]);
        let [mut of_floor, mut answered] = [(); 2].map(|()| Figure::new(Unit::Time));
        for _ in 0..ROUNDS {
            let command = timed(|| {
                assert!(Command::new(CHECK[0]).arg(CHECK[1]).status().is_ok_and(|end| end.success()));
            });
            of_floor.add_time(plain.round() + timed(|| one.upgrade()) + command);
            answered.add_time(checked.round());
        }
        let what = format!("{workers} workers, boots of {boot} ms, a check of {} s: answered", CHECK[1]);
        report::line(&what, &answered, Some(&of_floor), Aim::Ratio(1.05));
        [plain, checked].iter_mut().for_each(|subject| upgrade::stop(&mut subject.master));
    }
}

/// A master that is upgraded again and again.
struct Subject {
    master: Master,
    client: Client,
}

impl Subject {
    fn start(workers: u32, boot: u64, options: &[&str]) -> Self {
        let builder = Master::builder().workers(workers).program([binaries::worker("tiny")]);
        let master = builder.options(options).env("TINY_BOOT_MS", boot.to_string()).start();
        let client = Client::connect(master.socket());
        Self { master, client }
    }

    /// How long an upgrade takes, from the request to its last reply.
    fn round(&mut self) -> Duration {
        timed(|| {
            let reply = self.client.ask("{\"command\":\"upgrade\"}\n");
            assert!(reply.contains("\"ok\":true"), "the upgrade failed: {reply}");
        })
    }
}
