//! The units under the systemd for which they are written.

pub(crate) mod machines;

use tests::Trial;

pub(crate) fn trials() -> Vec<Trial> {
    [machines::trials()].into_iter().flatten().collect()
}
