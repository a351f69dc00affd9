//! Who asked for a rollout, and with what, for people.

use einhorn_proto::Requester;

/// The bytes of a process's name that the kernel keeps.
const PROCESS_BYTES_MAX: usize = 15;

/// This program's own name, which is longer.
const OWN_NAME: &str = env!("CARGO_PKG_NAME");

/// What stands for something unknown.
pub(super) const UNKNOWN: &str = "-";

/// Who asked: a user, or `LOGIN as USER` if somebody who logged in as LOGIN asked with the rights of USER.
pub(crate) fn who(requester: &Requester, name_of: &mut impl FnMut(u32) -> String) -> String {
    match (requester.login_uid, requester.uid) {
        (Some(login), Some(uid)) if login != uid => format!("{} as {}", name_of(login), name_of(uid)),
        (Some(uid), _) | (None, Some(uid)) => name_of(uid),
        (None, None) => UNKNOWN.to_owned(),
    }
}

/// The program of a client, or the signal and the program of its sender.
pub(crate) fn with(requester: &Requester) -> String {
    let process = requester.process.as_deref().map(|process| match &OWN_NAME[..PROCESS_BYTES_MAX] {
        own if own == process => OWN_NAME,
        _ => process,
    });
    match (&requester.signal, process) {
        (Some(signal), Some(process)) => format!("{signal} from {process}"),
        (Some(signal), None) => signal.clone(),
        (None, process) => process.unwrap_or(UNKNOWN).to_owned(),
    }
}
