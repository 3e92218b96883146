//! Several models as one: a network over one input whose scores are made of all members' (deep ensembles, Lakshminarayanan
//! et al. 2017). Attacks see through it as through any other network, and its digest covers every member.

use super::scores::Way;
use super::spec::Spec;
use super::{adaptive, nuts, scores, spec};
use crate::facts::normalisation;
use crate::loaded::{LoadedModel, describe};
use robust_core::{Card, Error, Model, Output, Result};
use robust_engine::{Builder, Network, NetworkModel, NodeId, Op};
use std::sync::Arc;

/// How RobustBench joins the files of a name where it is not a mean, as `scores=` says it.
pub fn published_scores(name: &str) -> Option<&'static str> {
    scores::published(name).map(Way::name)
}

/// Loads every member by `load` and joins them; `text` is what follows `ensemble:`.
///
/// # Errors
/// Kind `Usage` for a spec that makes no sense and for members that do not fit each other, and those of `load`, which
/// name the member.
pub(crate) fn join(name: Option<&str>, text: &str, load: impl Fn(&str) -> Result<LoadedModel>) -> Result<LoadedModel> {
    let Spec { mut members, way, mix } = Spec::parse(text)?;
    // Numbered files have one name, unless they are joined in another way than the published one.
    let named = spec::numbered(&members);
    let published = named.as_deref().and_then(scores::published);
    let way = way.or(published).unwrap_or(Way::LogProbabilities);
    let known = named.filter(|_| published.map_or(way.numbers().is_empty(), |p| p.numbers() == way.numbers()));
    if known.is_some() && published.is_some() && !spec::in_order(&members) {
        return Err(Error::usage("the files are not in their order: the accurate member comes first")
            .hint("`ensemble:NAME.pt_m0.pt+NAME.pt_m1.pt`, or `ensemble:NAME.pt_m*.pt` for all"));
    }
    let file = if way == Way::AdaptiveSmoothing { members.pop() } else { None };
    counted(way, &members)?;
    let mut loaded: Vec<LoadedModel> = vec![];
    for (i, member) in members.iter().enumerate() {
        let place = || format!("member {} of the ensemble, `{member}`", i + 1);
        let model = load(member).map_err(|e| e.within(place()))?;
        fits(&model, loaded.first()).map_err(|e| e.within(place()))?;
        loaded.push(model);
    }
    let classes = loaded.first().map_or(0, |m| m.card.output.width());
    let joint = Joint { way, numbers: scores::settings(way, mix.as_deref(), known.as_deref(), classes)?, file };
    // A stand-in must not be taken for what it stands for.
    let suffix = if way == Way::MixedNutsBypassed { " bypassed" } else { "" };
    let own = || known.unwrap_or_else(|| spec::label(&loaded)) + suffix;
    let name = name.map_or_else(own, String::from);
    joined(name, loaded, &joint)
}

/// How members are joined.
struct Joint {
    way: Way,
    /// What the way needs to know.
    numbers: Vec<f64>,
    /// The network that mixes, where one does.
    file: Option<String>,
}

/// Some ways are of two members.
fn counted(way: Way, members: &[String]) -> Result<()> {
    let (fits, how) = match way {
        Way::AdaptiveSmoothing => (members.len() == 2, adaptive::FILES),
        Way::MixedNuts | Way::MixedNutsBypassed => {
            (members.len() == 2, "an accurate model and a robust one, in that order: `ensemble:A+B`")
        }
        _ => (true, ""),
    };
    match fits {
        true => Ok(()),
        false => Err(Error::usage(format!("`scores={}` joins {how}", way.name()))),
    }
}

/// Whether a member scores classes, the same number of the same images as the first.
fn fits(model: &LoadedModel, first: Option<&LoadedModel>) -> Result<()> {
    if let Output::Embedding { d } = model.card.output {
        return Err(Error::usage(format!("it gives an embedding of {d} entries, not scores of classes"))
            .hint("a head makes scores of it: `[MEMBER?head=head.safetensors]`"));
    }
    let Some(first) = first else { return Ok(()) };
    let (mine, others) = (&model.card.input, &first.card.input);
    if mine != others {
        let why = format!("its input has shape {:?}, the first member's {:?}", mine.shape, others.shape);
        return Err(Error::usage(why)
            .hint("members see the same image: `?input=3x32x32` says its size for all that can take any"));
    }
    let (mine, others) = (model.card.output.width(), first.card.output.width());
    match mine == others {
        true => Ok(()),
        false => Err(Error::usage(format!("it scores {mine} classes, the first member {others}"))
            .hint("members must tell the same classes apart, in the same order")),
    }
}

fn joined(name: String, members: Vec<LoadedModel>, joint: &Joint) -> Result<LoadedModel> {
    let Some(first) = members.first() else { return Err(Error::usage("an ensemble has no members")) };
    let mut notes = vec![joint.way.note(members.len())];
    let mut net = Builder::new();
    let x = net.input("image", first.graph()?.input_row())?;
    let mut outs = vec![];
    for (i, member) in members.iter().enumerate() {
        let network = member.graph()?;
        let (end, ends_in_softmax) = logits(network);
        if ends_in_softmax {
            notes.push(format!("member {} ends in a softmax: what that reads is taken for its logits", i + 1));
        }
        outs.push(net.append(network, end, x, &format!("members.{i}."))?);
    }
    let out = match (joint.way, &outs[..], &joint.file) {
        (Way::AdaptiveSmoothing, &[a, b], Some(file)) => {
            adaptive::lay(&mut net, &members, [a, b], file, &joint.numbers)?
        }
        (way @ (Way::MixedNuts | Way::MixedNutsBypassed), &[a, b], _) => {
            nuts::lay(&mut net, [a, b], way, &joint.numbers)?
        }
        (way, ..) => scores::combine(&mut net, &outs, way)?,
    };
    let network = Arc::new(net.finish(out)?);
    notes.extend(doubtful(&members));
    let of_all = |of: fn(&LoadedModel) -> &Vec<String>| merged(&members, of);
    notes.extend(of_all(|m| &m.notes));
    let threat = first.card.default_threat.filter(|t| members.iter().all(|m| m.card.default_threat == Some(*t)));
    let card = Card {
        preprocess: preprocess(&members)?,
        // The last layer of one member is not an inner value of the whole.
        taps: vec![],
        ..describe(&network, name.clone(), threat, false)?
    };
    let model = NetworkModel::with_card(Arc::clone(&network), card)?;
    let card = model.card().clone();
    let (family, ignored, network) = (Some(family(&members)), of_all(|m| &m.ignored), Some(network));
    Ok(LoadedModel { name, format: "ensemble", family, card, network, model: Arc::new(model), notes, ignored })
}

/// The node that holds a member's logits, and whether a softmax over classes follows it.
fn logits(network: &Network) -> (NodeId, bool) {
    let node = &network.nodes()[network.output().0];
    match (&node.op, node.inputs.first()) {
        (Op::Softmax { axis: 1 }, Some(&logits)) => (logits, true),
        _ => (network.output(), false),
    }
}

/// What of the members' preprocessing is said is said by all alike.
fn preprocess(members: &[LoadedModel]) -> Result<Option<robust_core::Preprocess>> {
    let mut said = members.iter().filter_map(|m| m.card.preprocess);
    let first = said.next();
    match said.find(|other| Some(*other) != first) {
        None => Ok(first),
        Some(other) => Err(Error::usage(format!(
            "the members want images prepared in different ways ({} and {other})",
            first.map_or(String::new(), |f| f.to_string())
        ))
        .hint("say one way for all: `?resize=256&crop=224`")),
    }
}

/// What is seldom meant.
fn doubtful(members: &[LoadedModel]) -> Vec<String> {
    let mut found = vec![];
    for (i, member) in members.iter().enumerate() {
        if let Some(j) = members[..i].iter().position(|m| m.card.digest == member.card.digest) {
            found.push(format!("members {} and {} are the same network, which counts twice", j + 1, i + 1));
        }
    }
    let ways: Vec<_> = members.iter().filter_map(|m| m.network.as_ref()).map(|n| normalisation(n)).collect();
    if ways.iter().any(|way| *way != ways[0]) {
        found.push("members normalise their pixels differently, each its own way".to_string());
    }
    found
}

/// What all members say, once; what some say, with their number.
fn merged(members: &[LoadedModel], of: fn(&LoadedModel) -> &Vec<String>) -> Vec<String> {
    let mut all: Vec<String> = vec![];
    for (i, member) in members.iter().enumerate() {
        for text in of(member) {
            let shared = members.iter().all(|m| of(m).contains(text));
            let line = if shared { text.clone() } else { format!("member {}: {text}", i + 1) };
            if !all.contains(&line) {
                all.push(line);
            }
        }
    }
    all
}

/// `3 x cifar-resnet`, or the names in order of the members.
fn family(members: &[LoadedModel]) -> String {
    let names: Vec<&str> = members.iter().map(|m| m.family.as_deref().unwrap_or("graph")).collect();
    match names.iter().all(|n| *n == names[0]) {
        true => format!("{} x {}", names.len(), names[0]),
        false => names.join(" + "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device, Tensor};
    use robust_engine::Reference;

    const MEANS: [Way; 3] = [Way::LogProbabilities, Way::Probabilities, Way::Logits];

    fn of(way: Way) -> Joint {
        Joint { way, numbers: vec![], file: None }
    }

    fn model(rows: &[[f32; 2]], soft: bool) -> LoadedModel {
        let mut net = Builder::new();
        let x = net.input("x", &[2]).unwrap();
        let weight = net.param("weight", Tensor::from_slice(&rows.concat(), (rows.len(), 2), &Device::Cpu).unwrap());
        let mut out = net.node("fc", Op::Linear { weight, bias: None }, &[x]).unwrap();
        if soft {
            out = net.node("p", Op::Softmax { axis: 1 }, &[out]).unwrap();
        }
        let network = Arc::new(net.finish(out).unwrap());
        let card = describe(&network, "net".into(), None, false).unwrap();
        let model = NetworkModel::with_card(Arc::clone(&network), card).unwrap();
        let card = model.card().clone();
        let (name, notes, ignored) = ("net".to_string(), vec![], vec![]);
        LoadedModel {
            name,
            format: "onnx",
            family: None,
            card,
            network: Some(network),
            model: Arc::new(model),
            notes,
            ignored,
        }
    }

    #[test]
    fn what_ends_in_a_softmax_is_taken_before_it() {
        let rows = [[1., -2.], [0.5, 3.], [-1., 0.25]];
        for way in MEANS {
            let joined =
                |second: bool| joined("e".into(), vec![model(&rows, false), model(&rows, second)], &of(way)).unwrap();
            let (plain, soft) = (joined(false), joined(true));
            assert_eq!(plain.card.digest, soft.card.digest);
            assert!(soft.notes.iter().any(|n| n.contains("member 2 ends in a softmax")), "{:?}", soft.notes);
            assert!(plain.notes.iter().all(|n| !n.contains("ends in a softmax")), "{:?}", plain.notes);
        }
    }

    #[test]
    fn scores_are_the_closed_forms_even_where_probabilities_underflow() {
        // Logits [0, 1, -1] x and [2, 0, 1] x: at x = 400 a probability is e^-800, which no f64 holds.
        let members =
            || vec![model(&[[0., 0.], [1., 0.], [-1., 0.]], false), model(&[[2., 0.], [0., 0.], [1., 0.]], false)];
        for x in [0.5, 3., 400.] {
            let logs = |z: [f64; 3]| {
                let top = z.iter().fold(f64::MIN, |a, b| a.max(*b));
                let sum: f64 = z.iter().map(|v| (v - top).exp()).sum();
                z.map(|v| v - top - sum.ln())
            };
            let (a, b) = (logs([0., x, -x]), logs([2. * x, 0., x]));
            let both = |of: fn(f64, f64) -> f64| std::array::from_fn::<f64, 3, _>(|i| of(a[i], b[i]));
            let log_mean = both(|a, b| a.max(b) + ((-(a - b).abs()).exp() / 2. + 0.5).ln());
            let mean = both(|a, b| (a.exp() + b.exp()) / 2.);
            let expected =
                [(Way::LogProbabilities, log_mean), (Way::Probabilities, mean), (Way::Logits, [x, x / 2., 0.])];
            for (way, expected) in expected {
                let net = joined("e".into(), members(), &of(way)).unwrap().network.unwrap();
                let point = Tensor::from_slice(&[x, 0.], (1, 2), &Device::Cpu).unwrap();
                let reference = Reference::new(net, DType::F64).unwrap();
                let found = reference.forward(&point).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
                for (f, e) in found.iter().zip(expected) {
                    assert!((f - e).abs() <= 1e-12 * e.abs().max(1.), "{way:?} at {x}: {found:?}, not {expected:?}");
                }
                // The slope of the log of class 1: what the members' shares of it say.
                let mut tape = reference.trace(&point, &[]).unwrap();
                let seed = Tensor::from_slice(&[0f64, 1., 0.], (1, 3), &Device::Cpu).unwrap();
                let out = reference.network().output();
                let slope = tape.pull(&[(out, seed)]).unwrap().to_vec2::<f64>().unwrap()[0][0];
                if way == Way::LogProbabilities {
                    let p = |l: [f64; 3]| l.map(f64::exp);
                    let (pa, pb) = (p(a), p(b));
                    let (da, db) = (1. - pa[1] + pa[2], -2. * pb[0] - pb[2]);
                    let share = 1. / (1. + (b[1] - a[1]).exp());
                    let expected = share * da + (1. - share) * db;
                    assert!((slope - expected).abs() <= 1e-12, "{slope} at {x}, not {expected}");
                }
            }
        }
    }
}
