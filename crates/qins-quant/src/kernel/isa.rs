//! What an instruction set provides for the integer product.

#[cfg(target_arch = "aarch64")]
use super::neon::Neon;
use super::{
    Simd,
    activations::{Activations, BLOCK},
    panel::{PANEL, Products, Tile, Words},
    portable::Portable,
    row::{Matrix, Row},
};
#[cfg(target_arch = "x86_64")]
use super::{avx2::Avx2, avx512::Avx512};

/// An instruction set. A value of the type exists only on a machine that has it, which is what makes the methods safe.
///
/// Every implementation gives the same bits as [`Portable`](super::portable::Portable).
pub(super) trait Isa: Copy + Send + Sync {
    /// The value that selects it at run time.
    const SIMD: Simd;

    /// Arranges what [`gemv`](Self::gemv) reads of activations.
    fn arrange(self, w: &Matrix<'_>, x: &mut Activations) {
        let _ = (w, x);
    }

    /// Multiplies consecutive rows of weights by each row of `x`: `out[i·m + j]` is the product of row `first + i` with row `j`.
    /// All rows of a task are one call, so that what they share stays in registers.
    fn gemv(self, w: &Matrix<'_>, x: &Activations, first: usize, out: &mut [f32]);

    /// Decodes the weights of block `b`. What it writes beyond the row's end is arbitrary: activations there are zero.
    fn unpack(self, row: &Row<'_>, b: usize, words: &mut [i16; BLOCK]);

    /// Adds the products of one block of columns: `y[t][r][j] += Σ w[r]·x[t][j] · (step·unit)`.
    fn add_products(self, w: &Words, units: &[f32; PANEL], x: &[Tile], y: &mut [Products]);
}

/// A computation that is compiled for every instruction set.
pub(super) trait Compute {
    /// Computes on one.
    fn on(self, isa: impl Isa);
}

/// Computes on `simd`, which this machine has.
pub(super) fn compute(simd: Simd, what: impl Compute) {
    match simd {
        Simd::Portable => what.on(Portable),
        #[cfg(target_arch = "x86_64")]
        Simd::Avx2 => what.on(Avx2::<false>::new()),
        #[cfg(target_arch = "x86_64")]
        Simd::AvxVnni => what.on(Avx2::<true>::new()),
        #[cfg(target_arch = "x86_64")]
        Simd::Avx512 => what.on(Avx512::new()),
        #[cfg(target_arch = "aarch64")]
        Simd::Neon => what.on(Neon),
        // No machine of this architecture has these. All instruction sets give the same bits.
        #[cfg(not(target_arch = "x86_64"))]
        Simd::Avx2 | Simd::AvxVnni | Simd::Avx512 => what.on(Portable),
        #[cfg(not(target_arch = "aarch64"))]
        Simd::Neon => what.on(Portable),
    }
}
