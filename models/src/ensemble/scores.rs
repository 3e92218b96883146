//! What is made of the members' scores.

use candle_core::{Device, Tensor};
use robust_core::{Error, Result};
use robust_engine::{Activation, Binary, Builder, NodeId, Op};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// The logarithm of the mean of the members' probabilities: the same decisions, in the scale of logits.
    LogProbabilities,
    /// That mean itself, as RobustBench's classes return it.
    Probabilities,
    /// The mean of the members' logits.
    Logits,
    /// A third network says for each image how two members' probabilities are mixed (Bai et al. 2023).
    AdaptiveSmoothing,
    /// Two members' probabilities after maps of their logits, in fixed shares (Bai et al. 2024).
    MixedNuts,
    /// What the authors of the last attack in its place: without the maps, or nearly.
    MixedNutsBypassed,
}

impl Way {
    pub const ALL: [(&'static str, Self); 6] = [
        ("log-probabilities", Way::LogProbabilities),
        ("probabilities", Way::Probabilities),
        ("logits", Way::Logits),
        ("adaptive-smoothing", Way::AdaptiveSmoothing),
        ("mixednuts", Way::MixedNuts),
        ("mixednuts-bypassed", Way::MixedNutsBypassed),
    ];

    pub fn parse(text: &str) -> Result<Self> {
        Self::ALL.iter().find(|(name, _)| *name == text).map(|(_, way)| *way).ok_or_else(|| {
            Error::usage(format!("`scores={text}` is not known"))
                .hint(format!("known: {}", Self::ALL.map(|(name, _)| name).join(", ")))
        })
    }

    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, way)| *way == self).map_or("", |(name, _)| name)
    }

    /// What `mix=` holds, in order.
    pub fn numbers(self) -> &'static [&'static str] {
        match self {
            Way::AdaptiveSmoothing => {
                &["gamma's scale", "gamma's shift", "alpha's range", "alpha's least", "first scale", "second scale"]
            }
            Way::MixedNuts | Way::MixedNutsBypassed => {
                &["scale", "shift", "power", "second's share", "second's share when bypassed"]
            }
            _ => &[],
        }
    }

    pub fn note(self, members: usize) -> String {
        let what = match self {
            Way::LogProbabilities => {
                "scores are the logarithm of the mean of the members' probabilities; `?scores=probabilities` is that mean itself, \
                 `?scores=logits` the mean of their logits"
            }
            Way::Probabilities => {
                "scores are the mean of the members' probabilities; without `scores=` they are its logarithm, which decides the same in \
                 the scale that losses and margins are made for"
            }
            Way::Logits => "scores are the mean of the members' logits",
            Way::AdaptiveSmoothing => {
                "scores are the logarithm of the members' probabilities in shares that a network says for each image (adaptive \
                 smoothing, Bai et al. 2023); gradients go through that network too"
            }
            Way::MixedNuts => {
                "scores are the logarithm of the members' probabilities in fixed shares, the first member's by its decision alone, the \
                 second's after a map of its logits (MixedNUTS, Bai et al. 2024); the first has hardly a gradient: attack with \
                 `--bpda` and the same files under `?scores=mixednuts-bypassed`, as its authors did"
            }
            Way::MixedNutsBypassed => {
                "scores are what the authors of MixedNUTS (Bai et al. 2024) take gradients of, not what they judge: a stand-in for `--bpda`"
            }
        };
        format!("an ensemble of {members}: {what}")
    }
}

/// Settings that RobustBench's classes have, by name and number of classes.
const PUBLISHED: [(&str, usize, Way, &[f64]); 6] = [
    ("Bai2023Improving_edm", 10, Way::AdaptiveSmoothing, &[2., 1.05, 0.04, 0.96, 1.2, 0.3]),
    ("Bai2023Improving_edm", 100, Way::AdaptiveSmoothing, &[2., 1.3, 0.15, 0.84, 2., 1.]),
    ("Bai2023Improving_trades", 100, Way::AdaptiveSmoothing, &[2., 1., 0.1, 0.815, 2., 1.]),
    ("Bai2024MixedNUTS", 10, Way::MixedNuts, &[5., -1.1, 4., 0.9987500602493457, 0.9570535356459247]),
    (
        "Bai2024MixedNUTS",
        100,
        Way::MixedNuts,
        &[0.6115753843212784, -2.142857142857143, 3.571428571428571, 0.9860300534207915, 0.9706995384302841],
    ),
    (
        "Bai2024MixedNUTS",
        1000,
        Way::MixedNuts,
        &[0.023535468936502525, -0.2857142857142858, 2.7142857142857144, 0.9971266414518896, 0.90683792395046],
    ),
];

/// How RobustBench joins the files of a name.
pub(super) fn published(name: &str) -> Option<Way> {
    PUBLISHED.iter().find(|(of, ..)| *of == name).map(|(_, _, way, _)| *way)
}

/// The numbers of a way that needs some: those given, or RobustBench's for the name, which is one of that way.
///
/// # Errors
/// Kind `Usage` where there are none, too many, or the way takes none.
pub(super) fn settings(way: Way, given: Option<&[f64]>, name: Option<&str>, classes: usize) -> Result<Vec<f64>> {
    let wanted = way.numbers();
    let how = || format!("`mix=` is {}, separated by commas", wanted.join(", "));
    match given {
        Some(_) if wanted.is_empty() => Err(Error::usage(format!("`mix` says nothing under `scores={}`", way.name()))),
        Some(given) if given.len() == wanted.len() => Ok(given.to_vec()),
        Some(given) => {
            let why = format!("`mix` has {} numbers, `scores={}` wants {}", given.len(), way.name(), wanted.len());
            Err(Error::usage(why).hint(how()))
        }
        None if wanted.is_empty() => Ok(vec![]),
        None => {
            // The stand-in has the settings of what it stands for.
            let known = PUBLISHED.iter().find(|(of, k, ..)| Some(*of) == name && *k == classes);
            known.map(|(.., numbers)| numbers.to_vec()).ok_or_else(|| {
                let why = format!("`scores={}` needs `mix=` with {} numbers", way.name(), wanted.len());
                let hint = format!("{}; files named as RobustBench names them have its settings by themselves", how());
                Error::usage(why).hint(hint)
            })
        }
    }
}

/// One value `[n, classes]` of many, each counting alike.
pub(super) fn combine(net: &mut Builder, members: &[NodeId], way: Way) -> Result<NodeId> {
    let count = members.len() as f64;
    match way {
        Way::Logits => {
            let sum = fold(net, members, Binary::Add, "ensemble.sum")?;
            scaled(net, sum, Binary::Mul, 1. / count, "ensemble")
        }
        Way::Probabilities => {
            let probabilities = each(net, members, &Op::Softmax { axis: 1 }, "ensemble.probabilities")?;
            let sum = fold(net, &probabilities, Binary::Add, "ensemble.sum")?;
            scaled(net, sum, Binary::Mul, 1. / count, "ensemble")
        }
        Way::LogProbabilities => {
            let logs = each(net, members, &Op::LogSoftmax { axis: 1 }, "ensemble.logs")?;
            let whole = log_sum(net, &logs)?;
            scaled(net, whole, Binary::Sub, count.ln(), "ensemble")
        }
        _ => Err(Error::internal("members do not count alike")),
    }
}

/// `log(sum exp)` of values, relative to the largest: a sum of tiny probabilities would be 0, and its logarithm infinite.
pub(super) fn log_sum(net: &mut Builder, logs: &[NodeId]) -> Result<NodeId> {
    let top = fold(net, logs, Binary::Max, "ensemble.top")?;
    let mut shares = vec![];
    for (i, log) in logs.iter().enumerate() {
        let below = net.node(format!("ensemble.below.{i}"), Op::Binary(Binary::Sub), &[*log, top])?;
        shares.push(net.node(format!("ensemble.share.{i}"), Op::Act(Activation::Exp), &[below])?);
    }
    let sum = fold(net, &shares, Binary::Add, "ensemble.sum")?;
    let log = net.node("ensemble.log", Op::Act(Activation::Log), &[sum])?;
    net.node("ensemble.whole", Op::Binary(Binary::Add), &[log, top])
}

fn each(net: &mut Builder, of: &[NodeId], op: &Op, name: &str) -> Result<Vec<NodeId>> {
    of.iter().enumerate().map(|(i, x)| net.node(format!("{name}.{i}"), op.clone(), &[*x])).collect()
}

fn fold(net: &mut Builder, of: &[NodeId], op: Binary, name: &str) -> Result<NodeId> {
    let Some((&first, rest)) = of.split_first() else { return Err(Error::internal("nothing to fold")) };
    rest.iter().enumerate().try_fold(first, |sum, (i, x)| net.node(format!("{name}.{i}"), Op::Binary(op), &[sum, *x]))
}

/// An op with a number on its right.
pub(super) fn scaled(net: &mut Builder, x: NodeId, op: Binary, by: f64, name: &str) -> Result<NodeId> {
    let by = Tensor::new(by, &Device::Cpu)?;
    let param = net.param(format!("{name}.number"), by);
    let number = net.node(format!("{name}.number"), Op::Param(param), &[])?;
    net.node(name, Op::Binary(op), &[x, number])
}
