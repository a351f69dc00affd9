//! Executes a program under a seccomp filter: `filter REFUSAL... -- PROGRAM [ARGUMENTS]`.
//!
//! A refusal is `NAME:NUMBER[,ARGUMENT=VALUE...]:ERRNO`; see `tests::faults::filter_wrapper`.

use std::collections::BTreeMap;
use std::env;
use std::error::Error;
use std::os::unix::process::CommandExt;
use std::process::Command;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter,
};
use tests::faults::Refusal;

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = env::args_os().skip(1);
    let refusals = words.by_ref().take_while(|word| word != "--");
    let refusals: Vec<Refusal> =
        refusals.map(|word| word.to_string_lossy().parse()).collect::<Result<_, _>>()?;
    let program = words.next().ok_or("no program")?;
    for filter in filters(&refusals)? {
        apply_filter(&filter)?;
    }
    Err(Command::new(program).args(words).exec().into())
}

/// One filter for each errno.
fn filters(refusals: &[Refusal]) -> Result<Vec<BpfProgram>, seccompiler::BackendError> {
    let mut rules: BTreeMap<i32, BTreeMap<i64, Vec<SeccompRule>>> = BTreeMap::new();
    for Refusal { call, arguments, errno, .. } in refusals {
        let of_call = rules.entry(*errno as i32).or_default().entry(*call).or_default();
        if !arguments.is_empty() {
            let conditions = arguments.iter().map(|(argument, value)| {
                SeccompCondition::new(*argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, *value)
            });
            of_call.push(SeccompRule::new(conditions.collect::<Result<_, _>>()?)?);
        }
    }
    let architecture = env::consts::ARCH.try_into()?;
    let filters = rules.into_iter().map(|(errno, rules)| {
        let refuse = SeccompAction::Errno(errno.unsigned_abs());
        SeccompFilter::new(rules, SeccompAction::Allow, refuse, architecture)?.try_into()
    });
    filters.collect()
}
