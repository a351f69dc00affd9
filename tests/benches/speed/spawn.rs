//! One spawn, by masters of several sizes.

use std::ffi::CString;
use std::fs::File;
use std::hint::black_box;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::time::Instant;

use einhyrningsins::sys::spawn::{SpawnSpec, Spawner};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use tests::binaries;

use crate::report::{self, Aim, Figure, Unit};
use crate::sys::{BareSpawner, Program};

/// How much memory the spawning process has touched besides its own, in megabytes.
const SIZES: [usize; 3] = [0, 100, 500];

const ROUNDS: usize = 300;

pub(crate) fn run() {
    report::topic(
        "spawn",
        "clone(VM|VFORK) and execve of the same program; the caller's time until it goes on",
    );
    // As many variables as the daemon's own and a login's come to.
    let environment = (0..40).map(|number| format!("VARIABLE_{number}=some value of a usual length"));
    let program = Program::new(binaries::worker("tiny").as_os_str(), environment);
    let worker_env = [c"EINHORN_CHILD_INDEX=0", c"EINHORN_SLOT=0"].map(CString::from);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let directory = File::open("/").expect("the root directory");
    let spec = SpawnSpec {
        worker_env: &worker_env,
        pid_variables: &["LISTEN_PID"],
        directory: Some(directory.as_fd()),
        sockets: &[listener.as_fd()],
        ..SpawnSpec::new(program.path(), program.arguments(), program.environment())
    };
    let mut bare = BareSpawner::new();
    let mut spawner = Spawner::new().expect("a stack for children");
    for megabytes in SIZES {
        // Written, not only reserved: pages that were never touched cost no copy either way.
        let ballast = black_box(vec![1_u8; megabytes * 1_000_000]);
        let (mut measured, mut floor) = (Figure::new(Unit::Time), Figure::new(Unit::Time));
        for _ in 0..ROUNDS {
            time_spawn(&mut floor, || bare.spawn(&program).expect("a bare spawn"));
            time_spawn(&mut measured, || spawner.spawn(&spec).expect("a spawn"));
        }
        drop(ballast);
        report::line(
            &format!("{} MB", megabytes + own_megabytes()),
            &measured,
            Some(&floor),
            Aim::Ratio(1.2),
        );
    }
}

/// Times one spawn; its end does not count.
fn time_spawn(figure: &mut Figure, spawn: impl FnOnce() -> Pid) {
    let begun = Instant::now();
    let pid = spawn();
    figure.add_time(begun.elapsed());
    kill(pid, Signal::SIGKILL).expect("a child of ours is there until it is reaped");
    while waitpid(pid, None) == Err(nix::errno::Errno::EINTR) {}
}

/// The resident memory of this process.
fn own_megabytes() -> usize {
    crate::memory::resident(std::process::id().cast_signed(), "VmRSS") as usize / 1_000_000
}
