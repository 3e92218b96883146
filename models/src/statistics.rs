//! Means and deviations by which published networks normalise pixels in `[0,1]`, by the names people know them by.

/// `(x - mean) / std` of pixels in `[0,1]`: one value per channel, or one for all.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Statistics {
    /// What `?mean=` takes; empty where numbers have to be written.
    pub name: &'static str,
    pub mean: &'static [f64],
    pub std: &'static [f64],
}

/// CIFAR-10 has two: its own per-pixel deviation, and one that many scripts copied from each other, which has no name here.
pub const KNOWN: &[Statistics] = &[
    Statistics { name: "imagenet", mean: &[0.485, 0.456, 0.406], std: &[0.229, 0.224, 0.225] },
    Statistics { name: "cifar10", mean: &[0.4914, 0.4822, 0.4465], std: &[0.2471, 0.2435, 0.2616] },
    Statistics { name: "", mean: &[0.4914, 0.4822, 0.4465], std: &[0.2023, 0.1994, 0.2010] },
    Statistics { name: "cifar100", mean: &[0.5071, 0.4865, 0.4409], std: &[0.2673, 0.2564, 0.2762] },
    Statistics { name: "clip", mean: &[0.48145466, 0.4578275, 0.40821073], std: &[0.26862954, 0.26130258, 0.27577711] },
    Statistics { name: "half", mean: &[0.5], std: &[0.5] },
    Statistics { name: "mnist", mean: &[0.1307], std: &[0.3081] },
];

impl Statistics {
    pub fn find(name: &str) -> Option<&'static Self> {
        KNOWN.iter().find(|s| s.name == name && !name.is_empty())
    }

    /// Names, for messages.
    pub fn names() -> Vec<&'static str> {
        KNOWN.iter().map(|s| s.name).filter(|n| !n.is_empty()).collect()
    }

    /// The parameters of a model that apply it.
    pub fn text(&self) -> String {
        let list = |v: &[f64]| v.iter().map(f64::to_string).collect::<Vec<_>>().join(",");
        match self.name {
            "" => format!("mean={}&std={}", list(self.mean), list(self.std)),
            name => format!("mean={name}"),
        }
    }
}
