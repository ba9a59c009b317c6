//! Reports for tests: one with every kind of content, and one with almost none.

use super::{
    Baseline, Candidate, Computation, Context, Continuation, Criterion, Data, Environment, Figures, LayerFidelity,
    Model, PromptResult, REPORT_VERSION, Report, Role, Run, Sensitivity, Settings, Text, continuation, free_run,
    teacher_forced,
};
use crate::{agreement::Position, estimate::Estimate};

/// Texts, metrics, contexts, a sweep, and every role; names and prompts contain what HTML and Markdown must escape.
pub(super) fn report() -> Report {
    let texts: Vec<Text> = (0..9).map(text).collect();
    let judged = candidate("q8 <b>|*", Role::Judged, 8.25, 3, &texts);
    let coarse = candidate("q4", Role::Judged, 4.5, 1, &texts);
    let control = candidate("bad", Role::Control, 8.25, 0, &texts);
    let mut noise = candidate("bf16 arithmetic", Role::Information, 16.0, 4, &texts);
    (noise.bits_per_weight, noise.settings.computation) = (None, Some(Computation::Bf16));
    let part = |part: &str, kl: f64| Sensitivity {
        scheme: "q4".to_owned(),
        part: part.to_owned(),
        weights: 1000,
        top1_agreement: Some(near(0.9)),
        mean_kl: Some(near(kl)),
    };
    Report {
        passed: true,
        baseline: Baseline {
            generated_tokens: texts.len() * 8,
            tokens_per_second: Some(10.0),
            sampled: texts.clone(),
            texts,
        },
        candidates: vec![judged, coarse, noise, control],
        sensitivity: vec![part("block 0", 1e-3), part("block 1", 0.0), part("q_proj", 2e-4), part("down_proj", 2e-3)],
        ..bare()
    }
}

/// The first, interrupted before two of its candidates.
pub(super) fn partial() -> Report {
    let missing = ["q3 <b>", "q8 α=0.01"].map(str::to_owned).to_vec();
    Report { passed: false, partial: true, missing, ..report() }
}

/// One candidate without metrics, and nothing else.
pub(super) fn bare() -> Report {
    let data = Data { name: "prompts_a.jsonl".to_owned(), count: 9, xxh3: "00".to_owned() };
    Report {
        report_version: REPORT_VERSION,
        passed: true,
        partial: false,
        missing: Vec::new(),
        environment: Environment {
            qins: "0.1.0".to_owned(),
            platform: "linux x86_64".to_owned(),
            cpu: None,
            threads: 2,
            backend: "flex".to_owned(),
            peak_rss_bytes: None,
        },
        run: Run {
            preset: "quick".to_owned(),
            max_new_tokens: 8,
            temperature: None,
            seed: 1,
            prompts: data.clone(),
            text: None,
            special_tokens: None,
        },
        model: Model {
            name: "atlas".to_owned(),
            model_type: "phi3".to_owned(),
            parameters: 3_400_000,
            weight_bytes: 6_800_000,
            xxh3: "00".to_owned(),
        },
        baseline: Baseline { generated_tokens: 0, tokens_per_second: None, texts: Vec::new(), sampled: Vec::new() },
        candidates: vec![Candidate { criteria: Vec::new(), ..candidate("q8", Role::Judged, 8.25, 0, &[]) }],
        sensitivity: Vec::new(),
    }
}

fn near(value: f64) -> Estimate {
    Estimate { value, low: 0.5 * value, high: 1.5 * value }
}

fn text(i: u32) -> Text {
    Text {
        id: format!("fact-{i}"),
        prompt: Some(format!("<script>alert({i})</script> of")),
        input_ids: vec![1, 2],
        text: Some(format!(" is & was, {i} of old")),
        generated_ids: (0..8).collect(),
        margins: vec![0.125; 8],
    }
}

/// Diverges from every text but each `period`th; from all if that is 0.
fn candidate(name: &str, role: Role, bits: f64, period: usize, texts: &[Text]) -> Candidate {
    let kl = 10_f64.powf(-bits);
    let position = |top1_agrees| Position {
        top1_agrees,
        kl,
        top10_overlap: 0.9,
        cosine: 0.99,
        coupled_agreement: 0.9,
        baseline_nll: 1.0,
        nll: 1.0 + kl,
    };
    let predictions = teacher_forced(&vec![vec![position(true), position(false)]; texts.len()]);
    let write = |(i, text): (usize, &Text)| {
        let same = i.checked_rem(period).is_some_and(|rest| rest == 0);
        let ids: Vec<u32> = text.generated_ids.iter().map(|id| if same || *id < 3 { *id } else { 99 }).collect();
        continuation(&text.generated_ids, &ids, &text.margins, Some(" is & has been <i>".to_owned()))
    };
    let written: Vec<Continuation> = texts.iter().enumerate().map(write).collect();
    let prompts = texts.iter().zip(&written).map(|(text, written)| PromptResult {
        id: text.id.clone(),
        tokens: text.generated_ids.len(),
        top1_agreement: None,
        mean_kl: None,
        expected: None,
        greedy: Some(written.clone()),
        sampled: Some(written.clone()),
    });
    let layer = |i: usize| LayerFidelity {
        module: format!("model.layers.{i}.mlp.down_proj"),
        scheme: "q8".to_owned(),
        sqnr_db: Some(40.0 + i as f64),
        cosine: Some(0.9999),
    };
    let passed = role != Role::Control;
    Candidate {
        name: name.to_owned(),
        role,
        settings: Settings { scheme: "q8".to_owned(), targets: "all".to_owned(), ..Settings::default() },
        linears: [("q8".to_owned(), 2)].into(),
        weight_bytes: (bits * 425_000.0) as u64,
        kv_bytes_per_1000_tokens: 4000,
        kv_bits_per_number: 8.25,
        encoded_weights: 3_000_000,
        bits_per_weight: Some(bits),
        tokens_per_second: None,
        figures: Figures {
            greedy: free_run(&written),
            sampled: free_run(&written),
            text: predictions.clone(),
            contexts: predictions
                .iter()
                .map(|f| Context { tokens: 512, length: 640, teacher_forced: f.clone() })
                .collect(),
            teacher_forced: predictions,
        },
        criteria: vec![Criterion {
            name: "mean KL divergence".to_owned(),
            threshold: "≤ 0.002".to_owned(),
            measured: kl,
            passed,
        }],
        passed: true,
        prompts: prompts.collect(),
        layers: texts.first().map(|_| vec![layer(0), layer(1)]).unwrap_or_default(),
    }
}
