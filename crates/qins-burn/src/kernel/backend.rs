//! The operations that the model needs beyond Burn's own.

use burn::backend::{
    ExtensionType, TensorMetadata, backend_extension,
    tensor::{FloatTensor, IntTensor},
};
#[cfg(feature = "gpu")]
use burn::tensor::DType;
use burn::tensor::FloatDType;
use qins_model::Activation;
use qins_quant::{MatrixFormat, kernel::GELU};

/// √(2/π) and the coefficient of x³, of [`GELU`].
pub(super) const GELU_SCALE: f32 = GELU[0];
pub(super) const GELU_CUBIC: f32 = GELU[1];

/// [`super::Part`] with a backend's own tensors.
#[derive(ExtensionType)]
#[extension_type(fusion: cfg(feature = "gpu"))]
pub enum PartOf<B: burn::backend::Backend> {
    /// None: the form has fewer parts.
    Absent,
    /// `[rows, words]`.
    Words(IntTensor<B>),
    /// `[rows, cols]`.
    Floats(FloatTensor<B>),
}

/// [`super::Matrix`] with a backend's own tensors. (Burn's extensions take no lists of tensors.)
#[derive(ExtensionType)]
#[extension_type(fusion: cfg(feature = "gpu"))]
#[allow(missing_docs)]
pub struct Weight<B: burn::backend::Backend> {
    pub format: MatrixFormat,
    pub rows: usize,
    #[extension_type]
    pub first: PartOf<B>,
    #[extension_type]
    pub second: PartOf<B>,
    #[extension_type]
    pub third: PartOf<B>,
    #[extension_type]
    pub fourth: PartOf<B>,
    #[extension_type]
    pub fifth: PartOf<B>,
}

impl<B: burn::backend::Backend> Weight<B> {
    /// From parts in the format's order, at most five.
    pub(super) fn new(format: MatrixFormat, rows: usize, parts: impl IntoIterator<Item = PartOf<B>>) -> Self {
        let mut parts = parts.into_iter();
        let mut next = || parts.next().unwrap_or(PartOf::Absent);
        let [first, second, third, fourth, fifth] = [next(), next(), next(), next(), next()];
        assert!(parts.next().is_none(), "expected at most five parts");
        Self { format, rows, first, second, third, fourth, fifth }
    }

    /// The parts, in the order of the format.
    pub(super) fn into_parts(self) -> Vec<PartOf<B>> {
        let parts = [self.first, self.second, self.third, self.fourth, self.fifth];
        parts.into_iter().filter(|part| !matches!(part, PartOf::Absent)).collect()
    }
}

/// The operations of a backend beyond Burn's own.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Cube: cfg(feature = "gpu"),
    Autodiff: cfg(feature = "autodiff"),
    Fusion: cfg(feature = "gpu")
)]
pub trait QinsBackend: burn::backend::Backend {
    /// `x[m, cols] · weightᵀ`, of shape `[m, rows]`.
    #[fusion(dtype = x, shape = [x[0], weight.rows].into())]
    fn qins_linear(x: FloatTensor<Self>, #[extension_type] weight: Weight<Self>) -> FloatTensor<Self>;

    /// [`qins_linear`](Self::qins_linear), in which a CPU may round weights and activations to 16 bits.
    #[fusion(dtype = x, shape = [x[0], weight.rows].into())]
    fn qins_linear_rounded(x: FloatTensor<Self>, #[extension_type] weight: Weight<Self>) -> FloatTensor<Self> {
        Self::qins_linear(x, weight)
    }

    /// The rows `ids[n]` of a matrix, decoded: `[n, cols]`.
    #[fusion(dtype = DType::F32, shape = [ids[0], weight.format.cols()].into())]
    fn qins_rows(ids: IntTensor<Self>, #[extension_type] weight: Weight<Self>) -> FloatTensor<Self>;

    /// `x[n, heads·dim]` as `[heads, n, dim]`, with half-split rotation of the first 2·pairs elements of each head by cos and sin
    /// `[1, n, pairs]`; the other elements are unchanged.
    #[fusion(dtype = x, shape = [*heads, x[0], x[1] / heads].into())]
    fn qins_rotate(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        heads: usize,
    ) -> FloatTensor<Self> {
        let (shape, half) = (x.shape(), cos.shape()[2]);
        let (n, dim) = (shape[0], shape[1] / heads);
        let x = Self::float_swap_dims(Self::float_reshape(x, [n, heads, dim].into()), 0, 1);
        let part = |from: usize, to: usize| {
            Self::float_slice(x.clone(), &[(0..heads).into(), (0..n).into(), (from..to).into()])
        };
        let times = |x: FloatTensor<Self>, table: &FloatTensor<Self>| Self::float_mul(x, table.clone());
        let (a, b) = (part(0, half), part(half, 2 * half));
        let mut parts = vec![
            Self::float_sub(times(a.clone(), &cos), times(b.clone(), &sin)),
            Self::float_add(times(b, &cos), times(a, &sin)),
        ];
        if 2 * half < dim {
            parts.push(part(2 * half, dim));
        }
        Self::float_cat(parts, 2)
    }

    /// RMSNorm of `x[n, width]`: each row over the root of its mean square, times `gamma[width]`.
    #[fusion(dtype = x, shape = x)]
    fn qins_norm(x: FloatTensor<Self>, gamma: FloatTensor<Self>, epsilon: f32) -> FloatTensor<Self> {
        let width = gamma.shape()[0];
        let squares = Self::float_mul(x.clone(), x.clone());
        let mean = Self::float_add_scalar(Self::float_mean_dim(squares, 1), epsilon.into());
        let normal = Self::float_div(x, Self::float_sqrt(mean));
        Self::float_mul(normal, Self::float_reshape(gamma, [1, width].into()))
    }

    /// activation(gate)·up, of equal shape.
    #[fusion(dtype = gate, shape = gate)]
    fn qins_gated(gate: FloatTensor<Self>, up: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self> {
        let activated = match activation {
            Activation::Silu => Self::float_mul(gate.clone(), Self::sigmoid(gate)),
            Activation::GeluTanh => {
                // √(2/π)·(x + 0.044715·x³), and half of x times 1 + its tanh.
                let cube = Self::float_mul(Self::float_mul(gate.clone(), gate.clone()), gate.clone());
                let sum = Self::float_add(gate.clone(), Self::float_mul_scalar(cube, GELU_CUBIC.into()));
                let tanh = Self::float_tanh(Self::float_mul_scalar(sum, GELU_SCALE.into()));
                Self::float_mul(Self::float_mul_scalar(gate, 0.5.into()), Self::float_add_scalar(tanh, 1.0.into()))
            }
        };
        Self::float_mul(activated, up)
    }

    /// Rounded to bf16, stored as `f32`.
    #[fusion(dtype = x, shape = x)]
    fn qins_bf16(x: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::float_cast(Self::float_cast(x, FloatDType::BF16), FloatDType::F32)
    }
}
