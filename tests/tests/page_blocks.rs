//! The blocks of code in `README.md` and the tutorials: each is marked with where it runs, as `tests/src/pages.rs`
//! describes, and `tests/world/tutorials` runs them. Here are the marks, and how a page is compared with what was printed.

use std::fs;

use tests::pages::{self, Block, Mark, Place, Run, Shown, blocks_of, loosely};

tests::trials! {
    each_block_of_the_readme_and_the_tutorials_is_marked_with_where_it_runs,
    a_mark_is_read_from_the_line_above_its_block,
    a_block_of_the_console_is_commands_with_their_output,
    what_differs_from_run_to_run_is_not_compared_and_the_rest_is,
}

fn each_block_of_the_readme_and_the_tutorials_is_marked_with_where_it_runs() {
    let marked = pages::marked();
    let blocks: Vec<_> = marked.iter().flat_map(|page| pages::blocks(page)).collect();
    assert!(blocks.len() > 5, "{blocks:?}");
    let runner =
        fs::read_to_string(pages::repository().join("tests/world/tutorials/mod.rs")).expect("the runner");
    for page in &marked {
        assert!(runner.contains(&format!("follow(\"{page}\")")), "nobody runs the blocks of {page}");
    }
    let wrong: Vec<_> =
        blocks.iter().filter_map(|block| Some(format!("{}: {}", block.at, fault(block)?))).collect();
    assert!(wrong.is_empty(), "tests/src/pages.rs describes marks\n{}", wrong.join("\n"));
}

/// What is wrong with a block or its mark.
fn fault(block: &Block) -> Option<String> {
    let is_for = |languages: &[&str]| {
        let is = languages.contains(&block.language.as_str());
        (!is).then(|| format!("its language is {:?}, not one of {languages:?}", block.language))
    };
    match block.mark.as_ref() {
        Err(fault) => Some(fault.clone()),
        Ok(Mark::Run(_, Run::Until(_))) => is_for(&["sh"]),
        Ok(Mark::Run(_, how)) => {
            let of_console = || (block.language == "console").then(|| block.commands().err()).flatten();
            let useless = *how == Run::AnyOutput && block.language == "sh";
            is_for(&["sh", "console"]).or_else(of_console).or_else(|| {
                useless.then(|| "a block in sh shows no output that could be compared".to_owned())
            })
        }
        // A reader learns the path from the text.
        Ok(Mark::File(_, path)) => {
            let is_named = block.before.contains(&format!("`{path}`"));
            (!is_named).then(|| format!("the text before does not say `{path}`"))
        }
        Ok(Mark::Kubernetes) => is_for(&["yaml", "sh", "console"]),
        Ok(Mark::Tested(file)) => {
            let (page, _) = block.at.split_once(':').expect("a page and a line");
            let text = fs::read_to_string(pages::repository().join(file)).unwrap_or_default();
            (!text.contains(page)).then(|| format!("{file} does not read {page}"))
        }
        Ok(Mark::Shown(reason)) => (reason.len() < 10).then(|| "why is it only shown?".to_owned()),
    }
}

fn a_mark_is_read_from_the_line_above_its_block() {
    let mark = |line: &str| {
        let blocks = blocks_of("page.md", &format!("Text.\n\n{line}\n```sh\ntrue\n```\n"));
        let [block] = &blocks[..] else { panic!("{blocks:?}") };
        assert_eq!((block.at.as_str(), block.text.as_str()), ("page.md:4", "true\n"));
        block.mark.clone()
    };
    let run = |place, how| Ok(Mark::Run(place, how));
    assert_eq!(mark("<!-- run: here -->"), run(Place::Here, Run::Succeeds));
    assert_eq!(mark("<!-- run: machine, fails -->"), run(Place::Machine, Run::Fails));
    assert_eq!(mark("<!-- run: podman, any output -->"), run(Place::Podman, Run::AnyOutput));
    let until = Run::Until("4 of 4 workers up".into());
    assert_eq!(mark("<!-- run: here, until \"4 of 4 workers up\" -->"), run(Place::Here, until));
    assert_eq!(mark("<!-- file: machine /srv/a b -->"), Ok(Mark::File(Place::Machine, "/srv/a b".into())));
    assert_eq!(mark("<!-- validate: kubernetes -->"), Ok(Mark::Kubernetes));
    assert_eq!(mark("<!-- tested: tests/run -->"), Ok(Mark::Tested("tests/run".into())));
    assert_eq!(mark("<!-- shown: a reason -->"), Ok(Mark::Shown("a reason".into())));
    for line in [
        "",
        "Text:",
        "<!-- run: there -->",
        "<!-- run: here, perhaps -->",
        "<!-- file: here -->",
        "<!-- shown -->",
    ] {
        assert!(mark(line).is_err(), "{line:?}");
    }
    let blocks = blocks_of("page.md", "<!-- run: here -->\n\n```sh\n```\n");
    assert!(blocks[0].mark.is_err(), "the line above is empty");
}

fn a_block_of_the_console_is_commands_with_their_output() {
    let page = "```console\n$ one \\\n    --two\na\nb\n$ three\n```\n```console\nno command\n```\n";
    let blocks = blocks_of("page.md", page);
    let shown = |command: &str, output: &[&str]| Shown {
        command: command.into(),
        output: output.iter().map(|line| (*line).to_owned()).collect(),
    };
    let expected = [shown("one \\\n    --two", &["a", "b"]), shown("three", &[])];
    assert_eq!(blocks[0].commands().as_deref(), Ok(&expected[..]));
    assert!(blocks[1].commands().is_err());
}

fn what_differs_from_run_to_run_is_not_compared_and_the_rest_is() {
    let alike = [
        ("hello from process 19135, generation 1", "hello from process 77, generation 1"),
        (
            "slot 3: worker 19672 (generation 2) acked after 3ms, 1 of 4",
            "slot 0: worker 88 (generation 2) acked after 1.2s, 1 of 4",
        ),
        (
            "2026-11-28T22:35:43Z einhyrningsins[24105] INFO: started",
            "2027-01-02T03:04:05Z einhyrningsins[99] INFO: started",
        ),
        (
            "upgrade to generation 2 done in 6ms",
            "upgrade to generation 2 done in 9ms; 1 old worker still finishes its requests",
        ),
        ("Nov 28 23:04:19 vm systemd[1]: Started", "Dec 11 01:02:03 vm systemd[1]: Started"),
        ("   0      4  24489    2  up     2.4s   1M  0.0s", "   1 5 301  2  up  11s  24M  1.1s"),
    ];
    for (shown, printed) in alike {
        assert_eq!(loosely(shown), loosely(printed), "{shown}");
    }
    let different = [
        ("1", "0"),
        ("hello from process 19135, generation 1", "hello from process 19135, generation 2"),
        ("4 of 4 workers up", "3 of 4 workers up"),
        ("upgrade to generation 2 done in 6ms", "upgrade to generation 2 failed in 6ms"),
    ];
    for (shown, printed) in different {
        assert_ne!(loosely(shown), loosely(printed), "{shown}");
    }
    let shown = |output: &[&str]| Shown {
        command: String::new(),
        output: output.iter().map(|line| (*line).to_owned()).collect(),
    };
    assert_eq!(shown(&["b", "...", "a"]).missing("a\nx\nb\n"), [""; 0]);
    assert_eq!(shown(&["a", "a", "c"]).missing("a\nb\n"), ["a", "c"]);
}
