//! An upgrade of many workers that take their time, with a bound on how many live at once: how long it takes,
//! and how many there were.

use std::time::Instant;

use einhorn_proto::{Notice, Reply};
use tests::{Master, binaries};

use crate::client::Client;
use crate::floor::Floor;
use crate::report::{self, Aim, Figure, Unit};
use crate::upgrade;

const WORKERS: u32 = 200;
const BOOT_MS: &str = "100";

/// `--max-upgrade-additional`, and as many may be unacked.
const ADDITIONAL: [u32; 3] = [20, 50, 200];

const ROUNDS: usize = 5;

pub(crate) fn run() {
    report::topic(
        "bound",
        &format!(
            "a bare loop replaces {WORKERS} workers in batches as large as the bound allows; {BOOT_MS} ms boots"
        ),
    );
    for additional in ADDITIONAL {
        measure(additional, "upgrade");
    }
    measure(WORKERS, "upgrade_fleet");
}

fn measure(additional: u32, command: &str) {
    let mut floor = Floor::start(additional as usize, &[&format!("TINY_BOOT_MS={BOOT_MS}")]);
    let bound = additional.to_string();
    let builder = Master::builder().workers(WORKERS).program([binaries::worker("tiny")]);
    let builder = builder.options(["--max-upgrade-additional", &bound, "--max-unacked", &bound]);
    let mut master = builder.env("TINY_BOOT_MS", BOOT_MS).start();
    let mut client = Client::connect(master.socket());
    let [mut measured, mut batches] = [(); 2].map(|()| Figure::new(Unit::Time));
    let mut peak = 0;
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        (0..WORKERS / additional).for_each(|_| floor.upgrade());
        batches.add_time(begun.elapsed());
        let begun = Instant::now();
        peak = peak.max(upgrade_counted(&mut client, command));
        measured.add_time(begun.elapsed());
        master.wait_up(WORKERS);
    }
    let what = format!("{WORKERS} workers, {command}, {additional} more");
    report::line(&format!("{what}: answered"), &measured, Some(&batches), Aim::Ratio(1.3));
    let peak = Figure::once(Unit::Count, f64::from(peak));
    let allowed = Aim::AtMost(f64::from(WORKERS + additional));
    report::line(&format!("{what}: most at once"), &peak, None, allowed);
    upgrade::stop(&mut master);
}

/// Upgrades, and gives the largest number of workers alive at a time, by what the master tells as it goes: a
/// worker counts from its spawn until it is reaped.
fn upgrade_counted(client: &mut Client, command: &str) -> u32 {
    client.send(&format!("{{\"command\":\"{command}\"}}\n"));
    let (mut alive, mut peak) = (WORKERS, WORKERS);
    loop {
        let line = client.next_line();
        let reply: Reply = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        if let Some(ok) = reply.ok {
            assert!(ok, "the upgrade failed: {}", reply.message);
            return peak;
        }
        match reply.data.and_then(|data| serde_json::from_value(data).ok()) {
            Some(Notice::Spawned { .. }) => alive += 1,
            Some(Notice::Drained { .. } | Notice::Died { .. }) => alive -= 1,
            _ => {}
        }
        peak = peak.max(alive);
    }
}
