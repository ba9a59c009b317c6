//! Adjusting the codes of some rows once those of all columns are known.

use multiversion::multiversion;

use super::{
    Layout,
    fit::{Fit, Group},
    sequential::Lanes,
    sweep::Encoded,
};
use crate::{
    feedback::{Block, Target, padded},
    kernel::{Accumulate, Prepared, View},
};

const GROUP: usize = Layout::GROUP;

/// Passes over all columns in which single codes are adjusted.
const DESCENTS: usize = 2;

/// Searches each group's scale, curve and codes again, and then adjusts codes one by one, each time given all other columns.
/// `moments` is the damped H, `blocks` what is within the groups.
pub(super) fn refine(x: &[f32], fit: &Fit, moments: &Prepared, blocks: &[Block], rows: &mut Encoded) {
    let mut search = Search { fit, lanes: Lanes::new() };
    pass(x, moments, blocks, rows, |block, weights, gradient, scale, group, errors| {
        search.group(block, weights, gradient, scale, group, errors);
    });
    for _ in 0..DESCENTS {
        pass(x, moments, blocks, rows, |block, weights, gradient, scale, group, errors| {
            descend(fit, block, weights, gradient, scale, group, errors);
        });
    }
}

/// Calls `adjust` for each group, with its block, its weights, e·H of its columns, the scale of its super-block, the group, and the
/// errors e = w − q of its weights.
fn pass(
    x: &[f32],
    moments: &Prepared,
    blocks: &[Block],
    rows: &mut Encoded,
    mut adjust: impl FnMut(&Block, &[f32; GROUP], [f32; GROUP], f32, &mut Group, &mut [f32; GROUP]),
) {
    let groups = blocks.len();
    let cols = x.len() / rows.sums.len().max(1);
    let scales = groups.div_ceil(Layout::SUPER);
    let mut gradient = vec![0.0; rows.sums.len() * GROUP];
    for (g, block) in blocks.iter().enumerate() {
        let first = g * GROUP;
        let width = GROUP.min(cols - first);
        let errors = View::new(&rows.errors, [rows.sums.len(), cols], [cols, 1]);
        moments.product(&mut gradient, GROUP, errors, [0, cols], [first, first + width], Accumulate::No);
        for (row, gradient) in gradient.chunks_exact(GROUP).enumerate() {
            let weights = padded(&x[row * cols + first..][..width]);
            let stored = &mut rows.errors[row * cols + first..][..width];
            let mut errors = padded(stored);
            let scale = rows.scales[row * scales + g / Layout::SUPER];
            let group = &mut rows.groups[row * groups + g];
            adjust(block, &weights, padded(&gradient[..width]), scale, group, &mut errors);
            stored.copy_from_slice(&errors[..width]);
        }
    }
}

/// The search for a group's scale, curve and codes once those of all other groups are known.
struct Search<'a> {
    fit: &'a Fit,
    lanes: Box<Lanes>,
}

impl Search<'_> {
    /// Searches the codes nearest to those that would be best if they were any numbers, q + e·H·(H of the group)⁻¹; takes them if they are better.
    fn group(
        &mut self,
        block: &Block,
        weights: &[f32; GROUP],
        gradient: [f32; GROUP],
        scale: f32,
        group: &mut Group,
        errors: &mut [f32; GROUP],
    ) {
        let mut shift = [0.0; GROUP];
        for (g, row) in gradient.iter().zip(&block.inverse) {
            shift.iter_mut().zip(row).for_each(|(shift, inverse)| *shift += g * inverse);
        }
        let best: [f32; GROUP] = std::array::from_fn(|j| weights[j] - errors[j] + shift[j]);
        let target = Target { weights: best, corrected: best, costs: block.costs, lower: &block.lower };
        let found = target.fit(self.fit, scale, &mut self.lanes);
        if found.group.error < target.error_of(&shift) {
            *group = found.group;
            let grid = self.fit.grid(scale * f32::from(group.scale), usize::from(group.curve));
            *errors = std::array::from_fn(|j| weights[j] - grid.value(f32::from(group.codes[j]) - grid.steps));
        }
    }
}

/// Moves each code to the level nearest to the number that would be best for it, where that lowers the error.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn descend(
    fit: &Fit,
    block: &Block,
    weights: &[f32; GROUP],
    mut gradient: [f32; GROUP],
    scale: f32,
    group: &mut Group,
    errors: &mut [f32; GROUP],
) {
    let grid = fit.grid(scale * f32::from(group.scale), usize::from(group.curve));
    for j in 0..GROUP {
        let moment = block.moments[j][j];
        let value = grid.value(f32::from(group.codes[j]) - grid.steps);
        let code = grid.code(value + gradient[j] / moment);
        let change = grid.value(code) - value;
        if change * (change * moment - 2.0 * gradient[j]) < 0.0 {
            group.codes[j] = (code + grid.steps) as u8;
            errors[j] = weights[j] - grid.value(code);
            for (g, h) in gradient.iter_mut().zip(&block.moments[j]) {
                *g -= change * h;
            }
        }
    }
}
