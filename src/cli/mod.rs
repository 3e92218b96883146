//! The command: a file for each verb, and what verbs share.

mod app;
mod calibration;
mod compare;
mod corrupt;
mod doctor;
mod eval;
mod export;
mod gate;
mod heads;
#[cfg(feature = "hub")]
mod hub;
mod init;
mod inspect;
mod interrupt;
mod leaderboard;
mod list;
mod machine;
mod measure;
mod output;
mod pick;
mod probe;
mod progress;
mod report;
mod scale;
mod selftest;
mod sequences;
mod summary;
mod target;
mod topics;
mod verify;

pub use app::main;
