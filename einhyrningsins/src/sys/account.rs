//! Users and groups of workers: resolves names and numbers to credentials.
//!
//! A lookup asks the name service (`nsswitch.conf(5)`). It reads files or, if the system is set up so, blocks
//! on a server over the network. With musl, it reads `/etc/passwd` and `/etc/group`, and asks nscd if that runs.

use std::ffi::{CString, OsString};
use std::{fmt, fs};

use nix::errno::Errno;
use nix::unistd::{self, Gid, Group, Uid, User, getegid, geteuid, getgid, getgroups, getuid};
use serde::{Deserialize, Serialize};

/// To the kernel, this number means "leave it unchanged", so no user or group can have it (`setresuid(2)`).
const NOBODY_AT_ALL: u32 = u32::MAX;

/// The kernel's default for users without a number (`user_namespaces(7)`).
const OVERFLOW_UID: u32 = 65_534;

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AccountSpec {
    /// A name or a number.
    pub user: Option<String>,
    /// A name or a number; `None` for the user's own group.
    pub group: Option<String>,
}

/// The ids that a process changes to. `None` keeps the master's.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Credentials {
    /// Real, effective and saved user id.
    pub uid: Option<u32>,
    /// Real, effective and saved group id.
    pub gid: Option<u32>,
    /// Supplementary groups, which replace the master's.
    pub groups: Option<Vec<u32>>,
}

/// The result of looking up an [`AccountSpec`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Account {
    /// The ids of the account.
    pub credentials: Credentials,
    /// `HOME`, `USER` and `LOGNAME`, if there is a user. A variable without a value has no entry in the user
    /// database.
    pub variables: Vec<(&'static str, Option<OsString>)>,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccountError {
    #[error("no such user: {}", .0.escape_debug())]
    UnknownUser(String),
    #[error("no such group: {}", .0.escape_debug())]
    UnknownGroup(String),
    /// The user id has no entry, so its group is unknown.
    #[error("user {0} has no entry in the user database, so its group is unknown")]
    NoGroup(u32),
    #[error("cannot look up {what}")]
    Lookup {
        /// The user or group that was looked up.
        what: String,
        source: Errno,
    },
}

impl AccountError {
    /// What helps, by option and build. musl has no name service switch, so a program linked with it does not find each
    /// name that `getent` finds.
    pub fn hint(&self) -> &'static str {
        let is_musl = cfg!(target_env = "musl");
        match self {
            Self::UnknownUser(_) if is_musl => {
                "this build finds users in /etc/passwd and by nscd only, none of LDAP, SSSD or systemd; \
                 give numbers, such as --user 1000:1000"
            }
            Self::UnknownUser(_) => "a user is a name that \"getent passwd\" knows, or a number",
            Self::UnknownGroup(_) if is_musl => {
                "this build finds groups in /etc/group and by nscd only, none of LDAP, SSSD or systemd; \
                 give a number"
            }
            Self::UnknownGroup(_) => "a group is a name that \"getent group\" knows, or a number",
            Self::NoGroup(_) => "give one: --user USER:GROUP",
            Self::Lookup { .. } => "does \"getent passwd\" answer?",
        }
    }
}

impl AccountSpec {
    /// Asks the name service; may block. A number is always an id, even if some user has it as a name.
    ///
    /// A user brings its supplementary groups, as `initgroups(3)` finds them. A group alone leaves the
    /// master's.
    pub fn look_up(&self) -> Result<Account, AccountError> {
        let gid = self.group.as_deref().map(group_id).transpose()?;
        let Some(user) = &self.user else {
            return Ok(Account {
                credentials: Credentials { gid, ..Credentials::default() },
                variables: Vec::new(),
            });
        };
        let (uid, entry) = find_user(user)?;
        let gid = match (gid, &entry) {
            (Some(gid), _) => gid,
            (None, Some(entry)) => entry.gid.as_raw(),
            (None, None) => return Err(AccountError::NoGroup(uid)),
        };
        let groups = match &entry {
            Some(entry) => groups_of(&entry.name, gid)?,
            None => vec![gid],
        };
        let name = entry.as_ref().map(|entry| OsString::from(&entry.name));
        let home = entry.map(|entry| entry.dir.into_os_string());
        Ok(Account {
            credentials: Credentials { uid: Some(uid), gid: Some(gid), groups: Some(groups) },
            variables: vec![("HOME", home), ("USER", name.clone()), ("LOGNAME", name)],
        })
    }
}

impl fmt::Display for AccountSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.user, &self.group) {
            (Some(user), Some(group)) => {
                write!(f, "user {}, group {}", user.escape_debug(), group.escape_debug())
            }
            (Some(user), None) => write!(f, "user {}", user.escape_debug()),
            (None, Some(group)) => write!(f, "group {}", group.escape_debug()),
            (None, None) => f.write_str("the master's user"),
        }
    }
}

impl Credentials {
    /// Whether this process already has these credentials, so that no change is needed; the change might not be
    /// permitted. A process that already has user and group, and is not root, keeps its supplementary groups: whoever
    /// started it, such as a container runtime, chose them.
    #[must_use]
    pub fn are_own(&self) -> bool {
        let may_differ = self.uid.is_some_and(|uid| uid != 0);
        let is_own_uid = |uid: u32| [getuid(), geteuid()].iter().all(|own| own.as_raw() == uid);
        let is_own_gid = |gid: u32| [getgid(), getegid()].iter().all(|own| own.as_raw() == gid);
        self.uid.is_none_or(is_own_uid)
            && self.gid.is_none_or(is_own_gid)
            && (may_differ || self.has_own_groups())
    }

    /// Whether the supplementary groups are those of this process. The group itself is one of them either way.
    fn has_own_groups(&self) -> bool {
        self.groups.as_deref().is_none_or(|groups| {
            let own = getgroups().unwrap_or_default().into_iter().chain([getegid()]);
            sorted(own.map(Gid::as_raw)) == sorted(groups.iter().copied().chain(self.gid))
        })
    }

    /// Whether `group` is one of those that a process with these credentials has.
    #[must_use]
    pub fn has_group(&self, group: u32) -> bool {
        self.gid == Some(group) || self.groups.as_ref().is_some_and(|groups| groups.contains(&group))
    }

    /// Whether the user differs from that of this process.
    #[must_use]
    pub fn is_other_user(&self) -> bool {
        self.uid.is_some_and(|uid| uid != geteuid().as_raw())
    }

    /// Whether the permission bits of a file with this owner, group and `mode` allow executing it, or searching
    /// it if it is a directory. Ids that are `None` are taken from the master.
    #[must_use]
    pub(super) fn may_execute(&self, owner: u32, group: u32, mode: u32) -> bool {
        let uid = self.uid.unwrap_or_else(|| geteuid().as_raw());
        let gid = self.gid.unwrap_or_else(|| getegid().as_raw());
        let is_member = || match &self.groups {
            Some(groups) => groups.contains(&group),
            None => getgroups().is_ok_and(|own| own.contains(&Gid::from_raw(group))),
        };
        let bit = match () {
            () if uid == 0 => 0o111,
            () if uid == owner => 0o100,
            () if gid == group || is_member() => 0o010,
            () => 0o001,
        };
        mode & bit != 0
    }
}

fn sorted(numbers: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut numbers: Vec<_> = numbers.collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

/// Reads `text` as a number; `None` if it is a name.
fn number(text: &str) -> Option<u32> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(NOBODY_AT_ALL))
}

fn find_user(text: &str) -> Result<(u32, Option<User>), AccountError> {
    let failed = |source| AccountError::Lookup { what: format!("user {}", text.escape_debug()), source };
    match number(text) {
        Some(NOBODY_AT_ALL) => Err(AccountError::UnknownUser(text.to_owned())),
        Some(uid) => Ok((uid, User::from_uid(Uid::from_raw(uid)).or_else(unless_unknown).map_err(failed)?)),
        None => match User::from_name(text).or_else(unless_unknown).map_err(failed)? {
            Some(user) => Ok((user.uid.as_raw(), Some(user))),
            None => Err(AccountError::UnknownUser(text.to_owned())),
        },
    }
}

/// The id of a user, by name or number.
pub fn user_id(text: &str) -> Result<u32, AccountError> {
    find_user(text).map(|(uid, _)| uid)
}

/// The id of a group, by name or number.
pub fn group_id(text: &str) -> Result<u32, AccountError> {
    let unknown = || AccountError::UnknownGroup(text.to_owned());
    match number(text) {
        Some(NOBODY_AT_ALL) => Err(unknown()),
        Some(gid) => Ok(gid),
        None => {
            let group = Group::from_name(text).or_else(unless_unknown).map_err(|source| {
                AccountError::Lookup { what: format!("group {}", text.escape_debug()), source }
            })?;
            group.map(|group| group.gid.as_raw()).ok_or_else(unknown)
        }
    }
}

/// Whether the kernel shows other users by the number of this process's own: those that its user namespace has no number for all
/// have one number, usually that of `nobody`.
///
/// # Source
/// `user_namespaces(7)`, "Unmapped user and group IDs"; `/proc/sys/kernel/overflowuid` and `/proc/PID/uid_map`.
#[must_use]
pub fn is_ambiguous() -> bool {
    is_overflow(geteuid().as_raw())
        && !maps_all(&fs::read_to_string("/proc/self/uid_map").unwrap_or_default())
}

fn is_overflow(uid: u32) -> bool {
    let overflow = fs::read_to_string("/proc/sys/kernel/overflowuid").ok();
    uid == overflow.and_then(|text| text.trim().parse().ok()).unwrap_or(OVERFLOW_UID)
}

/// Whether a map of users, as in `/proc/PID/uid_map`, has all of them.
fn maps_all(map: &str) -> bool {
    let lengths = map.lines().filter_map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok());
    lengths.sum::<u64>() >= u64::from(NOBODY_AT_ALL)
}

/// Errors with which some name services report that an entry does not exist. Source: `getpwnam(3)`.
fn unless_unknown<T>(errno: Errno) -> Result<Option<T>, Errno> {
    match errno {
        Errno::ENOENT | Errno::ESRCH | Errno::EBADF | Errno::EPERM => Ok(None),
        errno => Err(errno),
    }
}

/// The groups that `initgroups(3)` would set.
fn groups_of(name: &str, gid: u32) -> Result<Vec<u32>, AccountError> {
    // A name with a NUL has no entry, so it never gets here.
    let c_name = CString::new(name).unwrap_or_default();
    let groups = unistd::getgrouplist(&c_name, Gid::from_raw(gid));
    let groups =
        groups.map_err(|source| AccountError::Lookup { what: format!("the groups of {name}"), source })?;
    Ok(groups.into_iter().map(Gid::as_raw).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look_up(user: Option<&str>, group: Option<&str>) -> Result<Account, String> {
        let spec = AccountSpec { user: user.map(str::to_owned), group: group.map(str::to_owned) };
        spec.look_up().map_err(|error| error.to_string())
    }

    #[test]
    fn a_user_is_found_by_name_and_by_number_with_its_groups_and_variables() {
        let root = look_up(Some("root"), None).unwrap();
        assert_eq!((root.credentials.uid, root.credentials.gid), (Some(0), Some(0)));
        assert_eq!(root.credentials.groups, Some(groups_of("root", 0).unwrap()));
        let entry = User::from_name("root").unwrap().unwrap();
        assert_eq!(
            root.variables,
            [
                ("HOME", Some(entry.dir.into_os_string())),
                ("USER", Some("root".into())),
                ("LOGNAME", Some("root".into()))
            ]
        );
        assert_eq!(look_up(Some("0"), None), Ok(root));
    }

    #[test]
    fn a_given_group_replaces_the_users_own() {
        let account = look_up(Some("root"), Some("12345")).unwrap();
        assert_eq!(account.credentials.gid, Some(12_345));
        assert!(account.credentials.groups.unwrap().contains(&12_345));
        let alone = look_up(None, Some("root")).unwrap();
        assert_eq!(alone.credentials, Credentials { gid: Some(0), ..Credentials::default() });
        assert!(alone.variables.is_empty(), "the variables belong to the user");
    }

    #[test]
    fn a_number_without_an_entry_needs_a_group_and_has_no_home() {
        let account = look_up(Some("54321"), Some("12345")).unwrap();
        let expected = Credentials { uid: Some(54_321), gid: Some(12_345), groups: Some(vec![12_345]) };
        assert_eq!(account.credentials, expected);
        assert_eq!(account.variables, [("HOME", None), ("USER", None), ("LOGNAME", None)]);
        assert_eq!(
            look_up(Some("54321"), None),
            Err("user 54321 has no entry in the user database, so its group is unknown".into())
        );
    }

    #[test]
    fn an_unknown_account_is_named_and_so_is_the_reserved_number() {
        for (user, group, message) in [
            (Some("no-such-user"), None, "no such user: no-such-user"),
            (Some(""), None, "no such user: "),
            (Some("a\0b"), None, "no such user: a\\0b"),
            (Some("4294967295"), Some("0"), "no such user: 4294967295"),
            (Some("99999999999"), Some("0"), "no such user: 99999999999"),
            (None, Some("no-such-group"), "no such group: no-such-group"),
            (Some("root"), Some("4294967295"), "no such group: 4294967295"),
            (Some("-1"), Some("0"), "no such user: -1"),
        ] {
            assert_eq!(look_up(user, group), Err(message.to_owned()));
        }
    }

    #[test]
    fn only_a_map_of_all_users_leaves_none_without_a_number() {
        for (map, all) in [
            ("         0          0 4294967295\n", true),
            ("0 0 1000\n1000 100000 4294966295\n", true),
            ("0 100000 65536\n", false),
            ("0 1000 1\n", false),
            ("", false),
            ("nonsense\n", false),
        ] {
            assert_eq!(maps_all(map), all, "{map:?}");
        }
        assert!(is_overflow(OVERFLOW_UID) || fs::exists("/proc/sys/kernel/overflowuid").unwrap());
        assert!(!is_overflow(0));
    }

    #[test]
    fn a_member_has_the_group_as_its_own_or_beside_it() {
        let who = Credentials { uid: Some(10), gid: Some(20), groups: Some(vec![21]) };
        assert!(who.has_group(20) && who.has_group(21) && !who.has_group(22));
        assert!(!Credentials::default().has_group(0));
    }

    #[test]
    fn own_credentials_need_no_change() {
        let own = Credentials {
            uid: Some(getuid().as_raw()),
            gid: Some(getgid().as_raw()),
            groups: Some(getgroups().unwrap().into_iter().map(Gid::as_raw).collect()),
        };
        assert!(own.are_own() && !own.is_other_user());
        let other = Credentials { uid: Some(getuid().as_raw() + 1), ..own.clone() };
        assert!(!other.are_own() && other.is_other_user());
        // Only root may change its groups, so for other users a difference does not count.
        let with_other_groups = Credentials { groups: Some(vec![54_321]), ..own };
        assert_eq!(with_other_groups.are_own(), !getuid().is_root());
        assert!(Credentials::default().are_own());
    }

    #[test]
    fn the_first_matching_permission_class_decides() {
        let who = Credentials { uid: Some(10), gid: Some(20), groups: Some(vec![20, 21]) };
        for (owner, group, mode, may) in [
            (10, 0, 0o100, true),
            (10, 20, 0o011, false),
            (11, 20, 0o010, true),
            (11, 21, 0o710, true),
            (11, 21, 0o701, false),
            (11, 22, 0o701, true),
            (11, 22, 0o770, false),
        ] {
            assert_eq!(who.may_execute(owner, group, mode), may, "{owner}:{group} {mode:o}");
        }
        let root = Credentials { uid: Some(0), ..who };
        assert!(root.may_execute(11, 22, 0o100) && !root.may_execute(11, 22, 0o666));
    }
}
