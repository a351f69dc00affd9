//! How much memory there is for the master and its workers.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};

use super::open::read_start;

/// The lowest of the limits on the master's memory, in bytes; `None` if there is none.
///
/// # Source
/// `getrlimit(2)`, RLIMIT_AS and RLIMIT_DATA; the kernel's documentation of `memory.max`, or of `memory.limit_in_bytes` in
/// cgroups of version 1, here and in the groups above.
pub fn memory_max() -> Option<u64> {
    let of_process = [Resource::RLIMIT_AS, Resource::RLIMIT_DATA].into_iter().filter_map(|resource| {
        let (soft, _) = getrlimit(resource).ok()?;
        (soft != RLIM_INFINITY).then_some(soft)
    });
    let cgroup = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    of_process.chain(of_cgroup(&cgroup, Path::new("/sys/fs/cgroup"))).min()
}

/// How much memory new workers may take before something must give way, in bytes; `None` if that cannot be found out.
///
/// # Source
/// `proc_meminfo(5)`, MemAvailable; in each cgroup of version 2 that has a limit, that less what is in use, of which the
/// kernel drops the cached files that nobody has used lately (`inactive_file` in `memory.stat`).
pub fn memory_available() -> Option<u64> {
    // It has more lines, but this one is the third.
    let mut buffer = [0; 256];
    let meminfo = read_start(Path::new("/proc/meminfo"), &mut buffer).unwrap_or_default();
    let meminfo = str::from_utf8(meminfo).unwrap_or_default();
    let kilobytes = field(meminfo, "MemAvailable:").map(|kilobytes| kilobytes.saturating_mul(1024));
    let cgroup = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    kilobytes.into_iter().chain(left_in_cgroup(&cgroup, Path::new("/sys/fs/cgroup"))).min()
}

fn left_in_cgroup(cgroup: &str, mount: &Path) -> Option<u64> {
    let left = folders(cgroup, mount)?.filter_map(|folder| {
        let max = number(&folder.join("memory.max"))?;
        let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
        let idle = field(&stat, "inactive_file").unwrap_or(0);
        Some(max.saturating_sub(number(&folder.join("memory.current"))?.saturating_sub(idle)))
    });
    left.min()
}

/// The number behind `name` in a file of names and numbers.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The lowest limit of the cgroups that `/proc/self/cgroup` names, of either version, and of those above them.
fn of_cgroup(cgroup: &str, mount: &Path) -> Option<u64> {
    let files = folders(cgroup, mount).into_iter().flatten().map(|folder| folder.join("memory.max"));
    let mount = mount.join("memory");
    let older = folders_of_version_1(cgroup, &mount).into_iter().flatten();
    let older = older.map(|folder| folder.join("memory.limit_in_bytes"));
    files.chain(older).filter_map(|file| number(&file)).min()
}

/// The folder of the cgroup of version 1 that limits memory, and those above.
fn folders_of_version_1(cgroup: &str, mount: &Path) -> Option<impl Iterator<Item = PathBuf>> {
    let path = cgroup.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(":/")?;
        controllers.split(',').any(|controller| controller == "memory").then_some(path)
    })?;
    Some(Path::new(path).ancestors().map(|folder| mount.join(folder)))
}

/// The folder of a cgroup of version 2, as `/proc/self/cgroup` names it, and those above.
fn folders(cgroup: &str, mount: &Path) -> Option<impl Iterator<Item = PathBuf>> {
    let path = cgroup.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(Path::new(path).ancestors().map(|folder| mount.join(folder)))
}

fn number(file: &Path) -> Option<u64> {
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
        fs::create_dir_all(mount.path().join("memory/old")).unwrap();
        fs::write(mount.path().join("memory/old/memory.limit_in_bytes"), "4096\n").unwrap();
        assert_eq!(of_cgroup("3:hugetlb,memory:/old/er\n0::/\n", mount.path()), Some(4096));
        fs::write(mount.path().join("web/memory.current"), "1000000\n").unwrap();
        fs::write(mount.path().join("web/memory.stat"), "anon 9\ninactive_file 500000\n").unwrap();
        assert_eq!(left_in_cgroup("0::/web/server\n", mount.path()), Some(548_576));
    }

    #[test]
    fn some_memory_is_available() {
        assert!(memory_available().unwrap() > 1_000_000);
    }
}
