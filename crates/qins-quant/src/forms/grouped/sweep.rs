//! Encoding of some rows with error feedback, column after column.

use super::{
    Layout,
    encode::super_scale,
    fit::{Fit, Group},
    refine,
    sequential::{Fitted, Lanes},
};
use crate::{
    Effort, EncodeError, Feedback,
    feedback::{BLOCK, Rounding, Target, sweep},
};

const GROUP: usize = Layout::GROUP;

/// Some rows with their codes.
pub(super) struct Encoded {
    /// [`Layout::scales`] per row.
    pub(super) scales: Vec<f32>,
    /// [`Layout::group_scales`] per row; after adjusting, without errors.
    pub(super) groups: Vec<Group>,
    /// w − q, row-major.
    pub(super) errors: Vec<f32>,
    /// Σ D·(c − q)² of each row, before adjusting.
    pub(super) sums: Vec<f64>,
}

/// Encodes rows `x` of a matrix, the first of which is its row `first_row`.
pub(super) fn encode(
    x: &[f32],
    first_row: usize,
    fit: &Fit,
    feedback: &Feedback,
    effort: Effort,
) -> Result<Encoded, EncodeError> {
    let cols = feedback.cols();
    let rows = x.len() / cols;
    let [scales, groups] = [cols.div_ceil(BLOCK), cols.div_ceil(GROUP)];
    let blank = Group { scale: 0, curve: 0, codes: [0; GROUP], error: 0.0 };
    let out = Encoded {
        scales: vec![0.0; rows * scales],
        groups: vec![blank; rows * groups],
        errors: Vec::new(),
        sums: vec![0.0; rows],
    };
    let mut rounding = InGroups { first_row, fit, scales, groups, out, lanes: Lanes::new() };
    let errors = sweep(x, feedback, &mut rounding)?;
    let mut out = Encoded { errors, ..rounding.out };
    match (effort, feedback.refinement()) {
        (Effort::Best, Some((moments, blocks))) => refine::refine(x, fit, moments, blocks, &mut out),
        (Effort::Fast | Effort::Good | Effort::Best, _) => {}
    }
    Ok(out)
}

/// Rounding to a scale and a curve for each group.
struct InGroups<'a> {
    first_row: usize,
    fit: &'a Fit,
    /// Scales, and groups, of a row.
    scales: usize,
    groups: usize,
    out: Encoded,
    lanes: Box<Lanes>,
}

impl Rounding for InGroups<'_> {
    fn begin(&mut self, row: usize, start: usize, corrected: &[f32]) -> Result<(), EncodeError> {
        self.out.scales[row * self.scales + start / BLOCK] = super_scale(corrected, self.first_row + row, start)?;
        Ok(())
    }

    fn group(&mut self, row: usize, first: usize, target: &Target<'_>) -> [f32; GROUP] {
        let scale = self.out.scales[row * self.scales + first / BLOCK];
        let Fitted { group, errors } = target.fit(self.fit, scale, &mut self.lanes);
        self.out.sums[row] += f64::from(group.error);
        self.out.groups[row * self.groups + first / GROUP] = group;
        errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Hessian, Width,
        feedback::FEEDBACK_ROWS as ROWS,
        forms::{Weights, grouped::Curves},
    };

    /// Numbers from −1 to 1, those of a row alike for neighbours.
    fn numbers(n: usize, seed: usize) -> Vec<f32> {
        let noise = |i: usize| ((i * 7919 + seed * 104_729 + i * i % 331 * 17) % 2027) as f32 / 1013.5 - 1.0;
        (0..n).map(|i| 0.6 * noise(i / 5) + 0.4 * noise(i + 1)).collect()
    }

    #[test]
    fn error_of_the_sweep_is_that_of_a_naive_product_in_f64() {
        const DAMPING: f64 = 0.1;
        for (width, cols) in [(Width::W3, 300), (Width::W4, 520), (Width::W5, 31), (Width::W6, 256), (Width::W8, 64)] {
            let (layout, rows, n) = (Layout::new(width), 70, 2 * cols);
            let x = numbers(n * cols, 1);
            let mut hessian = Hessian::new(cols);
            hessian.add(&x).unwrap();
            let w: Vec<f32> = numbers(rows * cols, 2).iter().map(|w| w / 40.0).collect();
            let square = |x: f32| f64::from(x).powi(2);
            let extra = DAMPING * x.iter().map(|x| square(*x)).sum::<f64>() / (n * cols) as f64;
            // The mean of (x·e)² over all inputs, and the damping, in units of the largest cost.
            let naive = |errors: &[f32]| -> f64 {
                let dot =
                    |x: &[f32], e: &[f32]| x.iter().zip(e).map(|(x, e)| f64::from(*x) * f64::from(*e)).sum::<f64>();
                let row = |e: &[f32]| {
                    x.chunks(cols).map(|x| dot(x, e).powi(2)).sum::<f64>() / n as f64
                        + extra * e.iter().map(|e| square(*e)).sum::<f64>()
                };
                errors.chunks(cols).map(row).sum()
            };
            let mut found = Vec::new();
            for effort in [Effort::Good, Effort::Best] {
                let feedback = hessian.feedback(DAMPING, effort).unwrap();
                let fit = Fit::new(layout, Curves::Bent.curvatures(layout));
                let encoded: Vec<Encoded> = (w.chunks(ROWS * cols).enumerate())
                    .map(|(i, w)| encode(w, i * ROWS, &fit, &feedback, effort).unwrap())
                    .collect();
                let errors: Vec<f32> = encoded.iter().flat_map(|band| band.errors.clone()).collect();
                // The errors are those of the codes as they are stored.
                let options = crate::EncodeOptions { effort, curves: Some(Curves::Bent), ..Default::default() };
                let shape = [rows, cols];
                let weights = Weights { values: &w, shape, importance: None, feedback: Some(&feedback), options };
                let parts = super::super::encode::encode(&weights, layout, Curves::Bent).unwrap().0;
                let format = crate::MatrixFormat::new(crate::Form::Grouped(layout), crate::FloatDtype::F32, cols);
                let decoded = crate::EncodedTensor::from_parts(format, rows, parts).unwrap().decode();
                assert!(w.iter().zip(&decoded).zip(&errors).all(|((w, q), e)| w - q == *e), "{width:?} {effort}");
                found.push((naive(&errors), encoded.iter().flat_map(|band| &band.sums).sum::<f64>()));
            }
            // The sweep counts in units of the largest cost.
            let feedback = hessian.feedback(DAMPING, Effort::Good).unwrap();
            let last = cols - 1;
            let of_last = x.chunks(cols).map(|x| square(x[last])).sum::<f64>() / n as f64 + extra;
            let unit = of_last / f64::from(feedback.costs()[last]);
            let [(good, sum), (best, _)] = found[..] else { panic!("two efforts") };
            assert!((sum * unit / good - 1.0).abs() < 1e-3, "{width:?}: {} for {good}", sum * unit);
            assert!(best < good, "{width:?}: {best} after {good}");
        }
    }
}
