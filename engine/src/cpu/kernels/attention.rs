//! Softmax attention, one head of one window at a time: scores never leave the thread's own memory, and the way back
//! computes them again.

use super::isa::Isa;
use super::memory::{Buffer, Shared, scratch};
use super::product::{Panels, Raw, parallel};
use super::rowwise::Scores;

/// An attention over `[n, windows, tokens, heads * depth]` values.
#[derive(Debug, Clone)]
pub(crate) struct Heads {
    pub(crate) windows: usize,
    /// Tokens that ask, tokens that are asked.
    pub(crate) tokens: [usize; 2],
    pub(crate) heads: usize,
    pub(crate) depth: usize,
    /// Positive: scores are multiplied by it.
    pub(crate) scale: f32,
    pub(crate) bias: Option<Bias>,
}

/// What is added to the scores, `[windows or 1, heads or 1, asking, asked]` with rows as wide as those of scores.
#[derive(Debug, Clone)]
pub(crate) struct Bias {
    values: Buffer,
    windows: usize,
    heads: usize,
}

/// `out [rows, b.n] = a b`.
#[expect(clippy::too_many_arguments, reason = "what a product is")]
fn multiply(isa: Isa, a: &[f32], lda: usize, rows: usize, b: Panels<'_>, k: usize, out: &mut [f32], ldc: usize) {
    assert!(a.len() >= (rows - 1) * lda + k && out.len() >= rows * ldc, "a matrix is too short");
    let raw = Raw { a, lda, rows, weights: b, out: Shared::new(out), at: 0, ldc };
    // SAFETY: both matrices hold their rows (asserted); `ldc` is whole panels.
    unsafe { isa.run(&raw) }
}

impl Heads {
    fn width(&self) -> usize {
        self.heads * self.depth
    }

    fn wide(isa: Isa, n: usize) -> usize {
        n.next_multiple_of(isa.tile().1)
    }

    /// A bias `[windows or 1, heads or 1, asking, asked]`, laid out as scores are.
    pub(crate) fn lay_bias(&self, isa: Isa, heads: usize, values: &[f32]) -> Bias {
        let ([asking, asked], wide) = (self.tokens, Self::wide(isa, self.tokens[1]));
        let mut laid = Buffer::default();
        laid.reserve(values.len() / asked * wide);
        for (row, values) in laid.floats_mut().chunks_mut(wide).zip(values.chunks(asked)) {
            row[..asked].copy_from_slice(values);
        }
        Bias { values: laid, windows: values.len() / (heads * asking * asked), heads }
    }

    /// The attention weights of one head: `[asking, wide(asked)]`; `task` counts heads of windows of rows.
    fn weights(&self, isa: Isa, task: usize, q: &[f32], k: &[f32], packed: &mut [f32], out: &mut [f32]) {
        let ([asking, asked], c, ldc) = (self.tokens, self.width(), Self::wide(isa, self.tokens[1]));
        let keys = Panels::pack(isa, (self.depth, asked), k, [1, c], packed);
        multiply(isa, q, c, asking, keys, self.depth, out, ldc);
        let bias = self.bias.as_ref().map(|bias| {
            let (window, head) = (task / self.heads % self.windows % bias.windows, task % self.heads % bias.heads);
            &bias.values.floats()[(window * bias.heads + head) * asking * ldc..][..asking * ldc]
        });
        let data = Shared::new(out);
        let scores = Scores { data, rows: asking, count: asked, width: ldc, scale: self.scale, bias, grad: None };
        // SAFETY: `out` and the bias hold `asking` rows of whole vectors.
        unsafe { isa.run(scores) }
    }

    fn check(&self, n: usize, values: [&[f32]; 3]) {
        let [asking, asked] = self.tokens.map(|t| n * self.windows * t * self.width());
        assert!(
            values[0].len() >= asking && values[1].len() >= asked && values[2].len() >= asked,
            "a value is too short"
        );
    }

    /// Tasks are heads of windows of rows; `f` gets where a head begins in asking and asked values too.
    fn each(&self, n: usize, f: impl Fn(usize, usize, usize) + Sync + Send) {
        let c = self.width();
        parallel(n * self.windows * self.heads, |task| {
            let (window, head) = (task / self.heads, task % self.heads * self.depth);
            f(task, window * self.tokens[0] * c + head, window * self.tokens[1] * c + head);
        });
    }

    /// Copies `[tokens, depth]` in rows `ldc` apart to a head's place.
    fn place(&self, tokens: usize, from: &[f32], ldc: usize, out: Shared<'_, f32>, at: usize) {
        for (t, row) in from.chunks(ldc).take(tokens).enumerate() {
            // SAFETY: the head's entries of token `t`, which no other task writes; the caller checked the length.
            let to = unsafe { out.at(at + t * self.width(), self.depth) };
            // SAFETY: as above; `row` has at least `depth` entries and is another thread's memory.
            unsafe { std::ptr::copy_nonoverlapping(row.as_ptr(), to, self.depth) };
        }
    }

    pub(crate) fn forward(&self, isa: Isa, n: usize, q: &[f32], k: &[f32], v: &[f32], out: &mut [f32]) {
        self.check(n, [q, k, v]);
        assert!(out.len() >= n * self.windows * self.tokens[0] * self.width(), "an output is too short");
        let ([asking, asked], c) = (self.tokens, self.width());
        let (lds, ldo) = (Self::wide(isa, asked), Self::wide(isa, self.depth));
        let room = Panels::room(isa, self.depth, asked).max(Panels::room(isa, asked, self.depth));
        let out = Shared::new(out);
        self.each(n, |task, at, from| {
            scratch(room + asking * (lds + ldo), |memory| {
                let (packed, memory) = memory.split_at_mut(room);
                let (weights, mixed) = memory.split_at_mut(asking * lds);
                self.weights(isa, task, &q[at..], &k[from..], packed, weights);
                let values = Panels::pack(isa, (asked, self.depth), &v[from..], [c, 1], packed);
                multiply(isa, weights, lds, asking, values, asked, mixed, ldo);
                self.place(asking, mixed, ldo, out, at);
            });
        });
    }

    /// Gradients of the three inputs.
    pub(crate) fn backward(
        &self,
        isa: Isa,
        n: usize,
        [q, k, v]: [&[f32]; 3],
        grad: &[f32],
        [dq, dk, dv]: [&mut [f32]; 3],
    ) {
        self.check(n, [q, k, v]);
        self.check(n, [&*dq, &*dk, &*dv]);
        assert!(grad.len() >= n * self.windows * self.tokens[0] * self.width(), "a gradient is too short");
        let ([asking, asked], c) = (self.tokens, self.width());
        let (lds, ldt, ldo) = (Self::wide(isa, asked), Self::wide(isa, asking), Self::wide(isa, self.depth));
        let longest = asking.max(asked);
        let room = Panels::room(isa, self.depth, longest).max(Panels::room(isa, longest, self.depth));
        let (dq, dk, dv) = (Shared::new(dq), Shared::new(dk), Shared::new(dv));
        let turn = |from: &[f32], to: &mut [f32]| {
            for (t, row) in to.chunks_mut(ldt).take(asked).enumerate() {
                row.iter_mut().take(asking).enumerate().for_each(|(s, v)| *v = from[s * lds + t]);
            }
        };
        self.each(n, |task, at, from| {
            scratch(room + 2 * asking * lds + asked * ldt + longest * ldo, |memory| {
                let (packed, memory) = memory.split_at_mut(room);
                let (weights, memory) = memory.split_at_mut(asking * lds);
                let (slopes, memory) = memory.split_at_mut(asking * lds);
                let (turned, result) = memory.split_at_mut(asked * ldt);
                self.weights(isa, task, &q[at..], &k[from..], packed, weights);
                // Values: weights^T grad.
                turn(weights, turned);
                let g = Panels::pack(isa, (asking, self.depth), &grad[at..], [c, 1], packed);
                multiply(isa, turned, ldt, asked, g, asking, result, ldo);
                self.place(asked, result, ldo, dv, from);
                // Weights, then scores.
                let values = Panels::pack(isa, (self.depth, asked), &v[from..], [1, c], packed);
                multiply(isa, &grad[at..], c, asking, values, self.depth, slopes, lds);
                let data = Shared::new(weights);
                let (scale, grad) = (self.scale, Some(&*slopes));
                // SAFETY: both hold `asking` rows of whole vectors.
                unsafe { isa.run(Scores { data, rows: asking, count: asked, width: lds, scale, bias: None, grad }) };
                let keys = Panels::pack(isa, (asked, self.depth), &k[from..], [c, 1], packed);
                multiply(isa, weights, lds, asking, keys, asked, result, ldo);
                self.place(asking, result, ldo, dq, at);
                turn(weights, turned);
                let asks = Panels::pack(isa, (asking, self.depth), &q[at..], [c, 1], packed);
                multiply(isa, turned, ldt, asked, asks, asking, result, ldo);
                self.place(asked, result, ldo, dk, from);
            });
        });
    }
}
