//! Groups as a kernel reads them.

use qins_codec::Curvature;

use super::{Layout, planes};

/// A borrowed matrix of groups: the slices of a [`Grouped`](super::Grouped).
#[derive(Clone, Copy, Debug)]
pub struct GroupedRows<'a> {
    /// The form of a row.
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

impl GroupedRows<'_> {
    /// Decodes row `row` into `out`, one weight per element.
    ///
    /// # Panics
    /// When the row lies outside the matrix.
    pub fn decode_row(&self, row: usize, out: &mut [f32]) {
        let (layout, cols) = (self.layout, out.len());
        let of_row = |width: usize| row * width..(row + 1) * width;
        let packed = &self.packed[of_row(layout.packed(cols))];
        let scale = &self.scale[of_row(layout.scales(cols))];
        let group_scale = &self.group_scale[of_row(layout.group_scales(cols))];
        let selector = &self.selector[of_row(layout.selectors(cols))];
        // They were checked when the matrix was made; a curvature that is none decodes as linear.
        let curve = |j: u8| Curvature::new(self.curvature[usize::from(j)]).unwrap_or(Curvature::LINEAR);
        let curves = [0, 1, 2, 3].map(curve);
        let groups = out.chunks_mut(Layout::GROUP).zip(packed.chunks_exact(layout.group_bytes()));
        for (g, (out, packed)) in groups.enumerate() {
            let curve = curves[usize::from(selector[g / 4] >> (2 * (g % 4)) & 3)];
            let scale = scale[g / Layout::SUPER] * f32::from(group_scale[g].cast_signed());
            let decoded = decode_group(packed, layout, scale, curve);
            out.copy_from_slice(&decoded[..out.len()]);
        }
    }
}

/// A loop of its own for each number of bits: the shifts of the planes become constants.
#[inline]
fn decode_group(packed: &[u8], layout: Layout, scale: f32, curve: Curvature) -> [f32; Layout::GROUP] {
    let steps = layout.steps();
    let level = |code: u8| scale * curve.level(f32::from(code) - steps, steps);
    match layout.bits() {
        3 => planes::unpack(packed, 3).map(level),
        4 => planes::unpack(packed, 4).map(level),
        5 => planes::unpack(packed, 5).map(level),
        6 => planes::unpack(packed, 6).map(level),
        bits => planes::unpack(packed, bits).map(level),
    }
}
