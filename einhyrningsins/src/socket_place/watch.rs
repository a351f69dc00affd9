//! A watch on files that others may remove, move or replace, and on the directories that lead to them.
//!
//! It reports that something may have happened, and never what: whoever hears of it compares the files with what it
//! expects. Some changes give no event, such as a mount over a directory, or a link on the way that is set anew.

use std::collections::HashSet;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

/// A socket's file that is removed gives IN_ATTRIB alone for as long as the socket is open: its inode lives on.
const OF_FILE: AddWatchFlags = AddWatchFlags::IN_ATTRIB
    .union(AddWatchFlags::IN_MOVE_SELF)
    .union(AddWatchFlags::IN_DELETE_SELF)
    .union(AddWatchFlags::IN_DONT_FOLLOW);

/// Nothing that happens inside a directory is of interest: `/tmp` is busy.
const OF_DIRECTORY: AddWatchFlags =
    AddWatchFlags::IN_MOVE_SELF.union(AddWatchFlags::IN_DELETE_SELF).union(AddWatchFlags::IN_ONLYDIR);

/// One inotify instance for all files: a user has 128 of those by default.
#[derive(Debug)]
pub struct Watch {
    inotify: Inotify,
    watched: HashSet<WatchDescriptor>,
}

impl Watch {
    /// # Errors
    /// EMFILE if this user has too many instances, or the process too many descriptors.
    pub fn new() -> Result<Self, Errno> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        Ok(Self { inotify, watched: HashSet::new() })
    }

    /// Watches what these absolute paths lead to now, and nothing else. What cannot be watched is left out.
    pub fn follow<'a>(&mut self, paths: impl IntoIterator<Item = &'a Path>) {
        let mut watched = HashSet::new();
        for path in paths {
            watched.extend(self.inotify.add_watch(path, OF_FILE));
            watched.extend(
                path.ancestors().skip(1).flat_map(|above| self.inotify.add_watch(above, OF_DIRECTORY)),
            );
        }
        for left in self.watched.difference(&watched) {
            // It is gone already if its inode is.
            let _ = self.inotify.rm_watch(*left);
        }
        self.watched = watched;
    }

    /// What is left to close. The kernel waits then until nobody looks at a list of watches any more: some milliseconds.
    pub fn into_descriptor(self) -> OwnedFd {
        self.inotify.into()
    }

    /// Takes up all events.
    pub fn drain(&self) {
        while self.inotify.read_events().is_ok_and(|events| !events.is_empty()) {}
    }
}

impl AsRawFd for Watch {
    fn as_raw_fd(&self) -> RawFd {
        self.inotify.as_fd().as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::fd::AsFd;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;

    impl Watch {
        fn has_news(&self) -> bool {
            let mut fds = [PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN)];
            let has_news = poll(&mut fds, PollTimeout::ZERO).unwrap() > 0;
            self.drain();
            has_news
        }
    }

    #[test]
    fn what_may_take_a_name_away_is_reported_and_nothing_else() {
        let above = tempfile::tempdir().unwrap();
        let directory = above.path().join("a");
        let path = directory.join("s");
        let mut watch = Watch::new().unwrap();
        type Change<'a> = (&'a str, Box<dyn Fn() + 'a>, bool);
        let changes: [Change<'_>; 6] = [
            ("removed", Box::new(|| fs::remove_file(&path).unwrap()), true),
            ("moved", Box::new(|| fs::rename(&path, directory.join("t")).unwrap()), true),
            (
                "replaced",
                Box::new(|| {
                    fs::write(directory.join("t"), "").unwrap();
                    fs::rename(directory.join("t"), &path).unwrap();
                }),
                true,
            ),
            ("directory moved", Box::new(|| fs::rename(&directory, above.path().join("b")).unwrap()), true),
            ("beside", Box::new(|| fs::write(directory.join("u"), "").unwrap()), false),
            (
                "mode of the directory",
                Box::new(|| {
                    fs::set_permissions(&directory, Permissions::from_mode(0o700)).unwrap();
                }),
                false,
            ),
        ];
        for (what, change, is_news) in changes {
            let _ = fs::remove_dir_all(&directory);
            fs::create_dir(&directory).unwrap();
            let _socket = UnixListener::bind(&path).unwrap();
            watch.follow([path.as_path()]);
            watch.drain();
            change();
            assert_eq!(watch.has_news(), is_news, "{what}");
        }
        watch.follow([]);
        watch.drain();
        fs::create_dir(&directory).ok();
        fs::write(&path, "").ok();
        fs::remove_file(&path).unwrap();
        assert!(!watch.has_news(), "it is watched no more");
    }
}
