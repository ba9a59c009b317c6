//! Every family against Transformers: thirteen tiny random models; and wrong models that the goldens must distinguish from the right one.

use std::{fs, ops::ControlFlow, path::Path};

use qins_burn::{
    Generator, Session,
    decoder::{Decoder, Logits},
    load,
};
use qins_model::{Conversion, ModelConfig, Targets, families, linears};
use qins_quant::{
    FloatDtype, Scheme,
    checkpoint::{Checkpoint, Files},
    export::export,
    kv::KvScheme,
    verify::verify,
};
use safetensors::SafeTensors;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::{self, Golden, cases, device, fixture, floats, max_abs_diff, on_cpu, values};

const MODELS: [&str; 13] = [
    "gemma3",
    "gemma2",
    "granite",
    "llama3_rope",
    "llama_bias_tied",
    "llama_head_dim",
    "llama_linear",
    "llama_yarn",
    "mistral",
    "olmo2",
    "qwen2",
    "qwen3",
    "smollm3",
];

/// The tolerance between two correct f32 implementations.
const LOGIT_TOLERANCE: f32 = 1e-3;

fn goldens(name: &str) -> Vec<Golden> {
    common::goldens(&fixture("families").join(name)).prompts
}

fn checkpoint(dir: &Path) -> Checkpoint {
    Checkpoint::open(Files::Directory(dir.to_owned())).unwrap()
}

fn model(name: &str) -> Decoder {
    let loaded = load(&checkpoint(&fixture("families").join(name)), None, &device(), |_, _| {}).unwrap();
    assert_eq!(loaded.report.unused, [], "{name}");
    loaded.model
}

/// The fixture with another `config.json`, loaded.
fn edited(name: &str, edit: impl FnOnce(&mut Value)) -> Result<Decoder, String> {
    let (dir, copy) = (fixture("families").join(name), TempDir::new().unwrap());
    fs::copy(dir.join("model.safetensors"), copy.path().join("model.safetensors")).unwrap();
    let mut config: Value = serde_json::from_slice(&fs::read(dir.join("config.json")).unwrap()).unwrap();
    edit(&mut config);
    fs::write(copy.path().join("config.json"), config.to_string()).unwrap();
    load(&checkpoint(copy.path()), None, &device(), |_, _| {}).map(|loaded| loaded.model).map_err(|e| e.to_string())
}

fn prefill(model: &Decoder, ids: &[u32]) -> Vec<f32> {
    values(Session::new(model, ids.len()).extend(ids, Logits::All).unwrap())
}

/// The largest difference of the logits of all prompts from those of Transformers.
fn off(name: &str, model: &Decoder) -> f32 {
    let data = fs::read(fixture("families").join(name).join("goldens.safetensors")).unwrap();
    let data = SafeTensors::deserialize(&data).unwrap();
    let differences = goldens(name)
        .into_iter()
        .enumerate()
        .map(|(i, golden)| max_abs_diff(&prefill(model, &golden.input_ids), &floats(&data, &format!("p{i}.logits"))));
    differences.fold(0.0, f32::max)
}

#[test]
fn logits_and_greedy_ids_equal_transformers() {
    for name in cases(MODELS, 4) {
        let model = model(name);
        let off = off(name, &model);
        assert!(off <= LOGIT_TOLERANCE, "{name}: logits differ by {off}");
        for (i, golden) in goldens(name).into_iter().enumerate() {
            let greedy = Generator::greedy(golden.generated.len(), &[]);
            let ids = greedy.generate(&model, &golden.input_ids, |_| ControlFlow::Continue(())).unwrap().ids;
            assert_eq!((ids.len(), &ids), (48, &golden.generated), "{name}, prompt {i}");
        }
    }
}

#[test]
fn every_family_has_a_fixture() {
    let mut fixtures: Vec<String> = MODELS
        .map(|name| {
            let config = fs::read(fixture("families").join(name).join("config.json")).unwrap();
            serde_json::from_slice::<Value>(&config).unwrap()["model_type"].as_str().unwrap().to_owned()
        })
        .into();
    fixtures.push("phi3".to_owned());
    fixtures.sort();
    fixtures.dedup();
    assert_eq!(fixtures, families().collect::<Vec<_>>());
}

#[test]
fn prefill_in_pieces_equals_one_pass() {
    for name in cases(MODELS, 2) {
        let model = model(name);
        for golden in cases(goldens(name), 1) {
            let ids = golden.whole();
            let whole = prefill(&model, &ids);
            for piece in [1, 5, 31] {
                let mut session = Session::new(&model, 8).with_prefill_chunk(piece);
                let found = values(session.extend(&ids, Logits::All).unwrap());
                let diff = max_abs_diff(&found, &whole);
                assert!(diff <= LOGIT_TOLERANCE, "{name}, pieces of {piece}: logits differ by {diff}");
            }
        }
    }
}

/// Windows, blocks without rotation, soft caps and factors hold for encoded caches too. Rounding keys and values to 11 bits changes
/// logits little; another structure changes them by more than 1.
#[test]
fn encoded_cache_computes_the_same_attention() {
    for name in cases(MODELS, 2) {
        let mut model = model(name);
        for golden in cases(goldens(name), 1) {
            let ids = golden.whole();
            let plain = prefill(&model, &ids);
            model.set_kv(KvScheme::F16);
            let mut session = Session::new(&model, 8).with_prefill_chunk(7);
            session.extend(&ids[..20], Logits::Last).unwrap();
            let found = values(session.extend(&ids[20..], Logits::All).unwrap());
            let largest = plain.iter().fold(0.0_f32, |largest, logit| largest.max(logit.abs()));
            let diff = max_abs_diff(&found, &plain[plain.len() - found.len()..]) / largest;
            assert!(diff < 0.02, "{name}: logits differ by {diff} of the largest");
            model.set_kv(KvScheme::F32);
        }
    }
}

/// A wrong choice in the description of a family deviates from the goldens.
#[test]
fn wrong_choices_deviate() {
    type Edit = fn(&mut Value);
    let wrong: [(&str, &str, Edit); 27] = [
        ("llama3_rope", "no scaling", |c| c["rope_parameters"] = json!({ "rope_theta": 5e5 })),
        ("llama3_rope", "factor", |c| c["rope_parameters"]["factor"] = json!(4.0)),
        ("llama3_rope", "theta", |c| c["rope_parameters"]["rope_theta"] = json!(1e4)),
        ("llama3_rope", "original length", |c| c["rope_parameters"]["original_max_position_embeddings"] = json!(1024)),
        ("llama_linear", "no scaling", |c| c["rope_parameters"] = json!({ "rope_theta": 1e4 })),
        ("llama_linear", "factor", |c| c["rope_parameters"]["factor"] = json!(2.0)),
        ("llama_yarn", "no scaling", |c| c["rope_parameters"] = json!({ "rope_theta": 1e4 })),
        ("llama_yarn", "attention factor", |c| c["rope_parameters"]["attention_factor"] = json!(1.0)),
        ("llama_yarn", "linear", |c| c["rope_parameters"] = json!({ "rope_type": "linear", "factor": 4.0 })),
        ("llama_yarn", "band", |c| c["rope_parameters"]["beta_slow"] = json!(4.0)),
        ("mistral", "no window", |c| c["sliding_window"] = Value::Null),
        ("mistral", "narrow window", |c| c["sliding_window"] = json!(15)),
        ("mistral", "wide window", |c| c["sliding_window"] = json!(17)),
        ("smollm3", "rotation everywhere", |c| c["no_rope_layers"] = json!([1, 1, 1, 1])),
        ("smollm3", "another block without", |c| c["no_rope_layers"] = json!([0, 1, 1, 1])),
        ("granite", "embedding factor", |c| c["embedding_multiplier"] = json!(1.0)),
        ("granite", "attention factor", |c| c["attention_multiplier"] = json!(0.35)),
        ("granite", "residual factor", |c| c["residual_multiplier"] = json!(1.0)),
        ("granite", "logits factor", |c| c["logits_scaling"] = json!(1.0)),
        ("gemma2", "no cap of scores", |c| c["attn_logit_softcapping"] = Value::Null),
        ("gemma2", "no cap of logits", |c| c["final_logit_softcapping"] = Value::Null),
        ("gemma2", "query scale", |c| c["query_pre_attn_scalar"] = json!(64)),
        ("gemma2", "activation", |c| c["hidden_activation"] = json!("silu")),
        ("gemma2", "windows swapped", |c| c["layer_types"].as_array_mut().unwrap().reverse()),
        ("gemma3", "no windows", |c| c["layer_types"] = json!(vec!["full_attention"; 6])),
        ("gemma3", "window", |c| c["sliding_window"] = json!(17)),
        ("gemma3", "one rope", |c| {
            c["rope_parameters"]["sliding_attention"] = c["rope_parameters"]["full_attention"].clone();
        }),
    ];
    for (name, choice, edit) in cases(wrong, 0) {
        let off = off(name, &edited(name, edit).unwrap());
        assert!(off > LOGIT_TOLERANCE, "{name}: no prompt distinguishes `{choice}` from the right model ({off})");
    }
    // The control of the controls: unchanged, each loads.
    for name in cases(MODELS, 0) {
        assert!(off(name, &edited(name, |_| {}).unwrap()) <= LOGIT_TOLERANCE, "{name}");
    }
}

/// One that leaves a stored tensor over, or lacks one, is refused by its name.
#[test]
fn wrong_choices_that_do_not_fit_the_tensors_are_refused() {
    type Edit = fn(&mut Value);
    let wrong: [(&str, Edit, &[&str]); 8] = [
        ("llama_bias_tied", |c| c["attention_bias"] = json!(false), &["_proj.bias`", "found one more"]),
        ("llama_bias_tied", |c| c["mlp_bias"] = json!(false), &["_proj.bias`", "found one more"]),
        ("llama_bias_tied", |c| c["tie_word_embeddings"] = json!(false), &["`lm_head.weight`", "no such tensor"]),
        ("llama_head_dim", |c| c["head_dim"] = json!(8), &["q_proj.weight`", "expected shape"]),
        ("qwen2", |c| c["model_type"] = json!("llama"), &["k_proj.bias`", "found one more"]),
        ("qwen3", |c| c["model_type"] = json!("llama"), &["k_norm.weight`", "found one more"]),
        ("olmo2", |c| c["model_type"] = json!("llama"), &["input_layernorm.weight`", "no such tensor"]),
        (
            "gemma3",
            |c| {
                c["model_type"] = json!("gemma2");
                c["rope_parameters"] = json!({ "rope_theta": 1e4 });
            },
            &["k_norm.weight`", "found one more"],
        ),
    ];
    for (name, edit, messages) in cases(wrong, 0) {
        let error = edited(name, edit).map(drop).expect_err(name);
        messages.iter().for_each(|message| assert!(error.contains(message), "{name}: {error}"));
    }
}

/// Older files, as the hub has them, describe the same model.
#[test]
fn settings_in_their_older_places_describe_the_same_model() {
    type Edit = fn(&mut Value);
    let older: [(&str, Edit); 5] = [
        ("llama3_rope", |c| {
            let mut rope = c["rope_parameters"].take();
            c["rope_theta"] = rope["rope_theta"].take();
            rope.as_object_mut().unwrap().remove("rope_theta");
            c["rope_scaling"] = rope;
        }),
        ("gemma3", |c| {
            for field in ["rope_parameters", "layer_types", "_sliding_window_pattern"] {
                c[field].take();
            }
            c["rope_theta"] = json!(1e6);
            c["rope_local_base_freq"] = json!(1e4);
            c["sliding_window_pattern"] = json!(6);
        }),
        ("gemma2", |c| {
            c["layer_types"].take();
            c["hidden_act"] = json!("gelu");
        }),
        ("smollm3", |c| {
            c["no_rope_layers"].take();
            c["layer_types"].take();
        }),
        ("qwen2", |c| {
            c["layer_types"].take();
            c["sliding_window"] = json!(4);
        }),
    ];
    for (name, edit) in cases(older, 0) {
        let off = off(name, &edited(name, edit).unwrap());
        assert!(off <= LOGIT_TOLERANCE, "{name}: logits differ by {off}");
    }
}

/// What `config.json` does not say is as Transformers assumes it.
#[test]
fn absent_settings_are_those_of_transformers() {
    let parsed = |name: &str, edit: &dyn Fn(&mut serde_json::Map<String, Value>)| {
        let file = fs::read(fixture("families").join(name).join("config.json")).unwrap();
        let mut config: Value = serde_json::from_slice(&file).unwrap();
        edit(config.as_object_mut().unwrap());
        ModelConfig::parse(&config, Path::new("config.json")).unwrap()
    };
    let windows = |model: &ModelConfig| model.layers.iter().map(|layer| layer.window).collect::<Vec<_>>();
    let mistral = parsed("mistral", &|c| drop(c.remove("sliding_window")));
    assert_eq!(windows(&mistral), [Some(4096); 3]);
    assert_eq!(windows(&parsed("mistral", &|c| c["sliding_window"] = Value::Null)), [None; 3]);
    let qwen = |window: Option<Value>| {
        parsed("qwen2", &|c| {
            c.remove("layer_types");
            c["use_sliding_window"] = json!(true);
            c["max_window_layers"] = json!(1);
            match &window {
                Some(window) => drop(c.insert("sliding_window".to_owned(), window.clone())),
                None => drop(c.remove("sliding_window")),
            }
        })
    };
    assert_eq!(windows(&qwen(None)), [None, Some(4096), Some(4096)]);
    assert_eq!(windows(&qwen(Some(Value::Null))), [None; 3]);
    assert_eq!(windows(&qwen(Some(json!(5)))), [None, Some(5), Some(5)]);
    // The blocks without rotation have the window.
    let smollm = parsed("smollm3", &|c| {
        c.remove("layer_types");
        c["use_sliding_window"] = json!(true);
        c["sliding_window"] = json!(8);
    });
    assert_eq!(windows(&smollm), [None, None, None, Some(8)]);
    let gemma = parsed("gemma3", &|c| {
        c.insert("rope_theta".to_owned(), json!(5e5));
        c["rope_parameters"]["full_attention"] = json!({ "rope_type": "linear", "factor": 8.0 });
    });
    assert_eq!((gemma.rope.theta, gemma.local_rope.unwrap().theta), (5e5, 1e4));
    // Key and value heads of 64; null is one for each.
    let families = [("gemma2", 4), ("gemma3", 4), ("granite", 64), ("llama_linear", 64), ("mistral", 8), ("olmo2", 64)];
    for (name, assumed) in families.into_iter().chain([("qwen2", 32), ("qwen3", 32), ("smollm3", 4)]) {
        let heads = |given: Option<Value>| {
            let model = parsed(name, &|c| {
                c.insert("head_dim".to_owned(), json!(2));
                c.insert("num_attention_heads".to_owned(), json!(64));
                c.remove("num_key_value_heads");
                c.extend(given.iter().map(|given| ("num_key_value_heads".to_owned(), given.clone())));
            });
            model.num_key_value_heads
        };
        assert_eq!((heads(None), heads(Some(Value::Null)), heads(Some(json!(16)))), (assumed, 64, 16), "{name}");
    }
    // 32 is not chosen for 14 heads.
    let config = json!({ "model_type": "qwen2", "vocab_size": 9, "hidden_size": 56, "intermediate_size": 8, "num_hidden_layers": 1,
        "num_attention_heads": 14, "max_position_embeddings": 9, "rms_norm_eps": 1e-6, "hidden_act": "silu" });
    let error = ModelConfig::parse(&config, Path::new("config.json")).unwrap_err().to_string();
    assert!(error.contains("expected num_key_value_heads, since the 32 of `qwen2` do not divide 14 heads"), "{error}");
}

/// Converted, verified, reopened and exported, each family is still the same model: lossless to the bit, and encoded as its export is.
#[test]
fn every_family_is_converted_and_exported() {
    if !on_cpu() {
        // Files and conversion are the same on every device.
        return;
    }
    for name in MODELS {
        let source = checkpoint(&fixture("families").join(name));
        let ids = &goldens(name)[0].input_ids;
        let logits = |checkpoint: &Checkpoint| {
            let loaded = load(checkpoint, None, &device(), |_, _| {}).unwrap();
            assert_eq!(loaded.report.unused, [], "{name}");
            prefill(&loaded.model, ids)
        };
        let plain = logits(&source);
        for scheme in [Scheme::Lossless, Scheme::Q8, Scheme::Q4] {
            let home = TempDir::new().unwrap();
            let [out, back] = ["out", "back"].map(|name| home.path().join(name));
            Conversion::of(&source).unwrap().scheme(scheme).targets(Targets::Full).write(&out).unwrap();
            let encoded = checkpoint(&out);
            let verified = verify(&encoded, Some(&source), &|_| {}).unwrap();
            assert!(verified.faults.is_empty() && verified.checksums > 0, "{name} {scheme}: {:?}", verified.faults);
            assert_eq!(verified.modules.len(), linears(&ModelConfig::of(&source).unwrap()).len(), "{name} {scheme}");
            for module in &verified.modules {
                // Of 4 bits a Gaussian has 23 dB; rows of a few dozen weights have less.
                let exact = module.fidelity.changed == 0;
                let (found, module) = (module.fidelity.sqnr_db(), &module.name);
                assert!(
                    if scheme.is_lossless() { exact } else { found > Some(20.0) },
                    "{name} {scheme} {module}: {found:?}"
                );
            }
            export(&encoded, &back, Some(FloatDtype::F32), &|_| {}).unwrap();
            let (found, exported) = (logits(&encoded), logits(&checkpoint(&back)));
            let square = |x: f32| f64::from(x) * f64::from(x);
            let nmse = |a: &[f32], b: &[f32]| {
                let error: f64 = a.iter().zip(b).map(|(a, b)| square(a - b)).sum();
                error / b.iter().copied().map(square).sum::<f64>()
            };
            if scheme.is_lossless() {
                assert_eq!(found, plain, "{name} {scheme}");
                assert_eq!(exported, plain, "{name} {scheme}");
            } else {
                // Codes are multiplied as integers: the NMSE of each product is at most 1e-6.
                assert!(nmse(&found, &exported) < 1e-4, "{name} {scheme}: NMSE {:e}", nmse(&found, &exported));
                // Rounded weights of tiny random models change much, and another model everything.
                let error = nmse(&found, &plain);
                assert!(0.0 < error && error < 0.5, "{name} {scheme}: NMSE {error:e} of the plain model");
            }
        }
    }
}
