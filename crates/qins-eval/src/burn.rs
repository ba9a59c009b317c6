//! [`EvalModel`] for the models of `qins-burn`.

use std::collections::BTreeMap;

use qins_burn::{
    Device, Generator, LoadReport, Loaded, Projection, Projections, Together, apply,
    decoder::{Decoder, Precision},
    load, read, replace, restore, score, score_token_by_token,
};
use qins_model::{ModelConfig, ModelSource, Policy};
use qins_quant::{EncodedTensor, kv::KvScheme};

use crate::model::{Arithmetic, EvalLoader, EvalModel, GenerateOptions, ModelError, OnToken, Scoring, WeightSizes};

/// Texts that are continued at a time: their caches take memory, 0.8 MB a token in a model of 32 blocks and 3072 channels.
const AT_ONCE: usize = 16;

/// Loads `qins-burn` models onto a device.
pub struct BurnLoader {
    /// The device that computes.
    pub device: Device,
}

/// A loaded `qins-burn` model.
#[derive(Debug)]
pub struct BurnModel {
    model: Decoder,
    report: LoadReport,
    /// The linears that a policy replaced.
    before: BTreeMap<String, Projection>,
}

impl From<Loaded> for BurnModel {
    fn from(Loaded { model, report }: Loaded) -> Self {
        Self { model, report, before: BTreeMap::new() }
    }
}

impl EvalLoader for BurnLoader {
    fn load(&self, source: &ModelSource, policy: Option<&Policy>) -> Result<Box<dyn EvalModel>, ModelError> {
        Ok(Box::new(BurnModel::from(load(&source.checkpoint, policy, &self.device, |_, _| {})?)))
    }
}

impl EvalModel for BurnModel {
    fn config(&self) -> &ModelConfig {
        self.model.config()
    }

    fn sizes(&self) -> WeightSizes {
        WeightSizes {
            bytes: self.report.weight_bytes() as u64,
            encoded_weights: self.report.encoded_weights as u64,
            bits_per_weight: self.report.bits_per_weight(),
        }
    }

    fn generate(
        &self,
        prompts: &[(&[u32], GenerateOptions)],
        on_token: &mut OnToken<'_>,
    ) -> Result<(), (usize, ModelError)> {
        let prompts = prompts.iter().map(|(prompt, options)| {
            let GenerateOptions { max_new_tokens, stop_ids, sampler } = options.clone();
            (prompt.to_vec(), Generator { max_new_tokens, stop_ids, sampler })
        });
        for (i, token) in Together::new(&self.model, prompts, AT_ONCE) {
            let token = token.map_err(|e| (i, e.into()))?;
            if on_token(i, token.id, &token.logits).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn score(&self, context: &[u32], continuation: &[u32], scoring: Scoring) -> Result<Vec<f32>, ModelError> {
        Ok(match scoring {
            Scoring::Batched => score(&self.model, context, continuation)?,
            Scoring::TokenByToken => score_token_by_token(&self.model, context, continuation)?,
        })
    }

    fn set_arithmetic(&mut self, arithmetic: Arithmetic) {
        self.model.set_precision(match arithmetic {
            Arithmetic::F32 => Precision::F32,
            Arithmetic::Bf16 => Precision::Bf16,
            Arithmetic::CoarseKeys => Precision::CoarseKeys,
        });
    }

    fn set_kv(&mut self, scheme: KvScheme) {
        self.model.set_kv(scheme);
    }

    fn apply(&mut self, policy: &Policy) -> Result<(), ModelError> {
        // The policy applies to the loaded weights.
        self.restore();
        self.before = apply(policy, &mut self.model)?;
        Ok(())
    }

    fn replace(
        &mut self,
        encoded: &mut dyn FnMut(&str) -> Result<Option<EncodedTensor>, ModelError>,
    ) -> Result<(), ModelError> {
        self.restore();
        // An error of another crate ends the visit, and is kept meanwhile.
        let mut failed = None;
        self.before = replace(&mut self.model, &mut |name, plain| {
            Ok(match failed.is_none().then(|| encoded(name)) {
                None => None,
                Some(Ok(encoded)) => encoded.map(|encoded| plain.encoded_as(encoded)),
                Some(Err(error)) => {
                    failed = Some(error);
                    None
                }
            })
        })?;
        match failed {
            None => Ok(()),
            Some(error) => {
                self.restore();
                Err(error)
            }
        }
    }

    fn restore(&mut self) {
        restore(&mut self.model, std::mem::take(&mut self.before));
    }

    fn visit_weights(&mut self, visit: &mut dyn FnMut(&str, Vec<f32>)) -> Result<(), ModelError> {
        self.model.visit_projections("model", &mut |_, name, projection| {
            let rows: Vec<u32> = (0..projection.shape()[0] as u32).collect();
            visit(name, read(projection.rows(&rows))?);
            Ok(())
        })?;
        Ok(())
    }
}
