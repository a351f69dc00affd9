//! How much memory the master may have.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};

/// The lowest of the limits on the master's memory, in bytes; `None` if there is none.
///
/// # Source
/// `getrlimit(2)`, RLIMIT_AS and RLIMIT_DATA; the kernel's documentation of `memory.max`, here and in the groups above.
pub fn memory_max() -> Option<u64> {
    let of_process = [Resource::RLIMIT_AS, Resource::RLIMIT_DATA].into_iter().filter_map(|resource| {
        let (soft, _) = getrlimit(resource).ok()?;
        (soft != RLIM_INFINITY).then_some(soft)
    });
    let cgroup = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    of_process.chain(of_cgroup(&cgroup, Path::new("/sys/fs/cgroup"))).min()
}

/// The lowest limit of a cgroup of version 2, as `/proc/self/cgroup` names it, and of those above it.
fn of_cgroup(cgroup: &str, mount: &Path) -> Option<u64> {
    let path = cgroup.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let folders = Path::new(path).ancestors().map(|folder| mount.join(folder));
    folders.filter_map(|folder: PathBuf| limit(&folder.join("memory.max"))).min()
}

fn limit(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_limit_of_a_cgroup_and_those_above_counts() {
        let mount = tempfile::tempdir().unwrap();
        fs::create_dir_all(mount.path().join("web/server")).unwrap();
        assert_eq!(of_cgroup("0::/web/server\n", mount.path()), None);
        fs::write(mount.path().join("web/server/memory.max"), "max\n").unwrap();
        fs::write(mount.path().join("web/memory.max"), "1048576\n").unwrap();
        assert_eq!(of_cgroup("4:cpu:/a\n0::/web/server\n", mount.path()), Some(1_048_576));
    }
}
