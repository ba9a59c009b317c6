//! What the model asks of a backend beyond Burn's own operations.

use burn::backend::{
    ExtensionType, TensorMetadata, backend_extension,
    tensor::{FloatTensor, IntTensor},
};
#[cfg(feature = "gpu")]
use burn::tensor::DType;
use burn::tensor::FloatDType;
use qins_quant::{Alpha, FloatDtype, Layout};

/// [`super::Matrix`] with a backend's own tensors.
#[derive(ExtensionType)]
#[extension_type(fusion: cfg(feature = "gpu"))]
pub enum Weight<B: burn::backend::Backend> {
    /// Plain weights.
    Dense(FloatTensor<B>),
    /// Plain weights of 16 bits, two a word.
    Half {
        /// `[rows, ⌈cols/2⌉]`.
        words: IntTensor<B>,
        /// Or else f16.
        bf16: bool,
    },
    /// The complement form.
    F32 {
        /// `[rows, cols]`.
        u: FloatTensor<B>,
        /// Shared α.
        alpha: Alpha,
        /// Type before encoding.
        source: FloatDtype,
    },
    /// 8-bit codes, four a word.
    Q8 {
        /// `[rows, ⌈cols/4⌉]`.
        words: IntTensor<B>,
        /// `[rows]`.
        scale: FloatTensor<B>,
        /// `[rows]`.
        curvature: FloatTensor<B>,
    },
    /// Codes in groups; the parts of [`super::Groups`].
    #[allow(missing_docs)]
    Grouped {
        layout: Layout,
        packed: IntTensor<B>,
        scale: FloatTensor<B>,
        group_scale: IntTensor<B>,
        selector: IntTensor<B>,
        curvature: FloatTensor<B>,
    },
}

/// What a backend must be able to do beyond Burn's own operations.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Cube: cfg(feature = "gpu"),
    Fusion: cfg(feature = "gpu")
)]
pub trait QinsBackend: burn::backend::Backend {
    /// `x[m, cols] · weightᵀ`, of shape `[m, rows]`.
    #[fusion(dtype = x, shape = [x[0], rows(weight)].into())]
    fn qins_linear(x: FloatTensor<Self>, #[extension_type] weight: Weight<Self>) -> FloatTensor<Self>;

    /// The rows `ids[n]` of a matrix of `cols` columns, decoded: `[n, cols]`.
    #[fusion(dtype = DType::F32, shape = [ids[0], *cols].into())]
    fn qins_rows(ids: IntTensor<Self>, #[extension_type] weight: Weight<Self>, cols: usize) -> FloatTensor<Self>;

    /// `x[n, heads·dim]` as `[heads, n, dim]`, the first numbers of each head rotated: halves against each other, by cos and sin
    /// `[1, n, pairs]`. The rest passes through.
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

    /// `x[n, width]`, each row over the root of its mean square, times `gamma[width]`.
    #[fusion(dtype = x, shape = x)]
    fn qins_norm(x: FloatTensor<Self>, gamma: FloatTensor<Self>, epsilon: f32) -> FloatTensor<Self> {
        let width = gamma.shape()[0];
        let squares = Self::float_mul(x.clone(), x.clone());
        let mean = Self::float_add_scalar(Self::float_mean_dim(squares, 1), epsilon.into());
        let normal = Self::float_div(x, Self::float_sqrt(mean));
        Self::float_mul(normal, Self::float_reshape(gamma, [1, width].into()))
    }

    /// silu(gate)·up, of one shape.
    #[fusion(dtype = gate, shape = gate)]
    fn qins_gated(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::float_mul(Self::float_mul(gate.clone(), Self::sigmoid(gate)), up)
    }

    /// Rounded to bf16, as `f32` still.
    #[fusion(dtype = x, shape = x)]
    fn qins_bf16(x: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::float_cast(Self::float_cast(x, FloatDType::BF16), FloatDType::F32)
    }
}

/// Rows of a matrix, of which a lazy backend knows the shapes alone.
#[cfg(feature = "gpu")]
fn rows(weight: &WeightMetadata) -> usize {
    match weight {
        WeightMetadata::Dense(w) | WeightMetadata::F32 { u: w, .. } => w.shape[0],
        WeightMetadata::Half { words, .. } | WeightMetadata::Q8 { words, .. } => words.shape[0],
        WeightMetadata::Grouped { packed, .. } => packed.shape[0],
    }
}
