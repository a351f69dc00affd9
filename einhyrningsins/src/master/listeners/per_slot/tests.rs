use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, ScopedJoinHandle};

use super::*;
use crate::listen::{BindSpec, Family, Twins, bind};

fn group(spec: &str, slots: u32) -> PerSlot {
    let spec: BindSpec = spec.parse().unwrap();
    PerSlot::begin(bind(&spec, Family::Any, None).unwrap(), slots).unwrap()
}

fn tcp(slots: u32) -> PerSlot {
    group("127.0.0.1:0,reuseport,n", slots)
}

fn address(group: &PerSlot) -> SocketAddr {
    group.address().inet().unwrap()
}

/// Slots of the slots `open`, of which `serving` serve.
fn open_slots(open: &[u32], serving: &[u32]) -> Slots {
    Slots::of(open.iter().map(|slot| (SlotNumber(*slot), serving.contains(slot))))
}

fn slots(numbers: impl IntoIterator<Item = u32>) -> Vec<SlotNumber> {
    numbers.into_iter().map(SlotNumber).collect()
}

/// Accepts the waiting connections, and counts them per slot.
fn taken(group: &PerSlot) -> BTreeMap<u32, usize> {
    let one = |listener: &Listener| {
        let listener = TcpListener::from(listener.as_fd().try_clone_to_owned().unwrap());
        std::iter::from_fn(|| listener.accept().ok()).count()
    };
    let counts = group.by_slot().into_iter().map(|(slot, listener, _)| (slot.0, one(listener)));
    counts.filter(|(_, count)| *count > 0).collect()
}

fn connect(group: &PerSlot, count: usize) -> Vec<TcpStream> {
    (0..count).map(|_| TcpStream::connect(address(group)).unwrap()).collect()
}

/// Lets one slot after the other serve alone: if each gets everything then, the mirror is the kernel's order.
fn check_order(group: &mut PerSlot, open: &[u32]) {
    for slot in open {
        group.steer(&open_slots(open, &[*slot])).unwrap();
        let clients = connect(group, 8);
        assert_eq!(taken(group), BTreeMap::from([(*slot, clients.len())]), "order {:?}", group.order());
    }
}

fn shut_down(group: &PerSlot, slots: &[u32]) {
    for slot in slots {
        SockRef::from(group.of(SlotNumber(*slot)).unwrap()).shutdown(Shutdown::Both).unwrap();
    }
}

#[test]
fn each_slot_has_its_own_socket_at_one_address() {
    let group = tcp(3);
    let by_slot = group.by_slot();
    let fds: std::collections::BTreeSet<_> =
        by_slot.iter().map(|(_, listener, _)| listener.as_fd().as_raw_fd()).collect();
    assert_eq!(fds.len(), 3);
    assert!(by_slot.iter().all(|(_, listener, is_live)| listener.address == *group.address() && *is_live));
    assert!(group.of(SlotNumber(2)).is_some() && group.of(SlotNumber(3)).is_none());
}

#[test]
fn only_slots_that_have_changed_are_looked_at_and_only_some_changes_matter() {
    let mut group = tcp(3);
    let all = open_slots(&[0, 1, 2], &[0, 1, 2]);
    assert!(!group.is_steered(&all, []), "the kernel has no program yet");
    group.steer(&all).unwrap();
    assert!(group.is_steered(&all, slots([0, 1, 2])));
    let less = open_slots(&[0, 1, 2], &[0, 2]);
    assert!(group.is_steered(&less, slots([0, 2])), "it looks at no other");
    assert!(!group.is_steered(&less, slots([1])), "it serves no more");
    group.steer(&less).unwrap();
    assert!(group.is_steered(&less, slots([1])));
    assert!(
        !group.is_steered(&open_slots(&[0, 2], &[0, 2]), slots([1])),
        "the slot has gone, and its listener is still open"
    );
    assert!(!group.is_steered(&open_slots(&[0, 1, 2], &[]), []), "none serves, so all wait alike");
    group.open(SlotNumber(3)).unwrap();
    assert!(!group.is_steered(&less, []), "the kernel knows nothing of the new listener");
}

#[test]
fn the_mirror_follows_the_kernels_order_through_any_changes() {
    let mut dice = fastrand::Rng::with_seed(7);
    let mut group = tcp(4);
    let mut open: Vec<u32> = (0..4).collect();
    check_order(&mut group, &open);
    for _ in 0..60 {
        match dice.u32(..3) {
            0 if open.len() > 1 => {
                let slot = open.remove(dice.usize(..open.len()));
                assert_eq!(group.gone(&open_slots(&open, &open)), slots([slot]));
                group.close(SlotNumber(slot));
            }
            1 if open.len() < 8 => {
                let slot = (0..).find(|slot| !open.contains(slot)).unwrap();
                group.open(SlotNumber(slot)).unwrap();
                open.push(slot);
            }
            _ => {
                dice.shuffle(&mut open);
                // If several leave, but not all, the order may become unknown.
                let count = if dice.bool() { 1 } else { open.len() };
                shut_down(&group, &open[..count]);
                let results = group.revive(&slots(open[..count].iter().copied()));
                assert!(results.iter().all(|(_, result)| matches!(result, Ok(true))), "{results:?}");
                open.sort_unstable();
            }
        }
        assert!(group.can_choose());
        check_order(&mut group, &open);
    }
}

#[test]
fn a_new_slot_gets_nothing_before_it_serves() {
    let mut group = tcp(2);
    group.open(SlotNumber(2)).unwrap();
    let clients = connect(&group, 100);
    let counts = taken(&group);
    assert!(!counts.contains_key(&2) && counts.values().sum::<usize>() == clients.len(), "{counts:?}");
    group.steer(&open_slots(&[0, 1, 2], &[0, 1])).unwrap();
    let clients = connect(&group, 100);
    assert!(!taken(&group).contains_key(&2));
    group.steer(&open_slots(&[0, 1, 2], &[0, 1, 2])).unwrap();
    drop((clients, connect(&group, 100)));
    assert_eq!(taken(&group).len(), 3);
}

#[test]
fn if_no_slot_serves_all_listeners_get_connections() {
    let mut group = tcp(3);
    group.steer(&open_slots(&[0, 1, 2], &[])).unwrap();
    let _clients = connect(&group, 100);
    assert_eq!(taken(&group).len(), 3);
}

/// While a listener that gets everything is the last one, closing another moves it. A client that connects at
/// that moment must not end up in the queue of one that is closed next.
#[test]
fn the_last_slot_of_several_loses_nothing_when_the_others_are_closed() {
    for _ in 0..10 {
        let mut group = group("127.0.0.1:0,reuseport", 4);
        group.steer(&open_slots(&[3], &[3])).unwrap();
        let listener =
            TcpListener::from(group.of(SlotNumber(3)).unwrap().as_fd().try_clone_to_owned().unwrap());
        let to = address(&group);
        let answered = AtomicUsize::new(0);
        let [is_over, is_last] = [(); 2].map(|()| AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                while !is_last.load(Ordering::SeqCst) {
                    let _ = listener.accept().unwrap().0.write_all(b"!");
                }
            });
            let clients = [(); 2].map(|()| {
                scope.spawn(|| {
                    while !is_over.load(Ordering::SeqCst) {
                        let mut byte = [0];
                        TcpStream::connect(to)?.read_exact(&mut byte)?;
                        answered.fetch_add(1, Ordering::SeqCst);
                    }
                    io::Result::Ok(())
                })
            });
            let wait = |more: usize| {
                let goal = answered.load(Ordering::SeqCst) + more;
                while answered.load(Ordering::SeqCst) < goal
                    && !clients.iter().any(ScopedJoinHandle::is_finished)
                {
                    thread::yield_now();
                }
            };
            wait(20);
            for slot in [0, 1, 2] {
                group.close(SlotNumber(slot));
            }
            group.steer(&open_slots(&[3], &[3])).unwrap();
            wait(20);
            is_over.store(true, Ordering::SeqCst);
            let results = clients.map(|client| client.join().unwrap());
            is_last.store(true, Ordering::SeqCst);
            let _last = TcpStream::connect(to);
            assert!(results.iter().all(Result::is_ok), "{results:?}");
        });
    }
}

#[test]
fn a_copy_of_a_closed_listener_gets_nothing() {
    let mut group = tcp(3);
    let copy = group.of(SlotNumber(1)).unwrap().as_fd().try_clone_to_owned().unwrap();
    group.close(SlotNumber(1));
    group.steer(&open_slots(&[0, 2], &[0, 2])).unwrap();
    let _clients = connect(&group, 100);
    assert_eq!(taken(&group).len(), 2);
    assert!(TcpListener::from(copy).accept().is_err());
    check_order(&mut group, &[0, 2]);
}

#[test]
fn the_last_listener_is_not_closed() {
    let mut group = tcp(1);
    group.close(SlotNumber(0));
    assert!(group.of(SlotNumber(0)).is_some());
    let _client = connect(&group, 1);
}

#[test]
fn an_excluded_slot_keeps_its_queue() {
    let mut group = tcp(2);
    group.steer(&open_slots(&[0, 1], &[1])).unwrap();
    let before = connect(&group, 3);
    group.steer(&open_slots(&[0], &[0])).unwrap();
    let after = connect(&group, 4);
    assert_eq!(taken(&group), BTreeMap::from([(0, after.len()), (1, before.len())]));
}

/// The event of a listener comes once its queue has been reset, which may be in another order than that of
/// leaving.
#[test]
fn the_order_of_events_is_not_taken_for_the_order_of_leaving() {
    let mut known = Vec::new();
    for (first, second) in [(0, 1), (1, 0), (0, 2), (2, 0), (1, 3), (3, 1), (2, 3), (3, 2)] {
        let mut group = tcp(4);
        shut_down(&group, &[first, second]);
        // The other may have been found broken before its event, or not.
        let spoken = if first < second { slots([second]) } else { slots([second, first]) };
        assert_eq!(group.revive(&spoken).len(), 2);
        if group.can_choose() {
            check_order(&mut group, &[0, 1, 2, 3]);
            known.push((first, second));
        }
    }
    assert_eq!(known, [(0, 2), (2, 0), (1, 3), (3, 1), (2, 3), (3, 2)]);
}

#[test]
fn a_listener_that_cannot_be_revived_is_closed() {
    let mut group = tcp(3);
    let copy = group.of(SlotNumber(0)).unwrap().as_fd().try_clone_to_owned().unwrap();
    shut_down(&group, &[0]);
    // It listens again, and then lacks an option.
    group.members[0].listener.spec.options.device = Some("nowhere".into());
    assert!(matches!(&group.revive(&slots([0]))[..], [(SlotNumber(0), Err(_))]));
    check_order(&mut group, &[1, 2]);
    group.open(SlotNumber(0)).unwrap();
    check_order(&mut group, &[0, 1, 2]);
    // Its worker still has it.
    assert!(TcpListener::from(copy).accept().is_err());
}

#[test]
fn a_refusal_of_the_kernel_is_reported_once_and_retried() {
    let listener = || bind(&"127.0.0.1:0".parse().unwrap(), Family::Any, None).unwrap();
    let members = (0..2).map(|slot| Member::new(SlotNumber(slot), listener())).collect();
    // They are in no group.
    let mut group = PerSlot::new(members, true).unwrap();
    let open_slots = open_slots(&[0, 1], &[0]);
    group.steer(&open_slots).unwrap_err();
    group.steer(&open_slots).unwrap();
    assert_eq!(group.told, None);
}

#[test]
fn several_shutdowns_in_unknown_order_end_the_steering() {
    let mut group = tcp(4);
    shut_down(&group, &[0, 1]);
    assert_eq!(group.revive(&[]).len(), 2);
    assert!(!group.can_choose());
    group.steer(&open_slots(&[0, 1, 2, 3], &[0])).unwrap();
    let _clients = connect(&group, 200);
    assert_eq!(taken(&group).len(), 4, "rather all than a wrong one");
    // This survives a save and a restore, and ends when only one listener is left.
    assert!(!group.is_order_known);
    for slot in 1..4 {
        group.close(SlotNumber(slot));
    }
    group.steer(&open_slots(&[0], &[0])).unwrap();
    assert!(group.can_choose());
}

#[test]
fn after_a_shutdown_of_all_the_order_is_known_again() {
    let mut group = tcp(3);
    shut_down(&group, &[0, 1, 2]);
    assert_eq!(group.revive(&[]).len(), 3);
    assert!(group.can_choose());
    check_order(&mut group, &[0, 1, 2]);
}

#[test]
fn an_address_with_another_group_is_refused() {
    let group = tcp(2);
    let spec: BindSpec = format!("{},reuseport", group.address()).parse().unwrap();
    let error = bind(&spec, Family::Any, None).unwrap_err();
    assert!(matches!(&error, BindError::Bind { source, .. } if source.kind() == io::ErrorKind::AddrInUse));
    let packets = self::group("udp:127.0.0.1:0,reuseport", 2);
    let spec: BindSpec = format!("{},reuseport", packets.address()).parse().unwrap();
    assert!(bind(&spec, Family::Any, None).is_err());
}

#[test]
fn packets_of_one_sender_stay_with_a_slot_that_serves() {
    let mut group = group("udp:127.0.0.1:0,reuseport,n", 3);
    let to = address(&group);
    let clients: Vec<_> = (0..32).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    let mut round = |serving: &[u32]| -> BTreeMap<u16, u32> {
        group.steer(&open_slots(&[0, 1, 2], serving)).unwrap();
        for client in &clients {
            client.send_to(b"packet", to).unwrap();
        }
        let mut seen = BTreeMap::new();
        for (slot, listener, _) in group.by_slot() {
            let socket = UdpSocket::from(listener.as_fd().try_clone_to_owned().unwrap());
            while let Ok((_, sender)) = socket.recv_from(&mut [0; 16]) {
                assert_eq!(seen.insert(sender.port(), slot.0), None);
            }
        }
        assert_eq!(seen.len(), clients.len());
        seen
    };
    let before = round(&[0, 1, 2]);
    let meanwhile = round(&[0, 2]);
    assert!(meanwhile.values().all(|slot| *slot != 1));
    assert!(before.iter().all(|(port, slot)| *slot == 1 || meanwhile[port] == *slot));
    assert_eq!(round(&[0, 1, 2]), before);
}

#[test]
fn a_copy_of_a_closed_packet_socket_gets_nothing() {
    for bound in ["udp:127.0.0.1:0,reuseport,n", "udp:[::]:0,reuseport,n"] {
        let mut group = group(bound, 3);
        let to = SocketAddr::new("127.0.0.1".parse().unwrap(), address(&group).port());
        // For instance a child of a worker that inherited it by accident.
        let copy = group.of(SlotNumber(0)).unwrap().as_fd().try_clone_to_owned().unwrap();
        group.close(SlotNumber(0));
        group.steer(&open_slots(&[1, 2], &[1, 2])).unwrap();
        let clients: Vec<_> = (0..64).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        for client in &clients {
            client.send_to(b"packet", to).unwrap();
        }
        let received = |socket: &dyn AsFd| {
            let socket = UdpSocket::from(socket.as_fd().try_clone_to_owned().unwrap());
            std::iter::from_fn(|| socket.recv(&mut [0; 16]).ok()).count()
        };
        let counts: Vec<_> = group.by_slot().into_iter().map(|(_, listener, _)| received(listener)).collect();
        assert_eq!((received(&copy), counts.iter().sum()), (0, clients.len()), "{bound}");
        assert!(counts.iter().all(|count| *count > 0), "{bound}: {counts:?}");
    }
}

#[test]
fn slots_that_leave_together_get_nothing_new() {
    for (spec, count) in [("127.0.0.1:0,reuseport,n", 300), ("udp:127.0.0.1:0,reuseport,n", 200)] {
        let mut group = group(spec, count);
        let staying: Vec<u32> = (count / 2..count).collect();
        group.steer(&open_slots(&staying, &staying)).unwrap();
        let live = group.by_slot().into_iter().filter(|(.., live)| *live).map(|(slot, ..)| slot);
        assert_eq!(live.collect::<Vec<_>>(), slots(staying.iter().copied()));
        if !spec.starts_with("udp") {
            let _clients = connect(&group, 64);
            assert!(taken(&group).into_keys().all(|slot| staying.contains(&slot)));
        }
    }
}

#[test]
fn beyond_the_limit_of_a_program_leaving_slots_come_first() {
    // Half of them wait for a worker, and the last two are to be closed.
    let mut group = group("udp:127.0.0.1:0,reuseport", 260);
    let open: Vec<u32> = (0..258).collect();
    group.steer(&open_slots(&open, &open[129..])).unwrap();
    let left_out = group.by_slot().into_iter().filter(|(.., live)| !*live).map(|(slot, ..)| slot.0);
    let left_out: Vec<_> = left_out.collect();
    assert_eq!(left_out.len(), 128);
    assert!(left_out.ends_with(&[258, 259]), "{left_out:?}");
}

#[test]
fn a_group_has_one_private_twin_outside_it() {
    let directory = tempfile::tempdir().unwrap();
    let group = tcp(3);
    let twins = Twins::open([group.any()], &directory.path().join("c"), None).unwrap();
    let sockets = twins.sockets();
    assert_eq!(sockets.len(), 1);
    assert!(!SockRef::from(&sockets[0]).reuse_port().unwrap());
    let _waiting = connect(&group, 8);
    assert_eq!(taken(&group).values().sum::<usize>(), 8);
    TcpStream::connect(&twins.addresses()[0]).unwrap();
}
