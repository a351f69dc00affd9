//! What can be wrong with `--observe-group`: found before the first spawn, as an error or a warning.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::anyhow;

use crate::config::Control;
use crate::failure::Failure;
use crate::master::group_of;
use crate::sys::account::{Credentials, is_ambiguous};

/// Others may search a directory.
const OTHERS_SEARCH: u32 = 0o001;

/// The group of a directory may search it.
const GROUP_SEARCHES: u32 = 0o010;

/// Refuses observers that could be taken for the owner.
pub(super) fn check(control: &Control) -> Result<(), Failure> {
    if control.observe_group.is_none() || !is_ambiguous() {
        return Ok(());
    }
    let error = anyhow!(
        "cannot tell observers from the owner (--observe-group): the user of this master stands for all users that have no \
         number in its user namespace, too"
    );
    Err(Failure { error, hint: Some("run the master as another user".to_owned()) })
}

/// What is odd about observers. `workers` are the credentials that workers get.
pub(super) fn doubts(control: &Control, workers: Option<&Credentials>) -> Vec<String> {
    let (Some(name), Ok(Some(group))) = (&control.observe_group, group_of(control)) else {
        return Vec::new();
    };
    let mut doubts = Vec::new();
    if let Some((directory, mode)) = closed_directory(&control.socket, group) {
        doubts.push(format!(
            "members of group {name} (--observe-group) may not reach {}: {} has mode {mode:o}; hint: \"chgrp {name}\" and \
             \"chmod g+x\" let them search it",
            control.socket.display(),
            directory.display()
        ));
    }
    if workers.is_some_and(|workers| workers.is_other_user() && workers.has_group(group)) {
        doubts.push(format!(
            "workers (--user, --group) are members of group {name}, so they may ask what its members may (--observe-group); \
             hint: give observers a group of their own"
        ));
    }
    doubts
}

/// The first directory on the way to `socket` that members of `group` may not search by its mode, and the mode.
fn closed_directory(socket: &Path, group: u32) -> Option<(PathBuf, u32)> {
    let mut directories: Vec<_> = socket.ancestors().skip(1).collect();
    directories.reverse();
    directories.into_iter().find_map(|directory| {
        let found = fs::metadata(directory).ok()?;
        let is_open =
            found.mode() & OTHERS_SEARCH != 0 || (found.gid() == group && found.mode() & GROUP_SEARCHES != 0);
        (!is_open).then(|| (directory.to_owned(), found.mode() & 0o7777))
    })
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_first_directory_that_keeps_the_group_out_is_named() {
        let top = tempfile::tempdir().unwrap();
        let inner = top.path().join("inner");
        fs::create_dir(&inner).unwrap();
        let socket = inner.join("einhorn.sock");
        let set = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        let own = fs::metadata(&inner).unwrap().gid();
        for (outer_mode, inner_mode, group, closed) in [
            (0o711, 0o711, own + 1, None),
            (0o711, 0o710, own, None),
            (0o711, 0o710, own + 1, Some((inner.clone(), 0o710))),
            (0o700, 0o700, own, Some((top.path().to_owned(), 0o700))),
        ] {
            set(&inner, inner_mode);
            set(top.path(), outer_mode);
            assert_eq!(closed_directory(&socket, group), closed, "{outer_mode:o} {inner_mode:o}");
        }
    }
}
