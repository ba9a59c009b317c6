//! The grouped schemes, against their definition in docs/format.md.

use proptest::prelude::*;
use qins_quant::{
    Alpha, Curves, EncodeError, EncodeOptions, EncodedTensor, FloatDtype, Form, Layout, MatrixFormat, Recipe, Scheme,
};

use crate::{
    common::{ENCODED, Home, Random, Shards, bits, bytes_of, grouped_parts, nmse, open, parts},
    draw::matrix,
};

fn layouts() -> impl Iterator<Item = Layout> {
    Scheme::ALL.into_iter().filter_map(|scheme| match scheme.form() {
        Form::Grouped(layout) => Some(layout),
        _ => None,
    })
}

fn encode(weights: &[f32], shape: [usize; 2], scheme: Scheme) -> Result<EncodedTensor, EncodeError> {
    EncodedTensor::encode(weights, shape, scheme)
}

fn decode(encoded: &EncodedTensor) -> Vec<f32> {
    let [rows, cols] = encoded.shape();
    let mut out = vec![f32::NAN; rows * cols];
    encoded.decode_into(&mut out);
    out
}

/// The parts of a matrix, those of bytes as they are in a file.
#[derive(Clone)]
struct Grouped {
    layout: Layout,
    packed: Vec<u8>,
    scale: Vec<f32>,
    group_scale: Vec<u8>,
    selector: Vec<u8>,
    curvature: Vec<f32>,
}

impl Grouped {
    fn of(encoded: &EncodedTensor) -> Self {
        let Form::Grouped(layout) = encoded.format().form() else { panic!("not grouped") };
        let [packed, group_scale, selector] = ["packed", "group_scale", "selector"].map(|name| bytes_of(encoded, name));
        let [scale, curvature] = ["scale", "curvature"].map(|name| encoded.floats(name).unwrap().to_vec());
        Self { layout, packed, scale, group_scale, selector, curvature }
    }

    fn matrix(self, [rows, cols]: [usize; 2]) -> Result<EncodedTensor, EncodeError> {
        let format = MatrixFormat::new(Form::Grouped(self.layout), FloatDtype::F32, cols);
        // Scales and curvatures that no f16 holds, too.
        let mut parts = format.read([self.packed, Vec::new(), self.group_scale, self.selector, Vec::new()]);
        parts[1] = self.scale.into_iter().map(f32::to_bits).collect();
        parts[4] = self.curvature.into_iter().map(f32::to_bits).collect();
        EncodedTensor::from_parts(format, rows, parts)
    }
}

fn scheme(layout: Layout) -> Scheme {
    Form::Grouped(layout).scheme().unwrap()
}

/// Weight (row, col) by the definition of the format.
fn by_definition(g: &Grouped, cols: usize, row: usize, col: usize) -> f32 {
    let bits = g.layout.width().bits();
    let (group, i) = (col / 32, col % 32);
    let per_row = cols.div_ceil(32);
    let codes = &g.packed[(row * per_row + group) * 4 * bits..][..4 * bits];
    let (mut code, mut low, mut plane) = (0_u32, 0, 0);
    for width in [8, 4, 2, 1].into_iter().filter(|width| bits & width != 0) {
        let field = u32::from(codes[plane + i % (4 * width)]) >> (i / (4 * width) * width) & ((1 << width) - 1);
        code |= field << low;
        (low, plane) = (low + width, plane + 4 * width);
    }
    let steps = (1 << (bits - 1)) as f32;
    let q = code as f32 - steps;
    let d = g.scale[row * cols.div_ceil(256) + col / 256];
    let s = f32::from(g.group_scale[row * cols.div_ceil(32) + group] as i8);
    let j = g.selector[row * cols.div_ceil(128) + group / 4] >> (2 * (group % 4)) & 3;
    let k = g.curvature[usize::from(j)];
    let t = q / (steps + k * (steps - q.abs()));
    (d * s) * if bits <= 5 { ((127.0 * t).round_ties_even() + 0.0) * (1.0 / 127.0) } else { t }
}

/// Random bytes, with scales and curvatures as large as a file can hold.
fn random_parts(layout: Layout, [rows, cols]: [usize; 2], random: &mut Random) -> Grouped {
    let mut bytes = |n: usize| -> Vec<u8> { (0..n).map(|_| (random.normal() * 1e6) as i64 as u8).collect() };
    Grouped {
        layout,
        packed: bytes(rows * layout.packed(cols)),
        scale: vec![65_504.0; rows * layout.scales(cols)],
        group_scale: bytes(rows * layout.group_scales(cols)),
        selector: bytes(rows * layout.selectors(cols)),
        curvature: vec![0.0, 0.37, 7.0, 65_504.0],
    }
}

#[test]
fn random_grouped_parts_decode_by_definition_to_finite_weights() {
    let mut random = Random(21);
    for layout in layouts() {
        for shape in [[1, 1], [3, 31], [2, 33], [5, 256], [2, 257], [3, 700]] {
            let stored = random_parts(layout, shape, &mut random);
            let encoded = stored.clone().matrix(shape).unwrap();
            let decoded = decode(&encoded);
            let what = format!("{} {shape:?}", encoded.scheme());
            assert!(decoded.iter().all(|w| w.is_finite()), "{what}");
            let expected: Vec<f32> =
                (0..decoded.len()).map(|i| by_definition(&stored, shape[1], i / shape[1], i % shape[1])).collect();
            assert_eq!(bits(&decoded), bits(&expected), "{what}");
        }
    }
}

#[test]
fn q5_group_bytes_decode_to_fixed_weights() {
    // 35 columns in q5, so that the last three are in a second group. Scales are 2·3 with curve 2, and 2·(−1) with curve 0.
    let Form::Grouped(layout) = Scheme::Q5.form() else { panic!("not grouped") };
    let (low, high) = ([0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe], [0xff, 0x00, 0x0f, 0xf0]);
    let mut packed = vec![0; layout.packed(35)];
    packed[..8].copy_from_slice(&low);
    packed[16..20].copy_from_slice(&high);
    packed[20..23].copy_from_slice(&[0x0f, 0x08, 0x00]);
    let stored = Grouped {
        layout,
        packed,
        scale: vec![2.0],
        group_scale: vec![3, 0xff],
        selector: vec![0b1111_0010],
        curvature: vec![0.25, 1.0, 1.5, 0.5],
    };
    let encoded = stored.matrix([1, 35]).unwrap();
    let decoded = decode(&encoded);
    let code = |nibble: f32, high: bool| nibble - if high { 0.0 } else { 16.0 };
    let level = |q: f32, k: f32| (127.0 * (q / (16.0 + k * (16.0 - q.abs())))).round_ties_even() * (1.0 / 127.0);
    // Bytes 0..8 hold the low four bits of codes 0..8 in their lower halves, and of codes 16..24 in their upper halves.
    let high = |i: usize| high[i % 4] >> (i / 4) & 1 == 1;
    for i in 0..8_u8 {
        let at = usize::from(i);
        assert_eq!(decoded[at], 6.0 * level(code(f32::from(low[at] & 15), high(at)), 1.5), "{i}");
        assert_eq!(decoded[at + 16], 6.0 * level(code(f32::from(low[at] >> 4), high(at + 16)), 1.5), "{i}");
    }
    assert_eq!(decoded[32..], [-2.0 * level(-1.0, 0.25), -2.0 * level(-8.0, 0.25), 2.0]);
}

proptest! {
    #[test]
    fn grouped_error_is_at_most_the_energy_and_zeros_are_exact((weights, shape) in matrix([4, 300], 22.0), layout in 0..5_usize) {
        let layout = layouts().nth(layout).unwrap();
        let encoded = encode(&weights, shape, scheme(layout)).unwrap();
        let decoded = decode(&encoded);
        let square = |x: f32| f64::from(x) * f64::from(x);
        for (x, d) in weights.chunks(shape[1].max(1)).zip(decoded.chunks(shape[1].max(1))) {
            for (x, d) in x.chunks(32).zip(d.chunks(32)) {
                let error: f64 = x.iter().zip(d).map(|(x, d)| square(x - d)).sum();
                let energy: f64 = x.iter().map(|x| square(*x)).sum();
                // A weight below the smallest f16 scale may be rounded up to that scale.
                prop_assert!(error <= energy + 32.0 * square(6e-8), "{error} of {energy}");
                for (x, d) in x.iter().zip(d) {
                    prop_assert!(*x != 0.0 || *d == 0.0, "zero became {}", d);
                }
            }
        }
        let again = Grouped::of(&encoded).matrix(shape).unwrap();
        prop_assert_eq!(again, encoded);
    }
}

#[test]
fn grouped_rows_with_given_curves_encode_independently() {
    let (rows, cols) = (7, 300);
    let weights = Random(22).normals(rows * cols, 0.02);
    for (layout, curves) in layouts().flat_map(|layout| Curves::ALL.map(|curves| (layout, curves))) {
        let options = EncodeOptions { curves: Some(curves), ..EncodeOptions::default() };
        let decoded = |x, rows| {
            let recipe = Recipe::new(scheme(layout), options);
            decode(&EncodedTensor::encode_as(x, [rows, cols], FloatDtype::F32, &recipe).unwrap())
        };
        let all = decoded(&weights, rows);
        for (x, d) in weights.chunks(cols).zip(all.chunks(cols)) {
            assert_eq!(bits(&decoded(x, 1)), bits(d));
        }
    }
}

#[test]
fn grouped_row_padding_is_zero_and_ignored() {
    let weights = Random(25).normals(300, 0.02);
    for layout in layouts() {
        let encoded = encode(&weights, [1, 300], scheme(layout)).unwrap();
        let decoded = decode(&encoded);
        // 320 columns fill the same groups, so the padding can be read as columns: it is zero.
        let read = |cols: usize, stored: &Grouped| bits(&decode(&stored.clone().matrix([1, cols]).unwrap()));
        let stored = &Grouped::of(&encoded);
        assert_eq!(read(320, stored)[..300], bits(&decoded));
        assert!(read(320, stored)[300..].iter().all(|bits| f32::from_bits(*bits) == 0.0), "{}", scheme(layout));
        // In the last group, the bits of its 12 weights have an effect, and no others.
        let last = stored.packed.len() - layout.group_bytes()..stored.packed.len();
        let effective = last.flat_map(|byte| (0..8).map(move |bit| (byte, bit))).filter(|(byte, bit)| {
            let mut flipped = stored.clone();
            flipped.packed[*byte] ^= 1 << bit;
            read(300, &flipped) != bits(&decoded)
        });
        assert_eq!(effective.count(), 12 * layout.width().bits(), "{}", scheme(layout));
        let mut filled = stored.clone();
        // Of ten groups, the third selector byte holds two.
        filled.selector[2] |= 0x50;
        assert_eq!(read(300, &filled), bits(&decoded));
        filled.group_scale[9] ^= 0x55;
        assert_ne!(read(300, &filled), bits(&decoded));
    }
}

#[test]
fn grouped_matrix_read_from_checkpoint_equals_encoded() {
    for layout in layouts() {
        let home = Home::new(FloatDtype::Bf16, Shards::One);
        let all = |tensor: &str, shape: &[usize]| {
            let mut parts = parts(tensor, shape)?;
            parts.iter_mut().for_each(|part| part.recipe = part.recipe.take().map(|_| scheme(layout).into()));
            Some(parts)
        };
        home.convert_parts("plain", "out", &all).unwrap();
        let (plain, out) = (open(&home.path("plain")).unwrap(), open(&home.path("out")).unwrap());
        let sources = [("layer.qkv_proj.weight", 0..4), ("layer.qkv_proj.weight", 4..6), ("layer.o_proj.weight", 0..3)];
        for ((module, shape), (tensor, rows)) in ENCODED.into_iter().zip(sources) {
            let weights = &plain.plain(tensor).unwrap().widen()[rows.start * 8..rows.end * 8];
            let recipe = scheme(layout).into();
            let expected = EncodedTensor::encode_as(weights, shape, FloatDtype::Bf16, &recipe).unwrap();
            assert_eq!(out.encoded(module).unwrap(), expected);
            let stored: usize = out
                .tensors()
                .filter(|t| t.starts_with(&format!("{module}.weight_")))
                .map(|t| out.raw(t).unwrap().2.len())
                .sum();
            assert_eq!(stored, expected.file_bytes(false).unwrap());
            assert_eq!(out.bytes_of_module(module).unwrap(), stored);
        }
    }
    // Several schemes in one checkpoint.
    let home = Home::new(FloatDtype::F16, Shards::Two);
    home.convert_parts("plain", "out", &grouped_parts).unwrap();
    let schemes = ENCODED.map(|(module, _)| open(&home.path("out")).unwrap().encoded(module).unwrap().scheme());
    assert_eq!(schemes, [Scheme::Q5, Scheme::Q3, Scheme::Q5]);
}

#[test]
fn scheme_names_parse_and_serialize_alike() {
    for scheme in Scheme::ALL {
        assert_eq!(scheme.name().parse::<Scheme>().unwrap(), scheme);
        assert_eq!(serde_json::from_value::<Scheme>(scheme.to_string().into()).unwrap(), scheme);
        // What files call it.
        let written = if scheme == Scheme::CompandedF32 { "f32" } else { scheme.name() };
        assert_eq!(serde_json::to_value(scheme).unwrap(), written);
    }
    assert_eq!("f32".parse::<Scheme>().unwrap(), Scheme::CompandedF32);
    let error = "q7".parse::<Scheme>().unwrap_err().to_string();
    assert!(
        error.contains("`q7`") && error.contains("companded-f32, lossless, q8g, q8, q6, q5, q4, q3, rate"),
        "{error}"
    );
}

#[test]
fn grouped_matrix_takes_its_bits_plus_three_eighths_per_weight() {
    for layout in layouts() {
        let (shape, weights) = ([16, 1536], 16 * 1536);
        let expected = weights * layout.width().bits() / 8 + weights * 3 / 64 + 8;
        let encoded = encode(&vec![0.5; weights], shape, scheme(layout)).unwrap();
        assert_eq!((encoded.bytes(), encoded.file_bytes(false)), (expected, Ok(expected + 16)), "{}", scheme(layout));
    }
}

#[test]
fn importance_lowers_the_weighted_error() {
    let shape = [32, 512];
    let weights = Random(23).normals(shape[0] * shape[1], 0.02);
    let importance: Vec<f32> = (0..shape[1]).map(|col| if col % 8 == 0 { 100.0 } else { 1.0 }).collect();
    let of_importance = |decoded: &[f32]| {
        let scale = |values: &[f32]| -> Vec<f32> {
            values.iter().enumerate().map(|(i, v)| v * importance[i % shape[1]].sqrt()).collect()
        };
        nmse(&scale(&weights), &scale(decoded))
    };
    for layout in layouts() {
        let weighted = |importance: &[f32]| {
            let recipe = Recipe { importance: Some(importance.into()), ..scheme(layout).into() };
            decode(&EncodedTensor::encode_as(&weights, shape, FloatDtype::F32, &recipe).unwrap())
        };
        let plain = decode(&encode(&weights, shape, scheme(layout)).unwrap());
        let gain = 10.0 * (of_importance(&plain) / of_importance(&weighted(&importance))).log10();
        println!("{}: {gain:.2} dB gained", scheme(layout));
        assert!(gain > 0.5, "{}: {gain:.2} dB", scheme(layout));
        // Equal importance is like none, whatever its size.
        for equal in [1.0, f32::MAX] {
            assert_eq!(bits(&weighted(&vec![equal; shape[1]])), bits(&plain));
        }
        // With no importance at all, any finite result is allowed.
        assert!(weighted(&vec![0.0; shape[1]]).iter().all(|w| w.is_finite()));
    }
}

#[test]
fn invalid_importance_is_rejected() {
    let weighted = |importance: &[f32]| {
        let recipe = Recipe { importance: Some(importance.into()), ..Scheme::Q4.into() };
        EncodedTensor::encode_as(&[0.5; 6], [2, 3], FloatDtype::F32, &recipe)
    };
    assert!(weighted(&[0.0, 1.0, f32::MAX]).is_ok());
    assert_eq!(weighted(&[1.0; 2]).unwrap_err(), EncodeError::Length { expected: [1, 3], found: 2 });
    for bad in [f32::NAN, f32::INFINITY, -1.0] {
        let error = weighted(&[1.0, bad, 1.0]).unwrap_err().to_string();
        assert!(error.contains("column 1") && error.contains("importance"), "{error}");
    }
}

#[test]
fn fixed_alpha_is_rejected_for_grouped_schemes() {
    let options = EncodeOptions { alpha: Some(Alpha::ONE), ..EncodeOptions::default() };
    for layout in layouts() {
        let recipe = Recipe::new(scheme(layout), options);
        let error = EncodedTensor::encode_as(&[0.5], [1, 1], FloatDtype::F32, &recipe).unwrap_err();
        assert_eq!(error, EncodeError::Alpha(scheme(layout)));
        assert!(error.to_string().contains(scheme(layout).name()), "{error}");
    }
}

#[test]
fn scale_overflow_names_its_weight_and_the_range() {
    for layout in layouts() {
        // The limit is 127·65504, plus what the f16 scale rounds down.
        for (largest, fits) in [(8.3e6_f32, true), (-8.3e6, true), (8.4e6, false), (f32::MAX, false)] {
            let result = encode(&[1.0, 2.0, 3.0, largest], [2, 2], scheme(layout));
            assert_eq!(result.is_ok(), fits, "{} {largest}", scheme(layout));
            if let Err(error) = result {
                assert!(matches!(error, EncodeError::AboveRange { row: 1, col: 1, .. }), "{error:?}");
                let message = error.to_string();
                assert!(message.contains("8319008 or less") && message.contains(&largest.to_string()), "{message}");
            }
        }
    }
}

#[test]
fn invalid_stored_parts_are_rejected() {
    let shape = [2, 300];
    for layout in layouts() {
        let good = random_parts(layout, shape, &mut Random(24));
        let attempt = |change: &dyn Fn(&mut Grouped)| {
            let mut stored = good.clone();
            change(&mut stored);
            stored.matrix(shape)
        };
        assert!(attempt(&|_| {}).is_ok());
        let cuts: [&dyn Fn(&mut Grouped); 5] = [
            &|g| g.packed.truncate(1),
            &|g| g.scale.truncate(1),
            &|g| g.group_scale.truncate(1),
            &|g| g.selector.push(0),
            &|g| g.curvature.push(0.0),
        ];
        for cut in cuts {
            assert!(matches!(attempt(cut), Err(EncodeError::Part { .. })));
        }
        for bad in [f32::NAN, f32::INFINITY, -1.0, 65_537.0] {
            let error = attempt(&|g| g.scale[3] = bad).unwrap_err().to_string();
            assert!(error.contains("scale") && error.contains("row 1"), "{error}");
            let error = attempt(&|g| g.curvature[2] = bad).unwrap_err().to_string();
            assert!(error.contains("curvature") && error.contains("row 2"), "{error}");
        }
    }
}
