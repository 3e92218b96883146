//! What a report says, before it is HTML, Markdown or LaTeX: sections of figures, each figure a chart and the table behind
//! it. A pure function of run folders (and, for the pictures, of the data set they name). To add a section, write its file, its
//! `mod` line and its line in `index.rs`.

mod classes;
mod corruptions;
mod cost;
mod deltas;
mod documents;
mod epsilon;
mod html;
mod index;
mod leaderboard;
mod origin;
mod outline;
mod pictures;
mod queries;
mod section;
mod subjects;
mod tables;
mod transfer;

pub use documents::{to_latex, to_markdown};
pub use html::to_html;
pub use outline::{Page, page};
pub use pictures::Options as Pictures;
pub use section::{Cell, Figure, Key, Section, Table};
pub use tables::{to_long_csv, to_robustbench, to_wide_csv};
