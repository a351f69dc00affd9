//! Resolving real files.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::*;

fn recipe(directory: &Path, program: &str) -> Recipe {
    Recipe {
        command: vec![program.into()],
        directory: directory.into(),
        dropped: Vec::new(),
        drops_at_start: true,
        absolute_argv0: false,
        env_file: None,
        account: AccountSpec::default(),
    }
}

fn fault(recipe: &Recipe) -> String {
    recipe.resolve(Generation(7), &[], &Attributes::default()).map(|_| ()).unwrap_err().in_words()
}

#[test]
fn a_program_with_a_slash_starts_at_the_release_directory() {
    let directory = tempfile::tempdir().unwrap();
    let server = directory.path().join("server");
    fs::write(&server, "#!/bin/sh\n").unwrap();
    let recipe = recipe(directory.path(), "./server");
    let message = fault(&recipe);
    assert!(
        message.contains("cannot execute ./server") && message.contains("Permission denied"),
        "{message}"
    );
    fs::set_permissions(&server, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(
        recipe.resolve(Generation(7), &[], &Attributes::default()).unwrap().program.path(),
        c"./server"
    );
}

#[test]
fn missing_files_are_named() {
    let directory = tempfile::tempdir().unwrap();
    assert!(fault(&recipe(directory.path(), "./server")).contains("No such file or directory"));
    assert!(fault(&recipe(directory.path(), "no-such-program-anywhere")).contains("in PATH ("));
    assert!(fault(&recipe(&directory.path().join("gone"), "sh")).starts_with("cannot run in "));
    assert!(
        fault(&recipe(Path::new("/"), "/tmp")).contains("Permission denied"),
        "a directory is not a program"
    );
}

#[test]
fn hints_name_the_true_cause() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "x").unwrap();
    for (program, hint) in [
        ("status", "that is a command of einhyrningsinsctl"),
        ("set-workers", "that is a command of einhyrningsinsctl"),
        ("no-such-program-anywhere", "give a path with a slash, such as ./server"),
        ("./file --foo", "the program and its arguments must be separate words: ./file --foo"),
        ("sh -c true", "the program and its arguments must be separate words: sh -c true"),
        ("./file", "check that it is a file with its executable bit set (chmod +x)"),
        ("/usr", "that is a directory; give a program in it"),
        ("./gone", "a program with a slash is a path that starts at the directory of --chdir"),
    ] {
        let error = recipe(directory.path(), program)
            .resolve(Generation(7), &[], &Attributes::default())
            .map(|_| ())
            .unwrap_err();
        assert_eq!(error.hint().as_deref(), Some(hint), "for {program}");
    }
}

#[test]
fn a_plain_name_is_looked_up_in_path() {
    let release = recipe(Path::new("/"), "sh").resolve(Generation(7), &[], &Attributes::default()).unwrap();
    assert!(release.program.path().to_str().unwrap().ends_with("/sh"));
    assert_eq!(release.argv, [c"sh".to_owned()]);
}

#[test]
fn workers_do_not_inherit_variables_meant_for_the_master() {
    for name in ["LISTEN_FDS", "EINHORN_FD_0", "EINHORN_MASTER_PID", "NOTIFY_SOCKET", "SERVER_STARTER_PORT"] {
        assert!(is_masters_own(name), "{name}");
    }
    for name in ["LISTEN_ADDRESS", "PATH", "EINHORN", "NOTIFY_SOCKET_PATH"] {
        assert!(!is_masters_own(name), "{name}");
    }
}

/// A directory with a program and a file of variables.
fn with_variables(variables: &str) -> (tempfile::TempDir, Recipe) {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("app.env"), variables).unwrap();
    let recipe = Recipe { env_file: Some("app.env".into()), ..recipe(directory.path(), "sh") };
    (directory, recipe)
}

#[test]
fn variables_of_the_file_override_inherited_ones_and_occur_once() {
    let inherited = env::var("PATH").unwrap();
    let (_directory, mut recipe) = with_variables("PATH=/somewhere\nHOME=\nNEW=1\n");
    recipe.dropped = vec!["NEW".into(), "CARGO_MANIFEST_DIR".into()];
    let release = recipe
        .resolve(Generation(7), &[("EINHORN_FD_COUNT".into(), "0".into())], &Attributes::default())
        .unwrap();
    let values = |name: &str| -> Vec<_> {
        let text = |variable: &CString| variable.to_str().unwrap().to_owned();
        let all = release.env.iter().map(text);
        all.filter_map(|text| text.strip_prefix(&format!("{name}=")).map(str::to_owned)).collect()
    };
    assert_eq!(values("PATH"), ["/somewhere"]);
    assert_eq!(values("HOME"), [""]);
    assert_eq!(values("NEW"), ["1"], "only inherited variables are dropped");
    assert_eq!(values("EINHORN_FD_COUNT"), ["0"]);
    assert!(values("CARGO_MANIFEST_DIR").is_empty());
    assert_eq!(values("PWD"), [recipe.directory.to_str().unwrap()]);
    assert!(inherited.contains("/bin"), "sh was looked up in the master's own PATH: {inherited}");
}

#[test]
fn dropping_variables_may_wait_for_a_new_master() {
    let kept = |drops_at_start| {
        let dropped = vec!["PATH".into()];
        let recipe = Recipe { dropped, drops_at_start, ..recipe(Path::new("/"), "sh") };
        recipe
            .resolve(Generation(7), &[], &Attributes::default())
            .unwrap()
            .env
            .iter()
            .any(|variable| variable.to_bytes().starts_with(b"PATH="))
    };
    assert!(!kept(true));
    assert!(kept(false));
}

#[test]
fn the_first_argument_may_be_the_absolute_path_of_the_program() {
    let directory = tempfile::tempdir().unwrap();
    fs::copy("/bin/true", directory.path().join("server")).unwrap();
    let absolute = directory.path().join("server");
    let first = |program: &str, absolute_argv0| {
        let recipe = Recipe { absolute_argv0, ..recipe(directory.path(), program) };
        recipe.resolve(Generation(7), &[], &Attributes::default()).unwrap().argv[0]
            .to_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(first("./server", true), absolute.to_str().unwrap());
    assert_eq!(first("./server", false), "./server");
    let found = first("sh", true);
    assert!(found.starts_with('/') && found.ends_with("/sh"), "{found}");
    assert_eq!(first(absolute.to_str().unwrap(), true), absolute.to_str().unwrap());
}

#[test]
fn a_fault_in_the_file_of_variables_is_named_with_its_line() {
    for (variables, message) in [
        ("A=1\nB", "line 2: it has no \"=\"; write NAME=value"),
        ("LISTEN_FDS=3", "line 1: LISTEN_FDS is set by the master"),
        ("A=\n\nPWD=/", "line 3: PWD is set by the master"),
    ] {
        let (directory, recipe) = with_variables(variables);
        let directory = directory.path().display().to_string();
        let words = format!("cannot use the variables of app.env, looked up from {directory}: {message}");
        assert_eq!(fault(&recipe), words);
    }
    let (directory, recipe) = with_variables("");
    fs::remove_file(directory.path().join("app.env")).unwrap();
    assert!(
        fault(&recipe).ends_with(": it cannot be read: No such file or directory (os error 2)"),
        "{}",
        fault(&recipe)
    );
}

#[test]
fn a_binary_is_pinned_and_a_script_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let server = directory.path().join("server");
    let recipe = recipe(directory.path(), "./server");
    fs::copy("/bin/true", &server).unwrap();
    assert!(
        recipe.resolve(Generation(7), &[], &Attributes::default()).unwrap().program.executable().is_some()
    );
    fs::write(&server, "#!/bin/sh\n").unwrap();
    assert!(
        recipe.resolve(Generation(7), &[], &Attributes::default()).unwrap().program.executable().is_none()
    );
    fs::write(&server, "#").unwrap();
    assert!(
        recipe.resolve(Generation(7), &[], &Attributes::default()).unwrap().program.executable().is_some(),
        "too short to be a script"
    );
}

#[test]
fn the_status_identifies_the_file_whatever_its_timestamp() {
    use std::os::unix::fs::MetadataExt;
    use std::time::{Duration, SystemTime};

    let directory = tempfile::tempdir().unwrap();
    let server = directory.path().join("server");
    fs::copy("/bin/true", &server).unwrap();
    let recipe = recipe(directory.path(), "./server");
    let (epoch, day) = (SystemTime::UNIX_EPOCH, Duration::from_secs(86_400));
    for (modified, text) in [
        (epoch + day, "1970-01-02T00:00:00Z"),
        (epoch - day, "1970-01-01T00:00:00Z"),
        (epoch + 5_000_000 * day, "9999-12-31T23:59:59Z"),
    ] {
        // Not every file system can store the last one.
        let set = fs::File::open(&server).unwrap().set_modified(modified);
        if set.is_err() || fs::metadata(&server).unwrap().modified().unwrap() != modified {
            continue;
        }
        let status = recipe.resolve(Generation(7), &[], &Attributes::default()).unwrap().status();
        assert_eq!((status.generation, status.modified.as_str()), (7, text));
        let metadata = fs::metadata(&server).unwrap();
        assert_eq!((status.device, status.inode), (metadata.dev(), metadata.ino()));
        assert_eq!(status.program, fs::canonicalize(&server).unwrap().display().to_string());
    }
}
