//! Pictures for the tests.

use einhorn_proto::{Severity, Status};
use serde_json::{Value, json};

use crate::live::{Event, Link, Picture, Total, Usage};

/// When the pictures are taken, in milliseconds since 1970.
pub(super) const NOW_MS: u64 = 1_700_000_000_000;

const MIB: u64 = 1 << 20;

pub(super) fn worker(slot: u32, pid: i32, generation: u64, state: &str, age_ms: u64) -> Value {
    json!({ "slot": slot, "index": slot, "pid": pid, "generation": generation, "state": state, "age_ms": age_ms })
}

fn slot(slot: u32, restarts: u64) -> Value {
    json!({ "slot": slot, "restarts": restarts, "tries": 0 })
}

fn release(generation: u64) -> Value {
    json!({ "generation": generation, "label": format!("v{generation}"), "directory": "/srv/web/current",
            "real_directory": format!("/srv/web/releases/{generation}"),
            "program": format!("/srv/web/releases/{generation}/bin/server"), "device": 1, "inode": 2,
            "modified": "2026-11-22T08:35:29Z" })
}

fn listener(address: &str, kind: &str, length: u32, limit: u32, drops: u32) -> Value {
    json!({ "index": 0, "fd": 3, "name": "web", "address": address, "kind": kind, "family": "AF_INET",
            "backlog": 4096, "queue": { "length": length, "limit": limit, "drops": drops } })
}

/// A pool of this many slots with a worker each, all of them up.
pub(super) fn status(slots: u32) -> Status {
    let workers: Vec<_> =
        (0..slots).map(|at| worker(at, 4712 + at.cast_signed(), 7, "up", 93_784_000)).collect();
    let slots_of: Vec<_> = (0..slots).map(|at| slot(at, 0)).collect();
    let status = json!({
        "master": { "pid": 4711, "version": "0.1.0", "name": "web", "state": "running", "age_ms": 263_000_000,
                    "generation": 7, "command": ["bin/server"], "directory": "/srv/web/current",
                    "socket": "/run/web/einhorn.sock", "wanted": slots, "up": slots, "starting": 0, "draining": 0,
                    "max_rss": 500 * MIB, "ack_mode": "manual" },
        "listeners": [listener("0.0.0.0:8080", "tcp", 2100, 4096, 17), listener("udp:[::1]:53", "udp", 0, 212_992, 0)],
        "slots": slots_of, "workers": workers, "releases": [release(6), release(7)],
        "pace": { "workers": 2, "why": "cpus" },
    });
    serde_json::from_value(status).unwrap()
}

/// A picture of a master that has just answered so. Each worker uses a little more than the one before.
pub(super) fn picture(status: Status) -> Picture {
    let usage = |at: usize| {
        let at = u32::try_from(at).unwrap();
        Usage {
            resident_bytes: 100 * MIB + u64::from(at) * MIB,
            cpu_seconds: 1.0,
            cpu_percent: (at != 2).then(|| f64::from(at) * 6.5),
        }
    };
    let usages: Vec<_> = (0..status.workers.len()).map(|at| Some(usage(at))).collect();
    let total = Some(Total {
        workers: u32::try_from(usages.len()).unwrap(),
        resident_bytes: 406 * MIB,
        cpu_percent: Some(26.0),
    });
    Picture {
        at_ms: NOW_MS,
        link: Link::Found { count: 1 },
        status: Some(status),
        usages,
        total,
        unseen: None,
    }
}

/// Four workers up and no rollout. One worker has a status text, and one slot had a death.
pub(super) fn idle() -> Picture {
    let mut status = status(4);
    status.workers[1].text = Some("serving \u{1b}[31m3 requests\nand more".to_owned());
    let death = json!({ "pid": 4700, "generation": 7, "reason": "was killed by SIGSEGV", "age_ms": 61_000, "acked": true,
                        "termination": { "killed": { "signal": "SIGSEGV", "core_dumped": false } } });
    status.slots[3].restarts = 2;
    status.slots[3].last_death = Some(serde_json::from_value(death).unwrap());
    status.slots[3].last_death_age_ms = Some(184_000);
    let last = json!({ "outcome": "done", "generation": 7, "upgraded": 4, "wanted": 4, "draining": 0, "took_ms": 7,
                       "ended_ms": 7_200_000 });
    status.last_upgrade = Some(serde_json::from_value(last).unwrap());
    picture(status)
}

/// An upgrade that waits for the successor in slot 1.
pub(super) fn upgrading() -> Picture {
    let mut status = status(4);
    let workers = json!([
        worker(0, 4801, 8, "up", 13_000),
        worker(1, 4713, 7, "up", 93_784_000),
        worker(1, 4802, 8, "starting", 12_000),
        worker(2, 4714, 7, "up", 93_784_000),
        worker(3, 4715, 7, "draining", 93_784_000)
    ]);
    status.workers = serde_json::from_value(workers).unwrap();
    status.releases = serde_json::from_value(json!([release(7), release(8)])).unwrap();
    let upgrade = json!({ "kind": "upgrade", "stage": "replacing", "generation": 8, "from": 7, "upgraded": 1, "wanted": 4,
                          "starting": 1, "ack_within_ms": 60_000, "age_ms": 14_000 });
    status.upgrade = Some(serde_json::from_value(upgrade).unwrap());
    status.slots[3].next_spawn_ms = Some(1_250);
    status.slots[3].restarts = 2;
    status.master.generation = 8;
    status.master.state = einhorn_proto::MasterState::Upgrading;
    (status.master.up, status.master.starting, status.master.draining) = (3, 1, 1);
    status.queued = 1;
    picture(status)
}

/// The master of the idle pool, lost.
pub(super) fn lost() -> Picture {
    let link = Link::Lost {
        why: "cannot connect to /run/web/einhorn.sock: Connection refused (os error 111)".to_owned(),
        hint: Some("no master listens there".to_owned()),
        for_ms: 12_000,
    };
    Picture { at_ms: NOW_MS, link, usages: Vec::new(), total: None, ..idle() }
}

pub(super) fn event(ago_ms: u64, severity: Severity, message: &str) -> Event {
    Event { at_ms: NOW_MS - ago_ms, severity, message: message.to_owned(), notice: None }
}
