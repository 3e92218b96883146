//! Downloads of `hf:` models: a bar on stderr, and Ctrl-C.

use super::interrupt::STOP;
use indicatif::{ProgressBar, ProgressStyle};
use robust::models::hub::{self, Progress};
use robust::say;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};

/// The file that moves, and its bar.
struct Moving {
    name: String,
    bar: ProgressBar,
}

/// Shows every download of this process, and stops it when the user asks.
pub fn watch() {
    let moving = Mutex::new(None);
    hub::watch(Arc::new(move |p: &Progress| {
        if p.of > 0
            && let Ok(mut moving) = moving.lock()
        {
            show(&mut moving, p);
        }
        !STOP.load(SeqCst)
    }));
}

fn show(moving: &mut Option<Moving>, p: &Progress) {
    let name = format!("{}/{}", p.model, p.file);
    if moving.as_ref().is_none_or(|m| m.name != name) {
        // A terminal is shown the bar, a log one line.
        let bar = ProgressBar::new(p.of);
        let style = "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_message(name.clone());
        bar.reset_eta();
        bar.set_position(p.done);
        if bar.is_hidden() {
            let from =
                if p.done > 0 { format!(", {:.1} MB of it are there", p.done as f64 / 1e6) } else { String::new() };
            say(&format!("downloading {name}, {:.1} MB{from}", p.of as f64 / 1e6));
        }
        *moving = Some(Moving { name, bar });
    }
    if let Some(m) = moving {
        m.bar.set_position(p.done);
        if p.done >= p.of {
            m.bar.finish();
            *moving = None;
        }
    }
}
