//! Weights by name, with the books kept: every tensor must be asked for exactly as it is.

use ::safetensors::Dtype;
use candle_core::{DType, Device, Tensor};
use robust_core::{Error, Result, nearest};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// Problems spelled out in one message, and names longer than any real one: near misses cost time.
const SHOWN: usize = 20;
const LONGEST: usize = 200;
/// Entries of zeros that may stand in for tensors that are missing, all together, beyond as many as the file has.
const STAND_IN: usize = 1 << 17;
/// Entries that may be made of any file's weights, and for each entry of the file. Of real networks BEiT and Swin v2 need the
/// most, 1.5 for each.
const MADE: usize = 1 << 19;
const MADE_EACH: usize = 2;
const HEADLESS: &str = "the file has no last layer: the output is an embedding";

/// A tensor of any file: name, element type, shape, little-endian bytes in row-major order.
pub(crate) type View<'a> = (String, Dtype, Vec<usize>, Cow<'a, [u8]>);

/// A model's weights by name, and what has been asked of them.
#[derive(Debug, Clone, Default)]
pub struct StateDict {
    tensors: BTreeMap<String, Tensor>,
    taken: BTreeSet<String>,
    missing: Vec<(String, Vec<usize>)>,
    mismatched: Vec<String>,
    /// Set aside on purpose: no part of the function.
    ignored: Vec<String>,
    headless: bool,
    notes: Vec<String>,
    /// Shapes of what [`StateDict::is_no_weight`] left out.
    skipped: BTreeMap<String, Vec<usize>>,
    /// What [`StateDict::spend`] has left, once asked.
    room: Option<usize>,
    /// Entries that may still stand in, once any did.
    zeros: Option<usize>,
}

impl StateDict {
    /// Tensors of any file: f32 and f64 as they are, f16 and bf16 as f32. The counters of batch norms are skipped; any other
    /// integer tensor is an error of kind `Load`.
    pub(crate) fn from_views<'a>(views: impl Iterator<Item = View<'a>>) -> Result<Self> {
        let (mut tensors, mut skipped) = (BTreeMap::new(), BTreeMap::new());
        for (name, dtype, shape, data) in views {
            // Families with registers keep an empty tensor where a network has none.
            if Self::is_no_weight(&name) || shape.contains(&0) && name.ends_with("register_tokens") {
                skipped.insert(name, shape);
                continue;
            }
            let dtype = match dtype {
                Dtype::F32 => DType::F32,
                Dtype::F64 => DType::F64,
                Dtype::F16 => DType::F16,
                Dtype::BF16 => DType::BF16,
                other => {
                    return Err(Error::load(
                        format!("tensor `{name}`"),
                        format!("element type {other:?} is not supported"),
                    )
                    .hint("save the weights as float32"));
                }
            };
            if shape.contains(&0) {
                return Err(Error::load(format!("tensor `{name}`"), format!("its shape {shape:?} is empty")));
            }
            let tensor = Tensor::from_raw_buffer(&data, dtype, &shape, &Device::Cpu)?;
            let wide = if dtype == DType::F64 { tensor } else { tensor.to_dtype(DType::F32)? };
            tensors.insert(name, wide);
        }
        Ok(Self { skipped, ..Self::from_tensors(tensors) })
    }

    /// Counters, indices, masks and sizes that follow from the weights; no part of the function.
    pub(crate) fn is_no_weight(name: &str) -> bool {
        let ends =
            ["num_batches_tracked", "position_ids", "relative_position_index", ".attn_mask", "flag_update_statistics"];
        ends.iter().any(|end| name.ends_with(end))
            || ["input_resolution", "context_length", "vocab_size"].contains(&name.rsplit('.').next().unwrap_or(name))
    }

    /// The shape of a tensor of the file that is not a weight.
    pub(crate) fn skipped(&self, name: &str) -> Option<&[usize]> {
        self.skipped.get(name).map(Vec::as_slice)
    }

    pub fn from_tensors(tensors: BTreeMap<String, Tensor>) -> Self {
        Self { tensors, ..Self::default() }
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    pub(crate) fn insert(&mut self, name: String, tensor: Tensor) {
        self.tensors.insert(name, tensor);
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.tensors.remove(name);
    }

    pub fn dims(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(Tensor::dims)
    }

    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Whether any name starts so.
    pub fn any(&self, prefix: &str) -> bool {
        self.tensors.range(prefix.to_string()..).next().is_some_and(|(name, _)| name.starts_with(prefix))
    }

    /// How many of `name(0)`, `name(1)`, ... start a tensor's name, up to the first that does not.
    pub fn count(&self, name: impl Fn(usize) -> String) -> usize {
        (0..).take_while(|&i| self.any(&format!("{}.", name(i)))).count()
    }

    /// The same weights with `prefix` taken off the names that have it; other names stay. `None` if two tensors would
    /// then share a name.
    pub fn strip(&self, prefix: &str) -> Option<Self> {
        let bare = |name: &String| name.strip_prefix(prefix).unwrap_or(name).to_string();
        let tensors: BTreeMap<String, Tensor> = self.tensors.iter().map(|(n, t)| (bare(n), t.clone())).collect();
        (tensors.len() == self.tensors.len()).then(|| Self {
            tensors,
            ignored: self.ignored.clone(),
            notes: self.notes.clone(),
            skipped: self.skipped.iter().map(|(n, s)| (bare(n), s.clone())).collect(),
            ..Self::default()
        })
    }

    /// Takes the tensors whose names start so out of these weights: a network of its own, under names without the prefix.
    pub(crate) fn split(&mut self, prefix: &str) -> Self {
        let inside = |name: &String| name.starts_with(prefix);
        let bare = |name: String| name.strip_prefix(prefix).map_or(name.clone(), String::from);
        let (tensors, rest) = std::mem::take(&mut self.tensors).into_iter().partition(|(n, _)| inside(n));
        self.tensors = rest;
        let (skipped, rest): (BTreeMap<_, _>, _) =
            std::mem::take(&mut self.skipped).into_iter().partition(|(n, _)| inside(n));
        self.skipped = rest;
        let tensors: BTreeMap<String, Tensor> = tensors;
        Self {
            tensors: tensors.into_iter().map(|(n, t)| (bare(n), t)).collect(),
            skipped: skipped.into_iter().map(|(n, s)| (bare(n), s)).collect(),
            ..Self::default()
        }
    }

    /// Keeps what was decided about a network that [`StateDict::split`] took out. Whether there is a last layer, the whole
    /// says.
    pub(crate) fn join(&mut self, part: &Self, prefix: &str) {
        self.notes.extend(part.notes.iter().filter(|n| *n != HEADLESS).cloned());
        self.ignored.extend(part.ignored.iter().map(|n| format!("{prefix}{n}")));
    }

    /// Sets the tensors whose names do not start so aside, with a note that says why.
    pub fn keep(&mut self, prefix: &str, why: &str) {
        let names: Vec<String> = self.names().filter(|n| !n.starts_with(prefix)).map(String::from).collect();
        if names.is_empty() {
            return;
        }
        self.note(format!("{} tensors beside `{prefix}*` are left out: {why}", names.len()));
        names.iter().for_each(|n| drop(self.tensors.remove(n)));
        self.ignored.extend(names);
    }

    /// Remembers that the output is an embedding: the file has no last layer.
    pub fn embeds(&mut self) {
        self.embeds_as(HEADLESS);
    }

    /// Remembers that the output is an embedding, for a reason of its own.
    pub fn embeds_as(&mut self, why: &str) {
        self.note(why);
        self.headless = true;
    }

    pub fn headless(&self) -> bool {
        self.headless
    }

    /// Sets the tensors whose names start so aside, with a note that says why.
    pub fn ignore(&mut self, prefix: &str, why: &str) {
        self.leave_out(|n| n.starts_with(prefix), &format!("{prefix}*"), why);
    }

    /// The same for names that end so.
    pub fn ignore_ending(&mut self, ending: &str, why: &str) {
        self.leave_out(|n| n.ends_with(ending), &format!("*{ending}"), why);
    }

    fn leave_out(&mut self, fits: impl Fn(&str) -> bool, pattern: &str, why: &str) {
        let names: Vec<String> = self.names().filter(|n| fits(n)).map(String::from).collect();
        if names.is_empty() {
            return;
        }
        self.note(format!("{} tensors `{pattern}` are left out: {why}", names.len()));
        names.iter().for_each(|n| drop(self.tensors.remove(n)));
        self.ignored.extend(names);
    }

    /// Names of the tensors set aside.
    pub fn ignored(&self) -> &[String] {
        &self.ignored
    }

    /// Remembers a choice that a user should know of.
    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The dimensions of a tensor that decides the architecture's sizes; an error if it is missing or has another rank.
    pub fn sizes<const N: usize>(&self, name: &str) -> Result<[usize; N]> {
        let dims = self.dims(name).ok_or_else(|| {
            let close = self.close(name, self.names());
            Error::load("the weights", format!("tensor `{name}` is missing{close}"))
        })?;
        <[usize; N]>::try_from(dims).map_err(|_| {
            Error::load("the weights", format!("tensor `{name}` has shape {dims:?}, {N} axes are expected"))
        })
    }

    /// The tensor of that name and shape. What is missing or does not fit is noted and stands in as zeros of the right
    /// shape, so that building goes on and [`StateDict::finish`] can tell everything that is wrong at once.
    pub fn take(&mut self, name: &str, shape: &[usize]) -> Result<Tensor> {
        if let Some(found) = self.tensors.get(name) {
            self.taken.insert(name.to_string());
            if found.dims() == shape {
                return Ok(found.clone());
            }
            self.mismatched.push(format!("`{name}` has shape {:?}, {shape:?} is expected", found.dims()));
        } else {
            self.missing.push((name.to_string(), shape.to_vec()));
        }
        // A builder may copy the stand-in; one too many is left out, and the build stops at the shape that does not fit.
        let room = self.zeros.unwrap_or_else(|| self.held().saturating_add(STAND_IN));
        let size = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|&n| n <= room);
        self.zeros = Some(room - size.unwrap_or(0));
        let shape = if size.is_some() { shape } else { &[] };
        Ok(Tensor::zeros((), DType::F32, &Device::Cpu)?.broadcast_as(shape)?)
    }

    /// Accounts for a value that weights expand to, before it is made: all of a network's together stay near the size of its
    /// file, so that a small one cannot fill memory.
    ///
    /// # Errors
    /// Kind `Load` for what goes beyond.
    pub(crate) fn spend(&mut self, name: &str, dims: &[usize]) -> Result<()> {
        let room = self.room.unwrap_or_else(|| self.held().saturating_mul(MADE_EACH).saturating_add(MADE));
        let n = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|&n| n <= room);
        let n = n.ok_or_else(|| {
            Error::load(format!("`{name}`"), format!("it expands to {dims:?}, far beyond the size of the file"))
                .hint("does the file come from where you think? No known network's tables are so large")
        })?;
        self.room = Some(room - n);
        Ok(())
    }

    /// Entries of all tensors.
    pub(crate) fn held(&self) -> usize {
        self.tensors.values().map(Tensor::elem_count).sum()
    }

    /// Nothing if every tensor was taken and fitted; otherwise one error with all problems.
    pub fn finish(&self) -> Result<()> {
        let spare: Vec<&str> = self.names().filter(|n| !self.taken.contains(*n)).collect();
        let mut lines = self.wrong();
        let missing = || self.missing.iter().map(|(name, _)| name.as_str());
        lines.extend(
            spare.iter().take(SHOWN).map(|name| {
                format!("`{name}` is in the file but not in the architecture{}", self.close(name, missing()))
            }),
        );
        self.report(lines, self.missing.len() + self.mismatched.len() + spare.len())
    }

    /// Like [`StateDict::finish`] for a build that stopped early: says what was missing or did not fit until then.
    pub fn so_far(&self) -> Result<()> {
        self.report(self.wrong(), self.missing.len() + self.mismatched.len())
    }

    /// What to say of a build that failed: an error of shapes is most likely the echo of a tensor already known to be wrong.
    pub(crate) fn cause(&self, error: Error) -> Error {
        self.so_far().err().unwrap_or(error)
    }

    fn wrong(&self) -> Vec<String> {
        let spare = || self.names().filter(|n| !self.taken.contains(*n));
        let missing = self.missing.iter().take(SHOWN);
        let missing =
            missing.map(|(name, shape)| format!("`{name}` {shape:?} is missing{}", self.close(name, spare())));
        missing.chain(self.mismatched.iter().take(SHOWN).cloned()).collect()
    }

    fn report(&self, mut lines: Vec<String>, all: usize) -> Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        if all > lines.len() {
            lines.push(format!("and {} more", all - lines.len()));
        }
        Err(Error::load("the weights", lines.join("; "))
            .hint("check `arch` and the prefix of the names (`?arch=NAME&strip=PREFIX`)"))
    }

    fn close<'a>(&self, name: &str, among: impl Iterator<Item = &'a str>) -> String {
        if name.len() > LONGEST {
            return String::new();
        }
        match nearest(name, among.filter(|n| n.len() <= LONGEST).take(10_000)) {
            Some(found) => format!(" (nearest: `{found}`)"),
            None => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::safetensors::tensor::TensorView;

    fn dict(entries: &[(&str, &[usize])]) -> StateDict {
        let zeros = |dims: &[usize]| Tensor::zeros(dims, DType::F32, &Device::Cpu).unwrap();
        StateDict::from_tensors(entries.iter().map(|(name, dims)| (name.to_string(), zeros(dims))).collect())
    }

    #[test]
    fn everything_wrong_is_told_at_once_with_near_misses() {
        let mut d = dict(&[("conv1.wieght", &[4]), ("fc.weight", &[3, 2]), ("left.over", &[1])]);
        let t = d.take("conv1.weight", &[4]).unwrap();
        assert_eq!(t.dims(), [4]);
        d.take("fc.weight", &[2, 3]).unwrap();
        let error = d.finish().unwrap_err();
        for part in
            ["`conv1.weight` [4] is missing (nearest: `conv1.wieght`)", "has shape [3, 2], [2, 3]", "`left.over`"]
        {
            assert!(error.message.contains(part), "{part} not in {error}");
        }
    }

    #[test]
    fn what_weights_expand_to_is_bounded_for_all_of_them_together() {
        let mut d = dict(&[("w", &[4])]);
        (0..4).for_each(|_| d.spend("bias", &[2, MADE / 8]).unwrap());
        d.spend("bias", &[4 * MADE_EACH]).unwrap();
        let error = d.spend("late", &[1]).unwrap_err();
        assert!(error.kind == robust_core::Kind::Load && error.message.contains("`late`"), "{error}");
        // Sizes that overflow, and a file that is larger itself.
        assert!(dict(&[]).spend("bias", &[usize::MAX, 2]).is_err());
        dict(&[("w", &[1000])]).spend("bias", &[MADE + 1000]).unwrap();
    }

    #[test]
    fn weights_that_all_fit_are_no_error() {
        let mut d = dict(&[("w", &[4])]);
        d.take("w", &[4]).unwrap();
        assert!(d.finish().is_ok());
    }

    #[test]
    fn half_precisions_are_widened_and_counters_are_skipped() {
        let half = [0u8, 0x3e, 0, 0xc0]; // 1.5 and -2
        let views = [
            ("w", TensorView::new(Dtype::F16, vec![2], &half).unwrap()),
            ("bn.num_batches_tracked", TensorView::new(Dtype::I64, vec![], &[0; 8]).unwrap()),
        ];
        let bytes = ::safetensors::serialize(views, None).unwrap();
        let mut d = StateDict::from_bytes(&bytes).unwrap();
        assert_eq!(d.take("w", &[2]).unwrap().to_vec1::<f32>().unwrap(), [1.5, -2.]);
        assert!(d.finish().is_ok());
        for cut in 0..bytes.len() {
            assert_eq!(StateDict::from_bytes(&bytes[..cut]).unwrap_err().kind, robust_core::Kind::Load);
        }
    }

    #[test]
    fn integer_weights_are_refused_by_name() {
        let view = TensorView::new(Dtype::I8, vec![2], &[1, 2]).unwrap();
        let bytes = ::safetensors::serialize([("q", view)], None).unwrap();
        assert!(StateDict::from_bytes(&bytes).unwrap_err().message.contains("`q`"));
    }
}
