//! Packages: what is in them, and what they leave behind.

use tests::Trial;

mod deb;

pub(crate) fn trials() -> Vec<Trial> {
    [deb::trials()].into_iter().flatten().collect()
}
