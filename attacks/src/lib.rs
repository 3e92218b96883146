//! The attacks, one file each. To add one: write the file, add its `mod` line and its entry to [`ALL`].

mod apgd;
mod apgd_ce;
mod apgd_dlr;
mod apgd_l1;
mod apgd_t;
mod ascent;
pub mod autoattack;
mod bim;
mod choice;
mod climb;
mod ddn;
mod fab;
mod fab_step;
mod fab_t;
mod fgsm;
mod host;
#[cfg(test)]
mod label_free_tests;
mod mi_fgsm;
mod noise;
mod pgd;
#[cfg(test)]
mod rules;
mod square;
mod square_moves;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod toy;
pub mod walk;
#[cfg(test)]
mod walk_tests;

use robust_core::{
    Aim, Attack, Budget, Built, Card, Entry, Error, Norm, Region, Result, Spec, ThreatModel, Value as SpecValue,
    nearest,
};
use serde_json::{Map, Value};

/// The index. Names are unique.
pub static ALL: &[Entry] = &[
    noise::UNIFORM,
    noise::SIGN,
    fgsm::ENTRY,
    bim::ENTRY,
    pgd::ENTRY,
    mi_fgsm::ENTRY,
    apgd_ce::ENTRY,
    apgd_dlr::ENTRY,
    apgd_t::ENTRY,
    fab::ENTRY,
    fab_t::ENTRY,
    square::ENTRY,
    ddn::ENTRY,
    autoattack::ENTRY,
];

/// Other names by which people know an attack.
const ALIASES: [(&str, &str); 2] = [("aa", "autoattack"), ("apgd", "apgd-ce")];

/// An attack ready to run against a given input.
pub struct Ready {
    /// The user's spec with norm and epsilon spelled out: names rows in every output.
    pub label: String,
    /// `pgd-linf`, say: the noise's path, so that more steps or restarts extend a run instead of replacing it.
    pub path: String,
    pub entry: &'static Entry,
    pub threat: ThreatModel,
    pub budget: Budget,
    pub attack: Box<dyn Attack>,
    /// Every parameter with defaults filled in.
    pub params: Map<String, Value>,
    /// What it must reach on a bare encoder; `None` where there are classes.
    pub aim: Option<Aim>,
}

impl Ready {
    /// The same attack toward a goal without labels, which its name then says.
    ///
    /// # Errors
    /// Kind `Usage` for attacks and parameters that need scores of classes.
    pub fn aimed(mut self, aim: Aim) -> Result<Self> {
        let refuse = |e: Error| {
            let names = label_free().collect::<Vec<_>>().join(", ");
            e.within(format!("attack `{}` cannot go {aim}", self.label)).hint(format!(
                "without labels there are {names}; for the others put a head on the encoder: `robust probe`"
            ))
        };
        self.attack.label_free().map_err(refuse)?;
        let given = Spec::parse(&self.label)?;
        for key in ["objective", "target"] {
            if given.get(key).is_some() {
                return Err(refuse(Error::usage(format!(
                    "`{key}` is about classes, which a bare encoder does not have"
                ))));
            }
            // Its default says nothing here either.
            self.params.remove(key);
        }
        self.label = format!("{} {aim}", self.label);
        self.aim = Some(aim);
        Ok(self)
    }
}

/// The class that an attack with these parameters must reach from a sample with this label and these clean scores; `None` for
/// any but the label.
///
/// # Errors
/// Kind `Usage` for a target that is not a class, kind `Load` for parameters that are not an attack's.
pub fn target_of(params: &Map<String, Value>, label: u32, clean: &[f32]) -> Result<Option<u32>> {
    let Some(target) = params.get("target") else { return Ok(None) };
    let toward: choice::Toward =
        serde_json::from_value(target.clone()).map_err(|e| Error::load("run.json", format!("target={target}: {e}")))?;
    let goal = toward.aim(&[label], &[clean.to_vec()])?;
    Ok(goal.classes().first().copied().filter(|_| goal.is_targeted()))
}

/// The attacks that can go for a goal without labels.
pub fn label_free() -> impl Iterator<Item = &'static str> {
    let plain = |e: &Entry| Spec { name: format!("{}-{}", e.name, e.norms[0].suffix()), params: vec![] };
    ALL.iter().filter(move |e| (e.build)(&plain(e)).is_ok_and(|b| b.attack.label_free().is_ok())).map(|e| e.name)
}

/// Splits `pgd-l2` into the entry `pgd` and its norm; a bare name means the entry's usual norm.
pub fn find(name: &str) -> Result<(&'static Entry, Option<Norm>)> {
    let lower = name.to_lowercase();
    let full =
        |n: &str| ALIASES.iter().find(|(short, _)| *short == n).map_or(n.to_string(), |(_, full)| full.to_string());
    let exact = |n: &str| ALL.iter().find(|e| e.name == full(n));
    if let Some(entry) = exact(&lower) {
        return Ok((entry, None));
    }
    if let Some((stem, suffix)) = lower.rsplit_once('-')
        && let (Some(entry), Ok(norm)) = (exact(stem), suffix.parse::<Norm>())
    {
        return Ok((entry, Some(norm)));
    }
    let names: Vec<String> = names();
    let error = Error::usage(format!("unknown attack `{name}`"));
    Err(error.hint(match nearest(&lower, names.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`? `robust list attacks` shows all"),
        None => "`robust list attacks` shows all".to_string(),
    }))
}

/// Every name `find` accepts: each entry bare and with each of its norms.
pub fn names() -> Vec<String> {
    ALL.iter()
        .flat_map(|e| {
            std::iter::once(e.name.to_string()).chain(e.norms.iter().map(|n| format!("{}-{}", e.name, n.suffix())))
        })
        .collect()
}

/// Reads `name:key=value,...` for a model: norm from the name or `norm=`, epsilon from `eps=` or the model's card.
pub fn resolve(text: &str, card: &Card) -> Result<Ready> {
    let spec = Spec::parse(text)?;
    let (entry, named) = find(&spec.name)?;
    resolve_entry(text, spec, entry, named, card)
}

/// Says of a spec what can be said before a model is loaded: a name, a parameter or a value that is wrong.
///
/// # Errors
/// Kind `Usage`, the same that [`resolve`] would give.
pub fn check(text: &str) -> Result<()> {
    let spec = Spec::parse(text)?;
    let (entry, named) = find(&spec.name)?;
    check_entry(text, spec, entry, named)
}

/// [`check`] for an entry that is not in the index.
pub fn check_entry(text: &str, spec: Spec, entry: &'static Entry, named: Option<Norm>) -> Result<()> {
    let read = Read::of(text, spec, entry, named)?;
    read.eps.map_or(Ok(()), |eps| eps.number("eps").map(|_| ()))
}

/// Whether an attack looks for the nearest success of every sample; such attacks need no epsilon. False for names that are not in
/// the index.
pub fn minimises(name: &str) -> bool {
    let built = |e: &Entry| (e.build)(&Spec { name: format!("{}-{}", e.name, e.norms[0].suffix()), params: vec![] });
    ALL.iter().find(|e| e.name == name).is_some_and(|e| built(e).is_ok_and(|b| b.attack.minimises()))
}

/// Whether a spec has no epsilon because it needs none.
///
/// # Errors
/// As [`check`].
pub fn is_without_epsilon(text: &str) -> Result<bool> {
    let spec = Spec::parse(text)?;
    let (entry, named) = find(&spec.name)?;
    let read = Read::of(text, spec, entry, named)?;
    Ok(read.eps.is_none() && read.built.attack.minimises())
}

/// A spec whose parameters make sense; what belongs to every attack stands apart.
struct Read {
    norm: Norm,
    eps: Option<SpecValue>,
    queries: Option<f64>,
    built: Built,
    /// The attack's own parameters, as they were given.
    own: Vec<(String, SpecValue)>,
}

impl Read {
    fn of(text: &str, mut spec: Spec, entry: &'static Entry, named: Option<Norm>) -> Result<Self> {
        let given = spec.remove("norm").map(|v| v.text.parse::<Norm>()).transpose()?;
        if let (Some(a), Some(b)) = (named, given)
            && a != b
        {
            return Err(Error::usage(format!("`{text}` names {a} and asks for norm={}", b.suffix())));
        }
        let norm = named.or(given).unwrap_or(entry.norms[0]);
        if !entry.norms.contains(&norm) {
            let list = entry.norms.iter().map(|n| n.suffix()).collect::<Vec<_>>().join(", ");
            let error = Error::usage(format!("attack `{}` does not work in {norm}", entry.name));
            return Err(error.hint(format!("it knows {list}")));
        }
        let eps = spec.remove("eps");
        let queries = spec.remove("queries").map(|v| v.number("queries")).transpose()?;
        if queries.is_some_and(|q| q < 1. || q.fract() != 0.) {
            return Err(Error::usage("queries must be a whole number of forward passes, at least 1"));
        }
        // Builders may need the norm: what a sample costs depends on it.
        spec.name = format!("{}-{}", entry.name, norm.suffix());
        let built = (entry.build)(&spec)?;
        Ok(Self { norm, eps, queries, built, own: spec.params })
    }
}

/// [`resolve`] for an entry that is not in the index; `named` is the norm its name says.
pub fn resolve_entry(text: &str, spec: Spec, entry: &'static Entry, named: Option<Norm>, card: &Card) -> Result<Ready> {
    let Read { norm, eps, queries, built, own } = Read::of(text, spec, entry, named)?;
    let (region, eps_text) = region(eps, text, norm, card, built.attack.minimises())?;
    let threat =
        ThreatModel::new(region, card.input.clone(), entry.needs).map_err(|e| e.within(format!("attack `{text}`")))?;
    let mut rest: Vec<String> = own.iter().map(|(k, v)| format!("{k}={}", v.text)).collect();
    rest.extend(queries.map(|q| format!("queries={q}")));
    rest.sort();
    let path = format!("{}-{}", entry.name, norm.suffix());
    let settings: Vec<String> = eps_text.map(|eps| format!("eps={eps}")).into_iter().chain(rest).collect();
    let label = if settings.is_empty() { path.clone() } else { format!("{path}:{}", settings.join(",")) };
    let budget = Budget { queries: queries.map(|q| q as u64) };
    Ok(Ready { label, path, entry, threat, budget, attack: built.attack, params: built.params, aim: None })
}

/// Where points may lie, and epsilon as the label says it. An attack that looks for the nearest success goes anywhere unless an
/// epsilon is given.
fn region(
    given: Option<SpecValue>,
    text: &str,
    norm: Norm,
    card: &Card,
    minimises: bool,
) -> Result<(Region, Option<String>)> {
    let ball = |eps, text| Ok((Region::Ball { norm, eps }, Some(text)));
    if let Some(value) = given {
        return ball(value.number("eps")?, value.text);
    }
    if minimises {
        return Ok((Region::Nearest { norm }, None));
    }
    match card.default_threat {
        Some((usual, eps)) if usual == norm => ball(eps, eps.to_string()),
        usual => {
            let known = usual.map_or(String::new(), |(n, e)| format!(" (its card gives eps={e} for {n} only)"));
            Err(Error::usage(format!(
                "no epsilon for `{text}`: model `{}` has no usual {norm} threat{known}",
                card.name
            ))
            .hint(format!(
                "write {text}{}eps={}, say, {}",
                if text.contains(':') { ',' } else { ':' },
                match norm {
                    Norm::Linf => "8/255",
                    Norm::L2 => "0.5",
                    Norm::L1 => "12",
                    Norm::L0 => "10",
                },
                if norm == Norm::L0 { "a number of pixels" } else { "in units of pixels in [0,1]" }
            )))
        }
    }
}
