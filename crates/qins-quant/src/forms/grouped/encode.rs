//! Encoding of a matrix: codes, scales and curves of least error.

use half::f16;
use rayon::prelude::*;

use super::{
    Curves, Layout, Weights,
    fit::{Fit, Group},
    planes, sweep,
};
use crate::{
    EncodeError,
    feedback::FEEDBACK_ROWS,
    fit::f16_at_least,
    forms::{above_range, stride, words_of},
};

/// Encodes finite weights; also returns the sum of squared errors, in which those of a column count by its importance, or with
/// feedback by the moments of inputs.
pub(super) fn encode(
    weights: &Weights<'_>,
    layout: Layout,
    curves: Curves,
) -> Result<(Vec<Vec<u32>>, f64), EncodeError> {
    let ([rows, cols], curves) = (weights.shape, curves.curvatures(layout));
    let words = |bytes: usize| vec![0_u32; rows * stride(bytes) / size_of::<u32>()];
    let [mut packed, mut group_scale, mut selector] =
        [layout.packed(cols), layout.group_scales(cols), layout.selectors(cols)].map(words);
    let mut scale = vec![0.0; rows * layout.scales(cols)];
    let mut errors = vec![0.0; rows];
    if !weights.values.is_empty() {
        let fit = Fit::new(layout, curves);
        let (importance, effort) = (weights.importance, weights.options.effort);
        // Without feedback, each row by itself.
        let band = weights.feedback.map_or(1, |_| FEEDBACK_ROWS);
        (weights.values.par_chunks(band * cols))
            .zip(rows_mut(&mut packed, band, layout.packed(cols)))
            .zip(scale.par_chunks_mut(band * layout.scales(cols)))
            .zip(rows_mut(&mut group_scale, band, layout.group_scales(cols)))
            .zip(rows_mut(&mut selector, band, layout.selectors(cols)))
            .zip(errors.par_chunks_mut(band))
            .enumerate()
            .map(|(i, (((((x, packed), scale), group_scale), selector), errors))| {
                let mut out = Codes { layout, cols, packed, group_scale, selector };
                let Some(feedback) = weights.feedback else {
                    errors[0] = encode_row(x, i, &fit, importance, scale, &mut out)?;
                    return Ok(());
                };
                let found = sweep::encode(x, i * band, &fit, feedback, effort)?;
                for (i, group) in found.groups.iter().enumerate() {
                    out.put(i / layout.group_scales(cols), i % layout.group_scales(cols), group);
                }
                scale.copy_from_slice(&found.scales);
                errors.copy_from_slice(&found.sums);
                Ok(())
            })
            .collect::<Result<(), _>>()?;
    }
    let curvature = curves.map(|k| k.get()).to_vec();
    // Summed in the order of rows, whatever the threads did: the sum decides which curves are stored.
    Ok((vec![packed, words_of(scale), group_scale, selector, words_of(curvature)], errors.iter().sum()))
}

/// Encodes one row, `row` of the matrix, without feedback; returns the sum of its squared errors.
fn encode_row(
    x: &[f32],
    row: usize,
    fit: &Fit,
    importance: Option<&[f32]>,
    scales: &mut [f32],
    out: &mut Codes<'_>,
) -> Result<f64, EncodeError> {
    let mut error = 0.0;
    let blocks = x.chunks(Layout::SUPER * Layout::GROUP).zip(scales);
    for (block, (x, scale)) in blocks.enumerate() {
        *scale = super_scale(x, row, block * Layout::SUPER * Layout::GROUP)?;
        for (i, x) in x.chunks(Layout::GROUP).enumerate() {
            let g = block * Layout::SUPER + i;
            let importance = importance.map(|all| &all[g * Layout::GROUP..][..x.len()]);
            let group = fit.group(x, importance, *scale);
            error += f64::from(group.error);
            out.put(0, g, &group);
        }
    }
    Ok(error)
}

/// The scale of a super-block's weights, which begin at column `first` of a row.
pub(super) fn super_scale(x: &[f32], row: usize, first: usize) -> Result<f32, EncodeError> {
    let largest = x.iter().fold(0.0_f32, |max, w| max.max(w.abs()));
    let scale = f16_at_least(largest / f32::from(i8::MAX));
    if scale.is_finite() { Ok(scale) } else { Err(above_range(row, first, x, f32::from(i8::MAX) * f16::MAX.to_f32())) }
}

/// The parts of some rows that are made of groups.
struct Codes<'a> {
    layout: Layout,
    cols: usize,
    packed: &'a mut [u8],
    group_scale: &'a mut [u8],
    selector: &'a mut [u8],
}

impl Codes<'_> {
    /// Stores group `g` of row `row`.
    fn put(&mut self, row: usize, g: usize, group: &Group) {
        let (layout, bytes) = (self.layout, self.layout.group_bytes());
        self.group_scale[row * stride(layout.group_scales(self.cols)) + g] = group.scale.cast_unsigned();
        self.selector[row * stride(layout.selectors(self.cols)) + g / 4] |= group.curve << (2 * (g % 4));
        let packed = &mut self.packed[row * stride(layout.packed(self.cols)) + g * bytes..][..bytes];
        planes::pack(&group.codes, layout.width().bits(), packed);
    }
}

/// The bytes of bands of rows of words.
fn rows_mut(words: &mut [u32], rows: usize, bytes: usize) -> rayon::slice::ChunksMut<'_, u8> {
    bytemuck::cast_slice_mut(words).par_chunks_mut(rows * stride(bytes))
}
