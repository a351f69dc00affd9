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
use std::os::fd::AsFd;

use nix::libc::{self, sock_filter, sock_fprog};
use nix::sys::socket::{setsockopt, sockopt};

/// How many positions are left out at most. A program that left out more might be longer than the kernel takes
/// (`net.core.optmem_max`, 20,480 bytes before version 6.9); what is beyond goes on to get its share.
pub const LEFT_OUT_MAX: usize = 128;

/// How a group shares out what comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spread {
    /// Each to any: for connections.
    Random,
    /// All that comes from one address and port to one, as far as that goes: for packets, of which several make a
    /// conversation. While a member is left out, its conversations go to others, and those of the others stay.
    ByFlow,
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
            let left_out: Vec<_> = (0..size).filter(|at| !live.contains(at)).collect();
            code.keep();
            code.of_accumulator(libc::BPF_MOD, size);
            for (nth, position) in left_out.iter().enumerate() {
                // To the part below: past the rest of these, which are two each, and the answer.
                let rest = number(left_out.len() - nth - 1) * 2 + 1;
                code.unless_equal_skip(*position, 1);
                code.jump(rest);
            }
            code.answer();
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
