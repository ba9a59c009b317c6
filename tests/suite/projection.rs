//! Projections as Burn modules.

use burn::{
    module::{Module, Param},
    nn::{Linear, LinearConfig},
    store::{ModuleRecord, RecordError},
    tensor::{Tensor, TensorData},
};
use qins_burn::{Alpha, EncodeOptions, FloatDtype, LinearKind, Projection, Projections, Recipe, Scheme, projections};
use qins_quant::EncodedTensor;

use crate::common::{device, max_abs_diff, values};

fn weights([rows, cols]: [usize; 2]) -> Vec<f32> {
    (0..rows * cols).map(|i| ((i * 37 % 101) as f32 - 50.0) / 400.0).collect()
}

fn encoded(shape: [usize; 2], source: FloatDtype, recipe: &Recipe) -> Projection {
    Projection::new(EncodedTensor::encode_as(&weights(shape), shape, source, recipe).unwrap(), &device())
}

fn with_alpha(scheme: Scheme, alpha: f32) -> Recipe {
    Recipe::new(scheme, EncodeOptions { alpha: Some(Alpha::new(alpha).unwrap()), ..EncodeOptions::default() })
}

fn decoded(projection: &Projection) -> Vec<u32> {
    values(projection.decode()).iter().map(|w| w.to_bits()).collect()
}

/// A record, through its bytes.
fn recorded(projection: &Projection) -> ModuleRecord {
    ModuleRecord::from_bytes(projection.clone().into_record().into_bytes().unwrap()).unwrap()
}

#[test]
fn record_of_every_scheme_loads_into_empty_projection() {
    let shape = [6, 62];
    for source in [FloatDtype::F32, FloatDtype::F16, FloatDtype::Bf16] {
        let mut all: Vec<Projection> =
            Scheme::ALL.iter().map(|scheme| encoded(shape, source, &(*scheme).into())).collect();
        all.push(encoded(shape, source, &with_alpha(Scheme::CompandedF32, 0.37)));
        all.push(Projection::plain(&weights(shape), shape, source, &device()));
        for projection in all {
            let format = projection.format();
            let empty = Projection::empty(format, shape[0], &device());
            assert!(values(empty.decode()).iter().all(|w| *w == 0.0), "{format}");
            let loaded = empty.try_load_record(recorded(&projection)).unwrap();
            assert_eq!((loaded.format(), loaded.shape()), (format, shape));
            assert_eq!(decoded(&loaded), decoded(&projection), "{format}");
        }
    }
}

/// The error of loading a record of one projection into another.
fn load_error(from: &Projection, into: Projection) -> String {
    match into.try_load_record(recorded(from)) {
        Ok(_) => panic!("a record of {} was loaded into another projection", from.format()),
        Err(RecordError::Validation(message)) => message,
        Err(error) => panic!("{error}"),
    }
}

/// Their tensors have equal shapes, and would otherwise be read as other weights.
#[test]
fn record_of_another_format_is_rejected_by_name() {
    let float = |alpha| encoded([6, 64], FloatDtype::F32, &with_alpha(Scheme::CompandedF32, alpha));
    let halves = |source| Projection::plain(&weights([6, 64]), [6, 64], source, &device());
    let bytes = |cols| encoded([6, cols], FloatDtype::F32, &Scheme::Q8.into());
    let cases = [
        (float(1.0), float(0.25), "weight.companded-f32 of float32, alpha 0_25, 64 columns.packed"),
        (halves(FloatDtype::Bf16), halves(FloatDtype::F16), "weight.plain float16, 64 columns.weight"),
        (bytes(62), bytes(64), "weight.q8 of float32, 64 columns.packed"),
    ];
    for (from, into, expected) in cases {
        let message = load_error(&from, into);
        assert!(message.contains("Missing tensors") && message.contains(expected), "{message}");
    }
    // And formats with other tensors.
    let message = load_error(&bytes(64), encoded([6, 64], FloatDtype::F32, &Scheme::Q4.into()));
    assert!(message.contains("weight.q4 of float32, 64 columns.group_scale"), "{message}");
    let message = load_error(&bytes(64), encoded([5, 64], FloatDtype::F32, &Scheme::Q8.into()));
    assert!(message.contains("shape mismatch"), "{message}");
}

#[test]
fn forward_takes_any_rank_with_or_without_bias() {
    let projection = encoded([6, 64], FloatDtype::F32, &Scheme::Q8.into());
    let x: Vec<f32> = (0..12 * 64).map(|i| ((i * 53 % 89) as f32 - 44.0) / 32.0).collect();
    let bias = Tensor::<1>::from_data([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &device());
    let with_bias = projection.clone().with_bias(Some(Param::from_tensor(bias)));
    let flat = values(projection.forward(Tensor::from_data(TensorData::new(x.clone(), [12, 64]), &device())));
    let cube = Tensor::<4>::from_data(TensorData::new(x.clone(), [2, 3, 2, 64]), &device());
    let y = projection.forward(cube.clone());
    assert_eq!(y.dims(), [2, 3, 2, 6]);
    assert_eq!(y.into_data().iter().collect::<Vec<f32>>(), flat);
    let biased: Vec<f32> = with_bias.forward(cube).into_data().iter().collect();
    assert!(biased.iter().zip(&flat).enumerate().all(|(i, (b, y))| *b == y + (i % 6 + 1) as f32), "{biased:?}");
    let vector = Tensor::<1>::from_data(&x[..64], &device());
    assert_eq!(projection.forward(vector).into_data().iter().collect::<Vec<f32>>().len(), 6);
    assert_eq!(projection.forward(Tensor::<3>::zeros([2, 0, 64], &device())).dims(), [2, 0, 6]);
}

#[test]
#[should_panic(expected = "expected the last dimension of x to be 64, found 63")]
fn forward_panics_on_wrong_input_width() {
    encoded([6, 64], FloatDtype::F32, &Scheme::Q8.into()).forward(Tensor::<3>::zeros([2, 3, 63], &device()));
}

#[test]
fn bias_survives_every_encoding() {
    let linear: Linear = LinearConfig::new(32, 5).init(&device());
    let bias = linear.bias.as_ref().unwrap().val();
    let x = Tensor::<2>::ones([3, 32], &device());
    let expected = values(linear.forward(x.clone()));
    let mut projection = Projection::from(linear);
    for scheme in [None, Some(Scheme::CompandedF32), Some(Scheme::Q8), Some(Scheme::Q4), Some(Scheme::Q8)] {
        projection = match scheme {
            None => projection,
            Some(scheme) => projection.encode(scheme, &EncodeOptions::default()).unwrap(),
        };
        assert_eq!(projection.scheme(), scheme);
        assert_eq!(projection.bias().unwrap().into_data(), bias.clone().into_data());
        let off = max_abs_diff(&values(projection.forward(x.clone())), &expected);
        assert!(off < 0.2, "{scheme:?}: {off}");
    }
    let scheme = |projection: Projection| (projection.scheme(), projection.format());
    let plain = projection.encode(Scheme::Lossless, &EncodeOptions::default()).unwrap();
    assert_eq!(scheme(plain).0, None, "storage-only schemes are plain in memory");
}

#[test]
fn reencoding_decodes_first() {
    let q4 = encoded([6, 64], FloatDtype::Bf16, &Scheme::Q4.into());
    let again = q4.clone().encode(Scheme::Q8, &EncodeOptions::default()).unwrap();
    let expected = EncodedTensor::encode_as(&values(q4.decode()), [6, 64], FloatDtype::Bf16, &Scheme::Q8.into());
    assert_eq!(decoded(&again), decoded(&Projection::new(expected.unwrap(), &device())));
    assert_eq!((again.scheme(), again.format().source()), (Some(Scheme::Q8), FloatDtype::Bf16));
    let same = q4.clone().encode(Scheme::Q4, &EncodeOptions::default()).unwrap();
    assert_eq!(decoded(&same), decoded(&q4), "already in this scheme");
}

/// A user's module.
#[derive(Module, Debug)]
struct Layer {
    first: Projection,
    second: Projection,
}

#[derive(Module, Debug)]
struct Own {
    embedding: Projection,
    last: Layer,
    layers: Vec<Layer>,
    head: Option<Projection>,
}

projections!(Layer { first: Q, second: Other });
projections!(Own { embedding: Embedding, layers[..], last, head?: Head, });

#[test]
fn module_counts_parameters_and_round_trips_records() {
    let plain = || Projection::plain(&weights([6, 64]), [6, 64], FloatDtype::Bf16, &device());
    let coded = || encoded([6, 64], FloatDtype::Bf16, &Scheme::Q4.into());
    let layer = || Layer { first: plain(), second: coded() };
    let mut own = Own { embedding: coded(), last: layer(), layers: vec![layer(), layer()], head: Some(plain()) };
    assert_eq!(own.last.num_params(), 2 * 6 * 64);
    let mut seen = Vec::new();
    own.visit_projections("own", &mut |kind, name, projection| {
        seen.push((kind, name.to_owned(), projection.num_weights()));
        Ok(())
    })
    .unwrap();
    let expected = [
        (LinearKind::Embedding, "own.embedding"),
        (LinearKind::Q, "own.layers.0.first"),
        (LinearKind::Other, "own.layers.0.second"),
        (LinearKind::Q, "own.layers.1.first"),
        (LinearKind::Other, "own.layers.1.second"),
        (LinearKind::Q, "own.last.first"),
        (LinearKind::Other, "own.last.second"),
        (LinearKind::Head, "own.head"),
    ];
    assert_eq!(seen, expected.map(|(kind, name)| (kind, name.to_owned(), 6 * 64)));
    let record = own.clone().into_record();
    let empty = |from: &Projection| Projection::empty(from.format(), 6, &device());
    let blank = |from: &Layer| Layer { first: empty(&from.first), second: empty(&from.second) };
    let loaded = Own {
        embedding: empty(&own.embedding),
        last: blank(&own.last),
        layers: own.layers.iter().map(blank).collect(),
        head: own.head.as_ref().map(empty),
    };
    let loaded = loaded.load_record(record);
    assert_eq!(decoded(&loaded.layers[1].second), decoded(&own.layers[1].second));
    assert_eq!(decoded(loaded.head.as_ref().unwrap()), decoded(own.head.as_ref().unwrap()));
}
