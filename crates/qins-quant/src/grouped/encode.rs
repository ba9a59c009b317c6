//! The codes, scales and curves that keep most of a matrix.

use half::f16;
use qins_codec::Curvature;
use rayon::prelude::*;

use super::{Grouped, Layout, fit::Fit, planes};
use crate::{
    EncodeError,
    fit::{f16_at_least, relative},
};

/// Encodes finite weights. `importance` has one weight ≥ 0 per column, for the squared errors there.
pub(crate) fn encode(
    weights: &[f32],
    [rows, cols]: [usize; 2],
    layout: Layout,
    importance: Option<&[f32]>,
) -> Result<Grouped, EncodeError> {
    let stored = |k: f32| Curvature::new(f16::from_f32(k).to_f32()).unwrap_or(Curvature::LINEAR);
    let curves = curvatures(layout).map(stored);
    let mut grouped = Grouped {
        layout,
        packed: vec![0; rows * layout.packed(cols)],
        scale: vec![0.0; rows * layout.scales(cols)],
        group_scale: vec![0; rows * layout.group_scales(cols)],
        selector: vec![0; rows * layout.selectors(cols)],
        curvature: curves.map(Curvature::get).to_vec(),
    };
    if weights.is_empty() {
        return Ok(grouped);
    }
    let fit = Fit::new(layout, curves);
    let importance = importance.map(relative);
    (weights.par_chunks(cols))
        .zip(grouped.packed.par_chunks_mut(layout.packed(cols)))
        .zip(grouped.scale.par_chunks_mut(layout.scales(cols)))
        .zip(grouped.group_scale.par_chunks_mut(layout.group_scales(cols)))
        .zip(grouped.selector.par_chunks_mut(layout.selectors(cols)))
        .enumerate()
        .try_for_each(|(row, ((((x, packed), scale), group_scale), selector))| {
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
                    group_scale[g] = group.scale.cast_unsigned();
                    selector[g / 4] |= group.curve << (2 * (g % 4));
                    let bytes = layout.group_bytes();
                    planes::pack(&group.codes, layout.bits(), &mut packed[g * bytes..][..bytes]);
                }
            }
            Ok(())
        })?;
    Ok(grouped)
}

/// Found on Gaussian and Student-t(5) weights, as a compromise between the two; the optimum is flat.
const fn curvatures(layout: Layout) -> [f32; Layout::CURVES] {
    match layout.bits() {
        3 => [0.1, 0.6, 1.2, 2.4],
        4 => [0.2, 0.6, 1.2, 2.0],
        _ => [0.4, 0.8, 1.2, 2.0],
    }
}
