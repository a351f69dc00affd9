//! How much memory there is for the master and its workers, and what the master gives back of it.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::ptr;

use nix::libc;
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
/// `proc_meminfo(5)`, MemAvailable; in each cgroup that has a limit, that less what is in use, of which the kernel drops the
/// cached files that nobody has used lately.
pub fn memory_available() -> Option<u64> {
    // It has more lines, but this one is the third.
    let mut buffer = [0; 256];
    let meminfo = read_start(Path::new("/proc/meminfo"), &mut buffer).unwrap_or_default();
    let meminfo = str::from_utf8(meminfo).unwrap_or_default();
    let kilobytes = field(meminfo, "MemAvailable:").map(|kilobytes| kilobytes.saturating_mul(1024));
    let cgroup = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    left_in_cgroup(kilobytes, &cgroup, Path::new("/sys/fs/cgroup"))
}

/// What is left in these cgroups, or of the machine, whichever is less.
fn left_in_cgroup(of_machine: Option<u64>, cgroup: &str, mount: &Path) -> Option<u64> {
    folders(cgroup, mount).fold(of_machine, |least, (folder, files)| {
        let left = (|| {
            let max = number(&folder.join(files.max)).filter(|max| *max < NO_LIMIT)?;
            Some((max, number(&folder.join(files.used))?))
        })();
        let Some((max, used)) = left else { return least };
        if least.is_some_and(|least| max.saturating_sub(used) >= least) {
            return least;
        }
        // This takes the kernel longer than all the rest.
        let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
        let left = max.saturating_sub(used.saturating_sub(field(&stat, files.idle).unwrap_or(0)));
        Some(least.map_or(left, |least| least.min(left)))
    })
}

/// Version 1 writes the largest number of pages that it knows where there is no limit, in bytes.
const NO_LIMIT: u64 = 1 << 62;

/// How a version of cgroups names what it says of memory.
struct Files {
    max: &'static str,
    used: &'static str,
    /// In `memory.stat`: cached files that nobody has used lately.
    idle: &'static str,
}

/// # Source
/// The kernel's `cgroup-v2.rst`.
const VERSION_2: Files = Files { max: "memory.max", used: "memory.current", idle: "inactive_file " };

/// # Source
/// The kernel's `cgroup-v1/memory.rst`.
const VERSION_1: Files =
    Files { max: "memory.limit_in_bytes", used: "memory.usage_in_bytes", idle: "total_inactive_file " };

/// The number behind `name` in a file of names and numbers.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The lowest limit of the cgroups that `/proc/self/cgroup` names, and of those above them.
fn of_cgroup(cgroup: &str, mount: &Path) -> Option<u64> {
    folders(cgroup, mount).filter_map(|(folder, files)| number(&folder.join(files.max))).min()
}

/// The folders of the cgroups that `/proc/self/cgroup` names and that may limit memory, of either version, and those above.
fn folders(cgroup: &str, mount: &Path) -> impl Iterator<Item = (PathBuf, &'static Files)> {
    let version_2 = cgroup.lines().find_map(|line| line.strip_prefix("0::/"));
    let version_1 = cgroup.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(":/")?;
        controllers.split(',').any(|controller| controller == "memory").then_some(path)
    });
    let with_parents = |path, mount: PathBuf, files| {
        Path::new(path).ancestors().map(move |folder| (mount.join(folder), files))
    };
    let version_2 = version_2.map(|path| with_parents(path, mount.to_owned(), &VERSION_2));
    let version_1 = version_1.map(|path| with_parents(path, mount.join("memory"), &VERSION_1));
    version_2.into_iter().chain(version_1).flatten()
}

/// Gives back free memory of the heap, and unmaps what is mapped of the files that the program was loaded from: most of that has
/// served the start alone. A page that is needed again is mapped again by the kernel, from its cache, with those around it.
///
/// # Source
/// `madvise(2)`, MADV_DONTNEED; `proc_pid_smaps(5)`; `malloc_trim(3)`
pub fn give_back() {
    let smaps = fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    for range in as_in_files(&smaps) {
        let start = ptr::with_exposed_provenance_mut(range.start);
        // SAFETY: nothing can write to these pages, and none differs from its file: whoever reads them finds the same bytes.
        unsafe { libc::madvise(start, range.len(), libc::MADV_DONTNEED) };
    }
    drop(smaps);
    // SAFETY: it gives back what is free.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0)
    };
}

/// The addresses, in the words of `/proc/self/smaps`, at which programs and libraries are mapped that differ in no page from
/// their file. A debugger changes code, for instance.
fn as_in_files(smaps: &str) -> impl Iterator<Item = Range<usize>> {
    let mut found = None;
    smaps.lines().filter_map(move |line| {
        let (name, value) = line.split_once(' ')?;
        match name {
            "Anonymous:" | "Private_Hugetlb:" | "Swap:" if value.trim() != "0 kB" => found = None,
            // The last of the three.
            "Swap:" => return found.take(),
            _ => found = loaded(name, value).or(found.take()),
        }
        None
    })
}

/// The addresses of a mapping, if it is of code, or of the beginning of a file: not of data that the linker has changed and then
/// made read-only, which is in neither.
fn loaded(addresses: &str, mapping: &str) -> Option<Range<usize>> {
    let (start, end) = addresses.split_once('-')?;
    let is_loaded = mapping.starts_with("r-xp ") || mapping.starts_with("r--p 00000000 ");
    let address = |text| usize::from_str_radix(text, 16).ok();
    (is_loaded && mapping.contains(" /")).then_some(address(start)?..address(end)?)
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
        assert_eq!(left_in_cgroup(None, "0::/web/server\n", mount.path()), Some(548_576));
        assert_eq!(left_in_cgroup(Some(500_000), "0::/web/server\n", mount.path()), Some(500_000));
        fs::write(mount.path().join("memory/old/memory.usage_in_bytes"), "3000\n").unwrap();
        fs::write(mount.path().join("memory/old/memory.stat"), "inactive_file 1\ntotal_inactive_file 500\n")
            .unwrap();
        assert_eq!(left_in_cgroup(None, "3:hugetlb,memory:/old/er\n0::/\n", mount.path()), Some(1596));
        fs::write(mount.path().join("memory/old/memory.limit_in_bytes"), "9223372036854771712\n").unwrap();
        assert_eq!(left_in_cgroup(Some(7), "3:memory:/old\n", mount.path()), Some(7), "no limit");
    }

    #[test]
    fn some_memory_is_available() {
        assert!(memory_available().unwrap() > 1_000_000);
    }

    #[test]
    fn only_what_is_as_in_its_file_is_given_back() {
        let mapping = |mapping: &str, anonymous: u32, swap: u32| {
            format!(
                "{mapping}\nSize: 8 kB\nAnonymous: {anonymous} kB\nPrivate_Hugetlb: 0 kB\nSwap: {swap} kB\nVmFlags: rd mr\n"
            )
        };
        let smaps = [
            mapping("1000-3000 r--p 00000000 fe:00 12   /usr/bin/program", 0, 0),
            mapping("3000-5000 r-xp 00002000 fe:00 12   /usr/bin/program", 0, 0),
            // Relocated; the second one is swapped out.
            mapping("5000-6000 r--p 00004000 fe:00 12   /usr/bin/program", 4, 0),
            mapping("6000-7000 r--p 00005000 fe:00 12   /usr/bin/program", 0, 0),
            mapping("7000-8000 rw-p 00006000 fe:00 12   /usr/bin/program", 0, 0),
            mapping("8000-9000 rw-p 00000000 00:00 0    [heap]", 0, 0),
            // Changed by a debugger, here and on the swap device.
            mapping("a000-b000 r-xp 00000000 fe:00 13   /lib/changed.so", 4, 0),
            mapping("b000-c000 r-xp 00000000 fe:00 14   /lib/swapped.so", 0, 4),
            mapping("c000-d000 r-xp 00000000 00:00 0    [vdso]", 0, 0),
            mapping("d000-f000 r-xp 00000000 fe:00 15   /lib/last r--p.so", 0, 0),
        ];
        let expected = [0x1000..0x3000, 0x3000..0x5000, 0xd000..0xf000];
        assert_eq!(as_in_files(&smaps.concat()).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_was_given_back_is_there_when_it_is_needed() {
        let mapped = || field(&fs::read_to_string("/proc/self/status").unwrap(), "RssFile:").unwrap();
        let before = mapped();
        give_back();
        assert!(mapped() < before);
    }
}
