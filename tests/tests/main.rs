//! The tests of the real programs, each file one topic. `src/needs.rs` has the harness.

mod aftermath;
mod architecture;
mod bad_input;
mod big_fleets;
mod care;
mod checks;
mod checks_ends;
mod checks_servers;
mod checks_twins;
mod completions;
mod contract;
mod control;
mod costs_nothing;
mod ctl;
mod deploys;
mod descriptor_store;
mod documentation;
mod einhorn_dialect;
mod einhorn_wire;
mod faults;
mod floods;
mod history;
mod hooks;
mod hostile_clients;
mod identity;
mod impostors;
mod json_lines;
mod links;
mod load_client;
mod log_workers;
mod logs;
mod manual_pages;
mod metrics;
mod nothing_is_dropped;
mod notify;
mod observers;
mod old_kernels;
mod options;
mod options_file;
mod options_release;
mod pace;
mod page_blocks;
mod per_slot;
mod per_slot_sockets;
mod per_slot_steering;
mod pid_one;
mod probe;
mod process;
mod real_servers;
mod reexec;
mod reexec_clients;
mod reexec_crash;
mod reexec_direct;
mod reexec_keeps;
mod reexec_script;
mod releases;
mod remote;
mod rollback;
mod ruby_client;
mod serve;
mod serve_limits;
mod serve_places;
mod serve_prometheus;
mod service;
mod signals;
mod slot_faults;
mod sockets;
mod spawn;
mod stopping;
mod top;
mod vanished;
mod worker_examples;
mod worker_library;

use std::process::ExitCode;

fn main() -> ExitCode {
    let topics = [
        aftermath::trials(),
        architecture::trials(),
        bad_input::trials(),
        big_fleets::trials(),
        care::trials(),
        checks::trials(),
        checks_ends::trials(),
        checks_servers::trials(),
        checks_twins::trials(),
        contract::trials(),
        completions::trials(),
        control::trials(),
        costs_nothing::trials(),
        ctl::trials(),
        deploys::trials(),
        descriptor_store::trials(),
        descriptor_store::slots::trials(),
        documentation::trials(),
        einhorn_dialect::trials(),
        einhorn_wire::trials(),
        faults::trials(),
        floods::trials(),
        history::trials(),
        hooks::trials(),
        hostile_clients::trials(),
        identity::trials(),
        impostors::trials(),
        json_lines::trials(),
        links::trials(),
        load_client::trials(),
        log_workers::trials(),
        logs::trials(),
        manual_pages::trials(),
        metrics::trials(),
        nothing_is_dropped::trials(),
        notify::trials(),
        observers::trials(),
        old_kernels::trials(),
        options::trials(),
        options_file::trials(),
        options_release::trials(),
        per_slot::trials(),
        pace::trials(),
        page_blocks::trials(),
        per_slot_sockets::trials(),
        per_slot_steering::trials(),
        pid_one::trials(),
        probe::trials(),
        process::trials(),
        real_servers::trials(),
        reexec::trials(),
        reexec_clients::trials(),
        reexec_crash::trials(),
        reexec_direct::trials(),
        reexec_keeps::trials(),
        reexec_script::trials(),
        remote::trials(),
        releases::trials(),
        rollback::trials(),
        ruby_client::trials(),
        serve::trials(),
        serve_limits::trials(),
        serve_places::trials(),
        serve_prometheus::trials(),
        service::trials(),
        signals::trials(),
        slot_faults::trials(),
        sockets::trials(),
        spawn::trials(),
        stopping::trials(),
        top::trials(),
        vanished::trials(),
        worker_examples::trials(),
        worker_library::trials(),
    ];
    tests::needs::run(topics.into_iter().flatten().collect(), None)
}
