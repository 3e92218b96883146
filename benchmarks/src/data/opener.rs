//! From what the user typed, `scheme:place?key=value&key=value` or a path that is looked at, to a data set.

use super::declared;
use super::place::{existing, split_query};
use super::query::{Ask, Query};
use super::reader::{Found, Opened};
use super::source::Source;
use super::sources::SOURCES;
use robust_core::{Dataset, Error, Result, nearest};
use std::path::Path;

/// Opens what `spec` names: a scheme of [`SOURCES`], or a path that is looked at.
///
/// Errors: [`Kind::Usage`](robust_core::Kind::Usage) for unknown schemes and parameters;
/// [`Kind::Load`](robust_core::Kind::Load) for what is missing, damaged, empty or dishonest about its size.
pub fn open(spec: &str) -> Result<Box<dyn Dataset>> {
    open_with_notes(spec).map(|opened| opened.data)
}

/// [`open`], with the notes.
pub fn open_with_notes(spec: &str) -> Result<Opened> {
    let Found { data, notes } = found(spec, Ask::default())?;
    let labelling = data.labelling();
    Ok(Opened { data, notes, labelling })
}

/// [`open`] for whoever must not believe a cache: packed archives are unpacked once more, and what the cache holds of
/// them must be equal.
///
/// Errors: those of [`open`].
pub fn open_proven(spec: &str) -> Result<Box<dyn Dataset>> {
    Ok(found(spec, Ask { anew: true, ..Default::default() })?.data)
}

/// Points that somebody else made, to be judged: like [`open`], but arrays need no labels beside them, a single `.npy` file
/// will do, and the only array of a file is taken whatever its name. Labels of rows without any are 0.
///
/// Errors: those of [`open`].
pub fn open_points(spec: &str) -> Result<Box<dyn Dataset>> {
    Ok(found(spec, Ask { points: true, ..Default::default() })?.data)
}

/// The data set that `spec` names.
pub(super) fn found(spec: &str, ask: Ask) -> Result<Found> {
    // A path that is there wins over any reading of its colons and question marks.
    let scheme = match Path::new(spec).exists() {
        true => None,
        // One letter is a drive; a colon after `?` is a parameter's, as in `a.npz?domain=0:255`.
        false => spec.split_once(':').filter(|(scheme, _)| scheme.len() > 1 && !scheme.contains(['/', '\\', '?'])),
    };
    let (source, rest) = match scheme {
        Some((scheme, rest)) => (named(scheme)?, rest),
        None => (recognised(split_query(spec).0, ask)?, spec),
    };
    let (place, query) = split_query(rest);
    let query = Query::parse(query, &source.params.concat())?.asked(ask);
    if place.is_empty() {
        return Err(Error::usage(format!("`{spec}` names no place")).hint(format!("for example `{}`", source.example)));
    }
    declared::apply((source.open)(place, &query)?, &query)
}

fn named(scheme: &str) -> Result<&'static Source> {
    SOURCES.iter().find(|source| source.scheme == scheme).ok_or_else(|| unknown(scheme))
}

/// The first source that takes a path for its own.
fn recognised(place: &str, ask: Ask) -> Result<&'static Source> {
    let path = existing(place)?;
    for source in SOURCES {
        if (source.recognises)(&path, ask)? {
            return Ok(source);
        }
    }
    Err(Error::usage(format!("cannot tell what kind of data set `{place}` is")).hint(list()))
}

fn unknown(scheme: &str) -> Error {
    let near = nearest(scheme, SOURCES.iter().map(|source| source.scheme));
    let near = near.map(|near| format!("did you mean `{near}:`? ")).unwrap_or_default();
    Error::usage(format!("unknown kind of data set `{scheme}:`")).hint(near + &list())
}

fn list() -> String {
    let known: Vec<String> = SOURCES.iter().map(|source| format!("{}:", source.scheme)).collect();
    format!("known: {}", known.join(", "))
}
