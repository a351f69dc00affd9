//! The static programs, where they differ from others: they know no name service.

use std::process::Command;

use tests::process::run;

use crate::made;

tests::trials! {
    the_static_programs_need_no_library needs "musl target",
    a_name_that_is_not_found_is_said_to_be_looked_up_in_files_only needs "musl target",
}

fn the_static_programs_need_no_library() {
    for program in ["einhyrningsins", "einhyrningsinsctl", "hello"] {
        let mut command = Command::new("ldd");
        command.arg(made::musl().join(program));
        let found = run(command);
        let said = format!("{}{}", found.stdout, found.stderr);
        assert!(said.contains("statically linked") || said.contains("not a dynamic executable"), "{found}");
    }
}

fn a_name_that_is_not_found_is_said_to_be_looked_up_in_files_only() {
    for (options, message, hints) in [
        (&["--user", "no-such-user"][..], "no such user: no-such-user", ["/etc/passwd", "--user 1000:1000"]),
        (&["--group", "no-such-group"], "no such group: no-such-group", ["/etc/group", "give a number"]),
        (
            &["--control-mode", "660", "--control-group", "no-such-group"],
            "no such group: no-such-group",
            ["/etc/group", "give a number"],
        ),
        (&["-b", "unix:s,user=no-such-user"], "no such user: no-such-user", ["/etc/passwd", "give numbers"]),
    ] {
        let directory = tempfile::tempdir().expect("a directory");
        let mut command = Command::new(made::musl().join("einhyrningsins"));
        command.current_dir(directory.path()).args(["-d", "control"]).args(options).args(["--", "true"]);
        let refused = run(command);
        refused.assert_code(1).assert_says(message).assert_says("  hint: this build finds ");
        refused.assert_says(hints[0]).assert_says(hints[1]);
    }
}
