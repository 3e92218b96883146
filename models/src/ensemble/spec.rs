//! `ensemble:A+B+C?key=value`: what users type for several models as one.

use super::scores::Way;
use crate::loaded::LoadedModel;
use crate::spec::numbers;
use robust_core::{Error, Result};
use std::path::Path;

pub const SCHEME: &str = "ensemble:";
const MAX_MEMBERS: usize = 64;
/// Files looked at for a `*`.
const MAX_FILES: usize = 100_000;
const HOW: &str = "for instance `ensemble:a.pt+b.pt+c.pt?mean=none`, `ensemble:dir/name.pt_m*.pt`, or with parameters of their own \
                   `ensemble:[a.pt?arch=resnet]+[b.onnx]`";
/// Of a name with members, numbered as RobustBench numbers its files.
const NUMBERED: &str = ".pt_m";
/// Letters of a label that lists its members.
const MAX_LABEL: usize = 60;

/// Members as [`crate::load`] takes them, with what was said for all.
#[derive(Debug, PartialEq)]
pub(super) struct Spec {
    pub members: Vec<String>,
    /// What is made of their scores, where it was said.
    pub way: Option<Way>,
    /// Numbers of that way.
    pub mix: Option<Vec<f64>>,
}

impl Spec {
    pub fn parse(text: &str) -> Result<Self> {
        let Split { parts, query } = split(text)?;
        let (mut way, mut mix) = (None, None);
        let mut common = vec![];
        for pair in query.split('&').filter(|p| !p.is_empty()) {
            match pair.split_once('=') {
                Some(("scores", value)) => way = Some(Way::parse(value)?),
                Some(("mix", value)) => mix = Some(numbers("mix", value)?),
                _ => common.push(pair),
            }
        }
        let mut members = vec![];
        for part in parts {
            let own = part.query.unwrap_or_default();
            let sources = if part.bracketed { vec![part.source.to_string()] } else { expand(part.source)? };
            members.extend(sources.iter().map(|source| with(source, own, &common)));
        }
        if members.len() > MAX_MEMBERS {
            let why = format!("the ensemble has {} members; up to {MAX_MEMBERS} are supported", members.len());
            return Err(Error::usage(why));
        }
        Ok(Self { members, way, mix })
    }
}

/// A member as it was typed.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Part<'a> {
    source: &'a str,
    /// Parameters of its own.
    query: Option<&'a str>,
    bracketed: bool,
}

/// What was typed, taken apart.
struct Split<'a> {
    parts: Vec<Part<'a>>,
    /// Said for all.
    query: &'a str,
}

/// Members are joined by `+`; inside of brackets `+` and `?` are the member's own.
fn split(text: &str) -> Result<Split<'_>> {
    let (mut parts, mut rest) = (vec![], text);
    let wrong = |why: String| Error::usage(format!("`{SCHEME}{text}`: {why}")).hint(HOW);
    loop {
        let (part, after) = match rest.strip_prefix('[') {
            Some(inner) => {
                let (inside, after) =
                    inner.split_once(']').ok_or_else(|| wrong("a `[` is never closed".to_string()))?;
                if !after.is_empty() && !after.starts_with(['+', '?']) {
                    return Err(wrong(format!("`+` or `?` is wanted after `[{inside}]`")));
                }
                let (source, query) = inside.split_once('?').map_or((inside, None), |(s, q)| (s, Some(q)));
                (Part { source, query, bracketed: true }, after)
            }
            None => {
                let end = rest.find(['+', '?']).unwrap_or(rest.len());
                (Part { source: &rest[..end], query: None, bracketed: false }, &rest[end..])
            }
        };
        if part.source.is_empty() {
            return Err(wrong(format!("member {} has no name", parts.len() + 1)));
        }
        if part.source.starts_with(SCHEME) {
            return Err(wrong("a member is one model, not an ensemble".to_string()));
        }
        parts.push(part);
        match after.strip_prefix('+') {
            Some(next) => rest = next,
            None => return Ok(Split { parts, query: after.strip_prefix('?').unwrap_or_default() }),
        }
    }
}

/// A member's spec: what it says itself comes before what is said for all.
fn with(source: &str, own: &str, common: &[&str]) -> String {
    let key = |pair: &str| match pair.split('=').next().unwrap_or_default() {
        "prefix" => "strip".to_string(),
        key => key.to_string(),
    };
    let mut pairs: Vec<&str> = own.split('&').filter(|p| !p.is_empty()).collect();
    let said: Vec<String> = pairs.iter().map(|p| key(p)).collect();
    pairs.extend(common.iter().filter(|p| !said.contains(&key(p))));
    match pairs.is_empty() {
        true => source.to_string(),
        false => format!("{source}?{}", pairs.join("&")),
    }
}

/// The files that a `*` in the last part of a path stands for, in the order of their names.
fn expand(source: &str) -> Result<Vec<String>> {
    let (folder, pattern) = source.rsplit_once('/').map_or((None, source), |(f, p)| (Some(f), p));
    let Some((start, end)) = pattern.split_once('*').filter(|_| !Path::new(source).exists()) else {
        return Ok(vec![source.to_string()]);
    };
    if end.contains('*') || folder.is_some_and(|f| f.contains('*')) {
        return Err(Error::usage(format!("`{source}` has a `*` too many"))
            .hint("one in the name of the files is understood: `dir/name.pt_m*.pt`"));
    }
    let place = Path::new(folder.map_or(".", |f| if f.is_empty() { "/" } else { f }));
    let entries = std::fs::read_dir(place).map_err(|e| Error::load(place.display(), e))?;
    let names = entries.take(MAX_FILES).flatten().filter_map(|e| e.file_name().into_string().ok());
    let fits = |n: &String| n.len() >= start.len() + end.len() && n.starts_with(start) && n.ends_with(end);
    let mut names: Vec<String> = names.filter(fits).collect();
    // `m10` comes after `m9`.
    names.sort_by(|a, b| (a.len(), a).cmp(&(b.len(), b)));
    if names.is_empty() {
        return Err(Error::load(source, "no file has such a name").hint(HOW));
    }
    Ok(names.into_iter().map(|n| folder.map_or(n.clone(), |f| format!("{f}/{n}"))).collect())
}

/// The members of `ensemble:...` as they were typed, without parameters; none for other sources.
pub fn members(source: &str) -> Vec<&str> {
    let parts = source.strip_prefix(SCHEME).and_then(|text| split(text).ok());
    parts.map_or(vec![], |s| s.parts.iter().map(|p| p.source).collect())
}

/// The name that numbered files share, as RobustBench numbers them.
pub(super) fn numbered(sources: &[String]) -> Option<String> {
    let base = |source: &String| {
        let path = source.split('?').next().unwrap_or_default();
        let name = path.rsplit(['/', '\\']).next()?.to_string();
        name.split_once(NUMBERED).map(|(base, _)| base.to_string())
    };
    let first = base(sources.first()?)?;
    sources.iter().all(|s| base(s).as_ref() == Some(&first)).then_some(first)
}

/// Whether numbered files are the first, the second and so on.
pub(super) fn in_order(sources: &[String]) -> bool {
    let number = |source: &String| {
        let digits = source.rsplit_once(NUMBERED)?.1;
        digits.split(|c: char| !c.is_ascii_digit()).next()?.parse::<usize>().ok()
    };
    sources.iter().enumerate().all(|(i, source)| number(source) == Some(i))
}

/// What reports call other ensembles: their members' names.
pub(super) fn label(members: &[LoadedModel]) -> String {
    let names: Vec<&str> = members.iter().map(|m| m.name.as_str()).collect();
    let all = names.join("+");
    match all.len() <= MAX_LABEL {
        true => all,
        false => format!("{}+{} more", names[0], names.len() - 1),
    }
}
