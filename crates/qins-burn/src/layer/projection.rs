//! A linear map whose weights are plain or encoded.

use burn::{
    module::{Module, Param},
    nn::Linear,
    tensor::{DType, Device, Tensor},
};
use qins_quant::{EncodeError, EncodeOptions, EncodedTensor, FloatDtype, Form, MatrixFormat, Recipe, Scheme};

use super::{ActivationStats, weights::Weights};
use crate::{device::read, kernel};

/// y = x·Wᵀ + b with W `[out, in]`, row-major as Hugging Face stores it: a row is the unit that kernels read, that an
/// embedding looks up and that encoding acts on. (Burn's own [`Linear`] stores `[in, out]`.)
///
/// Plain weights keep their type, encoded weights their codes; both are widened or decoded inside the
/// product, and never kept in memory in another form.
///
/// ```
/// use burn::{module::Module, nn::LinearConfig, tensor::Tensor};
/// use qins_burn::{EncodeOptions, Projection, Scheme};
///
/// let device = qins_burn::Backend::default().device()?;
/// let linear = LinearConfig::new(256, 64).init(&device);
/// let x = Tensor::<3>::ones([2, 5, 256], &device);
///
/// // A linear of Burn's, with its bias, in 4.4 bits per weight.
/// let encoded = Projection::from(linear).encode(Scheme::Q4, &EncodeOptions::default())?;
/// assert_eq!(encoded.forward(x.clone()).dims(), [2, 5, 64]);
/// assert_eq!((encoded.num_weights(), encoded.num_params()), (64 * 256, 64 * 256 + 64));
///
/// // A record loads only into a module of the same format and shape.
/// let empty = || Projection::empty(encoded.format(), 64, &device);
/// let record = encoded.clone().with_bias(None).into_record();
/// let loaded = empty().load_record(record);
/// assert!(empty().try_load_record(encoded.clone().into_record()).is_err(), "it has no bias");
/// assert_eq!(loaded.rows(&[7]).into_data(), encoded.rows(&[7]).into_data());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Module, Debug)]
pub struct Projection {
    weight: Weights,
    bias: Option<Param<Tensor<1>>>,
    /// Set during a calibration.
    #[module(skip)]
    pub(crate) stats: Option<ActivationStats>,
    /// Whether a CPU may round plain weights and their inputs to 16 bits.
    #[module(skip)]
    rounds: bool,
}

impl Projection {
    /// From an encoded matrix, `[out, in]`; if its scheme is storage-only, as plain weights.
    pub fn new(encoded: EncodedTensor, device: &Device) -> Self {
        let rows = encoded.shape()[0];
        let (format, parts) = encoded.into_memory();
        Self::of(Weights::new(format, rows, parts, device))
    }

    /// Plain weights, `[out, in]` row-major, rounded to the type `source`.
    ///
    /// # Panics
    /// When the length does not match the shape.
    pub fn plain(weights: &[f32], shape: [usize; 2], source: FloatDtype, device: &Device) -> Self {
        Self::from_bytes(&source.narrow(weights), shape, source, device)
    }

    /// Plain weights, `[out, in]` row-major, as little-endian bytes of the type `source`.
    ///
    /// # Panics
    /// When the length does not match the shape.
    pub fn from_bytes(bytes: &[u8], [rows, cols]: [usize; 2], source: FloatDtype, device: &Device) -> Self {
        assert_eq!(
            bytes.len(),
            rows * cols * source.size(),
            "expected bytes of [{rows}, {cols}] weights of {source:?}"
        );
        let format = MatrixFormat::new(Form::Plain, source, cols);
        Self::of(Weights::new(format, rows, format.read([bytes]), device))
    }

    /// A map of `rows` outputs whose weights are zeros until a record is loaded into it. If the scheme is storage-only, it is
    /// plain.
    pub fn empty(format: MatrixFormat, rows: usize, device: &Device) -> Self {
        Self::of(Weights::zeros(format.in_memory(), rows, device))
    }

    fn of(weight: Weights) -> Self {
        Self { weight, bias: None, stats: None, rounds: false }
    }

    /// The same map with a bias `[out]`, or without one.
    ///
    /// # Panics
    /// When its length is not the number of rows.
    pub fn with_bias(self, bias: Option<Param<Tensor<1>>>) -> Self {
        let rows = self.shape()[0];
        if let Some(bias) = &bias {
            assert_eq!(bias.lazy_shape().as_slice(), [rows], "expected a bias for each of {rows} outputs");
        }
        Self { bias, ..self }
    }

    /// The same map, in which a CPU may round weights and inputs to 16 bits, which takes less time if there are many inputs.
    pub(crate) fn rounded(self) -> Self {
        Self { rounds: true, ..self }
    }

    /// `x[.., in] → [.., out]`.
    ///
    /// # Panics
    /// When the last dimension of x is not `in`.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let [rows, cols] = self.shape();
        let mut shape = x.dims();
        let width = std::mem::replace(&mut shape[D - 1], rows);
        assert_eq!(width, cols, "expected the last dimension of x to be {cols}, found {width}");
        let m: usize = shape[..D - 1].iter().product();
        let y = if m * rows * cols == 0 {
            // In `reshape`, Burn reads a 0 as an unchanged dimension.
            Tensor::zeros(shape, (&x.device(), x.dtype()))
        } else {
            let x = x.reshape([m, cols]);
            if let Some(stats) = &self.stats {
                stats.add(&x);
            }
            let multiply = if self.rounds { kernel::linear_rounded } else { kernel::linear };
            multiply(x, self.weight.matrix()).reshape(shape)
        };
        match &self.bias {
            Some(bias) => y + bias.val().unsqueeze(),
            None => y,
        }
    }

    /// Rows of the weights, decoded: `[ids.len(), in]`, the lookup of an embedding.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn rows(&self, ids: &[u32]) -> Tensor<2> {
        kernel::rows(self.weight.matrix(), ids)
    }

    /// All weights, decoded: `[out, in]`.
    pub fn decode(&self) -> Tensor<2> {
        let ids: Vec<u32> = (0..self.shape()[0] as u32).collect();
        self.rows(&ids)
    }

    /// `[out, in]`.
    pub fn shape(&self) -> [usize; 2] {
        self.weight.shape()
    }

    /// The format of the weights.
    pub fn format(&self) -> MatrixFormat {
        self.weight.format()
    }

    /// The scheme, or `None` for plain weights.
    pub fn scheme(&self) -> Option<Scheme> {
        self.format().scheme()
    }

    /// The bias.
    pub fn bias(&self) -> Option<Tensor<1>> {
        self.bias.as_ref().map(Param::val)
    }

    /// The number of weights, encoded or not, without the bias.
    pub fn num_weights(&self) -> usize {
        Module::num_params(&self.weight)
    }

    /// The same map with its weights encoded; with a storage-only scheme, as plain weights with its rounding. A map already
    /// in this scheme is returned unchanged; one in another is decoded first, and has the errors of both schemes.
    ///
    /// # Errors
    /// When a weight is not finite or beyond the range of a scale, or the device fails.
    pub fn encode(self, scheme: Scheme, options: &EncodeOptions) -> Result<Self, EncodeError> {
        self.encode_as(&Recipe::new(scheme, *options))
    }

    /// As [`encode`](Self::encode), by a recipe.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_as(self, recipe: &Recipe) -> Result<Self, EncodeError> {
        if self.scheme() == Some(recipe.scheme) {
            return Ok(self);
        }
        let weights = self.decode();
        let device = weights.device();
        let weights = read(weights).map_err(|error| EncodeError::Unreadable(error.to_string()))?;
        let encoded = EncodedTensor::encode_as(&weights, self.shape(), self.format().source(), recipe)?;
        Ok(Self { bias: self.bias, ..Self::new(encoded, &device) })
    }

    /// These weights, encoded elsewhere, on its device and with its bias.
    ///
    /// # Panics
    /// When they have another shape.
    pub fn encoded_as(&self, encoded: EncodedTensor) -> Self {
        assert_eq!(encoded.shape(), self.shape(), "expected weights of the same shape");
        Self { bias: self.bias.clone(), ..Self::new(encoded, &self.weight.device()) }
    }
}

impl From<Linear> for Projection {
    fn from(linear: Linear) -> Self {
        let transposed = linear.weight.val().transpose().cast(DType::F32);
        // Copied once: a transposed view would be made contiguous in every product.
        let [rows, cols] = transposed.dims();
        let weights = Tensor::empty([rows, cols], (&transposed.device(), DType::F32));
        // A new parameter, not a result in the graph of the other.
        let weights = weights.slice_assign([0..rows, 0..cols], transposed).detach();
        Self::of(Weights::plain(weights)).with_bias(linear.bias)
    }
}
