//! Encoding of a matrix: codes, scales and curves of least error.

use rayon::prelude::*;

use super::{Curves, Grouped, Layout, fit::Fit, planes};
use crate::{
    EncodeError,
    fit::{f16_at_least, relative},
};

/// Encodes finite weights; also returns the sum of squared errors. `importance` has one factor ≥ 0 per column, by which the
/// squared errors of the column count; only its ratio to the largest factor matters.
pub(crate) fn encode(
    weights: &[f32],
    [rows, cols]: [usize; 2],
    layout: Layout,
    curves: Curves,
    importance: Option<&[f32]>,
) -> Result<(Grouped, f64), EncodeError> {
    let curves = curves.curvatures(layout);
    let mut grouped = Grouped {
        layout,
        packed: vec![0; rows * layout.packed(cols)],
        scale: vec![0.0; rows * layout.scales(cols)],
        group_scale: vec![0; rows * layout.group_scales(cols)],
        selector: vec![0; rows * layout.selectors(cols)],
        curvature: curves.map(|k| k.get()).to_vec(),
    };
    if weights.is_empty() {
        return Ok((grouped, 0.0));
    }
    let fit = Fit::new(layout, curves);
    let importance = importance.map(relative);
    let errors: Vec<f64> = (weights.par_chunks(cols))
        .zip(grouped.packed.par_chunks_mut(layout.packed(cols)))
        .zip(grouped.scale.par_chunks_mut(layout.scales(cols)))
        .zip(grouped.group_scale.par_chunks_mut(layout.group_scales(cols)))
        .zip(grouped.selector.par_chunks_mut(layout.selectors(cols)))
        .enumerate()
        .map(|(row, ((((x, packed), scale), group_scale), selector))| {
            let mut error = 0.0;
            let blocks = x.chunks(Layout::SUPER * Layout::GROUP).zip(scale);
            for (block, (x, scale)) in blocks.enumerate() {
                let largest = x.iter().fold(0.0_f32, |max, w| max.max(w.abs()));
                *scale = f16_at_least(largest / f32::from(i8::MAX));
                if !scale.is_finite() {
                    return Err(EncodeError::Scale { row, scale: *scale });
                }
                for (i, x) in x.chunks(Layout::GROUP).enumerate() {
                    let g = block * Layout::SUPER + i;
                    let importance = importance.as_ref().map(|all| &all[g * Layout::GROUP..][..x.len()]);
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
    Ok((grouped, errors.iter().sum()))
}
