//! Finished runs: read, compared, ranked, exported.

pub mod compare;
pub mod export;
pub mod finished;
pub mod leaderboard;
pub mod pairing;
pub mod stats;
