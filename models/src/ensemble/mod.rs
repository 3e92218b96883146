//! Several models as one: a network over one input whose scores are made of all members' (deep ensembles, Lakshminarayanan
//! et al. 2017).

mod adaptive;
mod join;
mod nuts;
mod scores;
mod spec;

pub(crate) use join::join;
pub use join::published_scores;
pub(crate) use spec::SCHEME;
pub use spec::members;
