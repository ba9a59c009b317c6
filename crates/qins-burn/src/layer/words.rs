//! Rows of bytes on a device.

use burn::{
    module::{Param, ParamId},
    tensor::{DType, Device, Int, Tensor, TensorData},
};

/// Rows of `width` bytes as rows of 32-bit words, the last of each filled up with zeros: WGSL has no bytes, and on a CPU
/// the words read as bytes again.
pub(super) fn words(bytes: Vec<u8>, [rows, width]: [usize; 2], device: &Device) -> Param<Tensor<2, Int>> {
    let filled = if width.is_multiple_of(4) {
        bytes
    } else {
        let fill = |row: &[u8]| row.iter().copied().chain([0; 4]).take(width.next_multiple_of(4)).collect::<Vec<_>>();
        bytes.chunks(width).flat_map(fill).collect()
    };
    let data = TensorData::from_bytes_vec(filled, [rows, width.div_ceil(4)], DType::U32);
    Param::initialized(ParamId::new(), Tensor::from_data(data, (device, DType::U32)))
}
