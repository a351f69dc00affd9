//! A controller that shifts new connections away from slots with long queues. Once a second it sets the weights of a
//! `reuseport` group by the queue lengths in the master's status.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::libc::{self, sock_filter, sock_fprog};
use nix::sys::socket::{setsockopt, sockopt};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use tests::{Control, Master};

/// The number of looks at the queues per step, and the time between two looks.
const LOOKS: u32 = 10;
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The smallest weight: without connections, a worker that has recovered would not be noticed.
const LEAST: f64 = 1.0 / 64.0;

/// Queue lengths below this hardly count: they differ by chance.
const SLACK: f64 = 0.1;

/// The weights of a group.
pub(crate) struct Weights {
    /// A member of the group.
    member: OwnedFd,
    control: Control,
    /// By slot, which is also the position in the group. The largest is 1.
    weights: Vec<f64>,
}

impl Weights {
    /// The weights of the first listener of `master`, which still has the slots that it started with.
    pub(crate) fn of(master: &Master, slots: usize) -> Self {
        let process = master.process();
        let fd = *process.listening().keys().next().expect("the master listens");
        let pid = Pid::from_raw(process.pid()).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        let pid = pid.expect("the master runs");
        let member = pidfd_getfd(&pid, fd, PidfdGetfdFlags::empty()).expect("a copy of a listener");
        Self { member, control: master.control(), weights: vec![1.0; slots] }
    }

    /// Sends no new connections to `slot`.
    pub(crate) fn leave_out(&mut self, slot: usize) {
        self.weights[slot] = 0.0;
        self.attach();
    }

    /// Adapts the weights while `work` runs.
    pub(crate) fn adapt_while<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| self.adapt(&is_over));
            let result = work();
            is_over.store(true, Ordering::Relaxed);
            result
        })
    }

    fn adapt(&mut self, is_over: &AtomicBool) {
        let mut lengths = vec![0.0; self.weights.len()];
        for look in 1.. {
            thread::sleep(LOOK_EVERY);
            if is_over.load(Ordering::Relaxed) {
                return;
            }
            let status = self.control.status();
            for (length, slot) in lengths.iter_mut().zip(&status.listeners[0].slots) {
                *length += slot.queue.map_or(0.0, |queue| f64::from(queue.length) / f64::from(LOOKS));
            }
            if look % LOOKS == 0 {
                self.step(&lengths);
                self.attach();
                lengths.fill(0.0);
            }
        }
    }

    /// Moves towards equal queues. A weight is at most halved or doubled.
    fn step(&mut self, lengths: &[f64]) {
        let mean = lengths.iter().sum::<f64>() / lengths.len() as f64;
        for (weight, length) in self.weights.iter_mut().zip(lengths) {
            *weight *= ((mean + SLACK) / (length + SLACK)).clamp(0.5, 2.0);
        }
        let most = self.weights.iter().copied().fold(LEAST, f64::max);
        self.weights.iter_mut().for_each(|weight| *weight = (*weight / most).max(LEAST));
    }

    /// Attaches a program that draws a random number and returns the position in whose range it lies.
    fn attach(&self) {
        let sum: f64 = self.weights.iter().sum();
        let mut program = vec![statement(
            libc::BPF_LD | libc::BPF_W | libc::BPF_ABS,
            (libc::SKF_AD_OFF + libc::SKF_AD_RANDOM).cast_unsigned(),
        )];
        let mut bound = 0.0;
        for (position, weight) in self.weights.iter().enumerate() {
            bound += weight / sum;
            // The last range has no upper end.
            if position + 1 < self.weights.len() {
                let end = (bound * f64::from(u32::MAX)) as u32;
                program.push(sock_filter {
                    jt: 1,
                    ..statement(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, end)
                });
            }
            program.push(statement(libc::BPF_RET | libc::BPF_K, position as u32));
        }
        let program = sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
        setsockopt(&self.member, sockopt::AttachReusePortCbpf, &program)
            .expect("the kernel takes the program");
    }
}

fn statement(code: u32, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k }
}
