//! A matrix on a device.

use burn::{
    backend::Dispatch,
    tensor::{DType, Device, Int, Tensor},
};
use qins_quant::{MatrixFormat, PartSpec};

use super::backend::{PartOf, Weight};

/// A `[rows, cols]` matrix on a device, in its stored form. Its parts are checked, since kernels read no lengths.
#[derive(Clone, Debug)]
pub struct Matrix {
    format: MatrixFormat,
    rows: usize,
    parts: Vec<Part>,
}

/// A part of a matrix, of shape [`PartSpec::memory_shape`].
#[derive(Clone, Debug)]
pub enum Part {
    /// 32-bit unsigned integers, with rows of bytes packed little-endian, and floats as their bits. (WGSL has no bytes, and
    /// a CPU reads the words as bytes.)
    Words(Tensor<2, Int>),
    /// Plain `f32` weights, as a float tensor.
    Floats(Tensor<2>),
}

impl Part {
    fn shape_and_type(&self) -> ([usize; 2], DType) {
        match self {
            Self::Words(words) => (words.dims(), words.dtype()),
            Self::Floats(floats) => (floats.dims(), floats.dtype()),
        }
    }

    fn device(&self) -> Device {
        match self {
            Self::Words(words) => words.device(),
            Self::Floats(floats) => floats.device(),
        }
    }
}

impl Matrix {
    /// A matrix of `rows` rows from its parts, in the format's order.
    ///
    /// # Panics
    /// When the format is storage-only, or a part is missing or has the wrong shape or type.
    pub fn new(format: MatrixFormat, rows: usize, parts: Vec<Part>) -> Self {
        assert_eq!(format.in_memory(), format, "expected a format that is kept in memory, found {format}");
        let specs = format.parts();
        assert_eq!(parts.len(), specs.len(), "parts of a matrix of {format}");
        for (PartSpec { name, .. }, (found, expected)) in specs.iter().zip(parts.iter().zip(&specs)) {
            let ((shape, dtype), expected) = (found.shape_and_type(), expected.memory_shape(rows));
            let expected_dtype = match found {
                Part::Words(_) => DType::U32,
                Part::Floats(_) => DType::F32,
            };
            let (expected, found) = ((expected, expected_dtype), (shape, dtype));
            assert!(found == expected, "{format}: expected part `{name}` to be {expected:?}, found {found:?}");
        }
        Self { format, rows, parts }
    }

    /// `[rows, cols]`.
    pub fn shape(&self) -> [usize; 2] {
        [self.rows, self.format.cols()]
    }

    /// Its device.
    pub fn device(&self) -> Device {
        // Every format has parts.
        self.parts[0].device()
    }
}

impl From<Matrix> for Weight<Dispatch> {
    fn from(Matrix { format, rows, parts }: Matrix) -> Self {
        let part = |part| match part {
            Part::Words(words) => PartOf::Words(words.into_dispatch()),
            Part::Floats(floats) => PartOf::Floats(floats.into_dispatch()),
        };
        Self::new(format, rows, parts.into_iter().map(part))
    }
}
