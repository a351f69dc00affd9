//! What processes use of the machine, and whether others wait for it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use nix::unistd::{Pid, SysconfVar, sysconf};

use super::open::read_start;

/// The room for one of these files: a few numbers.
const LINES_MAX: usize = 512;

/// The CPU time that a process has used, in user and kernel mode, all its threads together, ended ones too; `None` if it was
/// reaped.
///
/// # Source
/// `clock_getcpuclockid(3)`. It takes no file of `/proc`, and no right over the process.
pub fn cpu_time(pid: Pid) -> Option<Duration> {
    let clock = ClockId::pid_cpu_clock_id(pid).ok()?;
    clock_gettime(clock).ok().map(Duration::from)
}

/// How long the first thread of a process has waited for a CPU; `None` if it was reaped, or if the kernel does not count that.
///
/// # Source
/// The second number of `/proc/PID/schedstat`, in nanoseconds, as the kernel's `sched-stats.rst` has it.
pub fn run_delay(pid: Pid) -> Option<Duration> {
    let mut buffer = [0; LINES_MAX];
    let text = read_start(Path::new(&format!("/proc/{pid}/schedstat")), &mut buffer).ok()?;
    str::from_utf8(text).ok()?.split(' ').nth(1)?.parse().ok().map(Duration::from_nanos)
}

/// The memory of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// All that is resident, in bytes.
    pub resident: u64,
    /// What of that comes from files and shared memory, in bytes.
    pub shared: u64,
}

/// The memory of a process; `None` if it was reaped.
///
/// # Source
/// `proc_pid_statm(5)`: the second and third number, in pages. It misses what the kernel has not summed up yet, some
/// hundreds of kilobytes on a machine with many CPUs.
pub fn memory(pid: Pid) -> Option<Memory> {
    let page_bytes =
        sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|bytes| u64::try_from(bytes).ok())?;
    let mut buffer = [0; LINES_MAX];
    let statm = read_start(Path::new(&format!("/proc/{pid}/statm")), &mut buffer).ok()?;
    let mut pages =
        str::from_utf8(statm).ok()?.split(' ').skip(1).map_while(|pages| pages.parse::<u64>().ok());
    let mut bytes = || pages.next().map(|pages| pages.saturating_mul(page_bytes));
    Some(Memory { resident: bytes()?, shared: bytes()? })
}

/// How long at least one process waited for a resource since the machine started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stall {
    /// Since the start.
    pub total: Duration,
    /// In the last ten seconds, in thousandths of that time.
    pub recent_permille: u32,
}

/// The files that say how long processes have waited for a CPU and for memory: those of the cgroup of this process, if it is one
/// of version 2, or else of the whole machine.
#[derive(Debug)]
pub struct Pressure {
    cpu: PathBuf,
    memory: PathBuf,
}

impl Pressure {
    /// # Source
    /// The kernel's `cgroup-v2.rst`, `cpu.pressure` and `memory.pressure`: they count waits for the group's own limits, too.
    pub fn find() -> Self {
        let cgroup = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let file = |resource: &str| {
            pressure_of_cgroup(&cgroup, Path::new("/sys/fs/cgroup"), resource)
                .unwrap_or_else(|| Path::new("/proc/pressure").join(resource))
        };
        Self { cpu: file("cpu"), memory: file("memory") }
    }

    /// Waits for a CPU; `None` where the kernel does not count them.
    pub fn of_cpu(&self) -> Option<Stall> {
        stall(&self.cpu)
    }

    /// Waits for memory; `None` where the kernel does not count them.
    pub fn of_memory(&self) -> Option<Stall> {
        stall(&self.memory)
    }
}

/// The file of the cgroup that `/proc/self/cgroup` names.
fn pressure_of_cgroup(cgroup: &str, mount: &Path, resource: &str) -> Option<PathBuf> {
    let path = cgroup.lines().find_map(|line| line.strip_prefix("0::/"))?;
    // Beside cgroups of version 1, those of version 2 are mounted in a folder of their own.
    let files =
        ["", "unified"].map(|folder| mount.join(folder).join(path).join(format!("{resource}.pressure")));
    // It cannot be read where `cgroup.pressure` is off.
    files.into_iter().find(|file| stall(file).is_some())
}

/// # Source
/// The kernel's `psi.rst`: `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, percentages and microseconds.
fn stall(file: &Path) -> Option<Stall> {
    let mut buffer = [0; LINES_MAX];
    let text = str::from_utf8(read_start(file, &mut buffer).ok()?).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let field = |name: &str| line.split(' ').find_map(|field| field.strip_prefix(name));
    let (whole, part) = field("avg10=")?.split_once('.')?;
    let percent_100: u32 = format!("{whole}{part}").parse().ok()?;
    let total = Duration::from_micros(field("total=")?.parse().ok()?);
    Some(Stall { total, recent_permille: percent_100 / 10 })
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use super::*;

    /// No pid is so high. Source: the kernel's PID_MAX_LIMIT, `proc_sys_kernel(5)`.
    const PID_LIMIT: i32 = 1 << 22;

    #[test]
    fn a_process_that_computes_has_used_cpu_time_and_memory() {
        let own = Pid::this();
        let before = cpu_time(own).unwrap();
        let block = vec![black_box(1_u8); 20_000_000];
        while cpu_time(own).unwrap() < before + Duration::from_millis(5) {
            black_box(block.iter().map(|byte| u64::from(*byte)).sum::<u64>());
        }
        let Memory { resident, shared } = memory(own).unwrap();
        assert!(resident > shared + 20_000_000, "{resident} {shared}");
        assert_eq!(cpu_time(Pid::from_raw(PID_LIMIT)), None);
        assert_eq!(run_delay(Pid::from_raw(PID_LIMIT)), None);
        assert_eq!(memory(Pid::from_raw(PID_LIMIT)), None);
    }

    #[test]
    fn a_stall_is_read_as_the_kernel_writes_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("cpu");
        fs::write(&file, "some avg10=12.34 avg60=0.00 avg300=7.78 total=26357221260\nfull avg10=0.00\n")
            .unwrap();
        let read = Stall { total: Duration::from_micros(26_357_221_260), recent_permille: 123 };
        assert_eq!(stall(&file), Some(read));
        for text in ["", "full avg10=1.00 total=1\n", "some avg10=1 total=1\n", "some avg10=1.00\n"] {
            fs::write(&file, text).unwrap();
            assert_eq!(stall(&file), None, "{text:?}");
        }
    }

    #[test]
    fn the_pressure_in_the_cgroup_of_the_process_counts_where_it_is_known() {
        let mount = tempfile::tempdir().unwrap();
        let write = |folder: &str, file: &str, text: &str| {
            let folder = mount.path().join(folder);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(file), text).unwrap();
            Some(folder.join(file))
        };
        let some = "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n";
        let found = |cgroup: &str| pressure_of_cgroup(cgroup, mount.path(), "cpu");
        assert_eq!(found("0::/web/server\n"), None);
        write("web/server", "cpu.pressure", "");
        assert_eq!(found("0::/web/server\n"), None, "it is off");
        let own = write("web/server", "cpu.pressure", some);
        write("web", "cpu.pressure", some);
        assert_eq!(found("4:cpu:/a\n0::/web/server\n"), own);
        let beside = write("unified/a/b", "cpu.pressure", some);
        assert_eq!(found("4:cpu:/a\n0::/a/b\n"), beside);
        assert_eq!(found("4:cpu:/web/server\n"), None, "version 1 has none");
        assert_eq!(found("0::/../../web\n"), None, "outside of what is mounted");
        let of_memory = |cgroup: &str| pressure_of_cgroup(cgroup, mount.path(), "memory");
        assert_eq!(of_memory("0::/web/server\n"), None, "each resource has a file of its own");
        let memory = write("web/server", "memory.pressure", some);
        assert_eq!(of_memory("0::/web/server\n"), memory);
    }

    #[test]
    fn waits_are_known_where_the_kernel_counts_them() {
        let pressure = Pressure::find();
        let cgroup = fs::read_to_string("/proc/self/cgroup").unwrap();
        let found = [(&pressure.cpu, "cpu"), (&pressure.memory, "memory")];
        for (file, resource) in found {
            let machine = Path::new("/proc/pressure").join(resource);
            assert_eq!(stall(file).is_some(), stall(&machine).is_some(), "{}", file.display());
            let own = pressure_of_cgroup(&cgroup, Path::new("/sys/fs/cgroup"), resource);
            assert_eq!(file, &own.unwrap_or(machine));
        }
        let first = pressure.of_cpu();
        assert!(pressure.of_cpu().map(|stall| stall.total) >= first.map(|stall| stall.total));
    }
}
