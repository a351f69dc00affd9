//! The daemon of einhyrningsins, as a library: the program is [`run`] and nothing else.
//!
//! `ARCHITECTURE.md` at the top of the repository has the picture.

pub mod listen;
pub mod sys;
