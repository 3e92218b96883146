//! Text towers, which make heads of prompts.

mod known;
mod open;
mod open_clip;
mod open_clip_layers;
mod prompts;
mod rules;
mod tower;
mod transformers;

pub use tower::{Text, TextTower};
