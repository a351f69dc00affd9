//! Steering of `SO_REUSEPORT` groups: decides which member of a group gets a connection or packet.
//!
//! Sockets of one user that are bound to one address with `SO_REUSEPORT` form a group. The kernel keeps it as
//! an array: a new member goes to the end, and when a member leaves, the *last* takes its place. By default, a
//! hash distributes connections over all members. A classic BPF program attached to the group decides instead:
//! it returns a position. It can leave members out, which is the only way to keep a socket open and give it
//! nothing new. This needs no privilege, and any member can attach the program for all.
//!
//! # Source
//! `socket(7)`, `SO_ATTACH_REUSEPORT_CBPF`; on the order, `net/core/sock_reuseport.c` of the kernel
//! (`__reuseport_add_sock`, `__reuseport_detach_sock`); on the machine, `Documentation/networking/filter.rst`.

use std::io;
use std::os::fd::AsFd;

use nix::libc::{self, c_int, sock_filter, sock_fprog};
use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use nix::{getsockopt_impl, setsockopt_impl, sockopt_impl};

/// Most architectures. Source: `include/uapi/asm-generic/socket.h`, since Linux 5.1.
const SO_BINDTOIFINDEX: c_int = 62;

sockopt_impl!(BindToInterface, Both, libc::SOL_SOCKET, SO_BINDTOIFINDEX, c_int);

/// The index of a network interface that does not exist: indexes count up from 1.
const NOWHERE: c_int = c_int::MAX;

/// How a group distributes what comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spread {
    /// Each connection goes to a random member.
    Random,
    /// Packets of one source address and port go to one member if possible, because several packets make a
    /// conversation. While a member is left out, its conversations go to other members, whose own conversations
    /// stay.
    ByFlow,
}

impl Spread {
    /// How many positions a program may name individually: those left out or the remaining ones, whichever are
    /// fewer. A longer program may exceed the kernel's limit (`net.core.optmem_max`, 20,480 bytes before
    /// version 6.9).
    const fn named_max(self) -> usize {
        match self {
            Self::Random => 400,
            // Such a program names each position twice.
            Self::ByFlow => 128,
        }
    }

    /// How many of `wanted` positions can be left out of a group of `size`.
    pub fn can_leave_out(self, wanted: usize, size: usize) -> usize {
        let named = wanted.min(size.saturating_sub(wanted));
        if named <= self.named_max() { wanted } else { self.named_max() }
    }
}

/// Makes the group of `member`, which has `size` members, distribute over the positions `live`, in ascending
/// order. If there are none, over all.
///
/// # Errors
/// EINVAL if `member` is in no group: not bound with `SO_REUSEPORT`, or a lone UDP socket. ENOMEM for a program
/// that is too long.
pub fn steer(member: &impl AsFd, size: usize, live: &[usize], spread: Spread) -> io::Result<()> {
    let mut program = program(size, live, spread);
    let program = sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| io::ErrorKind::OutOfMemory)?,
        // The kernel copies the program, and `program` outlives the call.
        filter: program.as_mut_ptr(),
    };
    Ok(setsockopt(member, sockopt::AttachReusePortCbpf, &program)?)
}

/// Takes a UDP socket out of its group, so that it receives nothing more, even if other processes have
/// descriptors of it. Needs no privilege unless the socket is already bound to a network interface.
///
/// # Errors
/// EPERM.
///
/// # Source
/// `sock_bindtoindex` of the kernel (`net/core/sock.c`): a socket that is bound to another interface moves in
/// the kernel's table and thereby leaves its group (`udp_lib_rehash`). `shutdown(2)` does not do this.
pub fn leave_group(socket: &impl AsFd) -> io::Result<()> {
    Ok(setsockopt(socket, BindToInterface, &NOWHERE)?)
}

/// Whether [`leave_group`] was called on this socket.
pub fn has_left_group(socket: &impl AsFd) -> bool {
    getsockopt(socket, BindToInterface) == Ok(NOWHERE)
}

fn program(size: usize, live: &[usize], spread: Spread) -> Vec<sock_filter> {
    let mut code = Code::default();
    let size = number(size);
    let live: Vec<u32> =
        if live.is_empty() { (0..size).collect() } else { live.iter().copied().map(number).collect() };
    match spread {
        Spread::Random => {
            code.load(libc::SKF_AD_OFF + libc::SKF_AD_RANDOM);
            code.answer_among(&live);
        }
        Spread::ByFlow => {
            code.hash_of_flow();
            let left_out: Vec<_> = (0..size).filter(|at| live.binary_search(at).is_err()).collect();
            code.keep();
            code.of_accumulator(libc::BPF_MOD, size);
            if live.len() < left_out.len() {
                for position in &live {
                    code.unless_equal_skip(*position, 1);
                    code.answer();
                }
            } else {
                for (nth, position) in left_out.iter().enumerate() {
                    // A jump to the part below: past the remaining comparisons, two instructions each, and the
                    // answer.
                    let rest = number(left_out.len() - nth - 1) * 2 + 1;
                    code.unless_equal_skip(*position, 1);
                    code.jump(rest);
                }
                code.answer();
            }
            code.kept();
            code.of_accumulator(libc::BPF_DIV, size);
            code.answer_among(&live);
        }
    }
    code.0
}

fn number(position: usize) -> u32 {
    u32::try_from(position).unwrap_or(u32::MAX)
}

/// A program under construction. The machine has an accumulator, a register X, and memory, of which this uses
/// one word.
#[derive(Default)]
struct Code(Vec<sock_filter>);

impl Code {
    fn push(&mut self, code: u32, k: u32) {
        self.branch(code, k, 0, 0);
    }

    fn branch(&mut self, code: u32, k: u32, if_true: u8, if_false: u8) {
        // All codes are below 256.
        self.0.push(sock_filter { code: code as u16, jt: if_true, jf: if_false, k });
    }

    /// Loads the word at `offset` of the packet, or of the kernel's data about it.
    fn load(&mut self, offset: i32) {
        self.push(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset.cast_unsigned());
    }

    fn of_accumulator(&mut self, operation: u32, with: u32) {
        self.push(libc::BPF_ALU | operation | libc::BPF_K, with);
    }

    fn keep(&mut self) {
        self.push(libc::BPF_ST, 0);
    }

    fn kept(&mut self) {
        self.push(libc::BPF_LD | libc::BPF_W | libc::BPF_MEM, 0);
    }

    fn unless_equal_skip(&mut self, value: u32, count: u8) {
        self.branch(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value, 0, count);
    }

    fn jump(&mut self, over: u32) {
        self.push(libc::BPF_JMP | libc::BPF_JA, over);
    }

    fn answer(&mut self) {
        self.push(libc::BPF_RET | libc::BPF_A, 0);
    }

    /// Returns one of `positions`, selected by the accumulator. They are mostly the first ones; the others
    /// replace positions that are left out.
    fn answer_among(&mut self, positions: &[u32]) {
        let count = number(positions.len());
        self.of_accumulator(libc::BPF_MOD, count);
        let holes = (0..count).filter(|at| positions.binary_search(at).is_err());
        let beyond = positions.iter().filter(|position| **position >= count);
        for (hole, position) in holes.zip(beyond) {
            self.unless_equal_skip(hole, 1);
            self.push(libc::BPF_RET | libc::BPF_K, *position);
        }
        self.answer();
    }

    /// A number below 2^24 that is equal for all packets from one address and port, for IPv4 and for IPv6
    /// without extension headers. With those, it is at least equal for all packets of the same form.
    fn hash_of_flow(&mut self) {
        const IP: i32 = libc::SKF_NET_OFF;
        const IPV6_SOURCE: i32 = IP + 8;
        const IPV6_PORTS: i32 = IP + 40;
        const IPV4_SOURCE: i32 = IP + 12;
        /// The golden ratio of 2^32, and odd: it spreads numbers that are close together.
        const SPREAD: u32 = 0x9E37_79B1;
        let (mut ipv6, mut ipv4) = (Self::default(), Self::default());
        ipv6.load(IPV6_PORTS);
        for word in 0..4 {
            ipv6.xor(IPV6_SOURCE + 4 * word);
        }
        // X gets the length of the header, after which the ports come.
        ipv4.push(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH, IP.cast_unsigned());
        ipv4.push(libc::BPF_LD | libc::BPF_W | libc::BPF_IND, IP.cast_unsigned());
        ipv4.xor(IPV4_SOURCE);
        ipv6.jump(number(ipv4.0.len()));

        self.push(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, IP.cast_unsigned());
        self.of_accumulator(libc::BPF_RSH, 4);
        self.unless_equal_skip(6, ipv6.0.len() as u8);
        self.0.append(&mut ipv6.0);
        self.0.append(&mut ipv4.0);
        // The high bits of a product depend on all bits of its factors; the low bits do not.
        self.of_accumulator(libc::BPF_MUL, SPREAD);
        self.copy_to_x();
        self.of_accumulator(libc::BPF_RSH, 16);
        self.xor_x();
        self.of_accumulator(libc::BPF_MUL, SPREAD);
        self.of_accumulator(libc::BPF_RSH, 8);
    }

    fn xor(&mut self, offset: i32) {
        self.copy_to_x();
        self.load(offset);
        self.xor_x();
    }

    /// Copies the accumulator to X.
    fn copy_to_x(&mut self) {
        self.push(libc::BPF_MISC | libc::BPF_TAX, 0);
    }

    fn xor_x(&mut self) {
        self.push(libc::BPF_ALU | libc::BPF_XOR | libc::BPF_X, 0);
    }
}

#[cfg(test)]
mod tests;
