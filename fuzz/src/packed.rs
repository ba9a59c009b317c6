//! Bytes as the stored parts of a matrix: a matrix or an error.

use arbitrary::{Arbitrary, Result, Unstructured};
use qins_quant::{
    Alpha, Element, EncodeOptions, EncodedTensor, FloatDtype, MatrixFormat, Recipe, Scheme,
    kernel::{self, Simd},
};

/// Makes a matrix, and decodes it.
pub fn run(bytes: &[u8]) -> bool {
    let Ok(parts) = Parts::arbitrary(&mut Unstructured::new(bytes)) else { return false };
    let Ok(encoded) = EncodedTensor::from_parts(parts.format, parts.rows, parts.parts) else { return false };
    decode(&encoded);
    true
}

/// Decodes a matrix in all ways.
///
/// # Panics
/// When the ways differ, or weights are not finite in a scheme that guarantees it.
pub fn decode(encoded: &EncodedTensor) {
    let [rows, cols] = encoded.shape();
    let weights = encoded.decode();
    if encoded.scheme() != Scheme::Lossless {
        assert!(weights.iter().all(|w| w.is_finite()), "{encoded:?} decodes to {weights:?}");
    }
    assert_eq!(encoded.bytes_of_rows(0..rows).len(), rows * cols * encoded.source().size());
    if let Some(last) = rows.checked_sub(1) {
        let mut row = vec![0.0; cols];
        encoded.decode_rows(last..rows, &mut row);
        let same = row.iter().zip(&weights[last * cols..]).all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(same, "{encoded:?} has another last row by itself");
        // The output has an element per row, and a matrix without columns may have any number of rows.
        if cols > 0 {
            multiply(encoded);
        }
    }
}

/// Multiplies by one row of activations and by several, on every instruction set. All give the same bits, but for products of floats
/// with several rows: those of x86-64 fuse multiplications and additions, all in the same way.
fn multiply(encoded: &EncodedTensor) {
    let [rows, cols] = encoded.shape();
    let x: Vec<f32> = (0..5 * cols).map(|i| (i * 37 % 101) as f32 - 50.0).collect();
    let floats = matches!(encoded.scheme(), Scheme::CompandedF32 | Scheme::Lossless | Scheme::Rate);
    for m in [1, 5] {
        let alike = |simd: &Simd| !(floats && m > 1) || simd.fuses_floats();
        // Exact lengths, so that AddressSanitizer detects reads past the end.
        let x = x[..m * cols].to_vec();
        let mut products = Simd::ALL.into_iter().filter(|simd| simd.is_available() && alike(simd)).map(|simd| {
            let mut y = vec![0.0; m * rows];
            kernel::linear_on(simd, encoded.rows(), encoded.shape(), &x, &mut y);
            // NaN payloads may differ.
            y.into_iter().map(|y| if y.is_nan() { f32::NAN } else { y }.to_bits()).collect::<Vec<_>>()
        });
        let first = products.next();
        let what = (encoded.scheme(), encoded.shape());
        assert!(products.all(|y| Some(y) == first), "{what:?} has other products on another instruction set");
    }
}

struct Parts {
    format: MatrixFormat,
    rows: usize,
    parts: Vec<Vec<u32>>,
}

impl<'a> Arbitrary<'a> for Parts {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let [scheme, source, rows, cols, lacks, wide] = u.arbitrary::<[u8; 6]>()?;
        let scheme = Scheme::ALL[usize::from(scheme) % Scheme::ALL.len()];
        let source = [FloatDtype::F32, FloatDtype::F16, FloatDtype::Bf16][usize::from(source) % 3];
        // Parts are made for this shape; sometimes the matrix is given another.
        let [rows, cols] = [usize::from(rows % 8), usize::from(cols) * if rows < 128 { 1 } else { 5 }];
        let shape: [usize; 2] = if wide == 255 { u.arbitrary()? } else { [rows, cols] };
        let alpha = Alpha::new(f32::from_bits(u.arbitrary()?)).unwrap_or(Alpha::ONE);
        let options = EncodeOptions { alpha: Some(alpha), ..EncodeOptions::default() };
        let recipe = Recipe::new(scheme, options);
        let mut fill = Fill { bytes: u.bytes(u.len())?, at: 0, part: 0, lacks };
        let parts = recipe.format(source, cols).parts();
        let parts = parts.iter().map(|part| {
            match part.element {
                // In memory halves are floats, so any float is possible.
                Element::F16 => fill.floats(part.bytes(rows) / 2).into_iter().map(f32::to_bits).collect(),
                Element::U8 | Element::I8 | Element::U16 | Element::I32 | Element::F32 => {
                    part.words(&fill.part(part.bytes(rows)))
                }
            }
        });
        let parts = parts.collect();
        Ok(Self { format: recipe.format(source, shape[1]), rows: shape[0], parts })
    }
}

/// Fills parts of any length by repeating a few bytes.
struct Fill<'a> {
    bytes: &'a [u8],
    at: usize,
    part: u8,
    /// The part that lacks its last byte.
    lacks: u8,
}

impl Fill<'_> {
    fn part(&mut self, length: usize) -> Vec<u8> {
        self.part += 1;
        let length = length.saturating_sub(usize::from(self.part == self.lacks));
        let bytes = self.bytes.iter().copied().cycle().skip(self.at % self.bytes.len().max(1));
        self.at += length;
        let mut part: Vec<u8> = bytes.take(length).collect();
        part.resize(length, 0);
        part
    }

    fn floats(&mut self, n: usize) -> Vec<f32> {
        self.part(4 * n).as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }
}

/// A matrix of each scheme whose parts repeat one number: a half, or the whole number 2²³, which is the least float.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    let seed = |(i, scheme): (usize, &Scheme)| {
        let number = if *scheme == Scheme::Rate { f32::MIN_POSITIVE } else { 0.5 };
        let bytes = [&[i as u8, 0, 2, 40, 0, 0][..], &1.0_f32.to_le_bytes(), &number.to_le_bytes()];
        (scheme.to_string(), bytes.concat())
    };
    Scheme::ALL.iter().enumerate().map(seed).collect()
}
