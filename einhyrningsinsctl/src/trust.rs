//! The judge of masters: whether a process that listens at a path may be the master that the user means.
//!
//! The kernel names the user that listens at a connected socket. Root, the user of this client and that of
//! `--trust-owner` are trusted at any path. Another user, such as that of a service, is trusted only at a path where
//! nobody else can have put a socket: a shared directory such as /tmp is open to impostors. A directory without the sticky
//! bit that others may write to was opened by its owner, who lets them do anything there: that is worth a warning.
//! [`Trust`] judges and does nothing else; the session refuses or warns.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::{User, geteuid};

use crate::error::Error;

/// The variable that stands for `--trust-owner`.
pub(crate) const VARIABLE: &str = "EINHYRNINGSINS_TRUST_OWNER";

/// How many symbolic links a path may lead through. Source: `path_resolution(7)`.
const LINKS_MAX: usize = 40;

/// Group and others may write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Only the owner of an entry, or of the directory, may move or remove the entry.
const STICKY: u32 = 0o1000;

/// The users that are trusted at any path, by their numbers.
#[derive(Debug, Clone)]
pub(crate) struct Trust {
    known: Vec<u32>,
}

/// Why a master is not trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Doubt {
    /// The user that it runs as.
    pub(crate) owner: Owner,
    reason: Reason,
}

/// What is wrong with its path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Reason {
    /// Others may put a socket into this directory, which is shared as /tmp is.
    Shared(PathBuf),
    /// Others may put a socket into this directory and move what is in it: its owner allows them anything there.
    Open(PathBuf),
    /// This directory belongs to a third user.
    Foreign(PathBuf, Owner),
    /// The path cannot be checked.
    Unreadable(PathBuf, Errno),
}

/// A user, shown by name and number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner(pub(crate) u32);

impl Owner {
    /// The name; the number if it has none.
    pub(crate) fn name(self) -> String {
        let user = User::from_uid(self.0.into()).ok().flatten();
        user.map_or_else(|| self.0.to_string(), |user| user.name)
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (uid {})", self.name(), self.0)
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "runs as {}, and ", self.owner)?;
        match &self.reason {
            Reason::Shared(directory) | Reason::Open(directory) => {
                write!(f, "others may put a socket into {}", directory.display())
            }
            Reason::Foreign(directory, owner) => {
                write!(f, "{} belongs to {owner}", directory.display())
            }
            Reason::Unreadable(path, errno) => {
                write!(f, "{} cannot be checked: {}", path.display(), io::Error::from(*errno))
            }
        }
    }
}

impl Doubt {
    /// Whether a warning is enough.
    pub(crate) fn is_slight(&self) -> bool {
        matches!(self.reason, Reason::Open(_))
    }
}

impl Trust {
    /// Trusts the user `given`, by name or number, or else the one that the environment names, beside root and the
    /// user of this client.
    ///
    /// # Errors
    /// [`Error`] of kind usage if there is no such user.
    pub(crate) fn new(given: Option<&str>) -> Result<Self, Error> {
        let variable = env::var_os(VARIABLE).filter(|value| !value.is_empty());
        let owner = match (given, variable) {
            (Some(given), _) => Some(user(OsStr::new(given), "--trust-owner")?),
            (None, Some(value)) => Some(user(&value, VARIABLE)?),
            (None, None) => None,
        };
        Ok(Self { known: [0, geteuid().as_raw()].into_iter().chain(owner).collect() })
    }

    /// Why a master of user `peer` at `path` is not trusted; `None` if it is.
    pub(crate) fn doubt(&self, peer: u32, path: &Path) -> Option<Doubt> {
        if self.known.contains(&peer) {
            return None;
        }
        let reason = self.weakness(peer, path)?;
        Some(Doubt { owner: Owner(peer), reason })
    }

    /// Follows `path` from the root and looks at each directory on the way. It must belong to a trusted user or to `peer`.
    /// Nobody else may write to it, unless it is sticky and the next entry belongs to a trusted user. The worst counts.
    fn weakness(&self, peer: u32, path: &Path) -> Option<Reason> {
        let unreadable = |path: &Path, error: &io::Error| {
            Some(Reason::Unreadable(path.to_owned(), Errno::from_raw(error.raw_os_error().unwrap_or(0))))
        };
        let whole = match std::path::absolute(path) {
            Ok(whole) => whole,
            Err(error) => return unreadable(path, &error),
        };
        let mut rest = names(&whole);
        let mut at = PathBuf::from("/");
        let (mut links, mut open) = (0, None);
        while let Some(name) = rest.pop() {
            if name == ".." {
                at.pop();
                continue;
            }
            let entry_path = at.join(name);
            let (directory, entry) = match (fs::symlink_metadata(&at), fs::symlink_metadata(&entry_path)) {
                (Ok(directory), Ok(entry)) => (directory, entry),
                (Err(error), _) | (_, Err(error)) => return unreadable(&entry_path, &error),
            };
            if directory.uid() != peer && !self.known.contains(&directory.uid()) {
                return Some(Reason::Foreign(at, Owner(directory.uid())));
            }
            let is_sticky = directory.mode() & STICKY != 0;
            match directory.mode() & WRITABLE_BY_OTHERS != 0 {
                true if is_sticky && !self.known.contains(&entry.uid()) => return Some(Reason::Shared(at)),
                true if !is_sticky => open = open.or_else(|| Some(Reason::Open(at.clone()))),
                _ => {}
            }
            if !entry.is_symlink() {
                at = entry_path;
                continue;
            }
            links += 1;
            match fs::read_link(&entry_path) {
                _ if links > LINKS_MAX => return unreadable(&entry_path, &Errno::ELOOP.into()),
                Err(error) => return unreadable(&entry_path, &error),
                Ok(target) => {
                    if target.is_absolute() {
                        at = PathBuf::from("/");
                    }
                    rest.extend(names(&target));
                }
            }
        }
        open
    }
}

/// The names in `path`, the first one last.
fn names(path: &Path) -> Vec<OsString> {
    let names = path.components().rev().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    names.collect()
}

/// The number of the user that `text` names, as chown(1) reads it: a name first, then a number.
fn user(text: &OsStr, source: &str) -> Result<u32, Error> {
    let text = text.to_string_lossy();
    let by_name = User::from_name(&text).ok().flatten().map(|user| user.uid.as_raw());
    by_name
        .or_else(|| text.parse().ok())
        .ok_or_else(|| Error::Usage(format!("{source}: no such user: {text}")))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use super::*;

    /// Neither root, nor whoever runs the tests.
    const SERVICE: u32 = 54_321;

    fn trust() -> Trust {
        Trust { known: vec![0, geteuid().as_raw()] }
    }

    /// A directory of the user who runs the test. Only /tmp, which is sticky, is open to others on the way to it.
    fn directory(mode: u32) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(mode)).unwrap();
        directory
    }

    #[test]
    fn a_directory_that_only_its_owner_may_write_to_vouches_for_what_is_in_it() {
        let private = directory(0o755);
        let socket = private.path().join("socket");
        fs::write(&socket, "").unwrap();
        assert_eq!(trust().doubt(SERVICE, &socket), None);
        let link = private.path().join("link");
        symlink(&socket, &link).unwrap();
        assert_eq!(trust().doubt(SERVICE, &link), None);
        for mode in [0o775, 0o757, 0o777] {
            fs::set_permissions(private.path(), Permissions::from_mode(mode)).unwrap();
            let doubt = trust().doubt(SERVICE, &socket).unwrap();
            assert_eq!(doubt.reason, Reason::Open(private.path().to_owned()), "{mode:o}");
            assert!(doubt.is_slight(), "{mode:o}");
            assert_eq!(trust().doubt(0, &socket), None, "root is trusted anywhere");
            assert_eq!(trust().doubt(geteuid().as_raw(), &socket), None, "and so is one's own master");
            assert_eq!(Trust { known: vec![SERVICE] }.doubt(SERVICE, &socket), None);
        }
    }

    #[test]
    fn every_directory_on_the_way_counts_and_so_does_where_a_link_leads() {
        let open = directory(0o777);
        let inner = open.path().join("inner");
        fs::create_dir(&inner).unwrap();
        fs::write(inner.join("socket"), "").unwrap();
        let reason = |path: &Path| trust().doubt(SERVICE, path).map(|doubt| doubt.reason);
        let is_open = Some(Reason::Open(open.path().to_owned()));
        assert_eq!(reason(&inner.join("socket")), is_open);
        assert_eq!(reason(&inner.join("../inner/./socket")), is_open);
        let private = directory(0o700);
        let link = private.path().join("link");
        symlink(inner.join("socket"), &link).unwrap();
        assert_eq!(reason(&link), is_open);
        // Sticky: nobody can move what is the tester's own.
        fs::set_permissions(open.path(), Permissions::from_mode(0o1777)).unwrap();
        assert_eq!(reason(&link), None);
        // An open directory, and in it one that is shared, with a socket of the service: the worse of them counts.
        if chown(inner.join("socket"), Some(SERVICE), None).is_ok() {
            fs::set_permissions(open.path(), Permissions::from_mode(0o777)).unwrap();
            fs::set_permissions(&inner, Permissions::from_mode(0o1777)).unwrap();
            assert_eq!(reason(&link), Some(Reason::Shared(inner)));
        }
        let circle = private.path().join("circle");
        symlink(&circle, &circle).unwrap();
        assert_eq!(reason(&circle), Some(Reason::Unreadable(circle.clone(), Errno::ELOOP)));
        let missing = private.path().join("missing");
        assert_eq!(reason(&missing), Some(Reason::Unreadable(missing.clone(), Errno::ENOENT)));
    }

    #[test]
    fn a_directory_of_a_third_user_vouches_for_nobody() {
        let private = directory(0o755);
        let socket = private.path().join("socket");
        fs::write(&socket, "").unwrap();
        // The tester is not trusted here, and is neither root's nor the service's.
        let doubt = Trust { known: vec![54_322] }.doubt(SERVICE, &socket);
        assert!(doubt.is_some(), "{doubt:?}");
    }

    #[test]
    fn a_user_is_named_or_numbered() {
        assert_eq!(user(OsStr::new("root"), "--trust-owner").unwrap(), 0);
        assert_eq!(user(OsStr::new("54321"), "--trust-owner").unwrap(), SERVICE);
        let error = user(OsStr::new("no-such-user"), VARIABLE).unwrap_err();
        assert_eq!(error.to_string(), "EINHYRNINGSINS_TRUST_OWNER: no such user: no-such-user");
        assert_eq!(Owner(SERVICE).to_string(), "54321 (uid 54321)");
    }
}
