//! `qins sweep`.

use clap::Args;
use qins_eval::{
    Comparison, EvalModel, Evaluation, Split, Variant, Weights, kv_variants, plain_controls,
    report::{Role, Sensitivity, Settings, Thresholds},
    sensitivity::{ablations, blocks, roles},
};
use qins_model::{ModelConfig, Policy, Targets, TextReader, check_plain, linears};
use qins_quant::{Recipe, Scheme, kv::KvScheme};

use super::validate::INTERRUPTED;
use crate::{
    Outcome,
    args::{DeviceArgs, EvalArgs, ModelArgs, ReportArgs},
    environment::environment,
    interrupt,
    load::Loader,
    model,
    output::Outputs,
    stages::{Bars, stage},
};

/// Compare every scheme for every set of targets, and measure the sensitivity of each part of a model.
///
/// Each scheme encodes the linears of each `--targets`, and is compared with the baseline as in `validate`, without
/// thresholds; the report plots size against fidelity. Then, in one scheme, each block is encoded by itself, each role of
/// linears, and the safe targets with and without q and k, embedding and head.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  qins sweep
  qins sweep --model DIR --schemes q8,q6,q4 --targets safe --targets all --report sweep.json")]
pub(crate) struct Sweep {
    #[command(flatten)]
    model: ModelArgs,
    /// The schemes, separated by commas
    #[arg(long, value_delimiter = ',', default_value = "q8g,q8,q6,q5,q4,q3", value_name = "SCHEMES")]
    schemes: Vec<Scheme>,
    /// Which linears to encode: safe, all, full or a list; may be repeated
    #[arg(long, default_value = "all", value_name = "POLICY")]
    targets: Vec<Targets>,
    /// The scheme of the sensitivity analysis
    #[arg(long, default_value = "q4", value_name = "SCHEME")]
    parts: Scheme,
    /// Also compare plain weights with the KV cache in these schemes, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "SCHEMES")]
    kv: Vec<KvScheme>,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    eval: EvalArgs,
    #[command(flatten)]
    report: ReportArgs,
}

impl Sweep {
    pub(crate) fn run(mut self) -> Outcome {
        self.model = self.eval.model(self.model);
        let plan = self.eval.plan(&self.model)?;
        let mut outputs = self.eval.files(Outputs::default())?;
        let files = self.report.open(&mut outputs)?;
        let source = model::open(&self.model)?;
        outputs.expect_apart(&source)?;
        let config = ModelConfig::of(&source.checkpoint)?;
        check_plain(&source.checkpoint, &config)?;
        let reader = TextReader::open(source.checkpoint.files())?;
        let eval_set = self.eval.eval_set(&plan, &self.model, &source, &reader, Split::All)?;
        let mut variants = Vec::new();
        for targets in &self.targets {
            for scheme in &self.schemes {
                let policy = Policy::new(targets.clone(), Recipe::from(*scheme));
                policy.check(&config)?;
                variants.push(self.variant(policy));
            }
        }
        let evaluation = Evaluation {
            source: &source,
            loader: &Loader(self.device.device()?),
            eval_set: &eval_set,
            preset: self.eval.preset_name(&self.model),
            backend: self.device.backend.to_string(),
            environment: &|| environment(&self.device),
            baseline_file: self.eval.baseline.as_deref(),
            progress: &Bars::default(),
        };
        let parts = |comparison: &Comparison<'_>, model: &mut dyn EvalModel, measured: &mut Vec<Sensitivity>| {
            let all = linears(model.config());
            let policy = Policy::new(Targets::Full, Recipe::from(self.parts));
            let in_blocks: Vec<_> = all.iter().filter(|spec| Targets::All.contains(spec.kind)).cloned().collect();
            let parts = [blocks(&in_blocks, &policy), roles(&all, &policy), ablations(&all, &policy)].concat();
            let bar = stage(parts.len() as u64, format!("each part in {}", self.parts));
            let outcome = parts.iter().try_for_each(|part| {
                measured.push(part.measure(comparison, model)?);
                bar.inc(1);
                Ok(())
            });
            bar.finish_and_clear();
            outcome
        };
        let plain = plain_controls().into_iter().chain(kv_variants(&self.kv)).collect();
        interrupt::install_saying(INTERRUPTED);
        let report = evaluation.run(plain, parts, variants)?;
        self.report.write(&report, files)
    }

    fn variant(&self, policy: Policy) -> Variant {
        let scheme = policy.recipe.scheme;
        let targets = policy.targets.to_string();
        let settings = Settings { scheme: scheme.to_string(), targets: targets.clone(), ..Settings::default() };
        let name = if self.targets.len() == 1 { scheme.to_string() } else { format!("{scheme} {targets}") };
        Variant { name, ..Variant::new(Role::Information, settings, Weights::Encoded(policy), Thresholds::ByBits) }
    }
}
