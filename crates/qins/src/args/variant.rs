//! A model, plain or encoded while loading.

use std::{error::Error, path::Path};

use clap::Args;
use qins_burn::Loaded;
use qins_model::ModelSource;
use qins_quant::Recipe;

use super::{DeviceArgs, EncodeArgs, KvArgs, ModelArgs, SchemeOrNone};
use crate::{
    load::load_model,
    model,
    policy::{ByDefault, Engine, policy},
};

/// A model, and how its weights and its KV cache are stored.
#[derive(Debug, Args)]
pub(crate) struct VariantArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Encode the weights while loading: none, companded-f32, lossless, q8g, q8, q6, q5, q4, q3 or rate; `none` loads
    /// the checkpoint as it is
    #[arg(long, default_value = "none")]
    scheme: SchemeOrNone,
    #[command(flatten)]
    encode: EncodeArgs,
    #[command(flatten)]
    kv: KvArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

impl VariantArgs {
    /// Opens the model, and gives the recipe to encode it with. Invalid options are reported before weights are read.
    pub(crate) fn open(&self) -> Result<(ModelSource, Option<Recipe>), Box<dyn Error>> {
        let recipe = self.encode.recipe(self.scheme.scheme())?;
        Ok((model::open(&self.model)?, recipe))
    }

    /// The text of `--calibrate`.
    pub(crate) fn calibrate(&self) -> Option<&Path> {
        self.encode.calibrate.as_deref()
    }

    /// The name of the variant, from the recipe of [`open`](Self::open).
    pub(crate) fn name(&self, recipe: Option<&Recipe>) -> String {
        recipe.map_or("none".to_owned(), |recipe| self.encode.settings(recipe).to_string())
    }

    /// Loads the opened model, encoded by `recipe`.
    pub(crate) fn load(&self, source: &ModelSource, recipe: Option<Recipe>) -> Result<Loaded, Box<dyn Error>> {
        let device = self.device.device()?;
        let policy = recipe
            .map(|recipe| policy(&self.encode, recipe, source, &Engine::on(&device), ByDefault::Uncalibrated))
            .transpose()?;
        let mut loaded = load_model(source, policy.as_ref(), &device)?;
        loaded.model.set_kv(self.kv.kv);
        Ok(loaded)
    }
}
