//! Kills by the kernel for want of memory in the master's cgroup, which its workers share.

use std::fs;
use std::path::{Path, PathBuf};

/// Counts the kills that nobody has accounted for.
#[derive(Debug)]
pub struct OomKills {
    file: Option<PathBuf>,
    /// The kernel's count of those that were accounted for, or came before this master looked.
    seen: u64,
}

impl OomKills {
    /// Begins to count. It counts nothing where the cgroup has no memory controller.
    #[must_use]
    pub fn new() -> Self {
        let cgroup = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let file = counter(&cgroup, Path::new("/sys/fs/cgroup"));
        let seen = file.as_deref().and_then(count).unwrap_or(0);
        Self { file, seen }
    }

    /// Accounts for one kill; `false` if there was none since the last.
    pub fn take_one(&mut self) -> bool {
        let is_new = self.file.as_deref().and_then(count).is_some_and(|count| count > self.seen);
        self.seen += u64::from(is_new);
        is_new
    }
}

/// The file that counts the kills of a cgroup, as `/proc/self/cgroup` names it.
///
/// # Source
/// `cgroups(7)`; the kernel's documentation of `memory.events` (version 2) and `memory.oom_control` (version 1), both of
/// which have a line `oom_kill`. In a cgroup namespace the path is that of the namespace's root.
fn counter(cgroup: &str, mount: &Path) -> Option<PathBuf> {
    let lines = cgroup.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        Some((fields.next()?, fields.next()?.trim_start_matches('/')))
    });
    let files = lines.filter_map(|(controllers, path)| match controllers {
        "" => Some(mount.join(path).join("memory.events")),
        _ if controllers.split(',').any(|name| name == "memory") => {
            Some(mount.join("memory").join(path).join("memory.oom_control"))
        }
        _ => None,
    });
    files.into_iter().find(|file| count(file).is_some())
}

fn count(file: &Path) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kill_counts_once_in_both_versions_of_cgroups() {
        for (cgroup, file) in [
            ("0::/web.slice/web.service\n", "web.slice/web.service/memory.events"),
            ("5:cpu:/a\n4:memory,hugetlb:/web\n0::/\n", "memory/web/memory.oom_control"),
        ] {
            let mount = tempfile::tempdir().unwrap();
            let path = mount.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "under_oom 0\noom_kill 3\n").unwrap();
            let file = counter(cgroup, mount.path());
            assert_eq!(file.as_deref(), Some(path.as_path()), "{cgroup}");
            let mut kills = OomKills { file, seen: 3 };
            assert!(!kills.take_one());
            fs::write(&path, "under_oom 0\noom_kill 5\n").unwrap();
            assert_eq!([(); 3].map(|()| kills.take_one()), [true, true, false]);
            fs::remove_file(&path).unwrap();
            assert!(!kills.take_one(), "a cgroup that has gone");
        }
        assert_eq!(counter("0::/nowhere\n", Path::new("/sys/fs/cgroup")), None);
        assert_eq!(counter("garbage", Path::new("/sys/fs/cgroup")), None);
    }
}
