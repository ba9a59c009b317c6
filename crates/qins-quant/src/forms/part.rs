//! The parts of a stored matrix: their names, types and shapes.

use crate::dtype::Dtype;

/// The element type of a part in a file. In memory a row is 32-bit words: floats become `f32`, all others keep their bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Element {
    U8,
    I8,
    U16,
    I32,
    F16,
    F32,
}

impl Element {
    /// Bytes per element in a file.
    pub const fn size(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::U16 | Self::F16 => 2,
            Self::I32 | Self::F32 => 4,
        }
    }

    pub(crate) const fn safetensors(self) -> Dtype {
        match self {
            Self::U8 => Dtype::U8,
            Self::I8 => Dtype::I8,
            Self::U16 => Dtype::U16,
            Self::I32 => Dtype::I32,
            Self::F16 => Dtype::F16,
            Self::F32 => Dtype::F32,
        }
    }
}

/// The number of elements of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Extent {
    /// One for each row of the matrix: `[rows]` in a file.
    Row,
    /// This many for each row: `[rows, n]` in a file.
    Rows(usize),
    /// This many for the whole matrix: `[n]` in a file.
    Matrix(usize),
}

/// One of the tensors that store a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PartSpec {
    /// The suffix of its name: `packed` in `<module>.weight_packed`.
    pub name: &'static str,
    /// The type of its elements.
    pub element: Element,
    /// The number of its elements.
    pub extent: Extent,
}

impl PartSpec {
    pub(crate) const fn new(name: &'static str, element: Element, extent: Extent) -> Self {
        Self { name, element, extent }
    }

    /// Whether every row of the matrix has elements of its own; only such a part can be entropy-coded.
    pub const fn by_rows(&self) -> bool {
        match self.extent {
            Extent::Row | Extent::Rows(_) => true,
            Extent::Matrix(_) => false,
        }
    }

    /// Elements per row; for a part of the whole matrix, all.
    pub const fn width(&self) -> usize {
        match self.extent {
            Extent::Row => 1,
            Extent::Rows(n) | Extent::Matrix(n) => n,
        }
    }

    /// Its shape in a file, for a matrix of `rows` rows.
    pub fn shape(&self, rows: usize) -> Vec<usize> {
        match self.extent {
            Extent::Row => vec![rows],
            Extent::Rows(n) => vec![rows, n],
            Extent::Matrix(n) => vec![n],
        }
    }

    /// Its bytes in a file, for a matrix of `rows` rows; saturates on overflow.
    pub fn bytes(&self, rows: usize) -> usize {
        self.lines(rows).saturating_mul(self.row_bytes())
    }

    /// Its `[rows, words]` in memory: the last word of a row is padded with zeros.
    pub fn memory_shape(&self, rows: usize) -> [usize; 2] {
        let words = match self.element {
            Element::F16 | Element::F32 | Element::I32 => self.width(),
            Element::U16 => self.width().div_ceil(2),
            Element::U8 | Element::I8 => self.width().div_ceil(4),
        };
        [self.lines(rows), words]
    }

    /// Bytes per row in a file.
    pub(super) const fn row_bytes(&self) -> usize {
        self.width().saturating_mul(self.element.size())
    }

    const fn lines(&self, rows: usize) -> usize {
        if self.by_rows() { rows } else { 1 }
    }
}
