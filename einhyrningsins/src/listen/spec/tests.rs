use std::net::Ipv6Addr;

use proptest::prelude::*;

use super::*;

fn read(text: &str) -> Result<BindSpec, String> {
    text.parse().map_err(|error: BindSpecError| error.to_string())
}

fn tcp(host: Host, port: u16) -> BindSpec {
    BindSpec { address: BindAddress::Tcp { host, port }, options: BindOptions::default() }
}

#[test]
fn every_form_of_address_is_read() {
    for (text, expected) in [
        ("127.0.0.1:8000", tcp(Host::Ip([127, 0, 0, 1].into()), 8000)),
        ("0.0.0.0:0", tcp(Host::Ip([0, 0, 0, 0].into()), 0)),
        ("[::1]:65535", tcp(Host::Ip(Ipv6Addr::LOCALHOST.into()), 65_535)),
        ("[::]:080", tcp(Host::Ip(Ipv6Addr::UNSPECIFIED.into()), 80)),
        ("localhost:80", tcp(Host::Name("localhost".into()), 80)),
        ("web-1.example.com:80", tcp(Host::Name("web-1.example.com".into()), 80)),
        ("unixbox:80", tcp(Host::Name("unixbox".into()), 80)),
        (":80", tcp(Host::Any, 80)),
    ] {
        assert_eq!(read(text), Ok(expected), "for {text}");
    }
}

fn options(text: &str) -> Result<BindOptions, String> {
    read(text).map(|spec| spec.options)
}

#[test]
fn options_are_read_in_any_case_and_order() {
    let nonblocking = BindOptions { nonblocking: true, ..BindOptions::default() };
    let named = BindOptions { name: Some("Web Front".into()), ..nonblocking.clone() };
    assert_eq!(options(":80,r"), Ok(BindOptions::default()));
    assert_eq!(options(":80,SO_REUSEADDR,R"), Ok(BindOptions::default()));
    assert_eq!(options(":80,n"), Ok(nonblocking.clone()));
    assert_eq!(options(":80,R,O_NonBlock,n"), Ok(nonblocking));
    assert_eq!(options(":80,Name=Web Front,n"), Ok(named));
}

#[test]
fn every_option_is_read() {
    let text = ":80,n,name=a,backlog=7,NoDelay,defer,fastopen,freebind,mark=0x1F,device=eth0.7,reuseport,rcvbuf=1000,\
                sndbuf=2000,keepalive";
    let expected = BindOptions {
        nonblocking: true,
        name: Some("a".into()),
        backlog: Some(7),
        nodelay: true,
        defer: true,
        fastopen: Some(FastOpen::Backlog),
        freebind: true,
        mark: Some(31),
        device: Some("eth0.7".into()),
        reuseport: true,
        receive_buffer: Some(1000),
        send_buffer: Some(2000),
        keepalive: true,
        ..BindOptions::default()
    };
    assert_eq!(options(text), Ok(expected));
    assert_eq!(options(":80,fastopen=5").unwrap().fastopen, Some(FastOpen::Pending(5)));
    let expected = BindOptions {
        mode: Some(0o660),
        user: Some("www-data".into()),
        group: Some("33".into()),
        ..BindOptions::default()
    };
    assert_eq!(options("unix:a,mode=0660,user=www-data,group=33"), Ok(expected.clone()));
    assert_eq!(options("seqpacket:a,mode=660,OWNER=www-data,group=33"), Ok(expected));
}

#[test]
fn every_kind_of_address_is_read() {
    let path = |path: &str| Place::Path(path.into());
    for (text, expected) in [
        ("udp:127.0.0.1:53", BindAddress::Udp { host: Host::Ip([127, 0, 0, 1].into()), port: 53 }),
        ("UDP::53", BindAddress::Udp { host: Host::Any, port: 53 }),
        ("unix:/run/web.sock", BindAddress::Unix(path("/run/web.sock"))),
        ("Unix:web.sock", BindAddress::Unix(path("web.sock"))),
        (r"unix:/run/a\,b\\c\x2d.sock", BindAddress::Unix(path(r"/run/a,b\c\x2d.sock"))),
        ("unix:@web", BindAddress::Unix(Place::Abstract("web".into()))),
        ("seqpacket:./@a", BindAddress::Seqpacket(path("./@a"))),
        ("fd:3", BindAddress::Fd(3)),
        ("systemd", BindAddress::Systemd(None)),
        ("systemd:Web Front", BindAddress::Systemd(Some("Web Front".into()))),
    ] {
        assert_eq!(
            read(text),
            Ok(BindSpec { address: expected, options: BindOptions::default() }),
            "for {text}"
        );
    }
}

#[test]
fn a_relative_path_starts_at_the_masters_directory() {
    let counted = |text: &str| read(text).unwrap().counted_from(Path::new("/srv/a,b")).to_string();
    assert_eq!(counted("unix:web.sock,n"), r"unix:/srv/a\,b/web.sock,n");
    assert_eq!(counted("seqpacket:/run/web.sock"), "seqpacket:/run/web.sock");
    assert_eq!(counted("unix:@web"), "unix:@web");
}

#[test]
fn only_unknown_options_may_be_ignored() {
    let lenient =
        |text: &str| BindSpec::parse_ignoring_unknown_options(text).map_err(|error| error.to_string());
    assert_eq!(lenient(":80,x,N,a=b,"), read(":80,n"));
    for text in ["80", ":x", ":80,name=a:b", "udp::53,nodelay"] {
        assert_eq!(lenient(text), read(text));
        assert!(lenient(text).is_err(), "{text}");
    }
}

#[test]
fn the_forms_of_other_programs_lead_to_ours() {
    for (text, form) in [
        ("8000", ":8000"),
        ("8000,n", ":8000"),
        ("/run/web.sock", "unix:/run/web.sock"),
        ("./web.sock", "unix:./web.sock"),
        ("tcp://127.0.0.1:80", "127.0.0.1:80"),
        ("TCP://:80", ":80"),
        ("tcp:127.0.0.1:80", "127.0.0.1:80"),
        ("tcp://[::1]:80/", "[::1]:80"),
        ("udp://:53", "udp::53"),
        ("http://localhost:8000/", "localhost:8000"),
        ("http://0.0.0.0", "0.0.0.0:80"),
        ("https://0.0.0.0", "0.0.0.0:443"),
    ] {
        let message = format!("bad bind address {text:?}: did you mean {form}?");
        assert_eq!(read(text).unwrap_err(), message);
    }
    for text in ["80000", "ftp://x:1", "http://a b", "x", "-1"] {
        assert!(!read(text).unwrap_err().contains("did you mean"), "for {text}");
    }
}

#[test]
fn each_mistake_is_named() {
    let long_name = format!(":80,name={}", "x".repeat(256));
    for (text, message) in [
        ("", r#"bad bind address "": it is empty; give ADDR:PORT, or :PORT for every address"#),
        (",n", r#"bad bind address ",n": it is empty; give ADDR:PORT, or :PORT for every address"#),
        (
            "localhost",
            r#"bad bind address "localhost": the port is missing; give ADDR:PORT, or :PORT for every address"#,
        ),
        (
            "127.0.0.1:",
            r#"bad bind address "127.0.0.1:": the port is missing; give ADDR:PORT, or :PORT for every address"#,
        ),
        (
            "[::1]",
            r#"bad bind address "[::1]": the port is missing; give ADDR:PORT, or :PORT for every address"#,
        ),
        ("h:http", r#"bad bind address "h:http": "http" is not a port; give a number from 0 to 65535"#),
        ("h:+80", r#"bad bind address "h:+80": "+80" is not a port; give a number from 0 to 65535"#),
        ("h:65536", r#"bad bind address "h:65536": "65536" is not a port; give a number from 0 to 65535"#),
        ("::1:80", r#"bad bind address "::1:80": an IPv6 address needs brackets, as in [::1]:80"#),
        ("fe80::", r#"bad bind address "fe80::": an IPv6 address needs brackets, as in [fe80::]:80"#),
        (
            "a:b:80",
            r#"bad bind address "a:b:80": "a:b" is neither an address nor a host name; :PORT binds every address"#,
        ),
        (
            "[::1:80",
            r#"bad bind address "[::1:80": "[::1:80" is not an IPv6 address in brackets; write it as in [::1]:80"#,
        ),
        (
            "[127.0.0.1]:80",
            r#"bad bind address "[127.0.0.1]:80": "[127.0.0.1]:80" is not an IPv6 address in brackets; write it as in [::1]:80"#,
        ),
        (
            "[::1]80",
            r#"bad bind address "[::1]80": "[::1]80" is not an IPv6 address in brackets; write it as in [::1]:80"#,
        ),
        (
            "127.1:80",
            r#"bad bind address "127.1:80": "127.1" is not an IPv4 address; give four numbers from 0 to 255, as in 127.0.0.1"#,
        ),
        (
            "*:80",
            r#"bad bind address "*:80": "*" is neither an address nor a host name; :PORT binds every address"#,
        ),
        (
            "\n:80",
            r#"bad bind address "\n:80": "\n" is neither an address nor a host name; :PORT binds every address"#,
        ),
        (
            "unix:",
            r#"bad bind address "unix:": the path is missing; give unix:PATH, or unix:@NAME for a socket without a file"#,
        ),
        (
            "seqpacket:@",
            r#"bad bind address "seqpacket:@": the path is missing; give seqpacket:PATH, or seqpacket:@NAME for a socket without a file"#,
        ),
        (
            "unix:a\0",
            r#"bad bind address "unix:a\0": "a\0" cannot be the name of a Unix socket: it contains a NUL"#,
        ),
        (
            "udp:",
            r#"bad bind address "udp:": the port is missing; give ADDR:PORT, or :PORT for every address"#,
        ),
        (
            "udp:x",
            r#"bad bind address "udp:x": the port is missing; give ADDR:PORT, or :PORT for every address"#,
        ),
        (
            "fd:2",
            r#"bad bind address "fd:2": "2" is not a descriptor that can be passed; give fd:N with N at least 3"#,
        ),
        (
            "fd:+3",
            r#"bad bind address "fd:+3": "+3" is not a descriptor that can be passed; give fd:N with N at least 3"#,
        ),
        (
            "systemd:",
            r#"bad bind address "systemd:": bad socket name ""; give 1 to 255 printable ASCII characters without a colon"#,
        ),
        (
            ":80,x",
            r#"bad bind address ":80,x": unknown option "x"; valid options: n (or o_nonblock), r (or so_reuseaddr), name=NAME, backlog=N, nodelay, defer, fastopen[=N], freebind, mark=N, device=NAME, reuseport (or so_reuseport), rcvbuf=BYTES, sndbuf=BYTES and keepalive"#,
        ),
        (
            "unix:a,",
            r#"bad bind address "unix:a,": unknown option ""; valid options: n (or o_nonblock), name=NAME, backlog=N, rcvbuf=BYTES, sndbuf=BYTES, mode=MODE, user=USER (or owner) and group=GROUP"#,
        ),
        (
            "udp::53,x=1",
            r#"bad bind address "udp::53,x=1": unknown option "x=1"; valid options: n (or o_nonblock), name=NAME, freebind, mark=N, device=NAME, reuseport (or so_reuseport), rcvbuf=BYTES and sndbuf=BYTES"#,
        ),
        (":80,n=1", r#"bad bind address ":80,n=1": "n" takes no value"#),
        (":80,backlog", r#"bad bind address ":80,backlog": "backlog" needs a value: backlog=VALUE"#),
        (
            ":80,backlog=0",
            r#"bad bind address ":80,backlog=0": bad value "0" for "backlog"; it takes a number from 1 to 2147483647"#,
        ),
        (
            ":80,mark=0xg",
            r#"bad bind address ":80,mark=0xg": bad value "0xg" for "mark"; it takes a number from 0 to 4294967295, or 0x and hex digits"#,
        ),
        (
            ":80,device=a/b",
            r#"bad bind address ":80,device=a/b": bad value "a/b" for "device"; it takes the name of a network interface, of at most 15 characters"#,
        ),
        (
            "unix:a,mode=1777",
            r#"bad bind address "unix:a,mode=1777": bad value "1777" for "mode"; it takes three octal digits, as in 660"#,
        ),
        (
            "udp::53,nodelay",
            r#"bad bind address "udp::53,nodelay": "nodelay" does not apply to a UDP socket; it is for TCP"#,
        ),
        (
            "udp::53,r",
            r#"bad bind address "udp::53,r": "r" does not apply to a UDP socket; it is for TCP sockets that the master binds"#,
        ),
        (
            "unix:@a,owner=b",
            r#"bad bind address "unix:@a,owner=b": "user" does not apply to an abstract Unix socket; it is for unix:PATH and seqpacket:PATH"#,
        ),
        (
            "fd:3,freebind",
            r#"bad bind address "fd:3,freebind": "freebind" does not apply to a socket that is already bound; it is for TCP and UDP sockets that the master binds"#,
        ),
        (
            ":80,name=a:b",
            r#"bad bind address ":80,name=a:b": bad socket name "a:b"; give 1 to 255 printable ASCII characters without a colon"#,
        ),
        (
            ":80,name=",
            r#"bad bind address ":80,name=": bad socket name ""; give 1 to 255 printable ASCII characters without a colon"#,
        ),
        (":80,name=a,name=b", r#"bad bind address ":80,name=a,name=b": "name" is given twice"#),
    ] {
        assert_eq!(read(text).unwrap_err(), message);
    }
    assert!(read(&long_name).unwrap_err().contains("1 to 255"));
    assert!(read(&long_name[..long_name.len() - 1]).is_ok());
}

fn any_address() -> impl Strategy<Value = BindAddress> {
    let host = prop_oneof![
        Just(Host::Any),
        any::<[u8; 4]>().prop_map(|ip| Host::Ip(ip.into())),
        any::<[u16; 8]>().prop_map(|ip| Host::Ip(ip.into())),
        "[a-z][a-z0-9.-]{10,20}".prop_map(Host::Name),
    ];
    let place = prop_oneof![
        "[^@\0]\\PC{0,40}".prop_map(|path| Place::Path(path.into())),
        "[a-z,\\\\:]{1,40}".prop_map(Place::Abstract),
    ];
    prop_oneof![
        (host.clone(), any::<u16>()).prop_map(|(host, port)| BindAddress::Tcp { host, port }),
        (host, any::<u16>()).prop_map(|(host, port)| BindAddress::Udp { host, port }),
        place.clone().prop_map(BindAddress::Unix),
        place.prop_map(BindAddress::Seqpacket),
        (3..i32::MAX).prop_map(BindAddress::Fd),
        proptest::option::of("[ -9;-~]{1,255}").prop_map(BindAddress::Systemd),
    ]
}

/// One of each option, in its canonical form.
fn any_option() -> impl Strategy<Value = String> {
    let number = 1..i32::MAX;
    prop_oneof![
        prop::sample::select(vec!["n", "nodelay", "defer", "fastopen", "freebind", "keepalive", "reuseport"])
            .prop_map(str::to_owned),
        "name=[ -+\\--9;-~]{1,255}",
        (prop::sample::select(vec!["backlog", "fastopen", "rcvbuf", "sndbuf", "mark"]), number)
            .prop_map(|(name, number)| format!("{name}={number}")),
        "device=[a-z0-9.-]{1,15}",
        "mode=[0-7]{3}",
        "(user|group)=[a-z0-9_-]{1,20}",
    ]
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in ".{0,40}") {
        let _ = read(&text);
    }

    #[test]
    fn any_text_like_an_address_is_read_or_refused(
        text in "(unix:|udp:|seqpacket:|fd:|systemd)?[\\[\\]:.,0-9a-fnr=@\\\\]{0,24}"
    ) {
        if let Ok(spec) = read(&text) {
            prop_assert_eq!(read(&spec.to_string()), Ok(spec));
        }
    }

    #[test]
    fn a_written_spec_can_be_read_back(
        address in any_address(),
        texts in proptest::collection::vec(any_option(), 0..6),
    ) {
        let mut text = address.to_string();
        for option in texts {
            // An option that does not fit, or is given already, is refused and left out.
            let longer = format!("{text},{option}");
            if read(&longer).is_ok() {
                text = longer;
            }
        }
        let spec = read(&text);
        prop_assert_eq!(spec.as_ref().map(|spec| &spec.address), Ok(&address));
        prop_assert_eq!(read(&spec.clone().unwrap().to_string()), spec);
    }
}
