//! Values known at import: weights, and the integers shapes are computed from, where the batch size stays a symbol.

use super::proto::TensorProto;
use candle_core::{DType, Device, Tensor};
use robust_core::{Error, Result};

/// The integer `fixed + per_row * n`, where `n >= 1` is the batch size nobody knows yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Num {
    pub fixed: i64,
    pub per_row: i64,
}

impl Num {
    /// The batch size itself.
    pub const BATCH: Num = Num { fixed: 0, per_row: 1 };

    pub const fn known(value: i64) -> Self {
        Self { fixed: value, per_row: 0 }
    }
    pub fn value(self) -> Option<i64> {
        (self.per_row == 0).then_some(self.fixed)
    }
    pub fn add(self, other: Self) -> Option<Self> {
        Some(Self { fixed: self.fixed.checked_add(other.fixed)?, per_row: self.per_row.checked_add(other.per_row)? })
    }
    pub fn sub(self, other: Self) -> Option<Self> {
        self.add(other.mul(Self::known(-1))?)
    }
    pub fn mul(self, other: Self) -> Option<Self> {
        let (by, num) = match (self.value(), other.value()) {
            (Some(by), _) => (by, other),
            (_, Some(by)) => (by, self),
            _ => return None,
        };
        Some(Self { fixed: num.fixed.checked_mul(by)?, per_row: num.per_row.checked_mul(by)? })
    }
    /// Rounds towards zero, as ONNX does; a symbolic number only where it divides exactly.
    pub fn div(self, other: Self) -> Option<Self> {
        // 64 n / n is 64 for every n.
        if other.per_row != 0 {
            let times = self.per_row.checked_div(other.per_row)?;
            return (other.mul(Self::known(times))? == self).then_some(Self::known(times));
        }
        let by = other.value().filter(|&d| d != 0)?;
        if self.per_row == 0 {
            return Some(Self::known(self.fixed.checked_div(by)?));
        }
        let exact = |v: i64| (v.checked_rem(by)? == 0).then(|| v.checked_div(by))?;
        Some(Self { fixed: exact(self.fixed)?, per_row: exact(self.per_row)? })
    }
    /// Equality for every batch size; `None` where it depends on the size.
    pub fn equal(self, other: Self) -> Option<bool> {
        let gap = self.sub(other)?;
        match (gap.fixed.signum(), gap.per_row.signum()) {
            (fixed, 0) => Some(fixed == 0),
            (fixed, slope) if fixed == 0 || fixed == slope => Some(false), // never crosses zero for n >= 1
            _ => None,
        }
    }
}

#[derive(Debug, Clone)]
pub enum Data {
    /// f32 or f64 on the CPU; half precisions are widened to f32.
    Float(Tensor),
    /// Integers and booleans.
    Int(Vec<Num>),
}

#[derive(Debug, Clone)]
pub struct Array {
    pub name: String,
    pub dims: Vec<usize>,
    pub data: Data,
    /// Whether the first axis, of one entry, stands for the batch: the file repeats the value once for each image.
    pub per_image: bool,
    /// The file's element type where it was read from one, 0 elsewhere.
    pub element: i32,
}

/// Integer tensors are shape arithmetic; real ones are far smaller.
const MAX_INTS: usize = 1 << 20;
const MAX_ENTRIES: i64 = 1 << 40;
pub const MAX_RANK: usize = 12;

/// `dims` as sizes, if none is negative and they are few and small enough that no product of theirs overflows.
pub fn sizes(dims: &[i64]) -> Option<Vec<usize>> {
    let room = dims.iter().try_fold(1i64, |n, &d| n.checked_mul(d.max(1)).filter(|&n| n <= MAX_ENTRIES))?;
    let fits = room > 0 && dims.len() <= MAX_RANK && dims.iter().all(|&d| d >= 0);
    fits.then(|| dims.iter().map(|&d| d as usize).collect())
}

/// All `n` parts, or none where one is missing. Collecting options would grow, and hold up to three times as much.
pub fn all<T>(n: usize, parts: impl Iterator<Item = Option<T>>) -> Option<Vec<T>> {
    let mut whole = Vec::with_capacity(n);
    for part in parts {
        whole.push(part?);
    }
    Some(whole)
}

impl Array {
    pub fn new(name: impl Into<String>, dims: Vec<usize>, data: Data) -> Self {
        Self { name: name.into(), dims, data, per_image: false, element: 0 }
    }

    pub fn ints(name: impl Into<String>, dims: Vec<usize>, values: Vec<Num>) -> Self {
        Self::new(name, dims, Data::Int(values))
    }

    pub fn floats(name: impl Into<String>, dims: Vec<usize>, values: Vec<f64>, dtype: DType) -> Result<Self> {
        let name = name.into();
        if values.is_empty() {
            return Err(Error::load(format!("value `{name}`"), "it is empty"));
        }
        let tensor = Tensor::from_vec(values, dims.as_slice(), &Device::Cpu)?.to_dtype(dtype)?;
        Ok(Self::new(name, dims, Data::Float(tensor)))
    }

    pub fn len(&self) -> usize {
        self.dims.iter().product()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn tensor(&self) -> Option<&Tensor> {
        match &self.data {
            Data::Float(t) => Some(t),
            Data::Int(_) => None,
        }
    }

    pub fn nums(&self) -> Option<&[Num]> {
        match &self.data {
            Data::Int(v) => Some(v),
            Data::Float(_) => None,
        }
    }

    /// Integers none of which depends on the batch size.
    pub fn known_ints(&self) -> Option<Vec<i64>> {
        let nums = self.nums()?;
        all(nums.len(), nums.iter().map(|n| n.value()))
    }

    /// Every entry as f64; integers too.
    pub fn values(&self) -> Option<Vec<f64>> {
        match &self.data {
            Data::Float(t) => t.flatten_all().ok()?.to_dtype(DType::F64).ok()?.to_vec1().ok(),
            Data::Int(_) => Some(self.known_ints()?.into_iter().map(|v| v as f64).collect()),
        }
    }

    /// As [`Array::decode`], but integers as floating point numbers, which hold them exactly: quantised weights.
    pub fn stored(proto: &TensorProto, name: &str) -> Result<Self> {
        Self::read(proto, name, true)
    }

    /// Reads a tensor after checking its dimensions against the data that is really there.
    pub fn decode(proto: &TensorProto, name: &str) -> Result<Self> {
        Self::read(proto, name, false)
    }

    fn read(proto: &TensorProto, name: &str, weights: bool) -> Result<Self> {
        let fail = |why: String| Error::load(format!("tensor `{name}`"), why);
        if proto.data_location == 1 {
            return Err(fail("its data is in another file, which was not read".into()));
        }
        let dims = sizes(&proto.dims).ok_or_else(|| {
            let shown = &proto.dims[..proto.dims.len().min(MAX_RANK)];
            fail(format!("its dimensions {shown:?} make no sense"))
        })?;
        let n: usize = dims.iter().product();
        let (kind, size) = kind(proto.data_type).ok_or_else(|| {
            fail(format!("element type {} is not supported", proto.data_type)).hint("export in float32")
        })?;
        let present = if proto.raw_data.is_empty() { typed_len(proto) } else { proto.raw_data.len() / size };
        if present != n || (!proto.raw_data.is_empty() && !proto.raw_data.len().is_multiple_of(size)) {
            return Err(fail(format!("its dimensions {dims:?} need {n} entries, the file has {present}")));
        }
        let data = match kind {
            // Optional inputs are left out this way; entries that are not there have no kind.
            Kind::Float if n == 0 => Data::Int(vec![]),
            Kind::Float => Data::Float(read_floats(proto, &dims)?),
            Kind::Int if weights && n > 0 && size <= 4 => Data::Float(integers(proto, &dims, size)?),
            Kind::Int => {
                if n > MAX_INTS {
                    return Err(fail(format!("{n} integers are more than shape arithmetic needs ({MAX_INTS})"))
                        .hint("quantised weights are not supported: export in float32"));
                }
                Data::Int(read_ints(proto).into_iter().map(Num::known).collect())
            }
        };
        Ok(Self { element: proto.data_type, ..Self::new(name, dims, data) })
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Float,
    Int,
}

/// What a TensorProto.DataType is read as, and its bytes per entry.
fn kind(data_type: i32) -> Option<(Kind, usize)> {
    Some(match data_type {
        1 => (Kind::Float, 4),
        10 | 16 => (Kind::Float, 2),
        11 => (Kind::Float, 8),
        2 | 3 | 9 => (Kind::Int, 1),
        4 | 5 => (Kind::Int, 2),
        6 | 12 => (Kind::Int, 4),
        7 | 13 => (Kind::Int, 8),
        _ => return None,
    })
}

/// Bytes of a tensor of that type, if it is one we read.
pub fn bytes_of(data_type: i32, dims: &[usize]) -> Option<u64> {
    let (_, size) = kind(data_type)?;
    dims.iter().try_fold(size as u64, |n, &d| n.checked_mul(d as u64))
}

/// Whether the data type is one of the floating ones.
pub fn is_float(data_type: i64) -> bool {
    matches!(data_type, 1 | 10 | 11 | 16)
}

fn typed_len(proto: &TensorProto) -> usize {
    match proto.data_type {
        1 => proto.float_data.len(),
        11 => proto.double_data.len(),
        7 => proto.int64_data.len(),
        12 | 13 => proto.uint64_data.len(),
        _ => proto.int32_data.len(),
    }
}

fn read_floats(proto: &TensorProto, dims: &[usize]) -> Result<Tensor> {
    let cpu = &Device::Cpu;
    if !proto.raw_data.is_empty() {
        let dtype = match proto.data_type {
            1 => DType::F32,
            10 => DType::F16,
            16 => DType::BF16,
            _ => DType::F64,
        };
        return widen(Tensor::from_raw_buffer(&proto.raw_data, dtype, dims, cpu)?);
    }
    Ok(match proto.data_type {
        1 => Tensor::from_slice(&proto.float_data, dims, cpu)?,
        11 => Tensor::from_slice(&proto.double_data, dims, cpu)?,
        half => {
            let bytes: Vec<u8> = proto.int32_data.iter().flat_map(|&v| (v as u16).to_le_bytes()).collect();
            let dtype = if half == 10 { DType::F16 } else { DType::BF16 };
            widen(Tensor::from_raw_buffer(&bytes, dtype, dims, cpu)?)?
        }
    })
}

/// f32 and f64 stay, half precisions become f32.
pub fn widen(tensor: Tensor) -> Result<Tensor> {
    Ok(match tensor.dtype() {
        DType::F32 | DType::F64 => tensor,
        _ => tensor.to_dtype(DType::F32)?,
    })
}

/// Integers of `size` bytes as floating point numbers.
fn integers(proto: &TensorProto, dims: &[usize], size: usize) -> Result<Tensor> {
    let raw = &proto.raw_data;
    let cpu = &Device::Cpu;
    Ok(match (size, proto.data_type) {
        (1, 3) if !raw.is_empty() => Tensor::from_vec(raw.iter().map(|&b| f32::from(b as i8)).collect(), dims, cpu)?,
        (1, _) if !raw.is_empty() => Tensor::from_vec(raw.iter().map(|&b| f32::from(b)).collect(), dims, cpu)?,
        (1 | 2, _) => Tensor::from_vec(read_ints(proto).into_iter().map(|v| v as f32).collect(), dims, cpu)?,
        _ => Tensor::from_vec(read_ints(proto).into_iter().map(|v| v as f64).collect(), dims, cpu)?,
    })
}

fn read_ints(proto: &TensorProto) -> Vec<i64> {
    let raw = &proto.raw_data;
    if raw.is_empty() {
        return match proto.data_type {
            7 => proto.int64_data.clone(),
            12 | 13 => proto.uint64_data.iter().map(|&v| v as i64).collect(),
            _ => proto.int32_data.iter().map(|&v| v as i64).collect(),
        };
    }
    match proto.data_type {
        3 => raw.iter().map(|&b| b as i8 as i64).collect(),
        4 => chunks(raw, |b| u16::from_le_bytes(b) as i64),
        5 => chunks(raw, |b| i16::from_le_bytes(b) as i64),
        6 => chunks(raw, |b| i32::from_le_bytes(b) as i64),
        12 => chunks(raw, |b| u32::from_le_bytes(b) as i64),
        7 => chunks(raw, i64::from_le_bytes),
        13 => chunks(raw, |b| u64::from_le_bytes(b) as i64),
        _ => raw.iter().map(|&b| b as i64).collect(),
    }
}

fn chunks<const N: usize>(raw: &[u8], read: impl Fn([u8; N]) -> i64) -> Vec<i64> {
    raw.as_chunks::<N>().0.iter().map(|&c| read(c)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_keeps_the_batch_a_symbol() {
        let n = Num::BATCH;
        let tokens = n.mul(Num::known(49)).unwrap();
        assert_eq!(tokens, Num { fixed: 0, per_row: 49 });
        assert_eq!(tokens.div(Num::known(7)), Some(Num { fixed: 0, per_row: 7 }));
        assert_eq!(tokens.div(Num::known(5)), None);
        assert_eq!(n.mul(n), None);
        assert_eq!(n.sub(n), Some(Num::known(0)));
        assert_eq!(tokens.div(n), Some(Num::known(49)));
        assert_eq!(n.div(tokens), None);
        assert_eq!(tokens.add(Num::known(1)).unwrap().div(n), None);
        assert_eq!(Num::known(49).div(n), None);
        assert_eq!(Num::known(-7).div(Num::known(2)), Some(Num::known(-3)));
        assert_eq!(Num::known(i64::MIN).div(Num::known(-1)), None);
    }

    #[test]
    fn equality_is_decided_only_where_every_batch_agrees() {
        assert_eq!(Num::BATCH.equal(Num::known(-1)), Some(false));
        assert_eq!(Num::BATCH.equal(Num::known(0)), Some(false));
        assert_eq!(Num::BATCH.equal(Num::BATCH), Some(true));
        assert_eq!(Num::BATCH.equal(Num::known(4)), None);
    }

    #[test]
    fn dimensions_that_disagree_with_the_bytes_are_refused() {
        let proto = |dims: &[i64], bytes: usize| TensorProto {
            dims: dims.to_vec(),
            data_type: 1,
            raw_data: vec![0; bytes].into(),
            ..Default::default()
        };
        assert!(Array::decode(&proto(&[2, 3], 24), "w").is_ok());
        for (dims, bytes) in
            [(vec![2, 3], 20), (vec![2, 3], 26), (vec![-2, -3], 24), (vec![1 << 40, 1 << 40], 24), (vec![0], 4)]
        {
            let error = Array::decode(&proto(&dims, bytes), "w").unwrap_err();
            assert!(error.message.contains("tensor `w`"), "{error}");
        }
    }

    #[test]
    fn half_precision_is_widened_from_bytes_and_from_the_typed_field() {
        let bf16 = |v: f32| (v.to_bits() >> 16) as i32;
        let typed =
            TensorProto { dims: vec![2], data_type: 16, int32_data: vec![bf16(1.5), bf16(-2.)], ..Default::default() };
        let raw =
            TensorProto { dims: vec![2], data_type: 10, raw_data: vec![0, 0x3e, 0, 0xc0].into(), ..Default::default() };
        for proto in [typed, raw] {
            assert_eq!(Array::decode(&proto, "w").unwrap().values().unwrap(), [1.5, -2.]);
        }
    }
}
