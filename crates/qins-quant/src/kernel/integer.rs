//! The product in whole numbers: y = Σ_b (Σ_{i ∈ b} wᵢ·aᵢ)·(step_b·unit_b), over blocks b of 256 columns.
//!
//! wᵢ is the level of a code as a whole number of 1/16383 ([`Row`]) and unit_b what one of them stands for; aᵢ and step_b
//! are the [`Activations`]. The inner sums are exact in 32 bits, and the outer one is taken in the order of the blocks. So
//! the result is the same to the bit on every instruction set, for any number of threads, and whether rows of
//! activations are multiplied one at a time or many.

use rayon::prelude::*;

#[cfg(target_arch = "aarch64")]
use super::neon::Neon;
use super::{
    Simd,
    activations::{Activations, BLOCK},
    isa::Isa,
    levels::Companded,
    panel::{PANEL, Panel, Words},
    portable::Portable,
    row::Matrix,
    simd::compiled_for_each,
};
#[cfg(target_arch = "x86_64")]
use super::{avx2::Avx2, avx512::Avx512};

/// Fewer rows of activations are multiplied one by one: laying out the weights for them would cost more.
const FEW: usize = 4;

/// Rows whose totals are left alone for a while before they are added up: what has just been written in small pieces cannot
/// be read in large ones without waiting.
const SOON: usize = 16;

/// `y[m, rows] = x[m, cols] · wᵀ`.
pub(super) fn product(simd: Simd, w: &Matrix<'_>, shape: [usize; 2], x: &[f32], y: &mut [f32]) {
    match simd {
        Simd::Portable => product_on(Portable, w, shape, x, y),
        #[cfg(target_arch = "x86_64")]
        Simd::Avx2 => product_on(Avx2::new(), w, shape, x, y),
        #[cfg(target_arch = "x86_64")]
        Simd::Avx512 => product_on(Avx512::new(), w, shape, x, y),
        #[cfg(target_arch = "aarch64")]
        Simd::Neon => product_on(Neon, w, shape, x, y),
        // No machine of this architecture has them. The bits are the same.
        #[cfg(not(target_arch = "x86_64"))]
        Simd::Avx2 | Simd::Avx512 => product_on(Portable, w, shape, x, y),
        #[cfg(not(target_arch = "aarch64"))]
        Simd::Neon => product_on(Portable, w, shape, x, y),
    }
}

fn product_on<I: Isa>(isa: I, w: &Matrix<'_>, shape: [usize; 2], x: &[f32], y: &mut [f32]) {
    let mut x = Activations::new(I::SIMD, x, shape[1]);
    if x.rows() >= FEW {
        return many(isa, w, shape, &x, y);
    }
    if I::READS_BYTES && w.has_byte_levels() {
        x.fill_bytes(I::SIMD);
    }
    few(isa, w, shape, &x, y);
}

/// Each row of weights with each of a few rows of activations.
fn few<I: Isa>(isa: I, w: &Matrix<'_>, [rows, cols]: [usize; 2], x: &Activations, y: &mut [f32]) {
    let (m, task) = (x.rows(), rows.div_ceil(8 * rayon::current_num_threads()).max(16));
    let init = || (Companded::EMPTY, vec![0; SOON * m * x.blocks()]);
    let run = |(levels, totals): &mut (Companded, Vec<i32>), first: usize, out: &mut [f32]| {
        for (i, out) in out.chunks_mut(SOON * m).enumerate() {
            let first = first + i * SOON;
            let mut units = [0.0; SOON];
            for (i, totals) in totals.chunks_exact_mut(m * x.blocks()).enumerate().take(out.len() / m) {
                w.levels(I::SIMD, first + i, cols, levels);
                units[i] = levels.curve.unit;
                let row = w.row(first + i, cols, levels);
                for (j, totals) in totals.chunks_exact_mut(x.blocks()).enumerate() {
                    isa.totals(&row, x.row(j), totals);
                }
            }
            for (i, (y, totals)) in out.iter_mut().zip(totals.chunks_exact(x.blocks())).enumerate() {
                let units = w.units(first + i / m, cols, units[i / m]);
                *y = isa.sum(totals, x.row(i % m).steps, units);
            }
        }
    };
    if m == 1 {
        return y.par_chunks_mut(task).enumerate().for_each_init(init, |state, (t, out)| run(state, t * task, out));
    }
    let mut by_row = vec![0.0; y.len()];
    by_row.par_chunks_mut(task * m).enumerate().for_each_init(init, |state, (t, out)| run(state, t * task, out));
    for (j, y) in y.chunks_exact_mut(rows).enumerate() {
        y.iter_mut().zip(by_row[j..].iter().step_by(m)).for_each(|(y, by_row)| *y = *by_row);
    }
}

/// Panels of rows of weights, one block of columns after the other, with all activations.
fn many<I: Isa>(isa: I, w: &Matrix<'_>, [rows, cols]: [usize; 2], x: &Activations, y: &mut [f32]) {
    let m = x.rows();
    // The outputs of a panel lie together, so that threads write apart.
    let mut panels = vec![[0.0; PANEL]; rows.div_ceil(PANEL) * m];
    let multiply = |scratch: &mut Scratch, (p, out): (usize, &mut [[f32; PANEL]])| {
        let rows = p * PANEL..rows.min((p + 1) * PANEL);
        for (levels, r) in scratch.levels.iter_mut().zip(rows.clone()) {
            w.levels(I::SIMD, r, cols, levels);
        }
        for b in 0..x.blocks() {
            for (i, (words, r)) in scratch.words.iter_mut().zip(rows.clone()).enumerate() {
                let row = w.row(r, cols, &scratch.levels[i]);
                scratch.units[i] = w.units(r, cols, scratch.levels[i].curve.unit).of(b);
                isa.unpack(&row, b, words);
            }
            isa.interleave(&scratch.words, &mut scratch.panel);
            isa.panel_totals(&scratch.panel, x.values_from(b), x.blocks() * BLOCK, &mut scratch.totals);
            let steps = x.steps()[b..].iter().step_by(x.blocks());
            add(I::SIMD, out, &scratch.totals, steps, &scratch.units);
        }
    };
    panels.par_chunks_mut(m).enumerate().for_each_init(|| Scratch::new(m), multiply);
    y.par_chunks_mut(rows).enumerate().for_each(|(j, y)| {
        for (y, panel) in y.chunks_mut(PANEL).zip(panels[j..].iter().step_by(m)) {
            y.copy_from_slice(&panel[..y.len()]);
        }
    });
}

/// What a thread needs to multiply a panel.
struct Scratch {
    levels: Box<[Companded; PANEL]>,
    words: Box<Words>,
    panel: Box<Panel>,
    units: [f32; PANEL],
    totals: Vec<[i32; PANEL]>,
}

impl Scratch {
    fn new(m: usize) -> Self {
        Self {
            levels: Box::new([Companded::EMPTY; PANEL]),
            words: Box::new([[0; BLOCK]; PANEL]),
            panel: Box::new(Panel([[[0; 2]; PANEL]; BLOCK / 2])),
            units: [0.0; PANEL],
            totals: vec![[0; PANEL]; m],
        }
    }
}

compiled_for_each! {
    /// `y[j][r] += totals[j][r]·(steps[j]·units[r])`.
    fn add(
        y: &mut [[f32; PANEL]],
        totals: &[[i32; PANEL]],
        steps: std::iter::StepBy<std::slice::Iter<'_, f32>>,
        units: &[f32; PANEL],
    ) = add_inlined
}

#[inline(always)]
fn add_inlined(
    y: &mut [[f32; PANEL]],
    totals: &[[i32; PANEL]],
    steps: std::iter::StepBy<std::slice::Iter<'_, f32>>,
    units: &[f32; PANEL],
) {
    for ((y, totals), step) in y.iter_mut().zip(totals).zip(steps) {
        for ((y, total), unit) in y.iter_mut().zip(totals).zip(units) {
            *y += *total as f32 * (step * unit);
        }
    }
}
