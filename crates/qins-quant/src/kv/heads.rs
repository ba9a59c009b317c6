//! The keys and values of all heads of one layer.

use rayon::prelude::*;

use super::{
    AttentionSpan, KvForm, KvScheme, Rotations, attention::attend, block::Block, coded::CodedHead, floats::FloatHead,
};

/// The keys and values of all KV heads of one layer.
#[derive(Clone, Debug)]
pub struct Heads {
    heads: Vec<Head>,
    form: KvForm,
    dim: usize,
    beyond: Option<Beyond>,
}

/// A finite key or value that was beyond the range of its form.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Beyond {
    /// `keys` or `values`.
    pub what: &'static str,
    /// The largest magnitude that can be stored.
    pub most: f32,
    /// What was found.
    pub found: f32,
}

/// Of one head.
#[derive(Clone, Debug)]
pub(super) enum Head {
    Floats(FloatHead),
    Coded(Box<CodedHead>),
}

impl Head {
    fn new(form: KvForm, dim: usize) -> Self {
        match form {
            KvForm::Floats(dtype) => Self::Floats(FloatHead::new(dtype, dim)),
            KvForm::Coded(bits) => Self::Coded(Box::new(CodedHead::new(bits, dim))),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Floats(head) => head.len(),
            Self::Coded(head) => head.len(),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Floats(head) => head.bytes(),
            Self::Coded(head) => head.bytes(),
        }
    }

    /// A block that was not dropped.
    pub(super) fn block(&self, block: usize) -> Option<Block<'_>> {
        match self {
            Self::Floats(head) => head.block(block),
            Self::Coded(head) => head.block(block),
        }
    }
}

/// What is appended for `n` tokens.
#[derive(Clone, Copy, Debug)]
pub struct NewTokens<'a> {
    /// Before their rotation: `[heads, n, dim]`.
    pub keys: &'a [f32],
    /// `[heads, n, dim]`.
    pub values: &'a [f32],
    /// After their rotation: `[heads, group·n, dim]`, where `group` query heads share a KV head and row g·n + i of a head is of token i.
    pub queries: &'a [f32],
}

impl Heads {
    /// An empty cache for `heads` heads whose vectors have `dim` elements.
    pub fn new(scheme: KvScheme, heads: usize, dim: usize) -> Self {
        let form = scheme.form();
        Self { heads: (0..heads).map(|_| Head::new(form, dim)).collect(), form, dim, beyond: None }
    }

    /// The number of tokens.
    pub fn len(&self) -> usize {
        self.heads.first().map_or(0, Head::len)
    }

    /// Whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes in use.
    pub fn bytes(&self) -> usize {
        self.heads.iter().map(Head::bytes).sum()
    }

    /// The first finite key or value that was beyond the range of its form, and so became NaN.
    pub fn beyond(&self) -> Option<Beyond> {
        self.beyond
    }

    /// Removes all tokens.
    pub fn clear(&mut self) {
        self.beyond = None;
        let (form, dim) = (self.form, self.dim);
        self.heads.iter_mut().for_each(|head| *head = Head::new(form, dim));
    }

    /// Appends `n` tokens; `rotations` are those of the model, and reach all tokens. To attend from all of them as if they came one by one,
    /// append them in the [`pieces`](KvScheme::pieces) of their scheme.
    ///
    /// An element that is not finite, or beyond the range of the form, becomes NaN with all that share a scale with it: saturated, or
    /// infinite, it could pass unnoticed.
    ///
    /// # Panics
    /// When keys and values differ in length, or are not whole vectors of all heads, or the queries not of as many tokens.
    pub fn append(&mut self, new: NewTokens<'_>, rotations: Option<&Rotations>) {
        let NewTokens { keys, values, queries } = new;
        assert_eq!(keys.len(), values.len(), "append: as many keys as values");
        let each = keys.len() / self.heads.len().max(1);
        assert_eq!((each * self.heads.len(), each % self.dim), (keys.len(), 0), "append: whole vectors of all heads");
        assert!(keys.is_empty() || queries.len().is_multiple_of(keys.len()), "append: queries of the same tokens");
        if keys.is_empty() {
            return;
        }
        let [most_keys, most_values] = self.form.most(self.dim);
        let keys = self.within(keys, "keys", most_keys);
        let values = self.within(values, "values", most_values);
        let parts = keys
            .par_chunks(each)
            .zip(values.par_chunks(each))
            .zip(queries.par_chunks(queries.len() / self.heads.len()));
        self.heads.par_iter_mut().zip(parts).for_each(|(head, ((keys, values), queries))| match head {
            Head::Floats(head) => head.append(keys, values, rotations),
            Head::Coded(head) => head.append(keys, values, queries, rotations.map_or(0, Rotations::pairs)),
        });
    }

    /// The numbers, NaN where one is of a larger magnitude than `most`.
    fn within<'a>(&mut self, numbers: &'a [f32], what: &'static str, most: f32) -> std::borrow::Cow<'a, [f32]> {
        // Without an early end, so that it vectorises; nearly always all are within.
        if numbers.iter().fold(true, |all, x| all & (x.abs() <= most)) {
            return numbers.into();
        }
        let found = || numbers.iter().copied().find(|x| x.is_finite() && x.abs() > most);
        self.beyond = self.beyond.or_else(|| found().map(|found| Beyond { what, most, found }));
        numbers.iter().map(|x| if x.abs() <= most { *x } else { f32::NAN }).collect()
    }

    /// Drops what no query at `position` or later attends to within `window` tokens.
    pub fn drop_before(&mut self, position: usize, window: usize) {
        let token = (position + 1).saturating_sub(window);
        for head in &mut self.heads {
            match head {
                Head::Floats(head) => head.drop_before(token),
                Head::Coded(head) => head.drop_before(token),
            }
        }
    }

    /// softmax(q·kᵀ / √dim)·v for rotated queries `[heads, group·n, dim]`, where `group` query heads share a KV head and row g·n + i of
    /// a head is at position `span.start + i`. The result has the shape of the queries.
    ///
    /// # Panics
    /// When the queries are not whole vectors of all heads, or `span` goes beyond the tokens that were appended.
    pub fn attend(&self, queries: &[f32], span: AttentionSpan, rotations: Option<&Rotations>) -> Vec<f32> {
        let each = queries.len() / self.heads.len().max(1);
        assert_eq!(each * self.heads.len(), queries.len(), "attend: queries of all heads");
        assert!(each.is_multiple_of(span.n * self.dim), "attend: as many queries for each head of a group");
        assert!(span.start + span.n <= self.len(), "attend: tokens that were appended");
        let heads = self.heads.par_iter().zip(queries.par_chunks(each));
        heads.flat_map_iter(|(head, queries)| attend(head, queries, self.dim, span, rotations)).collect()
    }
}
