//! One spawn, by masters of several sizes, and of a worker of another user.

use std::ffi::CString;
use std::fs::{self, File, Permissions};
use std::hint::black_box;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use einhyrningsins::{Credentials, SpawnSpec, Spawner};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, geteuid};
use tests::binaries;

use crate::report::{self, Aim, Figure, Unit};
use crate::sys::{BareSpawner, Program};

/// How much memory the spawning process has touched besides its own, in megabytes.
const SIZES: [usize; 3] = [0, 100, 500];

const ROUNDS: usize = 300;

/// A user and a group of whom the system knows nothing.
const STRANGER: u32 = 54_321;

pub(crate) fn run() {
    report::topic(
        "spawn",
        "clone(VM|VFORK) and execve of the same program; the caller's time until it goes on",
    );
    // As many variables as the daemon's own and a login's come to.
    let environment = (0..40).map(|number| format!("VARIABLE_{number}=some value of a usual length"));
    // Wherever the programs were built, anybody can execute it there.
    let place = tempfile::tempdir().expect("a directory");
    let path = place.path().join("tiny");
    fs::copy(binaries::worker("tiny"), &path).expect("a copy of the program");
    fs::set_permissions(place.path(), Permissions::from_mode(0o755)).expect("its mode");
    let program = Program::new(path.as_os_str(), environment);
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
    for megabytes in SIZES {
        measure("", megabytes, &spec, &program, Aim::Ratio(1.2));
    }
    if !geteuid().is_root() {
        println!("  (workers of another user take root)");
        return;
    }
    let credentials = Credentials { uid: Some(STRANGER), gid: Some(STRANGER), groups: Some(vec![STRANGER]) };
    let spec = SpawnSpec { credentials: Some(&credentials), ..spec };
    // Each gets a copy of the master's memory, of which there is about as much as of this program's.
    measure(", as another user", 0, &spec, &program, Aim::None);
}

/// Spawns `spec` by turns with `program` itself, beside so many megabytes of memory, and shows both.
fn measure(what: &str, megabytes: usize, spec: &SpawnSpec<'_>, program: &Program, aim: Aim) {
    let mut bare = BareSpawner::new();
    let mut spawner = Spawner::new().expect("a stack for children");
    // Written, not only reserved: pages that were never touched cost no copy either way.
    let ballast = black_box(vec![1_u8; megabytes * 1_000_000]);
    let (mut measured, mut floor) = (Figure::new(Unit::Time), Figure::new(Unit::Time));
    for _ in 0..ROUNDS {
        time_spawn(&mut floor, || bare.spawn(program).expect("a bare spawn"));
        time_spawn(&mut measured, || spawner.spawn(spec).expect("a spawn"));
    }
    drop(ballast);
    report::line(&format!("{} MB{what}", megabytes + own_megabytes()), &measured, Some(&floor), aim);
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
