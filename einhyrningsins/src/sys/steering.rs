//! Which member of a group of sockets with `SO_REUSEPORT` gets what comes in.
//!
//! Sockets of one user that are bound to one address with `SO_REUSEPORT` are a group, which the kernel holds as an array:
//! who joins is put at the end, and where one leaves, the *last* takes its place. Without more, each connection goes by
//! a hash to any member. A program of the classic BPF machine on the group decides instead, by answering with a
//! position. It can leave members out, which is the one way to keep a socket open and give it nothing new. No privilege
//! is needed, and any member can set it for all.
//!
//! # Source
//! `socket(7)`, `SO_ATTACH_REUSEPORT_CBPF`; of the order, `net/core/sock_reuseport.c` of the kernel
//! (`__reuseport_add_sock`, `__reuseport_detach_sock`); of the machine, `Documentation/networking/filter.rst`.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;
use nix::libc::{self, sock_filter, sock_fprog};
use nix::sys::socket::{setsockopt, sockopt};

/// `SO_BINDTOIFINDEX` of most architectures. Source: `include/uapi/asm-generic/socket.h`, since Linux 5.1.
const BIND_TO_INDEX: libc::c_int = 62;

/// The number of an interface that is not there: numbers count up from 1.
static NOWHERE: libc::c_int = libc::c_int::MAX;

const INT_BYTES: libc::socklen_t = size_of::<libc::c_int>() as libc::socklen_t;

/// How a group shares out what comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spread {
    /// Each to any: for connections.
    Random,
    /// All that comes from one address and port to one, as far as that goes: for packets, of which several make a
    /// conversation. While a member is left out, its conversations go to others, and those of the others stay.
    ByFlow,
}

impl Spread {
    /// How many positions at most a program names one by one: either those that are left out or the others, whichever are
    /// fewer. A longer one might be more than the kernel takes (`net.core.optmem_max`, 20,480 bytes before version 6.9).
    const fn named_max(self) -> usize {
        match self {
            Self::Random => 400,
            // It names them twice.
            Self::ByFlow => 128,
        }
    }

    /// How many of `size` positions can be left out where that many `wanted` to be.
    #[must_use]
    pub fn can_leave_out(self, wanted: usize, size: usize) -> usize {
        let named = wanted.min(size.saturating_sub(wanted));
        if named <= self.named_max() { wanted } else { self.named_max() }
    }
}

/// Has the group of `member`, which has `size` members, share out what comes in among those at the positions `live`,
/// in rising order. If there are none, all are meant.
///
/// # Errors
/// EINVAL if `member` is in no group: not bound with `SO_REUSEPORT`, or alone, of UDP. ENOMEM for a program that is too
/// long.
pub fn steer(member: &impl AsFd, size: usize, live: &[usize], spread: Spread) -> io::Result<()> {
    let mut program = program(size, live, spread);
    let program = sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| io::ErrorKind::OutOfMemory)?,
        // The kernel copies what it points to, and `program` outlives the call.
        filter: program.as_mut_ptr(),
    };
    Ok(setsockopt(member, sockopt::AttachReusePortCbpf, &program)?)
}

/// Has a UDP socket leave its group, and get nothing any more, while others have descriptors of it too. No privilege is
/// needed, unless the socket is bound to a network interface already.
///
/// # Errors
/// EPERM.
///
/// # Source
/// `sock_bindtoindex` of the kernel (`net/core/sock.c`): a socket that is bound to another interface is put elsewhere in
/// its table, and leaves its group by that (`udp_lib_rehash`). `shutdown(2)` does not do it.
pub fn leave_group(socket: &impl AsFd) -> io::Result<()> {
    // SAFETY: the kernel reads an int, of the size that it is told, and `NOWHERE` lives for ever.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            BIND_TO_INDEX,
            (&raw const NOWHERE).cast(),
            INT_BYTES,
        )
    };
    Ok(Errno::result(result).map(drop)?)
}

/// Whether [`leave_group`] was called on this socket.
#[must_use]
pub fn has_left_group(socket: &impl AsFd) -> bool {
    let (mut index, mut length): (libc::c_int, _) = (0, INT_BYTES);
    // SAFETY: the kernel writes at most `length` bytes, which is the size of `index`, and both outlive the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            BIND_TO_INDEX,
            (&raw mut index).cast(),
            &raw mut length,
        )
    };
    result == 0 && index == NOWHERE
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
                    // To the part below: past the rest of these, which are two each, and the answer.
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

/// A program as it is written. There is an accumulator, a register X, and memory, of which it uses one word.
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

    /// The word at `offset` of the packet, or of what the kernel knows of it.
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

    /// Answers with one of `positions`, which one by what the accumulator is. They are mostly the first ones: those that
    /// are not take the places of those that are left out.
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

    /// A number below 2^24 that is the same for all packets from one address and port, of IPv4 and of IPv6 without
    /// extension headers; with those, it is at least the same for all packets alike.
    fn hash_of_flow(&mut self) {
        const IP: i32 = libc::SKF_NET_OFF;
        const IPV6_SOURCE: i32 = IP + 8;
        const IPV6_PORTS: i32 = IP + 40;
        const IPV4_SOURCE: i32 = IP + 12;
        /// What the golden ratio makes of 2^32, and odd: it spreads numbers that are close together.
        const SPREAD: u32 = 0x9E37_79B1;
        let (mut ipv6, mut ipv4) = (Self::default(), Self::default());
        ipv6.load(IPV6_PORTS);
        for word in 0..4 {
            ipv6.xor(IPV6_SOURCE + 4 * word);
        }
        // The length of the header, which the ports come behind, goes to X.
        ipv4.push(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH, IP.cast_unsigned());
        ipv4.push(libc::BPF_LD | libc::BPF_W | libc::BPF_IND, IP.cast_unsigned());
        ipv4.xor(IPV4_SOURCE);
        ipv6.jump(number(ipv4.0.len()));

        self.push(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, IP.cast_unsigned());
        self.of_accumulator(libc::BPF_RSH, 4);
        self.unless_equal_skip(6, ipv6.0.len() as u8);
        self.0.append(&mut ipv6.0);
        self.0.append(&mut ipv4.0);
        // A product's high bits depend on all that it is made of, its low ones do not.
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

    /// X becomes what the accumulator is.
    fn copy_to_x(&mut self) {
        self.push(libc::BPF_MISC | libc::BPF_TAX, 0);
    }

    fn xor_x(&mut self) {
        self.push(libc::BPF_ALU | libc::BPF_XOR | libc::BPF_X, 0);
    }
}

#[cfg(test)]
mod tests;
