use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};

use einhyrningsins_supervisor::Slots;
use socket2::{Socket, Type};
use tempfile::TempDir;

use super::*;
use crate::listen::bind;
use crate::sys::inherit::settle;
use crate::sys::testing::eventually;

fn spec(text: &str) -> BindSpec {
    text.parse().unwrap()
}

/// As many as any pool here has.
const SLOTS: u32 = 4;

/// The manager's copy: a name and a descriptor.
fn copy((name, fd): (String, BorrowedFd<'_>)) -> (String, Kept<OwnedFd>) {
    (name, Kept::Open(fd.try_clone_to_owned().unwrap()))
}

fn passed(listener: &Listener) -> (String, Kept<OwnedFd>) {
    copy(listener.to_keep().unwrap())
}

fn passed_group(group: &PerSlot) -> KeptListeners {
    KeptListeners { left: group.to_keep().unwrap().into_iter().map(copy).collect() }
}

/// What a manager would pass on of these listeners.
fn kept(listeners: &[Listener]) -> KeptListeners {
    KeptListeners { left: listeners.iter().map(passed).collect() }
}

fn shared(taken: Option<Bound>) -> Listener {
    match taken {
        Some(Bound::Shared(listener)) => *listener,
        other => panic!("not taken, or as a group: {other:?}"),
    }
}

#[test]
fn a_stored_listener_keeps_its_port_and_its_queue() {
    let before = bind(&spec("127.0.0.1:0,name=web"), Family::Any, None).unwrap();
    let mut kept = kept(&[before]);
    let address = SockRef::from(&kept.left[0].1).local_addr().unwrap().as_socket().unwrap();
    let mut waiting = TcpStream::connect(address).unwrap();
    waiting.write_all(b"hello").unwrap();
    assert!(kept.take(&spec("127.0.0.1:1"), Family::Any, None, SLOTS).is_none());
    // The name and other options do not matter for finding it.
    let after = shared(kept.take(&spec("127.0.0.1:0,n"), Family::Any, Some(7), SLOTS));
    assert_eq!((after.address.inet(), after.backlog), (Some(address), 7));
    assert!(kept.take(&spec("127.0.0.1:0"), Family::Any, None, SLOTS).is_none(), "once");
    assert_eq!(kept.give_up(), [""; 0]);
    let listener = TcpListener::from(after.as_fd().try_clone_to_owned().unwrap());
    let mut bytes = [0; 5];
    listener.accept().unwrap().0.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"hello");
}

#[test]
fn an_unwanted_listener_blocks_no_address() {
    let before = bind(&spec("127.0.0.1:0"), Family::Any, None).unwrap();
    let address = before.address.clone();
    let still_with_the_manager = before.as_fd().try_clone_to_owned().unwrap();
    assert_eq!(kept(&[before]).give_up(), ["bind-127.0.0.1%3A0"]);
    bind(&spec(&address.to_string()), Family::Any, None).unwrap();
    drop(still_with_the_manager);
}

#[test]
fn a_listener_of_an_excluded_family_is_not_taken() {
    for (one, other) in [(Family::Any, Family::V6), (Family::V6, Family::Any), (Family::Any, Family::V4)] {
        let before = bind(&spec("[::]:0"), one, None).unwrap();
        assert!(kept(&[before]).take(&spec("[::]:0"), other, None, SLOTS).is_none(), "{one:?} {other:?}");
    }
}

#[test]
fn a_listener_that_a_worker_shut_down_listens_again() {
    let before = bind(&spec("127.0.0.1:0"), Family::Any, None).unwrap();
    let address = before.address.clone();
    SockRef::from(&before).shutdown(Shutdown::Both).unwrap();
    let after = shared(kept(&[before]).take(&spec("127.0.0.1:0"), Family::Any, None, SLOTS));
    assert_eq!(after.address, address);
    TcpStream::connect(address.inet().unwrap()).unwrap();
}

#[test]
fn names_are_valid_for_a_manager() {
    for (address, name) in [
        ("127.0.0.1:80", "bind-127.0.0.1%3A80"),
        (":80", "bind-%3A80"),
        ("[::1]:80", "bind-[%3A%3A1]%3A80"),
        ("localhost:80,name=web", "bind-localhost%3A80"),
        ("unix:/run/a b.sock,mode=600", "bind-unix%3A/run/a%20b.sock"),
        ("seqpacket:@web", "bind-seqpacket%3A@web"),
    ] {
        assert_eq!(name_of(&spec(address)).as_deref(), Some(name));
    }
}

#[test]
fn packets_wait_for_the_next_master_too() {
    let before = bind(&spec("udp:127.0.0.1:0"), Family::Any, None).unwrap();
    let address = before.address.inet().unwrap();
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"hello", address).unwrap();
    let mut kept = kept(&[before]);
    assert!(kept.take(&spec("127.0.0.1:0"), Family::Any, None, SLOTS).is_none());
    let after = shared(kept.take(&spec("udp:127.0.0.1:0"), Family::Any, None, SLOTS));
    assert_eq!((after.address.inet(), after.backlog), (Some(address), 0));
    let socket = UdpSocket::from(after.as_fd().try_clone_to_owned().unwrap());
    assert_eq!(socket.recv(&mut [0; 9]).unwrap(), 5);
}

/// Three slots; a client waits in the queue of the middle one.
fn group() -> (PerSlot, TcpStream, BindSpec) {
    let spec = spec("127.0.0.1:0,reuseport");
    let mut group = PerSlot::begin(bind(&spec, Family::Any, None).unwrap(), 4).unwrap();
    // The last member takes the place of one that leaves, so the order differs from that of the slots.
    group.close(SlotNumber(1));
    group.steer(&Slots::of([(SlotNumber(2), true)])).unwrap();
    let mut client = TcpStream::connect(group.address().inet().unwrap()).unwrap();
    client.write_all(b"hello").unwrap();
    (group, client, spec)
}

#[test]
fn listeners_per_slot_keep_their_order_and_their_queues() {
    let (before, _client, spec) = group();
    let (order, address) = (before.order(), before.address().clone());
    let mut kept = passed_group(&before);
    // A manager may pass them on in any order.
    kept.left.reverse();
    let names = ["slot=2,at=2", "slot=3,at=1", "slot=0,at=0"];
    assert_eq!(kept.names(), names.map(|seat| format!("bind-127.0.0.1%3A0,{seat}")));
    drop(before);
    assert!(kept.take(&self::spec("127.0.0.1:0"), Family::Any, None, SLOTS).is_none(), "it is not a group");
    let Some(Bound::PerSlot(after)) = kept.take(&spec, Family::Any, Some(7), SLOTS) else {
        panic!("not taken")
    };
    assert_eq!((after.order(), after.address(), after.any().backlog), (order, &address, 7));
    assert_eq!(kept.give_up(), [""; 0]);
    let listener = after.of(SlotNumber(2)).unwrap().as_fd().try_clone_to_owned().unwrap();
    let mut bytes = [0; 5];
    TcpListener::from(listener).accept().unwrap().0.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"hello");
}

#[test]
fn a_group_is_taken_whole_or_not_at_all() {
    let (before, _client, spec) = group();
    let mut kept = passed_group(&before);
    kept.left.remove(1);
    assert!(kept.take(&spec, Family::Any, None, SLOTS).is_none());
    let mut kept = passed_group(&before);
    assert!(kept.take(&spec, Family::V6, None, SLOTS).is_none());
    let address = before.address().clone();
    drop(before);
    assert_eq!(kept.give_up().len(), 3);
    bind(&self::spec(&format!("{address},reuseport")), Family::Any, None).unwrap();
}

/// A listener that was shut down lost its place, and another may have moved; the manager does not know.
#[test]
fn after_a_shutdown_in_a_group_that_listener_is_revived_and_every_position_is_known() {
    for shut in [0, 2, 3] {
        let (before, _client, spec) = group();
        let kept = passed_group(&before);
        drop(before.of(SlotNumber(shut)).map(|listener| SockRef::from(listener).shutdown(Shutdown::Both)));
        let mut kept = kept;
        let Some(Bound::PerSlot(mut after)) = kept.take(&spec, Family::Any, None, SLOTS) else {
            panic!("not taken")
        };
        assert!(after.can_choose() && after.order().last() == Some(&SlotNumber(shut)));
        for slot in [0, 2, 3].map(SlotNumber) {
            after.steer(&Slots::of([(slot, true)])).unwrap();
            let length = |group: &PerSlot| group.of(slot).unwrap().queue().unwrap().length;
            let queued = length(&after);
            let _client = TcpStream::connect(after.address().inet().unwrap()).unwrap();
            assert_eq!(
                length(&after),
                queued + 1,
                "{shut} was shut down, and {slot:?} is not where it should be"
            );
        }
    }
}

/// Connections in the queue are served by any slot that exists.
#[test]
fn queues_of_removed_slots_go_to_the_remaining_slots() {
    for (slots, order) in [(4, [0, 3, 2]), (3, [0, 1, 2]), (2, [0, 3, 1]), (1, [0, 3, 2])] {
        let (before, _client, spec) = group();
        let mut kept = passed_group(&before);
        let Some(Bound::PerSlot(after)) = kept.take(&spec, Family::Any, None, slots) else {
            panic!("not taken")
        };
        assert_eq!(after.order(), order.map(SlotNumber), "{slots} slots");
    }
}

#[test]
fn an_unknown_order_stays_unknown_for_the_next_master() {
    let spec = spec("127.0.0.1:0,reuseport");
    let mut before = PerSlot::begin(bind(&spec, Family::Any, None).unwrap(), 4).unwrap();
    for slot in [0, 1].map(SlotNumber) {
        SockRef::from(before.of(slot).unwrap()).shutdown(Shutdown::Both).unwrap();
    }
    assert_eq!(before.revive(&[]).len(), 2);
    for is_known in [false, true] {
        assert_eq!(before.can_choose(), is_known);
        let mut kept = passed_group(&before);
        let Some(Bound::PerSlot(after)) = kept.take(&spec, Family::Any, None, SLOTS) else {
            panic!("not taken")
        };
        assert_eq!((after.can_choose(), after.order()), (is_known, before.order()));
        // All new, in one order.
        for slot in (0..4).map(SlotNumber) {
            SockRef::from(before.of(slot).unwrap()).shutdown(Shutdown::Both).unwrap();
        }
        before.revive(&[]);
    }
}

#[test]
fn packets_of_slots_wait_for_the_next_master_too() {
    let spec = spec("udp:127.0.0.1:0,reuseport,n");
    let mut before = PerSlot::begin(bind(&spec, Family::Any, None).unwrap(), 4).unwrap();
    before.close(SlotNumber(0));
    let serve = |group: &mut PerSlot, slot| {
        let open_slots = [1, 2, 3].map(|other| (SlotNumber(other), other == slot));
        group.steer(&Slots::of(open_slots)).unwrap();
    };
    let to = before.address().inet().unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    for slot in 1..=3 {
        serve(&mut before, slot);
        client.send_to(&[slot as u8], to).unwrap();
    }
    let order = before.order();
    let mut kept = passed_group(&before);
    drop(before);
    let Some(Bound::PerSlot(mut after)) = kept.take(&spec, Family::Any, None, SLOTS) else {
        panic!("not taken")
    };
    assert_eq!((after.order(), after.address().inet()), (order, Some(to)));
    for slot in 1..=3 {
        serve(&mut after, slot);
        client.send_to(&[10 + slot as u8], to).unwrap();
        let listener = after.of(SlotNumber(slot)).unwrap().as_fd().try_clone_to_owned().unwrap();
        let socket = UdpSocket::from(listener);
        let received = || socket.recv(&mut [0; 9]).is_ok();
        assert!(received() && received() && !received(), "what waited, and what is new, of slot {slot}");
    }
}

#[test]
fn a_group_of_packet_sockets_is_not_taken_if_one_was_leaving() {
    let spec = spec("udp:127.0.0.1:0,reuseport");
    let mut before = PerSlot::begin(bind(&spec, Family::Any, None).unwrap(), 3).unwrap();
    let mut kept = passed_group(&before);
    // The master was killed before it told the manager.
    before.close(SlotNumber(0));
    drop(before);
    assert!(kept.take(&spec, Family::Any, None, SLOTS).is_none());
    assert_eq!(kept.give_up().len(), 3);
}

#[test]
fn packet_sockets_that_cannot_leave_their_group_are_not_stored() {
    let text = "udp:127.0.0.1:0,reuseport,device=lo";
    let group = PerSlot::begin(bound(text), 2).unwrap();
    assert!(group.to_keep().is_none());
}

#[test]
fn what_the_next_master_could_not_take_is_not_stored() {
    for text in ["systemd:web".to_owned(), "fd:7".into(), format!("unix:/{}", "\u{e4}".repeat(50))] {
        assert_eq!(name_of(&spec(&text)), None, "{text}");
    }
}

/// What a manager would pass on after the death of the master: files stay, locks do not.
fn crashed(listeners: Vec<Listener>) -> KeptListeners {
    let left = listeners.iter().map(passed).collect();
    for mut listener in listeners {
        if let Some(place) = listener.place.take() {
            place.die();
        }
    }
    KeptListeners { left }
}

fn bound(text: &str) -> Listener {
    bind(&spec(text), Family::Any, None).unwrap()
}

fn is_waiting(listener: &Listener) -> bool {
    listener.queue().unwrap().length == 1
}

fn connect(address: &Address) -> io::Result<Socket> {
    let (name, kind) = match address {
        Address::Unix(name) => (name, Type::STREAM),
        Address::Seqpacket(name) => (name, Type::SEQPACKET),
        other => panic!("{other} is another kind"),
    };
    let socket = Socket::new(Domain::UNIX, kind, None)?;
    socket.connect(&name.to_sockaddr()?).map(|()| socket)
}

fn files(directory: &TempDir) -> usize {
    fs::read_dir(directory.path()).unwrap().count()
}

#[test]
fn a_stored_unix_socket_keeps_its_queue_and_its_path() {
    for kind in ["unix", "seqpacket"] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        let text = format!("{kind}:{}", path.display());
        let before = bound(&text);
        let address = before.address.clone();
        let _waiting = connect(&address).unwrap();
        let mut kept = crashed(vec![before]);
        let other = format!("{kind}:{}", directory.path().join("b.sock").display());
        assert!(kept.take(&spec(&other), Family::Any, None, SLOTS).is_none());
        // Of a family that -4 and -6 do not concern.
        let spec = spec(&format!("{text},n,mode=600"));
        let after = shared(kept.take(&spec, Family::V6, Some(7), SLOTS));
        assert_eq!((&after.address, after.backlog), (&address, 7));
        assert!(is_waiting(&after));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        // A failed start leaves everything to the next one.
        let mut kept = KeptListeners { left: vec![passed(&after)] };
        drop(after);
        assert_eq!(files(&directory), 1, "the socket");
        let after = shared(kept.take(&spec, Family::Any, None, SLOTS));
        assert!(is_waiting(&after));
        let settled = std::thread::spawn(|| {
            settle();
            drop(after);
        });
        settled.join().unwrap();
        assert_eq!(files(&directory), 0, "{kind}");
    }
}

#[test]
fn a_stored_abstract_socket_has_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let text = format!("unix:@{}", directory.path().display());
    let before = bound(&text);
    let address = before.address.clone();
    let _waiting = connect(&address).unwrap();
    let after = shared(crashed(vec![before]).take(&spec(&text), Family::V4, None, SLOTS));
    assert!(is_waiting(&after) && after.address == address && after.kept_with_file().is_none());
}

/// A start may find that the path of its socket is gone, or leads elsewhere.
#[test]
fn a_path_that_leads_elsewhere_is_bound_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.sock");
    let text = format!("unix:{}", path.display());
    let remove = || fs::remove_file(&path).unwrap();
    let replace = || {
        remove();
        // Stale: no process has it any more.
        drop(UnixListener::bind(&path).unwrap());
    };
    for change in [&remove as &dyn Fn(), &replace] {
        let mut kept = crashed(vec![bound(&text)]);
        let still_with_the_manager = kept.left[0].1.try_clone().unwrap();
        change();
        assert!(kept.take(&spec(&text), Family::Any, None, SLOTS).is_none());
        assert_eq!(kept.give_up(), [name_of(&spec(&text)).unwrap()]);
        // A child that another test is spawning may hold a copy of the stale socket until its exec.
        eventually("the place to be had", || bind(&spec(&text), Family::Any, None).is_ok());
        drop(still_with_the_manager);
    }
}

#[test]
fn a_socket_that_another_process_bound_meanwhile_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.sock");
    let text = format!("unix:{}", path.display());
    let mut kept = crashed(vec![bound(&text)]);
    fs::remove_file(&path).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    assert!(kept.take(&spec(&text), Family::Any, None, SLOTS).is_none());
    let _ = kept.give_up();
    UnixStream::connect(&path).unwrap();
    assert!(bind(&spec(&text), Family::Any, None).is_err());
}

#[test]
fn an_unusable_unix_socket_does_not_block_its_path() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.sock").display().to_string();
    let (stream, packets) = (format!("unix:{path}"), format!("seqpacket:{path}"));
    // One that a worker has shut down, which cannot be revived, and one of another kind than is wanted now.
    for (wanted, is_shut) in [(&stream, true), (&packets, false)] {
        let before = bound(&stream);
        if is_shut {
            SockRef::from(&before).shutdown(Shutdown::Both).unwrap();
        }
        let mut kept = crashed(vec![before]);
        let still_with_the_manager = kept.left[0].1.try_clone().unwrap();
        assert!(kept.take(&spec(wanted), Family::Any, None, SLOTS).is_none());
        let _ = kept.give_up();
        assert_eq!(files(&directory), 0);
        let after = bound(wanted);
        connect(&after.address).unwrap();
        drop(still_with_the_manager);
    }
}

#[test]
fn an_unknown_owner_is_reported_by_the_bind() {
    let directory = tempfile::tempdir().unwrap();
    let text = format!("unix:{}", directory.path().join("a.sock").display());
    let mut kept = crashed(vec![bound(&text)]);
    let nobodys = spec(&format!("{text},user=nobody-of-that-name"));
    assert!(kept.take(&nobodys, Family::Any, None, SLOTS).is_none());
    assert_eq!(kept.give_up().len(), 1);
}
