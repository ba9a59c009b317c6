//! A model in the form that was asked for.

use std::error::Error;

use clap::Args;
use qins_burn::Loaded;
use qins_model::ModelSource;
use qins_quant::Recipe;

use super::{DeviceArgs, EncodeArgs, KvArgs, ModelArgs, SchemeOrNone};
use crate::{
    load::load_model,
    model,
    policy::{Engine, policy},
};

/// Which model, and how its weights and its cache rest.
#[derive(Debug, Args)]
pub(crate) struct FormArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Encode the weights while loading: none, f32, lossless, q8g, q8, q6, q5, q4, q3 or rate; `none` takes the
    /// checkpoint as it is
    #[arg(long, default_value = "none")]
    scheme: SchemeOrNone,
    #[command(flatten)]
    encode: EncodeArgs,
    #[command(flatten)]
    kv: KvArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

impl FormArgs {
    /// Opens the model, and says how what is not plain is encoded: what can be refused is refused before anything is read.
    pub(crate) fn open(&self) -> Result<(ModelSource, Option<Recipe>), Box<dyn Error>> {
        let recipe = self.encode.recipe(self.scheme.scheme())?;
        Ok((model::open(&self.model)?, recipe))
    }

    /// A name for what [`open`](Self::open) says.
    pub(crate) fn name(&self, recipe: Option<&Recipe>) -> String {
        recipe.map_or("none".to_owned(), |recipe| self.encode.settings(recipe).to_string())
    }

    /// Loads what was opened.
    pub(crate) fn load(&self, source: &ModelSource, recipe: Option<Recipe>) -> Result<Loaded, Box<dyn Error>> {
        let device = self.device.device()?;
        let policy = recipe.map(|recipe| policy(&self.encode, recipe, source, &Engine::on(&device))).transpose()?;
        let mut loaded = load_model(source, policy.as_ref(), &device)?;
        loaded.model.set_kv(self.kv.kv);
        Ok(loaded)
    }
}
