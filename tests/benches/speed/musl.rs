//! The static program, with musl, beside the one that uses this machine's C library, both built as they are released.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tests::Master;

use crate::report::{self, Aim};
use crate::upgrade::Subject;

/// Workers, and rounds.
const SIZES: [(u32, usize); 3] = [(4, 41), (32, 21), (128, 11)];

/// Rust's name of the target of the static program.
const MUSL: &str = "x86_64-unknown-linux-musl";

pub(crate) fn run() {
    report::topic("musl", "the same upgrade by the program that uses this machine's C library");
    let [Some(shared), Some(fixed)] = [None, Some(MUSL)].map(built) else {
        println!("  (rustup target add {MUSL} brings what is missing)");
        return;
    };
    for (workers, rounds) in SIZES {
        let start = |daemon: &Path| Subject::of(Master::builder().daemon(daemon), workers);
        let (mut floor, mut measured) = (start(&shared), start(&fixed));
        for _ in 0..rounds {
            floor.round();
            measured.round();
        }
        measured.show_beside(&format!("{workers} workers"), &floor, Aim::None);
        [floor, measured].into_iter().for_each(Subject::stop);
    }
}

/// The daemon, built for a target or for this machine as packages have it; `None` if that target is not installed.
fn built(target: Option<&str>) -> Option<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../einhyrningsins/package/build");
    let mut command = Command::new(script);
    command.args(target).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = command.output().expect("bash");
    let directory = String::from_utf8(output.stdout).expect("a path");
    output.status.success().then(|| Path::new(directory.trim_end()).join("einhyrningsins"))
}
