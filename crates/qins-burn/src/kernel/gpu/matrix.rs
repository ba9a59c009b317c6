//! Reading encoded weights in kernels: eight at a time, decoded into registers.
//!
//! A unit handles a quarter of 32 columns: four from 4·q on and four from 16 + 4·q on, for q = 0..4. In the planes of a group
//! their fields share words, and neighbouring units read neighbouring words.

use burn_cubecl::cubecl;
use cubecl::prelude::*;
use qins_quant::Width;

/// Four numbers.
pub(super) type Four = Vector<f32, Const<4>>;

/// How the weights of a matrix are stored; a kernel is compiled for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Form {
    /// Plain, `f32`.
    Float,
    /// Plain, two per word.
    Half {
        /// Otherwise f16.
        bf16: bool,
    },
    /// Companded floats, in the complement form.
    Companded {
        /// The bits of α.
        alpha: u32,
        /// The number of mantissa bits that rounding to the source's type removes.
        spare: u32,
    },
    /// Bytes, with a scale and a curvature per row.
    Q8,
    /// Codes in groups.
    Grouped {
        /// The width of a code.
        width: Width,
    },
}

impl Form {
    /// The number of levels in the table that a kernel makes first; 0 if it computes each level. A look-up replaces a
    /// division and, for 5 bits and fewer, a rounding; but the larger the table, the more bank conflicts.
    pub(super) fn table(self) -> usize {
        match self {
            Self::Grouped { width } => match width {
                Width::W3 | Width::W4 | Width::W5 => 4 << width.bits(),
                Width::W6 | Width::W8 => 0,
            },
            Self::Float | Self::Half { .. } | Self::Companded { .. } | Self::Q8 => 0,
        }
    }

    /// Bits per code of a grouped form, otherwise 0.
    fn bits(self) -> usize {
        self.width().map_or(0, Width::bits)
    }

    /// Whether levels are multiples of 1/127.
    fn has_byte_levels(self) -> bool {
        self.width().is_some_and(Width::has_byte_levels)
    }

    fn width(self) -> Option<Width> {
        match self {
            Self::Grouped { width } => Some(width),
            Self::Float | Self::Half { .. } | Self::Companded { .. } | Self::Q8 => None,
        }
    }
}

/// The parts of a matrix. Those that the form does not have are arbitrary and never read.
#[derive(CubeLaunch, CubeType)]
pub(super) struct Parts {
    words: Box<[u32]>,
    scale: Box<[f32]>,
    curvature: Box<[f32]>,
    group_scale: Box<[u32]>,
    selector: Box<[u32]>,
    /// The row stride in elements, of each part that has rows.
    words_stride: u32,
    scale_stride: u32,
    curvature_stride: u32,
    group_scale_stride: u32,
    selector_stride: u32,
}

/// Eight weights without their common scale.
#[derive(CubeType)]
pub(super) struct Eight {
    /// Columns 4·q to 4·q + 3 of the 32.
    pub(super) low: Four,
    /// Columns 16 + 4·q to 19 + 4·q.
    pub(super) high: Four,
    pub(super) scale: f32,
}

/// Fills the table of a form; every unit of the cube must call it.
#[cube]
pub(super) fn levels(w: &Parts, #[comptime] form: Form) -> Shared<[f32]> {
    let entries = comptime!(form.table());
    let mut table = Shared::<[f32]>::new_slice(comptime!(entries.max(1)));
    if comptime!(entries > 0) {
        let bits = comptime!(form.bits());
        let byte_levels = comptime!(form.has_byte_levels());
        let mut i = UNIT_POS as usize;
        while i < entries {
            let code = Four::new(f32::cast_from(i as u32 & comptime!((1_u32 << bits) - 1)));
            table[i] = level(code, w.curvature[i >> bits], bits, byte_levels).extract(0usize);
            i += CUBE_DIM as usize;
        }
        sync_cube();
    }
    table
}

/// Weights of row `row`, quarter `quarter` of the 32 columns from 32·`group` on; beyond the last column, 0.
#[cube]
pub(super) fn eight(
    w: &Parts,
    table: &Shared<[f32]>,
    row: u32,
    group: u32,
    quarter: u32,
    cols: u32,
    #[comptime] form: Form,
) -> Eight {
    match form {
        Form::Float => {
            let at = 32 * group + 4 * quarter;
            let row = row * w.words_stride;
            Eight { low: floats(w, row, at, cols), high: floats(w, row, at + 16, cols), scale: f32::new(1.0) }
        }
        Form::Half { bf16 } => {
            let (at, words) = (16 * group + 2 * quarter, cols.div_ceil(2));
            let row = row * w.words_stride;
            Eight {
                low: halves(w, row, at, words, bf16),
                high: halves(w, row, at + 8, words, bf16),
                scale: f32::new(1.0),
            }
        }
        Form::Companded { alpha, spare } => {
            let at = 32 * group + 4 * quarter;
            let row = row * w.words_stride;
            Eight {
                low: expanded(floats(w, row, at, cols), alpha, spare),
                high: expanded(floats(w, row, at + 16, cols), alpha, spare),
                scale: f32::new(1.0),
            }
        }
        Form::Q8 => {
            let (at, words) = (8 * group + quarter, cols.div_ceil(4));
            let k = w.curvature[(row * w.curvature_stride) as usize];
            let scale = w.scale[(row * w.scale_stride) as usize];
            let row = row * w.words_stride;
            Eight { low: signed(word(w, row, at, words), k), high: signed(word(w, row, at + 4, words), k), scale }
        }
        Form::Grouped { width } => {
            let bits = comptime!(width.bits());
            let byte_levels = comptime!(width.has_byte_levels());
            let at = row * w.words_stride + comptime!(bits as u32) * group;
            let byte = w.group_scale[(row * w.group_scale_stride + group / 4) as usize] >> (8 * (group % 4)) & 255;
            // Two's complement.
            let scale = f32::cast_from(byte) - 2.0 * f32::cast_from(byte & 128);
            let scale = w.scale[(row * w.scale_stride + group / 8) as usize] * scale;
            let curve = w.selector[(row * w.selector_stride + group / 16) as usize] >> (2 * (group % 16)) & 3;
            let low = codes(w, at, quarter, 0u32, bits);
            let high = codes(w, at, quarter, 1u32, bits);
            if comptime!(form.table() > 0) {
                let first = curve << comptime!(bits as u32);
                Eight { low: found(table, first, low), high: found(table, first, high), scale }
            } else {
                let k = w.curvature[curve as usize];
                Eight {
                    low: level(four(low), k, bits, byte_levels),
                    high: level(four(high), k, bits, byte_levels),
                    scale,
                }
            }
        }
    }
}

/// Word `at` of a row that begins at `row` and has `words` of them.
#[cube]
fn word(w: &Parts, row: u32, at: u32, words: u32) -> u32 {
    let inside = at < words;
    select(inside, w.words[(row + select(inside, at, 0u32)) as usize], 0u32)
}

/// Four words as the floats they are.
#[cube]
fn floats(w: &Parts, row: u32, at: u32, cols: u32) -> Four {
    let mut numbers = Four::empty();
    #[unroll]
    for i in 0..4usize {
        numbers.insert(i, f32::reinterpret(word(w, row, at + comptime!(i as u32), cols)));
    }
    numbers
}

/// Four numbers of 16 bits in two words.
#[cube]
fn halves(w: &Parts, row: u32, at: u32, words: u32, #[comptime] bf16: bool) -> Four {
    let mut numbers = Four::empty();
    #[unroll]
    for i in 0..2usize {
        let word = word(w, row, at + comptime!(i as u32), words);
        numbers.insert(comptime!(2 * i), widened(word & 0xffff, bf16));
        numbers.insert(comptime!(2 * i + 1), widened(word >> 16, bf16));
    }
    numbers
}

/// A number of 16 bits.
#[cube]
pub(super) fn widened(bits: u32, #[comptime] bf16: bool) -> f32 {
    if comptime!(bf16) {
        f32::reinterpret(bits << 16)
    } else {
        let (sign, rest) = ((bits & 0x8000) << 16, bits & 0x7fff);
        // Below 2⁻¹⁴ numbers are multiples of 2⁻²⁴; above, only the exponent's bias differs. (Shifted, the former would be f32
        // subnormals, which a device may flush to zero.)
        let small = f32::cast_from(rest) * 5.960_464_5e-8;
        let infinity = select(rest < 0x7c00, 0u32, 0x7f80_0000u32);
        let large = f32::reinterpret(((rest << 13) + 0x3800_0000) | infinity);
        let magnitude = select(rest < 0x400, small, large);
        f32::reinterpret(f32_bits(magnitude) | sign)
    }
}

#[cube]
pub(super) fn f32_bits(x: f32) -> u32 {
    u32::reinterpret(x)
}

/// x = u / (α·(1 − |u|)), rounded to nearest, ties to even, if the source's type has fewer bits.
#[cube]
fn expanded(u: Four, #[comptime] alpha: u32, #[comptime] spare: u32) -> Four {
    let alpha = comptime!(f32::from_bits(alpha));
    let x = u / (Four::new(alpha) * (Four::new(1.0) - u.abs()));
    if comptime!(spare == 0) {
        x
    } else {
        let mut rounded = Four::empty();
        #[unroll]
        for i in 0..4usize {
            let bits = f32_bits(x.extract(i));
            let bits = bits + comptime!((1_u32 << (spare - 1)) - 1) + (bits >> spare & 1);
            rounded.insert(i, f32::reinterpret(bits & comptime!(u32::MAX << spare)));
        }
        rounded
    }
}

/// The levels of four bytes with a sign in bit 7: ±q / (127 + k·(127 − q)).
#[cube]
fn signed(bytes: u32, k: f32) -> Four {
    let q = four(bytes & 0x7f7f_7f7f);
    let steps = Four::new(127.0);
    let t = q / (steps + Four::new(k) * (steps - q));
    let mut levels = Four::empty();
    #[unroll]
    for i in 0..4usize {
        let sign = bytes << comptime!(24 - 8 * i as u32) & 0x8000_0000;
        levels.insert(i, f32::reinterpret(f32_bits(t.extract(i)) | sign));
    }
    levels
}

/// The level of codes: q / (n + k·(n − |q|)) for q = code − n, rounded to a multiple of 1/127 where levels are bytes.
#[cube]
fn level(code: Four, k: f32, #[comptime] bits: usize, #[comptime] byte_levels: bool) -> Four {
    let n = Four::new(comptime!((1_u32 << (bits - 1)) as f32));
    let q = code - n;
    let t = q / (n + Four::new(k) * (n - q.abs()));
    if comptime!(byte_levels) { (t * Four::new(127.0)).round() * Four::new(1.0 / 127.0) } else { t }
}

/// The codes of one half of a quarter, one per byte, from the planes of the group at `at`.
#[cube]
fn codes(w: &Parts, at: u32, quarter: u32, #[comptime] half: u32, #[comptime] bits: usize) -> u32 {
    let mut codes = 0u32;
    if comptime!(bits & 8 != 0) {
        codes = w.words[(at + 4 * half + quarter) as usize];
    }
    if comptime!(bits & 4 != 0) {
        codes |= w.words[(at + quarter) as usize] >> (4 * half) & 0x0f0f_0f0f;
    }
    if comptime!(bits & 2 != 0) {
        // Eight fields per stripe: two quarters.
        let plane = comptime!((bits & 12) as u32);
        let fields = w.words[(at + plane + quarter % 2) as usize] >> (4 * half + 2 * (quarter / 2)) & 0x0303_0303;
        codes |= fields << plane;
    }
    if comptime!(bits & 1 != 0) {
        let plane = comptime!((bits & 14) as u32);
        codes |= (w.words[(at + plane) as usize] >> (4 * half + quarter) & 0x0101_0101) << plane;
    }
    codes
}

/// Four bytes as numbers.
#[cube]
fn four(bytes: u32) -> Four {
    let mut numbers = Four::empty();
    #[unroll]
    for i in 0..4usize {
        numbers.insert(i, f32::cast_from(bytes >> comptime!(8 * i as u32) & 255));
    }
    numbers
}

/// The table's levels for four bytes, from `first` on.
#[cube]
fn found(table: &Shared<[f32]>, first: u32, bytes: u32) -> Four {
    let mut numbers = Four::empty();
    #[unroll]
    for i in 0..4usize {
        numbers.insert(i, table[(first + (bytes >> comptime!(8 * i as u32) & 255)) as usize]);
    }
    numbers
}
