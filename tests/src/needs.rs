//! The harness of the real-program tests: it runs a test where its needs are met, and reports it as ignored, with the
//! reason, where they are not.
//!
//! A need is a row of `tests/needs` or `tests/world/needs`: another program, root, a package. A file of tests lists its
//! tests with [`crate::trials`], and `tests/main.rs` or `world/main.rs` hands all lists to [`run`]. The command line is
//! libtest's.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::process::{Command, ExitCode, Stdio};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Completion, Trial};

use crate::binaries;

/// How many of the longest tests are listed at the end.
const LONGEST: usize = 10;

/// A row of `tests/needs` or `tests/world/needs`.
#[derive(Debug)]
struct Need {
    name: &'static str,
    /// `apt strace`, or a hint where no package brings it.
    source: &'static str,
    check: &'static str,
}

static NEEDS: LazyLock<Vec<Need>> = LazyLock::new(|| {
    let tables = [include_str!("../needs"), include_str!("../world/needs")];
    let lines = tables.into_iter().flat_map(str::lines);
    let rows = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    rows.map(|row| {
        let mut columns = row.splitn(3, '|').map(str::trim);
        let mut column =
            || columns.next().unwrap_or_else(|| panic!("a table of needs has three columns, not {row:?}"));
        Need { name: column(), source: column(), check: column() }
    })
    .collect()
});

/// How long each test took that has run.
static TOOK: Mutex<Vec<(Duration, String)>> = Mutex::new(Vec::new());

impl Need {
    /// # Panics
    /// If no table has a row of this name.
    fn named(name: &str) -> &'static Self {
        NEEDS.iter().find(|need| need.name == name).unwrap_or_else(|| panic!("no need is called {name}"))
    }

    /// What a test that has this need says where it is not met; `None` where it is.
    fn missing(&'static self) -> Option<String> {
        static FOUND: Mutex<BTreeMap<&str, bool>> = Mutex::new(BTreeMap::new());
        let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
        let is_met = *found.entry(self.name).or_insert_with(|| self.is_met());
        (!is_met).then(|| format!("needs {}: {}", self.name, self.source))
    }

    fn is_met(&self) -> bool {
        let mut command = Command::new("sh");
        command.args(["-c", self.check]).env("INSTALLED", binaries::installed_directory());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }
}

/// The package that brings `need`, with its version, as pip, npm and cargo write it: `gunicorn==27.0.1`.
///
/// # Panics
/// If no table has such a row, or the need is met by something else than one package of pip, npm or cargo.
#[must_use]
pub fn package(need: &str) -> &'static str {
    let source = Need::named(need).source;
    let package = ["pip ", "npm ", "cargo "].iter().find_map(|kind| source.strip_prefix(kind));
    package.unwrap_or_else(|| panic!("{need} is not installed by pip, npm or cargo"))
}

/// A test of the module `module` (`module_path!()`); what [`crate::trials`] makes of a row.
///
/// # Panics
/// If the tables lack one of `needs`.
#[must_use]
pub fn trial(module: &str, name: &str, needs: &[&str], test: fn()) -> Trial {
    let needs: Vec<_> = needs.iter().map(|need| Need::named(need)).collect();
    let module = module.split_once("::").map_or(module, |(_, inside)| inside);
    let name = format!("{module}::{name}");
    Trial::ignorable_test(name.clone(), move || {
        let missing: Vec<_> = needs.iter().filter_map(|need| need.missing()).collect();
        if !missing.is_empty() {
            return Ok(Completion::ignored_with(missing.join("; ")));
        }
        let began = Instant::now();
        test();
        TOOK.lock().unwrap_or_else(PoisonError::into_inner).push((began.elapsed(), name));
        Ok(Completion::Completed)
    })
}

/// Lists the tests of a file, each with its needs, if it has any: the names of rows of the tables.
///
/// ```text
/// tests::trials! {
///     a_first_start_outlasts_failing_spawns needs "strace",
///     retries_can_be_chosen,
/// }
/// ```
///
/// A test that is not listed is a function that nobody calls, which the compiler reports.
#[macro_export]
macro_rules! trials {
    ($($test:ident $(needs $($need:literal)+)?),+ $(,)?) => {
        pub(crate) fn trials() -> Vec<$crate::Trial> {
            vec![$($crate::needs::trial(module_path!(), stringify!($test), &[$($($need),+)?], $test)),+]
        }
    };
}

/// Runs `trials` as the command line says, `at_once` of them at a time if it does not say that, and lists those that took
/// longest.
pub fn run(trials: Vec<Trial>, at_once: Option<NonZero<usize>>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Most tests wait for processes most of the time.
    let twice_the_cores = || 2 * thread::available_parallelism().map_or(1, NonZero::get);
    arguments.test_threads.get_or_insert_with(|| at_once.map_or_else(twice_the_cores, NonZero::get));
    let conclusion = libtest_mimic::run(&arguments, trials);
    let mut took = TOOK.lock().unwrap_or_else(PoisonError::into_inner);
    if took.len() > LONGEST {
        took.sort_unstable();
        println!("the longest tests:");
        for (duration, name) in took.iter().rev().take(LONGEST) {
            println!("{:>7.1} s  {name}", duration.as_secs_f64());
        }
    }
    conclusion.exit_code()
}
