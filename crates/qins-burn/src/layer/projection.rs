//! The choice between the two.

use burn::{
    module::Module,
    nn::Linear,
    tensor::{Device, Tensor},
};
use qins_quant::{Codes, EncodeError, EncodeOptions, EncodedTensor, FloatDtype, Recipe, Scheme};

use super::{Biased, Coded, Companded, DenseLinear, Grouped, QinsLinear};
use crate::{
    device::{one_stream, read},
    kernel::{self, Matrix},
};

/// A linear map without bias: plain, or encoded at rest. Both go through one forward.
#[derive(Module, Debug)]
pub enum Projection {
    /// Plain weights.
    Dense(DenseLinear),
    /// Encoded weights.
    Qins(QinsLinear),
}

impl Projection {
    /// An encoded matrix, `[out, in]`, as it rests in memory: encoded, unless its scheme is for files alone.
    pub fn new(encoded: EncodedTensor, device: &Device) -> Self {
        one_stream();
        let (shape, source) = (encoded.shape(), encoded.source());
        let decoded = match encoded.scheme() {
            // Its own type holds it.
            Scheme::Lossless => {
                return DenseLinear::from_bytes(encoded.bytes_of_rows(0..shape[0]), shape, source, device).into();
            }
            Scheme::Rate => encoded.decode(),
            _ => Vec::new(),
        };
        Self::Qins(match encoded.into_codes() {
            Codes::F32 { u, alpha } => QinsLinear::F32(Companded::new(u, shape, alpha, source, device)),
            Codes::Q8 { codes, scale, curvature } => QinsLinear::Q8(Coded::new(codes, shape, scale, curvature, device)),
            Codes::Grouped(groups) => QinsLinear::Grouped(Grouped::new(groups, shape, device)),
            Codes::Lossless(_) | Codes::Rate { .. } => {
                return DenseLinear::new(decoded, shape, FloatDtype::F32, device).into();
            }
        })
    }

    /// `x[m, in] → [m, out]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        if let Self::Dense(DenseLinear { tap: Some(tap), .. }) = self {
            tap.add(&x);
        }
        kernel::linear(x, self.matrix())
    }

    /// Rows of the weights, decoded: `[ids.len(), in]`, the lookup of an embedding.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn rows(&self, ids: &[u32]) -> Tensor<2> {
        kernel::rows(self.matrix(), ids)
    }

    /// `[out, in]`.
    pub fn shape(&self) -> [usize; 2] {
        match self {
            Self::Dense(w) => w.shape(),
            Self::Qins(w) => w.shape(),
        }
    }

    /// The scheme, or `None` for plain weights.
    pub fn scheme(&self) -> Option<Scheme> {
        match self {
            Self::Dense(_) => None,
            Self::Qins(w) => Some(w.scheme()),
        }
    }

    /// The same map with its weights encoded, or, of a scheme for files alone, as they are read from one. A map that rests
    /// in this scheme already is given back as it is.
    ///
    /// # Errors
    /// When a weight is not finite or beyond the range of a scale, the weights are encoded in another scheme, or the device they
    /// are on fails.
    pub fn encode(self, scheme: Scheme, options: &EncodeOptions) -> Result<Self, EncodeError> {
        self.encode_as(&Recipe { options: *options, ..scheme.into() })
    }

    /// As [`encode`](Self::encode), with all that can be said of how.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_as(self, recipe: &Recipe) -> Result<Self, EncodeError> {
        let scheme = recipe.scheme;
        let dense = match self {
            Self::Dense(dense) => dense,
            Self::Qins(ref encoded) if encoded.scheme() == scheme => return Ok(self),
            Self::Qins(encoded) => return Err(EncodeError::Encoded(encoded.scheme())),
        };
        let (weight, shape) = (dense.weight(), dense.shape());
        let device = weight.device();
        let weights = read(weight).map_err(|error| EncodeError::Unreadable(error.to_string()))?;
        let encoded = EncodedTensor::encode_as(&weights, shape, dense.source(), recipe)?;
        Ok(Self::new(encoded, &device))
    }

    fn matrix(&self) -> Matrix {
        match self {
            Self::Dense(w) => w.matrix(),
            Self::Qins(w) => w.matrix(),
        }
    }
}

impl From<DenseLinear> for Projection {
    fn from(dense: DenseLinear) -> Self {
        Self::Dense(dense)
    }
}

impl From<QinsLinear> for Projection {
    fn from(qins: QinsLinear) -> Self {
        Self::Qins(qins)
    }
}

impl TryFrom<Linear> for Projection {
    type Error = Biased;

    fn try_from(linear: Linear) -> Result<Self, Biased> {
        linear.try_into().map(Self::Dense)
    }
}
