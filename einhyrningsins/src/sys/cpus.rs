//! Sets of CPUs that a process may run on: parsing, and the kernel's affinity masks.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use nix::errno::Errno;
use nix::libc;

use crate::forms::as_text;

/// The most CPUs that a kernel can be built for (NR_CPUS of the largest configuration).
const CPUS_MAX: u32 = 8192;

/// CPUs per word of a mask.
const WORD_BITS: u32 = libc::c_ulong::BITS;

/// Words in a mask that has room for every CPU.
const WORDS_MAX: usize = (CPUS_MAX / WORD_BITS) as usize;

/// A non-empty set of CPUs. Its text form is numbers and ranges joined by `+`: `0-3+8`.
#[derive(Clone, PartialEq, Eq)]
pub struct CpuSet(BTreeSet<u32>);

impl CpuSet {
    /// The CPUs that this process may run on.
    ///
    /// # Source
    /// `sched_getaffinity(2)`, called directly: the C library's type has room for only 1,024 CPUs.
    pub fn available() -> Result<Self, Errno> {
        let mut mask: [libc::c_ulong; WORDS_MAX] = [0; WORDS_MAX];
        // SAFETY: the kernel writes at most as many bytes as are passed, which is the size of the mask.
        let result =
            unsafe { libc::syscall(libc::SYS_sched_getaffinity, 0, size_of_val(&mask), mask.as_mut_ptr()) };
        Errno::result(result)?;
        let is_in = |cpu: &u32| mask[(cpu / WORD_BITS) as usize] & 1 << (cpu % WORD_BITS) != 0;
        Ok(Self((0..CPUS_MAX).filter(is_in).collect()))
    }

    /// One set per CPU.
    pub fn one_by_one(&self) -> Vec<Self> {
        self.0.iter().map(|cpu| Self([*cpu].into())).collect()
    }

    /// The CPUs that are not in `other`; `None` if all are.
    pub fn not_in(&self, other: &Self) -> Option<Self> {
        let difference: BTreeSet<u32> = self.0.difference(&other.0).copied().collect();
        (!difference.is_empty()).then_some(Self(difference))
    }

    /// Writes the kernel's form: CPU n is bit n, in words of the kernel's `unsigned long`.
    pub(super) fn write_mask(&self, mask: &mut Vec<libc::c_ulong>) {
        mask.clear();
        for cpu in &self.0 {
            let word = (cpu / WORD_BITS) as usize;
            mask.resize(mask.len().max(word + 1), 0);
            mask[word] |= 1 << (cpu % WORD_BITS);
        }
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cpus = self.0.iter().copied().peekable();
        let mut separator = "";
        while let Some(first) = cpus.next() {
            let mut last = first;
            while let Some(next) = cpus.next_if(|next| *next == last + 1) {
                last = next;
            }
            match first == last {
                true => write!(f, "{separator}{first}")?,
                false => write!(f, "{separator}{first}-{last}")?,
            }
            separator = "+";
        }
        Ok(())
    }
}

impl fmt::Debug for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not a [`CpuSet`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{}\" is not a set of CPUs: give numbers below {CPUS_MAX} or ranges, joined by +, such as 0-3+8",
        .0.escape_debug())]
pub struct CpuSetError(String);

impl FromStr for CpuSet {
    type Err = CpuSetError;

    fn from_str(text: &str) -> Result<Self, CpuSetError> {
        let bad = || CpuSetError(text.to_owned());
        let number = |text: &str| {
            let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<u32>().ok().filter(|cpu| is_plain && *cpu < CPUS_MAX).ok_or_else(bad)
        };
        let mut cpus = BTreeSet::new();
        for range in text.split('+') {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(bad());
            }
            cpus.extend(first..=last);
        }
        Ok(Self(cpus))
    }
}

as_text!(CpuSet);

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<CpuSet, CpuSetError> {
        text.parse()
    }

    #[test]
    fn a_set_is_made_of_numbers_and_ranges() {
        for (text, written) in
            [("0", "0"), ("3-5", "3-5"), ("8+0-1+2", "0-2+8"), ("1-1", "1"), ("8191+0+2", "0+2+8191")]
        {
            assert_eq!(parse(text).unwrap().to_string(), written, "{text}");
        }
        for text in ["", "+", "a", "1-", "-1", "2-1", "8192", "1+", "1,2", "+1", "0-9999999999"] {
            assert_eq!(parse(text), Err(CpuSetError(text.to_owned())));
        }
    }

    #[test]
    fn a_mask_has_a_bit_for_each_cpu() {
        let mut mask = vec![7, 7, 7];
        parse("0-1+65").unwrap().write_mask(&mut mask);
        let bit = 1 << (65 % libc::c_ulong::BITS);
        assert_eq!((mask[0], mask.last().copied()), (3, Some(bit)));
        assert_eq!(mask.len(), 65 / libc::c_ulong::BITS as usize + 1);
    }

    #[test]
    fn the_available_cpus_are_those_that_proc_shows() {
        let status = fs::read_to_string("/proc/thread-self/status").unwrap();
        let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:\t")).unwrap();
        let available = CpuSet::available().unwrap();
        assert_eq!(available.to_string(), list.replace(',', "+"));
        assert!(available.one_by_one().iter().all(|cpu| cpu.not_in(&available).is_none()));
        assert_eq!(parse("8000+8001").unwrap().not_in(&available), Some(parse("8000-8001").unwrap()));
    }

    proptest! {
        #[test]
        fn a_written_set_can_be_read_back(cpus in proptest::collection::btree_set(0..CPUS_MAX, 1..30)) {
            let set = CpuSet(cpus);
            prop_assert_eq!(parse(&set.to_string()), Ok(set));
        }

        #[test]
        fn any_text_is_accepted_or_refused_without_a_panic(text in "[0-9+-]{0,12}|.{0,20}") {
            let _ = parse(&text);
        }
    }
}
