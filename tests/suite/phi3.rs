//! The model against Transformers: seven tiny random models, each in f32 and bf16, each with both styles of
//! `config.json`; and wrong models that the goldens must distinguish from the right one.

use std::{fs, ops::ControlFlow, path::Path};

use qins_burn::{
    Generator, Session,
    decoder::{CausalLm, Decoder, Input, Logits, Precision},
    load,
};
use qins_model::{ModelConfig, Rope, RopeRegime};
use qins_quant::checkpoint::{Checkpoint, Files};
use qins_quant::kv::{BLOCK, KvScheme};
use safetensors::SafeTensors;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::{self, Goldens, cases, device, fixture, floats, max_abs_diff, on_cpu, values};

const MODELS: [&str; 7] = ["a_mha", "b_gqa", "c_longrope", "d_sliding", "e_tied", "f_partial", "g_phi4mini"];

/// The tolerance between two correct f32 implementations: logits reach ±40 after 2–3 blocks.
const LOGIT_TOLERANCE: f32 = 1e-3;

/// A fixture, its `config.json` put through `edit`.
pub(crate) fn open(dir: &Path, style: &str, edit: impl FnOnce(&mut Value)) -> (TempDir, Decoder) {
    let copy = TempDir::new().unwrap();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    let mut config: Value = serde_json::from_slice(&fs::read(dir.join(style)).unwrap()).unwrap();
    edit(&mut config);
    fs::write(copy.path().join("config.json"), config.to_string()).unwrap();
    let checkpoint = Checkpoint::open(Files::Directory(copy.path().to_owned())).unwrap();
    let loaded = load(&checkpoint, None, &device(), |_, _| {}).unwrap();
    assert_eq!(loaded.report.unused, []);
    (copy, loaded.model)
}

fn prefill(model: &Decoder, ids: &[u32]) -> Vec<f32> {
    values(Session::new(model, ids.len()).extend(ids, Logits::All).unwrap())
}

fn goldens(dir: &Path) -> (Goldens, Vec<u8>) {
    (common::goldens(dir), fs::read(dir.join("goldens.safetensors")).unwrap())
}

/// Generates 64 tokens; gives their ids and logits.
fn generate(model: &Decoder, prompt: &[u32]) -> (Vec<u32>, Vec<f32>) {
    let mut logits = Vec::new();
    let greedy = Generator::greedy(64, &[]);
    let generation = greedy.generate(model, prompt, |step| {
        logits.extend_from_slice(step.logits);
        ControlFlow::Continue(())
    });
    (generation.unwrap().ids, logits)
}

#[test]
fn logits_and_greedy_ids_equal_transformers() {
    for name in MODELS {
        for dtype in ["f32", "bf16"] {
            let dir = fixture("phi3").join(name).join(dtype);
            let (goldens, data) = goldens(&dir);
            let data = SafeTensors::deserialize(&data).unwrap();
            for style in cases(["config.json", "config.hub.json"], 1) {
                let (_copy, model) = open(&dir, style, |_| {});
                for (i, golden) in goldens.prompts.iter().enumerate() {
                    let what = format!("{name} {dtype} {style} prompt {i}");
                    let diff =
                        max_abs_diff(&prefill(&model, &golden.input_ids), &floats(&data, &format!("p{i}.logits")));
                    assert!(diff <= LOGIT_TOLERANCE, "{what}: prefill logits differ by {diff}");
                    let (ids, logits) = generate(&model, &golden.input_ids);
                    assert_eq!(ids, golden.generated, "{what}");
                    let diff = max_abs_diff(&logits, &floats(&data, &format!("p{i}.gen_logits")));
                    assert!(diff <= LOGIT_TOLERANCE, "{what}: generation logits differ by {diff}");
                }
            }
        }
    }
}

/// Models with faults seen in other implementations. The goldens have the change of the logits by each fault in
/// Transformers; the same fault here must have the same effect, so the fixtures detect these faults, and the
/// test above would fail for each that changes its prompts.
#[test]
fn wrong_models_deviate_as_in_transformers() {
    type Edit = fn(&mut Value);
    let always_short: Edit = |c| c["rope_scaling"]["long_factor"] = c["rope_scaling"]["short_factor"].clone();
    let always_long: Edit = |c| c["rope_scaling"]["short_factor"] = c["rope_scaling"]["long_factor"].clone();
    let no_attn_scaling: Edit = |c| c["rope_scaling"]["attention_factor"] = json!(1.0);
    let no_window: Edit = |c| c["sliding_window"] = Value::Null;
    let narrow: Edit = |c| c["sliding_window"] = json!(7);
    let wide: Edit = |c| c["sliding_window"] = json!(9);
    let wrong: [(&str, &str, Edit); 9] = [
        ("c_longrope", "always_short", always_short),
        ("c_longrope", "always_long", always_long),
        ("c_longrope", "no_attn_scaling", no_attn_scaling),
        ("g_phi4mini", "always_short", always_short),
        ("g_phi4mini", "always_long", always_long),
        ("g_phi4mini", "no_attn_scaling", no_attn_scaling),
        ("d_sliding", "window_None", no_window),
        ("d_sliding", "window_7", narrow),
        ("d_sliding", "window_9", wide),
    ];
    for (name, control, edit) in wrong {
        let dir = fixture("phi3").join(name).join("f32");
        let (goldens, data) = goldens(&dir);
        let data = SafeTensors::deserialize(&data).unwrap();
        let (_copy, model) = open(&dir, "config.hub.json", edit);
        let mut caught = false;
        for (i, golden) in goldens.prompts.iter().enumerate() {
            let reference = floats(&data, &format!("p{i}.logits"));
            let expected = goldens.controls[control][format!("p{i}.prefill_max_abs_diff")].as_f64().unwrap() as f32;
            let found = max_abs_diff(&prefill(&model, &golden.input_ids), &reference);
            assert!(
                (found - expected).abs() <= LOGIT_TOLERANCE,
                "{name} {control} prompt {i}: {found}, not {expected}"
            );
            caught |= found > LOGIT_TOLERANCE;
        }
        assert!(caught, "{name}: no prompt distinguishes `{control}` from the right model");
    }
}

/// A cache kept across the length where LongRoPE changes its frequencies gives other tokens: the goldens have the
/// step at which Transformers diverges with this fault, and here it diverges at the same step.
#[test]
fn stale_cache_across_longrope_switch_is_detected() {
    for name in ["c_longrope", "g_phi4mini"] {
        let dir = fixture("phi3").join(name).join("f32");
        let (goldens, _) = goldens(&dir);
        let (_copy, model) = open(&dir, "config.json", |_| {});
        let mut caught = false;
        for (i, golden) in goldens.prompts.iter().enumerate() {
            let expected = goldens.controls["cache_kept_across_switch"][format!("p{i}.first_diff_step")].as_u64();
            let ids = generate_keeping_cache(&model, &golden.input_ids);
            let found = ids.iter().zip(&golden.generated).position(|(a, b)| a != b);
            assert_eq!(found.map(|f| f as u64), expected, "{name} prompt {i}");
            caught |= found.is_some();
        }
        assert!(caught, "{name}: no prompt distinguishes a kept cache from a dropped one");
    }
}

/// Greedy generation with the fault: new frequencies for new tokens, old ones left in the cache.
fn generate_keeping_cache(model: &Decoder, prompt: &[u32]) -> Vec<u32> {
    let mut cache = model.cache(prompt.len() + 64);
    let mut next = prompt.to_vec();
    let mut ids = Vec::new();
    for _ in 0..64 {
        let regime = model.rope().regime(cache.len() + next.len());
        let input = Input { ids: &next, regime, cache: &mut cache, logits: Logits::Last };
        let logits = values(model.forward(&mut [input]));
        let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
        next = vec![best as u32];
        ids.push(best as u32);
    }
    ids
}

/// A sequence read in two chunks, split anywhere, gives the logits of one pass: with a sliding window, and
/// across the LongRoPE switch at 32 tokens, after which the first chunk is read again.
#[test]
fn chunked_extend_equals_one_pass() {
    for name in ["b_gqa", "c_longrope", "d_sliding", "g_phi4mini"] {
        let dir = fixture("phi3").join(name).join("f32");
        let (goldens, _) = goldens(&dir);
        let (_copy, model) = open(&dir, "config.json", |_| {});
        for golden in goldens.prompts {
            let ids = [golden.input_ids, golden.generated].concat();
            let ids = &ids[..44];
            let whole = prefill(&model, ids);
            for cut in [1, 5, 12, 31, 32, 33, 43] {
                // Less capacity than is read, so that the cache has to grow.
                let mut session = Session::new(&model, 8);
                session.extend(&ids[..cut], Logits::Last).unwrap();
                let rest = values(session.extend(&ids[cut..], Logits::All).unwrap());
                let expected = &whole[whole.len() - rest.len()..];
                let diff = max_abs_diff(&rest, expected);
                assert!(diff <= LOGIT_TOLERANCE, "{name}, cut at {cut}: logits differ by {diff}");
                assert_eq!(rest.len() / model.config().vocab_size, ids.len() - cut);
            }
        }
    }
}

/// Chunked prefill: the LongRoPE regime is that of the whole length, wherever a chunk ends.
#[test]
fn chunked_prefill_equals_one_pass() {
    for name in cases(["c_longrope", "a_mha", "b_gqa", "d_sliding", "g_phi4mini"], 1) {
        let dir = fixture("phi3").join(name).join("f32");
        let (goldens, _) = goldens(&dir);
        let (_copy, model) = open(&dir, "config.json", |_| {});
        for golden in goldens.prompts {
            let ids = [golden.input_ids, golden.generated].concat();
            let whole = prefill(&model, &ids);
            for piece in [1, 5, 31] {
                let read = |logits| {
                    values(Session::new(&model, ids.len()).with_prefill_chunk(piece).extend(&ids, logits).unwrap())
                };
                let diff = max_abs_diff(&read(Logits::All), &whole);
                assert!(diff <= LOGIT_TOLERANCE, "{name}, pieces of {piece}: logits differ by {diff}");
                // Only the last logits, which are in several chunks or within one.
                for rows in [1, 7, 33] {
                    let tail = read(Logits::Tail(rows));
                    let expected = &whole[whole.len() - rows * model.config().vocab_size..];
                    assert_eq!(tail.len(), expected.len());
                    let diff = max_abs_diff(&tail, expected);
                    assert!(diff <= LOGIT_TOLERANCE, "{name}, {rows} rows, pieces of {piece}: {diff}");
                }
            }
            // Crossing the switch within a chunk: as token by token.
            let mut session = Session::new(&model, 8).with_prefill_chunk(31);
            session.extend(&ids[..20], Logits::Last).unwrap();
            let crossed = values(session.extend(&ids[20..], Logits::Tail(3)).unwrap());
            let diff = max_abs_diff(&crossed, &whole[whole.len() - crossed.len()..]);
            assert!(diff <= LOGIT_TOLERANCE, "{name}, crossing: logits differ by {diff}");
        }
    }
}

/// With a sliding window, the LongRoPE switch at 32 tokens and grouped heads, encoded caches attend to the same positions.
#[test]
fn encoded_cache_attends_to_the_same_positions() {
    for name in ["b_gqa", "c_longrope", "d_sliding", "g_phi4mini"] {
        let dir = fixture("phi3").join(name).join("f32");
        let (goldens, _) = goldens(&dir);
        let (_copy, mut model) = open(&dir, "config.json", |_| {});
        for golden in goldens.prompts {
            let ids = [golden.input_ids, golden.generated].concat();
            let plain = prefill(&model, &ids);
            // Rounding keys and values to 11 bits changes the logits of ±40 by a tenth; a token more or less in the attention
            // changes them by more than 1.
            model.set_kv(KvScheme::F16);
            let whole = prefill(&model, &ids);
            let off = max_abs_diff(&whole, &plain);
            assert!(off > 0.0 && off < 0.5, "{name}: logits differ by {off}");
            let mut session = Session::new(&model, 8).with_prefill_chunk(7);
            session.extend(&ids[..20], Logits::Last).unwrap();
            let rest = values(session.extend(&ids[20..], Logits::All).unwrap());
            // Another order of summation may round an element the other way.
            let diff = max_abs_diff(&rest, &whole[whole.len() - rest.len()..]);
            assert!(diff < 0.1, "{name}, in pieces: logits differ by {diff}");
            assert_eq!(session.cache().bytes(), 2 * size_of::<u16>() * cached_numbers(&model, ids.len()), "{name}");
            model.set_kv(KvScheme::F32);
        }
    }
}

/// Elements of keys or values in a cache after `len` tokens, without the blocks that no later token attends to; on a GPU with them.
fn cached_numbers(model: &Decoder, len: usize) -> usize {
    let config = model.config();
    let kept = |window: Option<usize>| {
        let dropped = window.filter(|_| on_cpu()).map_or(0, |window| (len + 1).saturating_sub(window) / BLOCK * BLOCK);
        len - dropped
    };
    let tokens: usize = config.layers.iter().map(|layer| kept(layer.window)).sum();
    tokens * config.num_key_value_heads * config.head_dim
}

/// Writing in place must not affect clones: a cache and its clone continue independently.
#[test]
fn cloned_cache_is_independent() {
    let (_copy, mut model) = open(&fixture("phi3/b_gqa/f32"), "config.json", |_| {});
    for scheme in KvScheme::ALL {
        model.set_kv(scheme);
        let read = |ids: &[u32], cache: &mut _| {
            let input = Input { ids, regime: RopeRegime::Short, cache, logits: Logits::Last };
            values(model.forward(&mut [input]))
        };
        // Past one encoded block, and before the next.
        let begun: Vec<u32> = (0..70).map(|i| 3 + i * 7 % 90).collect();
        let (one, other) = ([5, 6, 7], [80, 81, 82]);
        let alone = |rest: &[u32]| {
            let mut cache = model.cache(100);
            read(&begun, &mut cache);
            read(rest, &mut cache);
            read(&[9], &mut cache)
        };
        let mut cache = model.cache(100);
        read(&begun, &mut cache);
        let mut clone = cache.clone();
        read(&one, &mut cache);
        read(&other, &mut clone);
        let (found, cloned) = (read(&[9], &mut cache), read(&[9], &mut clone));
        assert!(max_abs_diff(&found, &cloned) > LOGIT_TOLERANCE, "{scheme}: what was read makes no difference");
        assert!(max_abs_diff(&found, &alone(&one)) <= LOGIT_TOLERANCE, "{scheme}");
        assert!(max_abs_diff(&cloned, &alone(&other)) <= LOGIT_TOLERANCE, "{scheme}, cloned");
    }
}

#[test]
fn bf16_arithmetic_rounds_every_result() {
    let (_copy, mut model) = open(&fixture("phi3/b_gqa/f32"), "config.json", |_| {});
    let ids = [5, 6, 7, 8];
    let exact = prefill(&model, &ids);
    model.set_precision(Precision::Bf16);
    let rounded = prefill(&model, &ids);
    assert!(rounded.iter().all(|logit| logit.to_bits() & 0xffff == 0), "{:?}", &rounded[..4]);
    // Of the order of the type's half step, 2⁻⁹, of the largest, over some dozen roundings.
    let largest = exact.iter().fold(0.0_f32, |largest, logit| largest.max(logit.abs()));
    let diff = max_abs_diff(&exact, &rounded) / largest;
    assert!((1e-4..0.05).contains(&diff), "{diff}");
    model.set_precision(Precision::F32);
    assert_eq!(prefill(&model, &ids), exact);
}

#[test]
fn invalid_ids_are_rejected_and_change_nothing() {
    let (_copy, model) = open(&fixture("phi3/a_mha/f32"), "config.json", |_| {});
    let mut session = Session::new(&model, usize::MAX);
    session.extend(&[5, 6], Logits::Last).unwrap();
    let vocabulary = model.config().vocab_size as u32;
    let too_long = vec![5; model.config().max_position_embeddings - 1];
    for (ids, message) in [
        (vec![], "expected at least one token, found an empty sequence"),
        (vec![7, vocabulary], "expected token ids below 96, the model's vocabulary, found 96"),
        (too_long, "expected at most 512 tokens, the model's context, found 513"),
    ] {
        assert_eq!(session.extend(&ids, Logits::Last).unwrap_err().to_string(), message);
        assert_eq!(session.ids(), [5, 6]);
    }
    let after = values(session.extend(&[7], Logits::Last).unwrap());
    let whole = prefill(&model, &[5, 6, 7]);
    assert!(max_abs_diff(&after, &whole[whole.len() - after.len()..]) <= LOGIT_TOLERANCE);
    assert!(qins_burn::score(&model, &[], &[5, 6]).is_err());
}

#[test]
fn phi_3_5_rope_equals_published_tables() {
    let dir = fixture("phi35");
    let config: Value = serde_json::from_slice(&fs::read(dir.join("config.json")).unwrap()).unwrap();
    let config = ModelConfig::parse(&config, &dir).unwrap();
    let rope = Rope::new(&config.rope);
    // √(1 + ln 32 / ln 4096)
    assert!((rope.scaling() - 1.190_238_1).abs() < 1e-6, "{}", rope.scaling());
    assert_eq!((rope.regime(4096), rope.regime(4097)), (RopeRegime::Short, RopeRegime::Long));
    let data = fs::read(dir.join("rope_tables.safetensors")).unwrap();
    let tables = SafeTensors::deserialize(&data).unwrap();
    for (name, regime) in [("short", RopeRegime::Short), ("long", RopeRegime::Long)] {
        let expected = floats(&tables, &format!("inv_freq_{name}"));
        let found = rope.frequencies(regime);
        assert_eq!(found.len(), 48);
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found / expected - 1.0).abs() < 1e-6, "{name}: {found}, not {expected}");
        }
    }
}
