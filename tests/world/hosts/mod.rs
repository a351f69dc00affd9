//! Many hosts: Ansible deploys over ssh to machines that each have a systemd, with the role and the playbooks of
//! `einhyrningsins/contrib/ansible`.

mod deploys;
mod failures;
mod fleet;

use tests::Trial;

pub(crate) fn trials() -> Vec<Trial> {
    [deploys::trials(), failures::trials()].into_iter().flatten().collect()
}
