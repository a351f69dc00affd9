use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};

use super::*;
use crate::listen::{BindSpec, Family, bind};

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

/// Seats of `open` slots, of which `serving` serve.
fn seats(open: &[u32], serving: &[u32]) -> Seats {
    Seats::of(open.iter().map(|slot| (SlotNumber(*slot), serving.contains(slot))))
}

fn slots(numbers: impl IntoIterator<Item = u32>) -> Vec<SlotNumber> {
    numbers.into_iter().map(SlotNumber).collect()
}

/// How many connections wait for each slot, which are taken.
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

/// Each slot alone gets all that comes while it alone serves: so the mirror is the kernel's order.
fn check_order(group: &mut PerSlot, open: &[u32]) {
    for slot in open {
        group.steer(&seats(open, &[*slot])).unwrap();
        let clients = connect(group, 8);
        assert_eq!(taken(group), BTreeMap::from([(*slot, clients.len())]), "order {:?}", group.order());
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
fn the_mirror_keeps_the_order_of_the_kernel_whatever_comes_and_goes() {
    let mut dice = fastrand::Rng::with_seed(7);
    let mut group = tcp(4);
    let mut open: Vec<u32> = (0..4).collect();
    check_order(&mut group, &open);
    for _ in 0..60 {
        match dice.u32(..3) {
            0 if open.len() > 1 => {
                let slot = open.remove(dice.usize(..open.len()));
                assert_eq!(group.gone(&seats(&open, &open)), slots([slot]));
                group.close(SlotNumber(slot));
            }
            1 if open.len() < 8 => {
                let slot = (0..).find(|slot| !open.contains(slot)).unwrap();
                group.open(SlotNumber(slot)).unwrap();
                open.push(slot);
            }
            _ => {
                dice.shuffle(&mut open);
                let broken = &open[..dice.usize(1..=open.len().min(2))];
                for slot in broken {
                    SockRef::from(group.of(SlotNumber(*slot)).unwrap()).shutdown(Shutdown::Both).unwrap();
                }
                let results = group.revive(&slots(broken.iter().copied()));
                assert!(results.iter().all(|(_, result)| matches!(result, Ok(true))), "{results:?}");
                open.sort_unstable();
            }
        }
        assert!(group.can_choose());
        check_order(&mut group, &open);
    }
}

#[test]
fn a_newcomer_gets_nothing_before_it_serves() {
    let mut group = tcp(2);
    group.open(SlotNumber(2)).unwrap();
    let clients = connect(&group, 100);
    let counts = taken(&group);
    assert!(!counts.contains_key(&2) && counts.values().sum::<usize>() == clients.len(), "{counts:?}");
    group.steer(&seats(&[0, 1, 2], &[0, 1])).unwrap();
    let clients = connect(&group, 100);
    assert!(!taken(&group).contains_key(&2));
    group.steer(&seats(&[0, 1, 2], &[0, 1, 2])).unwrap();
    drop((clients, connect(&group, 100)));
    assert_eq!(taken(&group).len(), 3);
}

#[test]
fn where_nobody_serves_all_wait_alike() {
    let mut group = tcp(3);
    group.steer(&seats(&[0, 1, 2], &[])).unwrap();
    let _clients = connect(&group, 100);
    assert_eq!(taken(&group).len(), 3);
}

#[test]
fn who_holds_a_copy_of_one_that_was_closed_gets_nothing() {
    let mut group = tcp(3);
    let copy = group.of(SlotNumber(1)).unwrap().as_fd().try_clone_to_owned().unwrap();
    group.close(SlotNumber(1));
    group.steer(&seats(&[0, 2], &[0, 2])).unwrap();
    let _clients = connect(&group, 100);
    assert_eq!(taken(&group).len(), 2);
    assert!(TcpListener::from(copy).accept().is_err());
    check_order(&mut group, &[0, 2]);
}

#[test]
fn the_last_one_is_not_closed() {
    let mut group = tcp(1);
    group.close(SlotNumber(0));
    assert!(group.of(SlotNumber(0)).is_some());
    let _client = connect(&group, 1);
}

#[test]
fn a_slot_keeps_what_waits_in_its_queue_while_it_gets_nothing_new() {
    let mut group = tcp(2);
    group.steer(&seats(&[0, 1], &[1])).unwrap();
    let before = connect(&group, 3);
    group.steer(&seats(&[0], &[0])).unwrap();
    let after = connect(&group, 4);
    assert_eq!(taken(&group), BTreeMap::from([(0, after.len()), (1, before.len())]));
}

#[test]
fn several_that_were_shut_down_with_nobody_to_say_in_which_order_end_the_choice() {
    let mut group = tcp(4);
    for slot in [1, 3] {
        SockRef::from(group.of(SlotNumber(slot)).unwrap()).shutdown(Shutdown::Both).unwrap();
    }
    assert_eq!(group.revive(&[]).len(), 2);
    assert!(!group.can_choose());
    group.steer(&seats(&[0, 1, 2, 3], &[0])).unwrap();
    let _clients = connect(&group, 200);
    assert_eq!(taken(&group).len(), 4, "rather all than a wrong one");
    // It survives being written down, and ends when only one is left.
    assert!(!group.record().is_order_known);
    for slot in 1..4 {
        group.close(SlotNumber(slot));
    }
    group.steer(&seats(&[0], &[0])).unwrap();
    assert!(group.can_choose());
}

#[test]
fn all_that_were_shut_down_come_back_in_an_order_that_is_known() {
    let mut group = tcp(3);
    for slot in 0..3 {
        SockRef::from(group.of(SlotNumber(slot)).unwrap()).shutdown(Shutdown::Both).unwrap();
    }
    assert_eq!(group.revive(&[]).len(), 3);
    assert!(group.can_choose());
    check_order(&mut group, &[0, 1, 2]);
}

#[test]
fn an_address_that_somebody_shares_already_is_refused() {
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
        group.steer(&seats(&[0, 1, 2], serving)).unwrap();
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
fn beyond_what_a_program_holds_those_that_leave_come_first() {
    let count = u32::try_from(LEFT_OUT_MAX).unwrap() + 3;
    let mut group = tcp(count);
    // All but one wait for a worker, and the last two are to be closed.
    let open: Vec<u32> = (0..count - 2).collect();
    group.steer(&seats(&open, &[0])).unwrap();
    let live: Vec<_> =
        group.by_slot().into_iter().filter(|(.., live)| *live).map(|(slot, ..)| slot.0).collect();
    assert_eq!(live.len(), 3);
    assert!(live.contains(&0) && live.iter().all(|slot| *slot < count - 2), "{live:?}");
}
