//! The place `here`: this machine as whoever tries the programs on it sees it, with a network and processes of its own.
//! Its files are seen through an overlay in memory, so whatever a page does to them is gone afterwards.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tests::{binaries, pages, process};

/// How long a build of a page may take beforehand.
const BUILD_MAX: Duration = Duration::from_secs(20 * 60);

/// What the README has built.
const BUILDS: [&[&str]; 2] =
    [&["-p", "einhyrningsins", "-p", "einhyrningsinsctl"], &["-p", "einhorn-child", "--example", "hello"]];

/// Runs a shell in the repository `$1` with the target directory `$2`.
const ENTER: &str = r#"
set -e
repository=$1 target=$2
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root /mnt/target /mnt/target-work
mount -t overlay overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work /mnt/root
# Those may be file systems of their own.
for directory in /home /opt /root /srv /usr /var; do
    ! mountpoint -q "$directory" || mount --rbind "$directory" "/mnt/root$directory"
done
mkdir -p "/mnt/root$repository/target"
mount -t overlay overlay -o "lowerdir=$target,upperdir=/mnt/target,workdir=/mnt/target-work" "/mnt/root$repository/target"
mount -t proc proc /mnt/root/proc
mount --rbind /dev /mnt/root/dev
mount --rbind /sys /mnt/root/sys
ip link set lo up
exec chroot /mnt/root sh -c 'cd "$1" && exec bash --noprofile --norc' sh "$repository"
"#;

/// A shell in the repository, in this place.
///
/// # Panics
/// If what the README has built cannot be built.
#[track_caller]
pub(crate) fn shell() -> Command {
    let repository = pages::repository().canonicalize().expect("the repository");
    let target = target_directory();
    // To be kept: in the overlay, each run would build everything anew.
    for build in BUILDS {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(&repository).args(["build", "--quiet", "--release", "--locked"]).args(build);
        command.arg("--target-dir").arg(&target);
        process::run_within(BUILD_MAX, command, "").assert_code(0);
    }
    // Goes when this thread does, and with it all that it has started.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "unshare", "--mount", "--net", "--pid", "--fork", "--kill-child"]);
    command.args(["sh", "-c", ENTER, "sh"]).args([repository, target]).env_remove("CARGO_TARGET_DIR");
    command
}

/// The target directory that this program was built in.
fn target_directory() -> PathBuf {
    binaries::installed_directory().parent().map(Path::to_path_buf).expect("the directory above target/tmp")
}
