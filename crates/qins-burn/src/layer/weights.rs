//! A stored matrix as a Burn module.

use std::fmt;

use burn::{
    module::{
        Content, Devices, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor, Param, ParamId,
    },
    tensor::{DType, Device, Int, Tensor, TensorData},
};
use qins_quant::{FloatDtype, Form, MatrixFormat, PartSpec};

use super::pages::resident;
use crate::{
    device::one_stream,
    kernel::{Matrix, Part},
};

/// The module's type name for visitors.
const CONTAINER: &str = "Struct:Weights";

/// `[rows, cols]` weights in their stored form. A record has each part by name, under the name of the format: a record
/// of another format has other tensors, so Burn rejects it.
#[derive(Clone, Debug)]
pub(super) struct Weights {
    format: MatrixFormat,
    rows: usize,
    parts: Vec<PartParam>,
}

#[derive(Clone, Debug)]
enum PartParam {
    Words(Param<Tensor<2, Int>>),
    /// Plain `f32`, the only weights that Burn may train, cast or adapt. The numbers of an encoded matrix, its scales too, are
    /// meaningless without its codes.
    Floats(Param<Tensor<2>>),
}

impl Weights {
    /// # Panics
    /// When a part does not have the length that the format requires.
    pub(super) fn new(format: MatrixFormat, rows: usize, parts: Vec<Vec<u32>>, device: &Device) -> Self {
        one_stream();
        let part = |(spec, words): (PartSpec, Vec<u32>)| {
            let (shape, bytes) = (spec.memory_shape(rows), resident(words));
            if is_floats(&format) {
                let floats = TensorData::from_bytes(bytes, shape, DType::F32);
                return PartParam::Floats(Param::from_tensor(Tensor::from_data(floats, (device, DType::F32))));
            }
            let words = TensorData::from_bytes(bytes, shape, DType::U32);
            PartParam::Words(Param::initialized(ParamId::new(), Tensor::from_data(words, (device, DType::U32))))
        };
        Self { format, rows, parts: format.parts().into_iter().zip(parts).map(part).collect() }
    }

    /// Zeros, to load a record into.
    pub(super) fn zeros(format: MatrixFormat, rows: usize, device: &Device) -> Self {
        one_stream();
        let part = |spec: PartSpec| {
            let shape = spec.memory_shape(rows);
            if is_floats(&format) {
                return PartParam::Floats(Param::from_tensor(Tensor::zeros(shape, (device, DType::F32))));
            }
            PartParam::Words(Param::initialized(ParamId::new(), Tensor::zeros(shape, (device, DType::U32))))
        };
        Self { format, rows, parts: format.parts().into_iter().map(part).collect() }
    }

    /// Plain `f32` on a device.
    pub(super) fn plain(weights: Tensor<2>) -> Self {
        let [rows, cols] = weights.dims();
        let format = MatrixFormat::new(Form::Plain, FloatDtype::F32, cols);
        Self { format, rows, parts: vec![PartParam::Floats(Param::from_tensor(weights))] }
    }

    pub(super) fn format(&self) -> MatrixFormat {
        self.format
    }

    /// `[rows, cols]`.
    pub(super) fn shape(&self) -> [usize; 2] {
        [self.rows, self.format.cols()]
    }

    pub(super) fn device(&self) -> Device {
        // Every format has a part.
        match &self.parts[0] {
            PartParam::Words(words) => words.val().device(),
            PartParam::Floats(floats) => floats.val().device(),
        }
    }

    pub(super) fn matrix(&self) -> Matrix {
        let part = |part: &PartParam| match part {
            PartParam::Words(words) => Part::Words(words.val()),
            PartParam::Floats(floats) => Part::Floats(floats.val()),
        };
        Matrix::new(self.format, self.rows, self.parts.iter().map(part).collect())
    }

    /// The format's name in a record's path, in which a dot is a separator.
    fn key(&self) -> String {
        self.format.to_string().replace('.', "_")
    }

    /// The same weights with other parameters.
    fn with(self, change: impl FnMut((PartSpec, PartParam)) -> PartParam) -> Self {
        let specs = self.format.parts();
        Self { parts: specs.into_iter().zip(self.parts).map(change).collect(), ..self }
    }
}

/// Whether the part is a float tensor to Burn.
fn is_floats(format: &MatrixFormat) -> bool {
    format.form() == Form::Plain && format.source() == FloatDtype::F32
}

/// Applies the same to a parameter of either kind.
macro_rules! each_kind {
    ($part:expr, $param:ident => $body:expr) => {
        match $part {
            PartParam::Words($param) => PartParam::Words($body),
            PartParam::Floats($param) => PartParam::Floats($body),
        }
    };
}

impl Module for Weights {
    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        let key = self.key();
        visitor.enter_module(&key, CONTAINER);
        for (PartSpec { name, .. }, part) in self.format.parts().iter().zip(&self.parts) {
            visitor.enter_module(name, CONTAINER);
            match part {
                PartParam::Words(words) => words.visit(visitor),
                PartParam::Floats(floats) => floats.visit(visitor),
            }
            visitor.exit_module(name, CONTAINER);
        }
        visitor.exit_module(&key, CONTAINER);
    }

    fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
        let key = self.key();
        mapper.enter_module(&key, CONTAINER);
        let mapped = self.with(|(PartSpec { name, .. }, part)| {
            mapper.enter_module(name, CONTAINER);
            let part = each_kind!(part, param => Module::map(param, mapper));
            mapper.exit_module(name, CONTAINER);
            part
        });
        mapper.exit_module(&key, CONTAINER);
        mapped
    }

    /// The number of weights, encoded ones included.
    fn num_params(&self) -> usize {
        self.rows * self.format.cols()
    }

    fn collect_devices(&self, devices: Devices) -> Devices {
        self.parts.iter().fold(devices, |devices, part| match part {
            PartParam::Words(words) => words.collect_devices(devices),
            PartParam::Floats(floats) => floats.collect_devices(devices),
        })
    }

    fn fork(self, device: &Device) -> Self {
        self.with(|(_, part)| each_kind!(part, param => param.fork(device)))
    }

    fn to_device(self, device: &Device) -> Self {
        self.with(|(_, part)| each_kind!(part, param => param.to_device(device)))
    }

    fn train(self) -> Self {
        self.with(|(_, part)| each_kind!(part, param => param.train()))
    }

    fn valid(&self) -> Self {
        self.clone().with(|(_, part)| each_kind!(part, param => param.valid()))
    }

    fn materialize(self) -> Self {
        self.with(|(_, part)| each_kind!(part, param => param.materialize()))
    }
}

impl ModuleDisplayDefault for Weights {
    fn content(&self, content: Content) -> Option<Content> {
        content.add_formatted(self).optional()
    }

    fn num_params(&self) -> usize {
        Module::num_params(self)
    }
}

impl ModuleDisplay for Weights {}

impl fmt::Display for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows of {}", self.rows, self.format)
    }
}
