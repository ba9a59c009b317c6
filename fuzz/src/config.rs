//! Bytes as `config.json`.

use std::sync::OnceLock;

use qins_quant::Scheme;
use serde_json::{Value, json};

use crate::model::{Kind, converted, files, kinds, read};

/// A checkpoint with some matrices of different forms.
fn model() -> &'static (Vec<u8>, Vec<u8>) {
    static MODEL: OnceLock<(Vec<u8>, Vec<u8>)> = OnceLock::new();
    let some = |kind: &Kind| {
        let coded = matches!(kind.recipe.scheme, Scheme::Lossless | Scheme::Rate | Scheme::Q4);
        kind.recipe.is_coded() == coded
    };
    MODEL.get_or_init(|| converted(&kinds().into_iter().filter(some).collect::<Vec<_>>()))
}

/// Reads them with a valid shard.
pub fn run(bytes: &[u8]) -> bool {
    read(files(bytes, &model().1))
}

/// Configurations of the shard, with every optional field.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    let config: Value = serde_json::from_slice(&model().0).expect("what a conversion writes");
    let edited = |name: &str, edit: &dyn Fn(&mut Value)| {
        let mut config = config.clone();
        edit(&mut config["quantization_config"]);
        (name.to_owned(), config.to_string().into_bytes())
    };
    vec![
        edited("converted", &|_| {}),
        edited("alpha", &|q| q["config_groups"]["group_0"]["alpha"] = json!(1.0)),
        edited("fused", &|q| q["fused"] = json!({ "whole": ["f32.Bf16", "q8.Bf16"] })),
    ]
}
