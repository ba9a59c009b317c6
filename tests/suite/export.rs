//! An encoded checkpoint and its export are the same model, with bit-identical logits for schemes that are multiplied as
//! floats.

use qins_burn::{load, score};
use qins_model::{ModelConfig, Policy, Targets};
use qins_quant::{FloatDtype, convert::convert, export::export};
use qins_quant::{Scheme, checkpoint::Checkpoint, checkpoint::Files};
use tempfile::TempDir;

use crate::common::{device, fixture, on_cpu};

#[test]
fn exported_weights_give_the_logits_of_encoded_ones() {
    // On other devices encoded rows are decoded by the device's own arithmetic.
    if !on_cpu() {
        return;
    }
    let open = |path| Checkpoint::open(Files::Directory(path)).unwrap();
    for model in ["phi3/b_gqa/bf16", "phi3/e_tied/f32"] {
        let source = open(fixture(model));
        let config = ModelConfig::of(&source).unwrap();
        let logits = |checkpoint: &Checkpoint| {
            let model = load(checkpoint, None, &device(), |_, _| {}).unwrap().model;
            score(&model, &[5, 7, 11], &[13, 17, 19, 23, 29]).unwrap()
        };
        let plain = logits(&source);
        for scheme in Scheme::ALL {
            let home = TempDir::new().unwrap();
            let [out, back] = ["out", "back"].map(|name| home.path().join(name));
            convert(&source, &out, &Policy::new(Targets::Full, scheme).parts(&config), &|_| {}).unwrap();
            let encoded = open(out);
            export(&encoded, &back, Some(FloatDtype::F32), &|_| {}).unwrap();
            let found = logits(&encoded);
            let floats = logits(&open(back));
            if [Scheme::Q8, Scheme::Q8g, Scheme::Q6, Scheme::Q5, Scheme::Q4, Scheme::Q3].contains(&scheme) {
                // Codes are multiplied as integers: the NMSE of each product is at most 1e-6.
                let square = |x: f32| f64::from(x) * f64::from(x);
                let error: f64 = found.iter().zip(&floats).map(|(a, b)| square(a - b)).sum();
                let nmse = error / floats.iter().copied().map(square).sum::<f64>();
                assert!(0.0 < nmse && nmse < 1e-5, "{model} {scheme}: NMSE {nmse:e}");
            } else {
                assert_eq!(found, floats, "{model} {scheme}");
            }
            assert_eq!(found == plain, scheme.is_lossless() && (scheme == Scheme::Lossless || model.ends_with("bf16")));
        }
    }
}
