//! Gradients through projections, as needed for low-rank adapters beside frozen weights.

use burn::{
    module::{Module, ModuleVisitor, Param},
    nn::LinearConfig,
    tensor::{Device, Gradients, Tensor, TensorData},
};
use qins_burn::{EncodeOptions, FloatDtype, Projection, Scheme};
use qins_quant::EncodedTensor;

use crate::common::{device, max_abs_diff, values};

/// The parameters that have a gradient.
fn trained(projection: &Projection, gradients: Gradients) -> Vec<String> {
    struct Trained {
        gradients: Gradients,
        path: Vec<String>,
        found: Vec<String>,
    }
    impl ModuleVisitor for Trained {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.to_owned());
        }

        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if param.val().grad(&self.gradients).is_some() {
                self.found.push(self.path.join("."));
            }
        }
    }
    let mut trained = Trained { gradients, path: Vec::new(), found: Vec::new() };
    projection.visit(&mut trained);
    trained.found
}

fn numbers(n: usize, seed: usize) -> Vec<f32> {
    (0..n).map(|i| (((i + seed) * 37 % 101) as f32 - 50.0) / 100.0).collect()
}

fn tensor(shape: [usize; 2], seed: usize, device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(numbers(shape[0] * shape[1], seed), shape), device)
}

#[test]
fn gradient_of_input_equals_dense_product() {
    let device = device().autodiff();
    // More rows than are decoded at a time, and not a multiple of them.
    for shape @ [rows, cols] in [[5, 40], [1100, 33]] {
        for scheme in Scheme::ALL {
            let encoded = EncodedTensor::encode(&numbers(rows * cols, 3), shape, scheme).unwrap();
            let projection = Projection::new(encoded, &device);
            let dense = projection.decode();
            let weigh = tensor([3, rows], 11, &device);
            let gradient = |y: &dyn Fn(Tensor<2>) -> Tensor<2>| {
                let x = tensor([3, cols], 7, &device).require_grad();
                let gradients = (y(x.clone()) * weigh.clone()).sum().backward();
                values(x.grad(&gradients).unwrap())
            };
            let found = gradient(&|x| projection.forward(x));
            let expected = gradient(&|x| x.matmul(dense.clone().transpose()));
            let largest = expected.iter().fold(0.0_f32, |max, g| max.max(g.abs()));
            let off = max_abs_diff(&found, &expected);
            assert!(largest > 0.1 && off <= 1e-5 * largest, "{scheme} {shape:?}: {off} of {largest}");
        }
    }
}

#[test]
fn gradient_matches_finite_differences() {
    let device = device().autodiff();
    let encoded = EncodedTensor::encode(&numbers(6 * 64, 3), [6, 64], Scheme::Q4).unwrap();
    let projection = Projection::new(encoded, &device);
    let loss = |x: Tensor<2>| projection.forward(x).tanh().sum();
    let x = tensor([1, 64], 7, &device).require_grad();
    let gradient = values(x.grad(&loss(x.clone()).backward()).unwrap());
    for i in [0, 17, 63] {
        let at = |by: f32| {
            let mut x = numbers(64, 7);
            x[i] += by;
            let x = Tensor::<2>::from_data(TensorData::new(x, [1, 64]), &device);
            loss(x).into_data().iter::<f32>().next().unwrap()
        };
        let difference = (at(0.01) - at(-0.01)) / 0.02;
        assert!((difference - gradient[i]).abs() < 2e-3, "{i}: {difference}, not {}", gradient[i]);
    }
}

/// What is trained beside an encoded matrix, and what of it is not.
#[test]
fn adapters_have_gradients_and_encoded_weights_have_none() {
    let device = device().autodiff();
    let bias = Param::from_tensor(Tensor::<1>::zeros([6], &device));
    let encoded = EncodedTensor::encode(&numbers(6 * 64, 3), [6, 64], Scheme::Q4).unwrap();
    let projection = Projection::new(encoded, &device).with_bias(Some(bias));
    let adapter = LinearConfig::new(64, 64).with_bias(false).init(&device);
    let x = tensor([2, 64], 7, &device);
    let gradients = projection.forward(adapter.forward(x)).powi_scalar(2).sum().backward();
    let of_adapter = values(adapter.weight.val().grad(&gradients).unwrap());
    assert!(of_adapter.iter().any(|g| g.abs() > 1e-4));
    assert_eq!(trained(&projection, gradients), ["bias"]);
}

#[test]
fn plain_f32_weights_have_gradients() {
    let device = device().autodiff();
    let linear = LinearConfig::new(8, 3).init(&device);
    let projection = Projection::from(linear).encode(Scheme::Lossless, &EncodeOptions::default()).unwrap();
    assert_eq!((projection.scheme(), projection.format().source()), (None, FloatDtype::F32));
    let x = tensor([2, 8], 7, &device).require_grad();
    let y = projection.forward(x.clone());
    let expected = values(x.clone().matmul(projection.decode().transpose()));
    assert!(max_abs_diff(&values(y.clone() - projection.bias().unwrap().unsqueeze()), &expected) < 1e-5);
    let gradients = y.sum().backward();
    assert!(values(x.grad(&gradients).unwrap()).iter().any(|g| *g != 0.0));
    assert_eq!(trained(&projection, gradients), ["weight.plain float32, 8 columns.weight", "bias"]);
    // By rows that are looked up, too.
    let gradients = projection.rows(&[2, 0]).sum().backward();
    assert_eq!(trained(&projection, gradients), ["weight.plain float32, 8 columns.weight"]);
}
