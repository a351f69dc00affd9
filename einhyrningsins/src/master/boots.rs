//! What the workers that start use of the machine, for `--max-unacked auto`.
//!
//! At each ack it notes what the boot has used. While workers start it looks at them, and tells the core what it saw; the
//! core decides how many may start. Where nobody starts, or the number is fixed, it does nothing, and has no deadline.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use einhorn_proto::Notice;
use einhyrningsins_supervisor::{BootLoad, Event, Policy};
use nix::unistd::Pid;

use crate::sys::load::{self, Pressure, Stall};
use crate::sys::memory::memory_available;

/// From one look to the next, at first. A boot that takes no longer is not looked at for the time that it waits for a CPU.
const LOOK: Duration = Duration::from_millis(10);

/// The same at the longest, for boots that take minutes.
const LOOK_MAX: Duration = Duration::from_secs(1);

/// From one look to the next it takes this part of the time since a boot has begun or ended.
const LOOK_PART: u32 = 8;

/// And at least so long for each worker that starts: to look at it takes about a thirtieth of that.
const LOOK_EACH: Duration = Duration::from_micros(20);

/// So long it counts how much memory was available: to ask takes longer than the rest of a look.
const ROOM_LASTS: Duration = Duration::from_millis(50);

/// Of so many workers a look asks how long they have waited for a CPU: that takes a file of `/proc` each.
const ASKED_MAX: usize = 16;

/// About as long as it takes from an ack to the exec of the next worker. Short boots leave CPUs idle for so long each, unless
/// one more of them has started.
const REACTION: Duration = Duration::from_micros(500);

/// A boot counts so much among those before it: one in this many.
const BOOTS_REMEMBERED: u32 = 4;

/// Others wait for memory, or for a CPU where it cannot be asked who does, if the part of the time in which they do grows by
/// this many thousandths.
const MEMORY_GROWTH: u32 = 100;
const CPU_GROWTH: u32 = 500;

/// The workers that start.
#[derive(Debug, Default)]
pub(super) struct Boots {
    starting: BTreeMap<Pid, Boot>,
    /// What those have used since the last look that have acked by now.
    used: Duration,
    /// What boots of this program use, by those before.
    usual: Option<Use>,
    /// The memory that a worker has to itself after its boot, in bytes.
    size: Option<u64>,
    /// How many workers had room in the memory that was available, and when that was.
    room: Option<(Instant, u32)>,
    /// One that has acked since the last look.
    acked: Option<Pid>,
    looks: Option<Looks>,
}

/// A worker that starts.
#[derive(Debug)]
struct Boot {
    spawned_at: Instant,
    /// Its CPU time at the last look.
    used: Duration,
    /// How long it had waited for a CPU then.
    waited: Duration,
}

/// What a boot uses.
#[derive(Debug, Clone, Copy)]
struct Use {
    /// CPU time.
    cpu: Duration,
    /// From the spawn to the ack, less the time in which it waited for a CPU.
    wall: Duration,
}

/// The looks since workers began to start.
#[derive(Debug)]
struct Looks {
    last: Instant,
    next: Instant,
    /// When a boot last began or ended.
    changed: Instant,
    /// How it was at the first look and, in total, at the last one: where all boots are over by then, nobody looks.
    cpu: Option<(Stall, Duration)>,
    memory: Option<(Stall, Duration)>,
    /// What says so; found at the first look.
    pressure: Option<Pressure>,
}

impl Boots {
    /// Those that had begun when the master was replaced.
    pub(super) fn new(starting: impl Iterator<Item = (Pid, Instant)>) -> Self {
        let mut boots = Self::default();
        starting.for_each(|(pid, spawned_at)| boots.begin(pid, spawned_at));
        boots
    }

    /// A worker was spawned.
    pub(super) fn on_spawned(&mut self, pid: Pid, policy: &Policy) {
        if policy.unacked_by_cpus.is_some() {
            self.begin(pid, Instant::now());
        }
    }

    fn begin(&mut self, pid: Pid, spawned_at: Instant) {
        self.starting.insert(pid, Boot { spawned_at, used: Duration::ZERO, waited: Duration::ZERO });
        let now = Instant::now();
        self.looks.get_or_insert_with(|| Looks::begin(now)).changed = now;
    }

    pub(super) fn on_notice(&mut self, notice: &Notice) {
        match notice {
            Notice::Acked { pid, .. } => self.end(Pid::from_raw(*pid), true),
            Notice::Draining { pid, .. } | Notice::Retiring { pid, .. } => {
                self.end(Pid::from_raw(*pid), false);
            }
            Notice::Died { death, .. } => {
                death.pid.into_iter().for_each(|pid| self.end(Pid::from_raw(pid), false));
            }
            _ => {}
        }
    }

    fn end(&mut self, pid: Pid, has_acked: bool) {
        let Some(boot) = self.starting.remove(&pid) else { return };
        let now = Instant::now();
        if let Some(looks) = &mut self.looks {
            looks.changed = now;
        }
        let Some(cpu) = load::cpu_time(pid) else { return };
        self.used += cpu.saturating_sub(boot.used);
        if has_acked {
            self.acked = Some(pid);
            let wall = now - boot.spawned_at;
            let waited = if wall < LOOK { None } else { load::run_delay(pid) };
            self.remember(Use { cpu, wall: wall.saturating_sub(waited.unwrap_or_default()) });
        }
    }

    fn remember(&mut self, boot: Use) {
        let mix = |old: Duration, new| (old * (BOOTS_REMEMBERED - 1) + new) / BOOTS_REMEMBERED;
        self.usual = Some(match self.usual {
            Some(usual) => Use { cpu: mix(usual.cpu, boot.cpu), wall: mix(usual.wall, boot.wall) },
            None => boot,
        });
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.looks.as_ref().map(|looks| looks.next)
    }

    /// Looks at the workers that start, if it is time.
    pub(super) fn turn(&mut self, now: Instant, policy: &Policy) -> Option<Event> {
        self.deadline().filter(|next| *next <= now)?;
        self.look(now, policy)
    }

    /// Looks before an upgrade begins: memory may have become less since anybody started.
    pub(super) fn look_ahead(&mut self, policy: &Policy) -> Option<Event> {
        let cpus = policy.unacked_by_cpus.filter(|_| self.looks.is_none())?;
        self.room = None;
        Some(Event::BootLoad(self.load(0, false, cpus)))
    }

    fn look(&mut self, now: Instant, policy: &Policy) -> Option<Event> {
        let Some(cpus) = policy.unacked_by_cpus else {
            *self = Self::default();
            return None;
        };
        let looks = self.looks.as_mut()?;
        let since = now.saturating_duration_since(looks.last);
        let is_pressed = looks.is_pressed(since, &mut self.starting);
        let used: Duration = self.starting.iter_mut().map(|(pid, boot)| boot.has_used(*pid)).sum();
        let used = used + std::mem::take(&mut self.used);
        if let Some(memory) = self.acked.take().and_then(load::memory) {
            self.size = Some(memory.resident.saturating_sub(memory.shared));
        }
        looks.last = now;
        let each = LOOK_EACH * u32::try_from(self.starting.len()).unwrap_or(u32::MAX);
        let least = each.clamp(LOOK, LOOK_MAX);
        looks.next = now + (now.saturating_duration_since(looks.changed) / LOOK_PART).clamp(least, LOOK_MAX);
        if self.starting.is_empty() {
            self.looks = None;
        }
        Some(Event::BootLoad(self.load(permille(used, since * cpus), is_pressed, cpus)))
    }

    fn load(&mut self, busy_permille: u32, is_pressed: bool, cpus: u32) -> BootLoad {
        if self.room.is_none_or(|(at, _)| at.elapsed() >= ROOM_LASTS) {
            let room = self.size.filter(|size| *size > 0).zip(memory_available());
            self.room = room.map(|(size, available)| {
                (Instant::now(), u32::try_from(available / size).unwrap_or(u32::MAX))
            });
        }
        let filling = self.usual.map(|usual| usual.filling(cpus));
        BootLoad { busy_permille, is_pressed, filling, room: self.room.map(|(_, room)| room) }
    }
}

impl Boot {
    /// The CPU time that it has used since this was last asked.
    fn has_used(&mut self, pid: Pid) -> Duration {
        let Some(used) = load::cpu_time(pid) else { return Duration::ZERO };
        let more = used.saturating_sub(self.used);
        self.used = used;
        more
    }
}

impl Use {
    /// How many such boots at a time keep the CPUs busy.
    fn filling(self, cpus: u32) -> u32 {
        let filling = ((self.wall + REACTION) * cpus).as_nanos() / self.cpu.as_nanos().max(1);
        u32::try_from(filling).unwrap_or(u32::MAX)
    }
}

impl Looks {
    fn begin(now: Instant) -> Self {
        Self { last: now, next: now + LOOK, changed: now, cpu: None, memory: None, pressure: None }
    }

    /// Whether processes waited for a CPU or for memory more than before, in the time since the last look.
    fn is_pressed(&mut self, since: Duration, starting: &mut BTreeMap<Pid, Boot>) -> bool {
        let grew = |seen: &mut Option<(Stall, Duration)>, now: Option<Stall>, by: u32| {
            let Some(now) = now else { return false };
            let (first, total) = seen.get_or_insert((now, now.total));
            let waited = now.total.saturating_sub(std::mem::replace(total, now.total));
            permille(waited, since) > first.recent_permille + by
        };
        let pressure = self.pressure.get_or_insert_with(Pressure::find);
        let memory_grew = grew(&mut self.memory, pressure.of_memory(), MEMORY_GROWTH);
        let cpu_grew = grew(&mut self.cpu, pressure.of_cpu(), CPU_GROWTH);
        let (mut waited, mut ran, mut is_known) = (Duration::ZERO, Duration::ZERO, false);
        for (pid, boot) in starting.iter_mut().take(ASKED_MAX) {
            let Some(delay) = load::run_delay(*pid) else { continue };
            waited += delay.saturating_sub(std::mem::replace(&mut boot.waited, delay));
            ran += load::cpu_time(*pid).map_or(Duration::ZERO, |used| used.saturating_sub(boot.used));
            is_known = true;
        }
        // They have waited longer than they ran, for a good part of the time.
        let is_waiting = waited > ran && waited > since / 2;
        memory_grew || if is_known { is_waiting } else { cpu_grew }
    }
}

/// `part` of `whole`, in thousandths.
fn permille(part: Duration, whole: Duration) -> u32 {
    let permille = part.as_nanos().saturating_mul(1000) / whole.as_nanos().max(1);
    u32::try_from(permille).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_boots_keep_the_cpus_busy_as_their_waits_leave_room_for() {
        let boot = |cpu_ms, wall_ms| Use {
            cpu: Duration::from_millis(cpu_ms),
            wall: Duration::from_millis(wall_ms),
        };
        assert_eq!(boot(2, 200).filling(2), 200);
        assert_eq!(boot(150, 200).filling(2), 2);
        assert_eq!(boot(200, 200).filling(4), 4);
        assert_eq!(boot(1, 1).filling(2), 3, "one more while the master takes up an ack");
        assert!(boot(0, 200).filling(64) > 1_000_000);
        let mut boots = Boots::default();
        boots.remember(boot(150, 200));
        (0..20).for_each(|_| boots.remember(boot(2, 200)));
        let filling = boots.usual.unwrap().filling(2);
        assert!((150..=200).contains(&filling), "{filling}: the next release boots otherwise");
    }

    #[test]
    fn nobody_looks_where_nobody_starts() {
        let boots = Boots::new(std::iter::empty());
        assert_eq!(boots.deadline(), None);
    }
}
