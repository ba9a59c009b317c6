//! A model that is loaded one block at a time.

use std::{cell::RefCell, collections::HashMap};

use burn::tensor::Device;
use qins_model::{LinearKind, LinearSpec, ModelConfig, VectorSpec, check, linears};
use qins_quant::checkpoint::Checkpoint;

use crate::{
    Error, Projection,
    decoder::Decoder,
    device::one_stream,
    load::{Loader, assemble},
};

/// The name under which a decoder of one block knows it.
pub(crate) const ONLY: &str = "model.layers.0.";

/// A plain model whose blocks are loaded one at a time, to be calibrated on: products may be [rounded](Projection::rounded).
#[derive(Debug)]
pub(crate) struct Blocks<'a> {
    checkpoint: &'a Checkpoint,
    config: ModelConfig,
    device: Device,
    /// The model without its blocks.
    outer: Decoder,
}

impl<'a> Blocks<'a> {
    /// Loads what is outside the blocks.
    pub(crate) fn open(checkpoint: &'a Checkpoint, device: &Device) -> Result<Self, Error> {
        one_stream();
        let config = ModelConfig::of(checkpoint)?;
        check(checkpoint, &config)?;
        let loader = RefCell::new(Loader::plain(checkpoint, &config, device));
        let mut without = config.clone();
        without.layers.clear();
        let order = linears(&without);
        let outer = assemble(
            without,
            &order,
            |spec| loader.borrow_mut().linear(spec),
            |spec| loader.borrow_mut().vector(spec),
            |_, _| {},
        )?;
        drop(loader);
        Ok(Self { checkpoint, config, device: device.clone(), outer })
    }

    /// The configuration of the whole model.
    pub(crate) fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The model without its blocks.
    pub(crate) fn outer(&self) -> &Decoder {
        &self.outer
    }

    /// The model with one of its blocks; and the same, sharing its weights, in which every position attends to itself alone.
    pub(crate) fn block(&self, layer: usize) -> Result<[Decoder; 2], Error> {
        let loader = RefCell::new(Loader::plain(self.checkpoint, &self.config, &self.device));
        let loaded: RefCell<HashMap<String, Projection>> = RefCell::default();
        let name = |name: &str| match name.strip_prefix(ONLY) {
            Some(rest) => format!("model.layers.{layer}.{rest}"),
            None => name.to_owned(),
        };
        let linear = |spec: &LinearSpec| match (spec.kind, &self.outer.lm_head) {
            (LinearKind::Embedding, _) => Ok(self.outer.embed_tokens.clone()),
            (LinearKind::Head, Some(head)) => Ok(head.clone()),
            _ => {
                if let Some(projection) = loaded.borrow().get(&spec.module) {
                    return Ok(projection.clone());
                }
                let fused = spec.fused.as_ref().map(|(fused, total, rows)| (name(fused), *total, rows.clone()));
                let stored = LinearSpec { module: name(&spec.module), fused, ..spec.clone() };
                let projection = loader.borrow_mut().linear(&stored)?.rounded();
                loaded.borrow_mut().insert(spec.module.clone(), projection.clone());
                Ok(projection)
            }
        };
        let vector =
            |spec: &VectorSpec| loader.borrow_mut().vector(&VectorSpec { name: name(&spec.name), ..spec.clone() });
        let mut one = self.config.clone();
        one.layers = vec![self.config.layers[layer]];
        let mut alone = one.clone();
        alone.layers[0].window = Some(1);
        let order = linears(&one);
        Ok([assemble(one, &order, linear, vector, |_, _| {})?, assemble(alone, &order, linear, vector, |_, _| {})?])
    }
}
