//! How many workers may start at a time, where that follows what boots use (`--max-unacked auto`).
//!
//! The shell looks at the workers that start, a few times in each boot, and reports a [`BootLoad`]. A boot that waits, for a
//! disk or another server, leaves its CPU to the next one; a boot that computes does not. So there are two cases:
//!
//! - It is known what boots of this program use. Then so many start at a time as keep the CPUs busy.
//! - It is not. Then as many start as there are CPUs, and twice as many each time they were seen to leave CPUs idle.
//!
//! Pressure holds new spawns back while it lasts, down to the number of CPUs, and is then forgotten: a boot begins with some
//! milliseconds of work even if it waits from there on, and one look falls into that time. Memory bounds the number in either
//! case. What starts already goes on.

use einhorn_proto::{Pace, PaceReason};
use serde::{Deserialize, Serialize};

use super::policy::Policy;

/// Below this part of the CPUs, in thousandths, the workers that start leave some idle. Source: this program; measured.
const IDLE_PERMILLE: u32 = 700;

/// What one look at the workers that start has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BootLoad {
    /// The CPU time that they have used since the last look, in thousandths of what all CPUs had to give.
    pub busy_permille: u32,
    /// Whether they, or others on the machine, wait for a CPU or for memory more than before they started.
    pub is_pressed: bool,
    /// How many boots at a time would keep the CPUs busy, by what boots have used; `None` if that is not known.
    pub filling: Option<u32>,
    /// How many workers fit into the memory that is available; `None` if that is not known.
    pub room: Option<u32>,
}

/// How many workers may start at a time, as far as that follows what boots use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Allowance {
    /// As [`BootLoad::filling`], of the last look that knew. It is kept for the next release, which mostly boots alike.
    filling: Option<u32>,
    /// By how much the number of CPUs was doubled since workers began to start.
    doublings: u32,
    is_pressed: bool,
    room: Option<u32>,
}

impl Allowance {
    /// Notes a look; `is_last` if nobody starts any more.
    pub(crate) fn note(&mut self, load: BootLoad, is_last: bool) {
        self.filling = load.filling.or(self.filling);
        self.is_pressed = load.is_pressed && !is_last;
        self.room = load.room;
        match load.busy_permille < IDLE_PERMILLE && !load.is_pressed {
            _ if is_last => self.doublings = 0,
            true => self.doublings = self.doublings.saturating_add(1),
            false => {}
        }
    }

    /// Forgets what only held while the workers started that were last looked at. What boots use stays known.
    pub(crate) fn forget_moment(&mut self) {
        *self = Self { filling: self.filling, ..Self::default() };
    }

    #[cfg(test)]
    pub(crate) fn doublings(&self) -> u32 {
        self.doublings
    }

    /// How many unacked workers there may be now, at least 1, and why no more.
    pub(crate) fn now(&self, policy: &Policy) -> Pace {
        let pace = |workers, why| Pace { workers, why };
        let asked = pace(policy.unacked_max, PaceReason::Asked);
        let Some(cpus) = policy.unacked_by_cpus else { return asked };
        let by_boots = match self.filling {
            _ if self.is_pressed => pace(cpus, PaceReason::Pressure),
            Some(filling) if filling > cpus => pace(filling, PaceReason::Boots),
            None if self.doublings > 0 => pace(doubled(cpus, self.doublings), PaceReason::Idle),
            _ => pace(cpus, PaceReason::Cpus),
        };
        let by_memory = self.room.map(|room| pace(room.max(1), PaceReason::Memory));
        [by_boots, asked].into_iter().chain(by_memory).min_by_key(|pace| pace.workers).unwrap_or(asked)
    }
}

fn doubled(number: u32, times: u32) -> u32 {
    number.saturating_mul(2_u32.saturating_pow(times))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::plain_policy;

    const IDLE: BootLoad = BootLoad { busy_permille: 10, is_pressed: false, filling: None, room: None };

    fn policy() -> Policy {
        Policy { unacked_by_cpus: Some(2), unacked_max: 100, ..plain_policy(1) }
    }

    fn pace(workers: u32, why: PaceReason) -> Pace {
        Pace { workers, why }
    }

    fn after(loads: &[BootLoad]) -> Pace {
        let mut allowance = Allowance::default();
        loads.iter().for_each(|load| allowance.note(*load, false));
        allowance.now(&policy())
    }

    #[test]
    fn an_unknown_program_starts_on_each_cpu_and_doubles_while_they_are_idle() {
        assert_eq!(after(&[]), pace(2, PaceReason::Cpus));
        assert_eq!(after(&[IDLE]), pace(4, PaceReason::Idle));
        assert_eq!(after(&[IDLE; 3]), pace(16, PaceReason::Idle));
        let busy = BootLoad { busy_permille: IDLE_PERMILLE, ..IDLE };
        assert_eq!(after(&[IDLE, busy, busy]), pace(4, PaceReason::Idle));
        assert_eq!(after(&[IDLE; 40]), pace(100, PaceReason::Asked));
        assert_eq!(after(&[IDLE; 4000]), pace(100, PaceReason::Asked));
    }

    #[test]
    fn a_known_program_starts_as_often_as_it_fills_the_cpus() {
        let known = |filling| BootLoad { filling: Some(filling), ..IDLE };
        assert_eq!(after(&[known(30)]), pace(30, PaceReason::Boots));
        assert_eq!(after(&[known(30), IDLE]), pace(30, PaceReason::Boots), "what is known stays so");
        assert_eq!(after(&[known(1), IDLE]), pace(2, PaceReason::Cpus), "boots that compute are not doubled");
    }

    #[test]
    fn pressure_holds_back_and_is_forgotten() {
        let pressed = BootLoad { is_pressed: true, filling: Some(30), ..IDLE };
        assert_eq!(after(&[pressed]), pace(2, PaceReason::Pressure));
        assert_eq!(after(&[pressed, IDLE]), pace(30, PaceReason::Boots));
        let mut allowance = Allowance::default();
        allowance.note(BootLoad { filling: None, ..pressed }, true);
        assert_eq!(allowance.now(&policy()), pace(2, PaceReason::Cpus));
    }

    #[test]
    fn memory_bounds_the_number_and_leaves_one() {
        let room = |room| BootLoad { room: Some(room), filling: Some(30), ..IDLE };
        assert_eq!(after(&[room(5)]), pace(5, PaceReason::Memory));
        assert_eq!(after(&[room(0)]), pace(1, PaceReason::Memory));
        assert_eq!(after(&[room(5), BootLoad { room: None, ..room(5) }]), pace(30, PaceReason::Boots));
    }

    #[test]
    fn a_number_is_exact() {
        let exact = Policy { unacked_max: 3, unacked_by_cpus: None, ..policy() };
        let mut allowance = Allowance::default();
        allowance.note(BootLoad { is_pressed: true, room: Some(1), ..IDLE }, false);
        assert_eq!(allowance.now(&exact), pace(3, PaceReason::Asked));
    }
}
