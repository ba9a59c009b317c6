//! The fits that a mixture is chosen from, made as a conversion makes them.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use super::{Choice, Matrix};
use crate::{
    Calibration, EncodeError, EncodedTensor, Error, Feedback, FloatDtype, Recipe, Scheme,
    checkpoint::Checkpoint,
    convert::Part,
    fit::relative,
    output::{Build, scratch},
    sample,
};

/// Weights sampled of each matrix.
const SAMPLE: usize = 1 << 20;

/// A linear to fit: a part of a stored tensor, with a recipe.
#[derive(Clone, Debug)]
pub struct Linear {
    /// The stored tensor.
    pub tensor: String,
    /// The part of it, with the options of the encoder.
    pub part: Part,
    /// The schemes to fit it in, in place of its recipe's.
    pub schemes: Vec<Scheme>,
}

/// Linears encoded in several schemes by the fit of a conversion: with error feedback, where there is a calibration. Fits that are
/// kept whole lie in a temporary file each until this is dropped.
#[derive(Debug)]
pub struct Fits {
    matrices: Vec<Matrix>,
    kept: Vec<BTreeMap<Scheme, PathBuf>>,
    _files: Option<Build>,
}

impl Fits {
    /// Fits each linear in each of its schemes; those in a scheme to `keep` whole, others on rows spread over it. `progress` is called
    /// after each linear.
    ///
    /// # Errors
    /// When weights cannot be read or encoded, the calibration fails, or a fit cannot be kept.
    pub fn of(
        source: &Checkpoint,
        linears: &[Linear],
        keep: &dyn Fn(Scheme) -> bool,
        mut calibration: Option<&mut dyn Calibration>,
        progress: &dyn Fn(),
    ) -> Result<Self, Error> {
        let any = linears.iter().flat_map(|linear| &linear.schemes).any(|scheme| keep(*scheme));
        let files = any.then(scratch).transpose().map_err(Error::io(std::env::temp_dir()))?;
        let nothing = Matrix { weights: 0, choices: Vec::new() };
        let mut all =
            Self { matrices: vec![nothing; linears.len()], kept: vec![BTreeMap::new(); linears.len()], _files: None };
        let mut order: Vec<usize> = (0..linears.len()).collect();
        if let Some(calibration) = &calibration {
            order.sort_by_key(|i| calibration.place(&linears[*i].part.module));
        }
        for i in order {
            let calibration = calibration.as_mut().map(|calibration| &mut **calibration as &mut dyn Calibration);
            let weights = Weights::read(source, &linears[i], calibration)?;
            let choices = &mut all.matrices[i].choices;
            for recipe in &weights.recipes {
                let whole = files.as_ref().filter(|_| keep(recipe.scheme));
                let (choice, encoded) = weights.fit(recipe, whole.is_some())?;
                choices.push(choice);
                if let Some(files) = whole {
                    let name = format!("{i}-{}.safetensors", recipe.scheme);
                    let path = files.create(name.as_ref()).map_err(Error::io(std::env::temp_dir()))?;
                    encoded.save(&path)?;
                    all.kept[i].insert(recipe.scheme, path);
                }
            }
            all.matrices[i].weights = linears[i].part.rows.len() * weights.cols;
            progress();
        }
        Ok(Self { _files: files, ..all })
    }

    /// Size, bits and errors of each linear, in order.
    pub fn matrices(&self) -> &[Matrix] {
        &self.matrices
    }

    /// The number of fits.
    pub fn count(&self) -> usize {
        self.matrices.iter().map(|matrix| matrix.choices.len()).sum()
    }

    /// A linear in one scheme, as a conversion would store it; `None` where that fit was not kept.
    ///
    /// # Errors
    /// When it cannot be read back.
    pub fn get(&self, linear: usize, scheme: Scheme) -> Result<Option<EncodedTensor>, Error> {
        self.kept.get(linear).and_then(|kept| kept.get(&scheme)).map(EncodedTensor::load).transpose()
    }
}

/// The weights of a linear, and how to encode and judge them.
struct Weights<'a> {
    source: &'a Checkpoint,
    linear: &'a Linear,
    dtype: FloatDtype,
    cols: usize,
    recipes: Vec<Recipe>,
    /// By which errors are judged, whatever the scheme; without it, by the importance of the recipe.
    feedback: Option<Arc<Feedback>>,
    rows: Vec<usize>,
    sampled: Vec<f32>,
}

impl<'a> Weights<'a> {
    fn read(
        source: &'a Checkpoint,
        linear: &'a Linear,
        calibration: Option<&mut dyn Calibration>,
    ) -> Result<Self, Error> {
        let Linear { tensor, part, schemes } = linear;
        let plain = source.plain(tensor)?;
        let error = |e: String| Error::tensor(plain.path, tensor, e);
        let &[total, cols] = plain.shape else {
            return Err(error(format!("expected a matrix, found shape {:?}", plain.shape)));
        };
        if part.rows.end > total {
            return Err(error(format!("expected rows {:?} of {}, found {total}", part.rows, part.module)));
        }
        let Some(recipe) = &part.recipe else {
            return Err(error(format!("expected a recipe to fit {} by, found none", part.module)));
        };
        let recipe = |scheme: &Scheme| Recipe { scheme: *scheme, ..recipe.clone() };
        let mut recipes: Vec<Recipe> = schemes.iter().map(recipe).collect();
        let mut feedback = None;
        if let Some(calibration) = calibration {
            for recipe in &mut recipes {
                *recipe = recipe.calibrated(&part.module, calibration).map_err(|e| error(e.to_string()))?;
            }
            feedback = recipes.iter().find_map(|recipe| recipe.feedback.clone());
        }
        let rows: Vec<usize> = sample::rows([part.rows.len(), cols], SAMPLE).collect();
        let row = cols * plain.dtype.size();
        let mut sampled = Vec::with_capacity(rows.len() * cols);
        for r in &rows {
            let first = (part.rows.start + r) * row;
            sampled.extend(plain.dtype.widen(&source.mapped(tensor, first..first + row)?));
        }
        Ok(Self { source, linear, dtype: plain.dtype, cols, recipes, feedback, rows, sampled })
    }

    /// The fit of all rows or of the sampled ones, with its bits and its error on the sampled ones.
    fn fit(&self, recipe: &Recipe, whole: bool) -> Result<(Choice, EncodedTensor), Error> {
        let Self { source, linear: Linear { tensor, part, .. }, cols, rows, sampled, .. } = self;
        let place = |row: usize| part.rows.start + if whole { row } else { rows.get(row).copied().unwrap_or(row) };
        let error = |e: EncodeError| Error::tensor(source.path_of(tensor), tensor, e.map_row(place));
        let row = cols * self.dtype.size();
        let encoded = if whole {
            let bytes = source.mapped(tensor, part.rows.start * row..part.rows.end * row)?;
            EncodedTensor::encode_as(&self.dtype.widen(&bytes), [part.rows.len(), *cols], self.dtype, recipe)
        } else {
            EncodedTensor::encode_as(sampled, [rows.len(), *cols], self.dtype, recipe)
        }
        .map_err(error)?;
        let mut decoded = vec![0.0; sampled.len()];
        for (i, out) in decoded.chunks_exact_mut((*cols).max(1)).enumerate() {
            let row = if whole { rows[i] } else { i };
            encoded.decode_rows(row..row + 1, out);
        }
        let bytes = encoded.file_bytes(recipe.is_coded()).map_err(error)?;
        let bits = 8.0 * bytes as f64 / (encoded.shape()[0] * cols).max(1) as f64;
        Ok((Choice { scheme: recipe.scheme, bits, nmse: self.nmse(recipe, &decoded) }, encoded))
    }

    fn nmse(&self, recipe: &Recipe, decoded: &[f32]) -> f64 {
        let errors: Vec<f32> = self.sampled.iter().zip(decoded).map(|(w, q)| w - q).collect();
        let energy = |rows: &[f32]| match (&self.feedback, &recipe.importance) {
            (Some(feedback), _) => feedback.energy(rows),
            (None, Some(importance)) => {
                let importance = relative(importance);
                let weighted = |(i, x): (usize, &f32)| f64::from(importance[i % self.cols]) * f64::from(*x).powi(2);
                rows.iter().enumerate().map(weighted).sum()
            }
            (None, None) => rows.iter().map(|x| f64::from(*x).powi(2)).sum(),
        };
        let (error, energy) = (energy(&errors), energy(&self.sampled));
        if error == 0.0 || energy == 0.0 { 0.0 } else { error / energy }
    }
}
