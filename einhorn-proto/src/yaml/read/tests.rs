use proptest::prelude::*;
use serde_json::json;

use super::*;

fn read(text: &[u8]) -> Result<Value, NotYaml> {
    super::read(text, Limits::REQUEST)
}

fn value(text: &str) -> Value {
    read(text.as_bytes()).unwrap_or_else(|error| panic!("{text:?} is not read: {error}"))
}

fn refusal(text: &str) -> String {
    match read(text.as_bytes()) {
        Ok(value) => panic!("{text:?} is read, as {value}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn keys_and_values_come_in_each_of_rubys_forms() {
    let plain = json!({ "command": "worker:ack", "pid": 42 });
    assert_eq!(value("---\ncommand: worker:ack\npid: 42\n"), plain);
    assert_eq!(value(":command: worker:ack\n:pid: 42\n"), plain);
    assert_eq!(value("'command': \"worker:ack\"\n\"pid\": 42\n"), plain);
    assert_eq!(value("command: :worker:ack\npid: 42\n...\n"), plain);
    assert_eq!(value("command: !ruby/symbol worker:ack\npid: 42\n"), plain);
    assert_eq!(value("{command: worker:ack, pid: 42}"), plain);
    let list = json!({ "command": "signal", "args": ["TERM", "USR1"] });
    assert_eq!(value("---\n:command: :\"signal\"\n:args:\n- TERM\n- :USR1\n"), list);
    assert_eq!(value("command: signal\nargs: [TERM, 'USR1']"), list);
}

#[test]
fn plain_scalars_mean_what_they_mean_in_json_and_all_else_is_a_string() {
    for (text, expected) in [
        ("12", json!(12)),
        ("-1", json!(-1)),
        ("1.5", json!(1.5)),
        ("1e3", json!("1e3")),
        ("5e10a", json!("5e10a")),
        ("1.50", json!("1.50")),
        ("-0", json!("-0")),
        ("18446744073709551615", json!(u64::MAX)),
        ("18446744073709551616", json!("18446744073709551616")),
        ("true", json!(true)),
        ("False", json!(false)),
        ("~", json!(null)),
        ("null", json!(null)),
        ("''", json!("")),
        ("'12'", json!("12")),
        ("! 12", json!("12")),
        ("!!str 12", json!("12")),
        ("yes", json!("yes")),
        ("017", json!("017")),
        ("0x1F", json!("0x1F")),
        (".nan", json!(".nan")),
        (".inf", json!(".inf")),
        ("1e999", json!("1e999")),
        ("2026-11-22", json!("2026-11-22")),
        ("1_000", json!("1_000")),
        ("':a'", json!(":a")),
        ("'<<'", json!("<<")),
        ("|-\n a\n b", json!("a\nb")),
        (">-\n a\n b", json!("a b")),
        ("\"\\u002B\\t\\x41\"", json!("+\tA")),
    ] {
        assert_eq!(value(&format!("a: {text}\n")), json!({ "a": expected }), "for {text}");
    }
}

#[test]
fn each_thing_that_could_hurt_is_refused_by_name() {
    for (text, why) in [
        ("", "an empty document"),
        ("# nothing", "an empty document"),
        ("a: &x 1", "anchors, aliases and merge keys are not accepted"),
        ("a: &x [1]\nb: *x", "anchors, aliases and merge keys are not accepted"),
        ("<<: {a: 1}", "anchors, aliases and merge keys are not accepted"),
        ("a: 1\na: 2", "the key \"a\" twice"),
        (":a: 1\na: 2", "the key \"a\" twice"),
        ("? [a]\n: 1", "a key that is not a string"),
        ("{{a: 1}: 2}", "a key that is not a string"),
        ("a: 1\n--- \nb: 2", "more than one document"),
        ("a: !ruby/object:Gem::Installer {}", "the tag !ruby/object:Gem::Installer is not accepted"),
        ("--- !ruby/object:OpenStruct\na: 1", "the tag !ruby/object:OpenStruct is not accepted"),
        (
            "a: !!python/object/apply:os.system [id]",
            "the tag tag:yaml.org,2002:!python/object/apply:os.system is not accepted",
        ),
        ("a: !!binary aGFsbG8=", "the tag tag:yaml.org,2002:!binary is not accepted"),
        ("a: !!int x", "the tag tag:yaml.org,2002:!int is not accepted"),
        ("%TAG !! tag:yaml.org,2002:ruby/\n--- !!object []", "directives are not accepted"),
        ("%YAML 1.1\n---\na: 1", "directives are not accepted"),
    ] {
        assert_eq!(refusal(text), why, "for {text:?}");
    }
    assert!(refusal("a: [1").starts_with("line "));
    assert!(matches!(read(b"a: \xFF"), Err(NotYaml::Encoding(_))));
}

#[test]
fn depth_number_and_length_are_bounded_to_the_one() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(read(nested(YAML_DEPTH_MAX).as_bytes()).is_ok());
    assert!(matches!(read(nested(YAML_DEPTH_MAX + 1).as_bytes()), Err(NotYaml::TooDeep)));
    let long = |nodes: usize| "- a\n".repeat(nodes - 1);
    assert!(read(long(YAML_NODES_MAX).as_bytes()).is_ok());
    assert!(matches!(read(long(YAML_NODES_MAX + 1).as_bytes()), Err(NotYaml::TooMany { .. })));
    assert!(read("a".repeat(YAML_BYTES_MAX).as_bytes()).is_ok());
    assert!(matches!(read("a".repeat(YAML_BYTES_MAX + 1).as_bytes()), Err(NotYaml::TooLong { .. })));
}

#[test]
fn the_longest_hostile_documents_come_to_an_end() {
    for document in nasty_documents() {
        let _ = read(document.as_bytes());
    }
}

/// Whatever is hard on some parser, repeated until the document is as long as one may be.
fn nasty_documents() -> Vec<String> {
    #[rustfmt::skip]
    let pieces = [
        "[", "]", "{", "}", "[[", "{a: ", "[a, ", "{a: [", "- ", "? ", ": ", "a: ", "a:\n ", "-\n", "- -\n",
        "?\n", ":\n", ",", "[]", "{}", "[],", "a,", "a: b,", "?,", "? a: b, ", "\"", "'", "''", "\\",
        "\"\\x41", "|\n", ">\n", "| \n\n", "> \n \n", "a\n", "\n", "\n\n ", " ", "\t", "\t\n", "#", "#\n",
        " #a\n", "a #b\n", "&a ", "*a ", "&a [*a, ", "!", "!a ", "!!", "!<a> ", "!a!b ", "---\n", "--- ",
        "...\n", "-", "--", "..", ".", "%", "%a\n", "@", "`", "a", "\u{FEFF}", "\u{85}", "\u{2028}", "ä",
        "\u{10FFFF}", "\u{0}", "\u{7}", "\r", "\r\n", ":a", ":", "::", "a:", "<<: ", "<<: *a\n", "0", "1e",
        "1e9", "-1", "~", "~,", "true ", "\u{0}\n", "[\n", "{\n", "[a\n", "[\"a\" ", "[? ", "[: ", "{? ",
        "{: ", "{\"a\":", "\"a\":", "'a' ", "a: |\n b\n", "a: 'b\n", "- |\n", "- >\n ", "- a\n",
    ];
    let openings = ["", "a: ", "[", "{", "- ", "\"", "|\n ", "[[[[[[[[", "{a: [{b: "];
    let mut documents = Vec::new();
    for opening in openings {
        for piece in pieces {
            let times = (YAML_BYTES_MAX - opening.len()) / piece.len();
            documents.push(format!("{opening}{}", piece.repeat(times)));
        }
    }
    // Each line one level further in, and the same with a list in each.
    for begin in ["a:", "-", "?", "- a:", "a: [", "? -"] {
        let lines = (0..).map(|level| format!("{}{begin}\n", " ".repeat(level)));
        let mut document = String::new();
        for line in lines.take_while(|line| line.len() < 400) {
            document.push_str(&line);
        }
        document.truncate(YAML_BYTES_MAX);
        documents.push(document);
    }
    let laughs =
        (1..9).map(|level| format!("l{level}: &l{level} [{}]\n", format!("*l{},", level - 1).repeat(9)));
    documents.push(format!("l0: &l0 lol\n{}", laughs.collect::<String>()));
    documents
}

/// Text made of what has a meaning in YAML.
fn yaml_like() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[-:,?#&*!|>'\"%@`{}\\[\\]]",
        3 => Just("\n".to_owned()),
        3 => " {1,4}",
        2 => "[a-z0-9:]{1,3}",
        1 => prop_oneof![
            Just("---".to_owned()), Just("...".to_owned()), Just("<<".to_owned()), Just("\t".to_owned()),
            Just("\\x".to_owned()), Just("!!str ".to_owned()), Just("|2-".to_owned()), Just("\u{FEFF}".to_owned()),
            Just("\r\n".to_owned()), Just(": ".to_owned()), Just("- ".to_owned()), Just("? ".to_owned()),
        ],
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = read(&bytes);
    }

    #[test]
    fn any_text_that_looks_like_yaml_is_read_or_refused(text in yaml_like()) {
        let _ = read(text.as_bytes());
    }

    #[test]
    fn json_is_yaml(keys in proptest::collection::btree_set("[ -~]{1,8}", 0..6), text in "[ -~]{0,20}", number: i64) {
        let values = [json!(text), json!(number), json!(null), json!([true, {"x": text}])];
        let map: Map<String, Value> = keys.into_iter().zip(values.into_iter().cycle()).collect();
        let json = Value::Object(map);
        prop_assert_eq!(read(json.to_string().as_bytes()).unwrap(), json);
    }

    #[test]
    fn a_written_scalar_is_read_as_the_string_it_was(text in "(?s).{0,60}") {
        let document = format!("a: {}\n", crate::yaml_scalar(&text));
        prop_assert_eq!(read(document.as_bytes()).unwrap(), json!({ "a": text }));
    }
}
