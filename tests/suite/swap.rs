//! Which linears are encoded, and that all ways to encode them agree.

use std::{fs, ops::ControlFlow};

use qins_burn::{
    ConvertReport, Error, Generator, Projection, Projections, Visit, convert_linear_to_qins, decoder::Decoder, load,
};
use qins_model::{LinearKind, ModelConfig, Policy, Targets, linears};
use qins_quant::{EncodeOptions, Scheme, checkpoint::Checkpoint, checkpoint::Files};
use qins_quant::{FloatDtype, convert::convert};
use tempfile::TempDir;

use crate::common::{cases, device, fixture};

fn open(name: &str) -> Checkpoint {
    Checkpoint::open(Files::Directory(fixture("phi3").join(name).join("bf16"))).unwrap()
}

fn ids(model: &Decoder) -> Vec<u32> {
    let greedy = Generator::greedy(48, &[]);
    greedy.generate(model, &[5, 17, 40, 3], |_| ControlFlow::Continue(())).unwrap().ids
}

/// Encoding while loading, encoding a loaded model, and loading a converted checkpoint give the same model.
#[test]
fn all_ways_to_encode_give_the_same_model() {
    for name in cases(["b_gqa", "a_mha", "e_tied", "g_phi4mini"], 1) {
        let checkpoint = open(name);
        for scheme in Scheme::ALL {
            for targets in cases([Targets::Full, Targets::Safe, Targets::All, "k,down".parse().unwrap()], 1) {
                let policy = Policy::new(targets.clone(), scheme);
                let loaded = load(&checkpoint, Some(&policy), &device(), |_, _| {}).unwrap();

                let mut swapped = load(&checkpoint, None, &device(), |_, _| {}).unwrap().model;
                let report = convert_linear_to_qins(&mut swapped, &targets, scheme, &EncodeOptions::default()).unwrap();

                let out = TempDir::new().unwrap();
                let config = ModelConfig::of(&checkpoint).unwrap();
                convert(&checkpoint, &out.path().join("q"), &policy.parts(&config), &|_| ()).unwrap();
                let converted = Checkpoint::open(Files::Directory(out.path().join("q"))).unwrap();
                let reopened = load(&converted, None, &device(), |_, _| {}).unwrap();

                let what = format!("{name} {scheme} {targets}");
                assert_eq!(loaded.report.encoded, report.encoded, "{what}");
                assert_eq!(loaded.report.encoded, reopened.report.encoded, "{what}");
                assert_eq!(loaded.report.weight_bytes(), reopened.report.weight_bytes(), "{what}");
                assert_eq!(reopened.report.unused, [], "{what}");
                let expected = ids(&loaded.model);
                assert_eq!(ids(&swapped), expected, "{what}: encoded after loading");
                assert_eq!(ids(&reopened.model), expected, "{what}: converted");
            }
        }
    }
}

#[test]
fn targets_select_the_documented_linears() {
    let config: serde_json::Value = serde_json::from_slice(&fs::read(fixture("phi35/config.json")).unwrap()).unwrap();
    let config = ModelConfig::parse(&config, &fixture("phi35")).unwrap();
    let bytes = |targets: Targets| -> usize {
        linears(&config).iter().filter(|s| targets.contains(s.kind)).map(|s| s.shape[0] * s.shape[1] * 4).sum()
    };
    // The report's 13,824 MiB are all linears of the blocks; those that it intended to encode are 11,520 MiB.
    assert_eq!(bytes(Targets::All), 13_824 << 20);
    assert_eq!(bytes(Targets::Safe), 11_520 << 20);
    assert_eq!(bytes("q,k".parse().unwrap()), 2_304 << 20);
    assert_eq!(bytes(Targets::Full), (13_824 << 20) + 2 * 32_064 * 3072 * 4);
    // q, k and v are identified by their rows in the fused matrix, not by names.
    let v = linears(&config).into_iter().find(|s| s.kind == LinearKind::V).unwrap();
    assert_eq!(v.fused, Some(("model.layers.0.self_attn.qkv_proj".to_owned(), 9216, 6144..9216)));
}

/// The tensor list has exactly the linears and shapes of the published index.
#[test]
fn phi_3_5_index_matches_tensor_list() {
    let read = |name: &str| serde_json::from_slice(&fs::read(fixture("phi35").join(name)).unwrap()).unwrap();
    let config: serde_json::Value = read("config.json");
    let shapes: std::collections::BTreeMap<String, Vec<usize>> =
        serde_json::from_value(read("tensor_shapes.json")).unwrap();
    let config = ModelConfig::parse(&config, &fixture("phi35")).unwrap();
    let mut weights = 0;
    for spec in linears(&config) {
        let (name, rows) = spec.fused.map_or((spec.module, spec.shape[0]), |(fused, total, _)| (fused, total));
        assert_eq!(shapes[&format!("{name}.weight")], [rows, spec.shape[1]], "{name}");
        weights += spec.shape[0] * spec.shape[1];
    }
    let norms: usize = shapes.values().filter(|shape| shape.len() == 1).map(|shape| shape[0]).sum();
    assert_eq!((shapes.len(), weights + norms), (195, 3_821_079_552));
}

/// A user's module with a projection.
struct Own {
    head: Projection,
}

impl Projections for Own {
    fn visit_projections(&mut self, name: &str, visit: &mut Visit<'_>) -> Result<(), Error> {
        visit(LinearKind::Head, &format!("{name}.head"), &mut self.head)
    }
}

#[test]
fn foreign_module_can_be_encoded() {
    let weights = vec![0.5, -0.25, 0.125, 1.0, 0.0, -1.0];
    let mut own = Own { head: Projection::plain(&weights, [2, 3], FloatDtype::F32, &device()) };
    let convert = |own: &mut Own, targets| convert_linear_to_qins(own, &targets, Scheme::Q8, &EncodeOptions::default());
    let plain = ConvertReport { encoded: vec![], plain: vec!["model.head".to_owned()] };
    assert_eq!((convert(&mut own, Targets::Safe).unwrap(), own.head.scheme()), (plain, None));
    let encoded = ConvertReport { encoded: vec!["model.head".to_owned()], plain: vec![] };
    assert_eq!((convert(&mut own, Targets::Full).unwrap(), own.head.scheme()), (encoded, Some(Scheme::Q8)));
}

#[test]
fn nan_weight_is_rejected_with_its_module() {
    let mut own = Own { head: Projection::plain(&[0.5, f32::NAN], [1, 2], FloatDtype::F32, &device()) };
    let error = convert_linear_to_qins(&mut own, &Targets::Full, Scheme::Q8, &EncodeOptions::default()).unwrap_err();
    assert_eq!(error.to_string(), "`model.head`: expected finite weights, found NaN at row 0, column 1");
}
