//! Encoding of a matrix: codes, scales and curves of least error.

use half::f16;
use rayon::prelude::*;

use super::{Curves, Layout, Weights, fit::Fit, planes};
use crate::{
    EncodeError,
    fit::f16_at_least,
    forms::{above_range, stride, words_of},
};

/// Encodes finite weights; also returns the sum of squared errors, in which those of a column count by its importance.
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
    let mut sum = 0.0;
    if !weights.values.is_empty() {
        let fit = Fit::new(layout, curves);
        let importance = weights.importance;
        let errors: Vec<f64> = (weights.values.par_chunks(cols))
            .zip(rows_mut(&mut packed, layout.packed(cols)))
            .zip(scale.par_chunks_mut(layout.scales(cols)))
            .zip(rows_mut(&mut group_scale, layout.group_scales(cols)))
            .zip(rows_mut(&mut selector, layout.selectors(cols)))
            .enumerate()
            .map(|(row, ((((x, packed), scale), group_scale), selector))| {
                let mut error = 0.0;
                let blocks = x.chunks(Layout::SUPER * Layout::GROUP).zip(scale);
                for (block, (x, scale)) in blocks.enumerate() {
                    let largest = x.iter().fold(0.0_f32, |max, w| max.max(w.abs()));
                    *scale = f16_at_least(largest / f32::from(i8::MAX));
                    if !scale.is_finite() {
                        let first = block * Layout::SUPER * Layout::GROUP;
                        return Err(above_range(row, first, x, f32::from(i8::MAX) * f16::MAX.to_f32()));
                    }
                    for (i, x) in x.chunks(Layout::GROUP).enumerate() {
                        let g = block * Layout::SUPER + i;
                        let importance = importance.map(|all| &all[g * Layout::GROUP..][..x.len()]);
                        let group = fit.group(x, importance, *scale);
                        error += f64::from(group.error);
                        group_scale[g] = group.scale.cast_unsigned();
                        selector[g / 4] |= group.curve << (2 * (g % 4));
                        let bytes = layout.group_bytes();
                        planes::pack(&group.codes, layout.width().bits(), &mut packed[g * bytes..][..bytes]);
                    }
                }
                Ok(error)
            })
            .collect::<Result<_, _>>()?;
        // Summed in the order of rows, whatever the threads did: the sum decides which curves are stored.
        sum = errors.iter().sum();
    }
    let curvature = curves.map(|k| k.get()).to_vec();
    Ok((vec![packed, words_of(scale), group_scale, selector, words_of(curvature)], sum))
}

/// The bytes of rows of words.
fn rows_mut(words: &mut [u32], bytes: usize) -> rayon::slice::ChunksMut<'_, u8> {
    bytemuck::cast_slice_mut(words).par_chunks_mut(stride(bytes))
}
