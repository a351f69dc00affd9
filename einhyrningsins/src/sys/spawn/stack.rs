//! The stack that a child runs on until its exec.

use std::ffi::c_void;
use std::ptr;

use nix::errno::Errno;
use nix::libc;

/// Room for the child, in bytes. It makes a dozen system calls a few frames deep: a few kilobytes, even in a
/// debug build. Untouched pages cost nothing.
const STACK_BYTES: usize = 64 * 1024;

/// A mapped stack with an inaccessible guard page below it.
///
/// One child at a time runs on it: the parent is suspended until the child has left it, or the child has a
/// copy.
#[derive(Debug)]
pub(super) struct Stack {
    base: *mut c_void,
    bytes: usize,
}

impl Stack {
    /// Maps a stack and its guard page.
    pub(super) fn new() -> Result<Self, Errno> {
        // SAFETY: `sysconf` reads a constant of the system.
        let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        let guard_bytes = usize::try_from(page_bytes).map_err(|_| Errno::last())?;
        let bytes = guard_bytes + STACK_BYTES;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK | libc::MAP_NORESERVE;
        // SAFETY: a new private mapping at a place of the kernel's choice; no memory in use is affected.
        let base = unsafe { libc::mmap(ptr::null_mut(), bytes, libc::PROT_NONE, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        let stack = Self { base, bytes };
        // SAFETY: `guard_bytes` is less than the length of the mapping at `base`.
        let lowest = unsafe { base.byte_add(guard_bytes) };
        // SAFETY: the range is the upper part of the mapping made above, which nothing else uses.
        let result = unsafe { libc::mprotect(lowest, STACK_BYTES, libc::PROT_READ | libc::PROT_WRITE) };
        Errno::result(result)?;
        Ok(stack)
    }

    /// The address just above the stack, where it begins: it grows down on every architecture of Rust's Linux
    /// targets.
    pub(super) fn top(&self) -> *mut c_void {
        // SAFETY: one past the end of the mapping that `base` points at the beginning of.
        unsafe { self.base.byte_add(self.bytes) }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made in `new`. A child that ran on it, rather than on a copy, has execed
        // or exited, else the thread that owns the stack would still be suspended.
        unsafe { libc::munmap(self.base, self.bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_the_stack_is_an_inaccessible_page() {
        let stack = Stack::new().unwrap();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let permissions = |address: usize| {
            maps.lines().find_map(|line| {
                let (range, rest) = line.split_once(' ')?;
                let (from, to) = range.split_once('-')?;
                let from = usize::from_str_radix(from, 16).ok()?;
                let to = usize::from_str_radix(to, 16).ok()?;
                (from..to).contains(&address).then(|| rest[..4].to_owned())
            })
        };
        let top = stack.top() as usize;
        assert_eq!(permissions(top - 1).as_deref(), Some("rw-p"));
        assert_eq!(permissions(top - STACK_BYTES).as_deref(), Some("rw-p"));
        assert_eq!(permissions(top - STACK_BYTES - 1).as_deref(), Some("---p"));
        assert_eq!(permissions(stack.base as usize).as_deref(), Some("---p"));
    }
}
