//! The integer product: y = Σ_b (Σ_{i ∈ b} wᵢ·aᵢ)·(step_b·scale_b), over blocks b of 256 columns.
//!
//! wᵢ is an integer weight ([`Row`](super::row::Row)) and scale_b what a weight of 1 stands for ([`BlockScale`]); aᵢ and
//! step_b are the [`Activations`]. The inner sums are exact in 32 bits, and the outer sum is taken in the order of the
//! blocks. So the result has the same bits on every instruction set, for any number of threads, and for a row of activations
//! alone or in a batch.
//!
//! [`BlockScale`]: super::row::BlockScale

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
    simd::per_isa,
};
#[cfg(target_arch = "x86_64")]
use super::{avx2::Avx2, avx512::Avx512};

/// Rows of activations from which on [`gemm()`] pays off: for fewer, interleaving the weights costs more than it saves.
const GEMM_MIN_ROWS: usize = 4;

/// Rows of weights whose totals are computed before any is summed. Reading a total with a wide load right after it was written
/// with a narrow store would stall, as such a store is not forwarded.
const DEFERRED_ROWS: usize = 16;

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
        // No machine of this architecture has these. All instruction sets give the same bits.
        #[cfg(not(target_arch = "x86_64"))]
        Simd::Avx2 | Simd::Avx512 => product_on(Portable, w, shape, x, y),
        #[cfg(not(target_arch = "aarch64"))]
        Simd::Neon => product_on(Portable, w, shape, x, y),
    }
}

fn product_on<I: Isa>(isa: I, w: &Matrix<'_>, shape: [usize; 2], x: &[f32], y: &mut [f32]) {
    let mut x = Activations::new(I::SIMD, x, shape[1]);
    if x.rows() >= GEMM_MIN_ROWS {
        return gemm(isa, w, shape, &x, y);
    }
    if I::READS_BYTES && w.has_byte_levels() {
        x.fill_bytes(I::SIMD);
    }
    gemv(isa, w, shape, &x, y);
}

/// Multiplies each row of weights by each of a few rows of activations.
fn gemv<I: Isa>(isa: I, w: &Matrix<'_>, [rows, cols]: [usize; 2], x: &Activations, y: &mut [f32]) {
    let (m, task) = (x.rows(), rows.div_ceil(8 * rayon::current_num_threads()).max(16));
    let init = || (Companded::EMPTY, vec![0; DEFERRED_ROWS * m * x.blocks()]);
    let run = |(levels, totals): &mut (Companded, Vec<i32>), first: usize, out: &mut [f32]| {
        for (i, out) in out.chunks_mut(DEFERRED_ROWS * m).enumerate() {
            let first = first + i * DEFERRED_ROWS;
            let mut units = [0.0; DEFERRED_ROWS];
            for (i, totals) in totals.chunks_exact_mut(m * x.blocks()).enumerate().take(out.len() / m) {
                w.levels(I::SIMD, first + i, cols, levels);
                units[i] = levels.curve.unit;
                let row = w.row(first + i, cols, levels);
                for (j, totals) in totals.chunks_exact_mut(x.blocks()).enumerate() {
                    isa.totals(&row, x.row(j), totals);
                }
            }
            for (i, (y, totals)) in out.iter_mut().zip(totals.chunks_exact(x.blocks())).enumerate() {
                let scale = w.block_scale(first + i / m, cols, units[i / m]);
                *y = isa.sum(totals, x.row(i % m).steps, scale);
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

/// Multiplies panels of rows of weights, one block of columns at a time, by all rows of activations.
fn gemm<I: Isa>(isa: I, w: &Matrix<'_>, [rows, cols]: [usize; 2], x: &Activations, y: &mut [f32]) {
    let m = x.rows();
    // The outputs of a panel are contiguous, so that threads write to different cache lines.
    let mut panels = vec![[0.0; PANEL]; rows.div_ceil(PANEL) * m];
    let multiply = |scratch: &mut Scratch, (p, out): (usize, &mut [[f32; PANEL]])| {
        let rows = p * PANEL..rows.min((p + 1) * PANEL);
        for (levels, r) in scratch.levels.iter_mut().zip(rows.clone()) {
            w.levels(I::SIMD, r, cols, levels);
        }
        for b in 0..x.blocks() {
            for (i, (words, r)) in scratch.words.iter_mut().zip(rows.clone()).enumerate() {
                let row = w.row(r, cols, &scratch.levels[i]);
                scratch.scales[i] = w.block_scale(r, cols, scratch.levels[i].curve.unit).of(b);
                isa.unpack(&row, b, words);
            }
            isa.interleave(&scratch.words, &mut scratch.panel);
            isa.panel_totals(&scratch.panel, x.values_from(b), x.blocks() * BLOCK, &mut scratch.totals);
            let steps = x.steps()[b..].iter().step_by(x.blocks());
            add(I::SIMD, out, &scratch.totals, steps, &scratch.scales);
        }
    };
    panels.par_chunks_mut(m).enumerate().for_each_init(|| Scratch::new(m), multiply);
    y.par_chunks_mut(rows).enumerate().for_each(|(j, y)| {
        for (y, panel) in y.chunks_mut(PANEL).zip(panels[j..].iter().step_by(m)) {
            y.copy_from_slice(&panel[..y.len()]);
        }
    });
}

/// The buffers of a thread that multiplies a panel.
struct Scratch {
    levels: Box<[Companded; PANEL]>,
    words: Box<Words>,
    panel: Box<Panel>,
    scales: [f32; PANEL],
    totals: Vec<[i32; PANEL]>,
}

impl Scratch {
    fn new(m: usize) -> Self {
        Self {
            levels: Box::new([Companded::EMPTY; PANEL]),
            words: Box::new([[0; BLOCK]; PANEL]),
            panel: Box::new(Panel([[[0; 2]; PANEL]; BLOCK / 2])),
            scales: [0.0; PANEL],
            totals: vec![[0; PANEL]; m],
        }
    }
}

per_isa! {
    /// `y[j][r] += totals[j][r]·(steps[j]·scales[r])`.
    fn add(
        y: &mut [[f32; PANEL]],
        totals: &[[i32; PANEL]],
        steps: std::iter::StepBy<std::slice::Iter<'_, f32>>,
        scales: &[f32; PANEL],
    ) = add_inlined
}

#[inline(always)]
fn add_inlined(
    y: &mut [[f32; PANEL]],
    totals: &[[i32; PANEL]],
    steps: std::iter::StepBy<std::slice::Iter<'_, f32>>,
    scales: &[f32; PANEL],
) {
    for ((y, totals), step) in y.iter_mut().zip(totals).zip(steps) {
        for ((y, total), scale) in y.iter_mut().zip(totals).zip(scales) {
            *y += *total as f32 * (step * scale);
        }
    }
}
