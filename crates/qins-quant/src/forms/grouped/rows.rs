//! A grouped matrix as a kernel reads it.

use qins_codec::Curvature;

use super::{Layout, Width, planes, with_bits};
use crate::forms::stride;

/// A borrowed grouped matrix. Rows of bytes are padded to 32-bit words; [`Layout`] has the number of bytes in use.
#[derive(Clone, Copy, Debug)]
pub struct GroupedRows<'a> {
    /// The layout of a row.
    pub layout: Layout,
    /// [`Layout::packed`] bytes per row.
    pub packed: &'a [u8],
    /// [`Layout::scales`] per row.
    pub scale: &'a [f32],
    /// [`Layout::group_scales`] bytes per row.
    pub group_scale: &'a [u8],
    /// [`Layout::selectors`] bytes per row.
    pub selector: &'a [u8],
    /// [`Layout::CURVES`] in all.
    pub curvature: &'a [f32],
}

/// The parts of one row.
pub(crate) struct RowParts<'a> {
    pub(crate) packed: &'a [u8],
    pub(crate) scale: &'a [f32],
    pub(crate) group_scale: &'a [u8],
    pub(crate) selector: &'a [u8],
}

impl<'a> GroupedRows<'a> {
    /// The parts of row `row`, of `cols` weights.
    #[inline(always)]
    pub(crate) fn row(&self, row: usize, cols: usize) -> RowParts<'a> {
        let of_bytes = |part: &'a [u8], width: usize| &part[row * stride(width)..][..width];
        let supers = self.layout.scales(cols);
        RowParts {
            packed: of_bytes(self.packed, self.layout.packed(cols)),
            scale: &self.scale[row * supers..][..supers],
            group_scale: of_bytes(self.group_scale, self.layout.group_scales(cols)),
            selector: of_bytes(self.selector, self.layout.selectors(cols)),
        }
    }

    /// Decodes row `row` into `out`, one weight per element.
    ///
    /// # Panics
    /// When the matrix has no such row.
    pub fn decode_row(&self, row: usize, out: &mut [f32]) {
        // One loop for each width, in which all shifts and masks are constants.
        with_bits!(self.layout.width(), BITS => self.decode::<BITS>(row, out))
    }

    fn decode<const BITS: usize>(&self, row: usize, out: &mut [f32]) {
        let width = Width::of::<BITS>();
        let RowParts { packed, scale, group_scale, selector } = self.row(row, out.len());
        // Curvatures were checked when the matrix was made; an invalid one would decode as linear.
        let curve = |j: usize| Curvature::new(self.curvature[j]).unwrap_or(Curvature::LINEAR);
        let curves = [0, 1, 2, 3].map(curve);
        let groups = out.chunks_mut(Layout::GROUP).zip(packed.chunks_exact(self.layout.group_bytes()));
        for (g, (out, packed)) in groups.enumerate() {
            let curve = curves[usize::from(selector[g / 4] >> (2 * (g % 4)) & 3)];
            let scale = scale[g / Layout::SUPER] * f32::from(group_scale[g].cast_signed());
            let level = |code: u8| scale * width.level(curve, f32::from(code) - width.steps());
            let codes = planes::unpack(packed, BITS);
            match <&mut [f32; Layout::GROUP]>::try_from(&mut *out) {
                Ok(out) => each(&codes, out, level),
                Err(_) => each(&codes, out, level),
            }
        }
    }
}

/// Inlined twice, as the length of a whole group is known at compile time.
#[inline(always)]
fn each(codes: &[u8], out: &mut [f32], level: impl Fn(u8) -> f32) {
    for (out, code) in out.iter_mut().zip(codes) {
        *out = level(*code);
    }
}
