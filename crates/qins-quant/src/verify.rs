//! Whether a checkpoint is what it was when it was written, and how near it is to its source.

use crate::{
    Error, Fidelity, Origin, Scheme,
    checkpoint::{Checkpoint, DAMAGED},
    convert::bands,
    origin::shape_of,
};

/// What was looked at, and what is wrong.
#[derive(Debug, Default)]
pub struct Verification {
    /// Tensors whose bytes were compared with their checksum.
    pub checksums: usize,
    /// Encoded modules, as they compare with the source.
    pub modules: Vec<Module>,
    /// One sentence for each fault.
    pub faults: Vec<Error>,
}

/// A module beside its source.
#[derive(Clone, Debug, PartialEq)]
pub struct Module {
    /// Its full name.
    pub name: String,
    /// Its scheme.
    pub scheme: Scheme,
    /// What its decoded weights are to those of the source.
    pub fidelity: Fidelity,
}

/// Reads all of a checkpoint: every tensor is compared with its checksum, where it has one, and every encoded module
/// decoded. With a `source`, which must be plain, every module is compared with its rows there, and every other tensor
/// with its own bytes; of [`Scheme::Lossless`], a single bit that differs is a fault. `progress` is called with the bytes read since its last call.
///
/// # Errors
/// When `source` is no plain checkpoint. What is wrong with the checkpoint itself is a fault, not an error.
pub fn verify(
    checkpoint: &Checkpoint,
    source: Option<&Checkpoint>,
    progress: &dyn Fn(u64),
) -> Result<Verification, Error> {
    let mut found = Verification::default();
    let encoded = checkpoint.quantization().is_some();
    for tensor in checkpoint.tensors() {
        match checkpoint.is_intact(tensor) {
            Some(true) => found.checksums += 1,
            Some(false) => found.faults.push(Error::tensor(checkpoint.path_of(tensor), tensor, DAMAGED)),
            None if encoded => {
                let message = "expected a checksum in the file's metadata, found none";
                found.faults.push(Error::tensor(checkpoint.path_of(tensor), tensor, message));
            }
            None => {}
        }
        progress(checkpoint.raw(tensor).map_or(0, |(_, _, bytes)| bytes.len()) as u64);
    }
    if let Some(source) = source
        && source.quantization().is_some()
    {
        return Err(Error::file(
            source.config_path(),
            "expected a plain checkpoint as the source, found an encoded one",
        ));
    }
    for module in checkpoint.encoded_modules() {
        match module_fidelity(checkpoint, source, module) {
            Ok(Some(module)) => found.modules.push(module),
            Ok(None) => {}
            Err(fault) => found.faults.push(fault),
        }
    }
    if let Some(source) = source {
        found.compare_plain(checkpoint, source);
    }
    Ok(found)
}

impl Verification {
    /// Compares what is not encoded with the source, byte for byte.
    fn compare_plain(&mut self, checkpoint: &Checkpoint, source: &Checkpoint) {
        let no_part = Vec::new();
        let split = checkpoint.quantization().map_or(&no_part, |q| &q.ignore);
        for tensor in checkpoint.tensors() {
            let module = tensor.strip_suffix(".weight").unwrap_or(tensor);
            let part_of_encoded = tensor.rsplit_once(".weight_").is_some_and(|(m, _)| checkpoint.is_encoded(m));
            if part_of_encoded {
                continue;
            }
            let same = if !source.contains(tensor) && split.iter().any(|m| m == module) {
                rows_are_the_same(checkpoint, source, module)
            } else {
                Ok(checkpoint.raw(tensor) == source.raw(tensor))
            };
            match same {
                Ok(true) => {}
                Ok(false) => {
                    let message = format!("expected what {} has, found other", source.path_of(tensor).display());
                    self.faults.push(Error::tensor(checkpoint.path_of(tensor), tensor, message));
                }
                Err(fault) => self.faults.push(fault),
            }
        }
    }
}

fn rows_are_the_same(checkpoint: &Checkpoint, source: &Checkpoint, module: &str) -> Result<bool, Error> {
    let origin = Origin::find(checkpoint, source, module, shape_of(checkpoint, module)?)?;
    let name = format!("{module}.weight");
    let plain = checkpoint.plain(&name)?;
    Ok(plain.dtype == origin.plain().dtype && *origin.read(0..origin.shape()[0])? == *plain.bytes)
}

/// Decodes a module, and compares it with its source, if there is one.
///
/// # Errors
/// When it cannot be decoded or has no source; when it was to keep every bit and does not.
pub fn module_fidelity(
    checkpoint: &Checkpoint,
    source: Option<&Checkpoint>,
    module: &str,
) -> Result<Option<Module>, Error> {
    let encoded = checkpoint.encoded(module)?;
    let Some(source) = source else { return Ok(None) };
    let origin = Origin::find(checkpoint, source, module, encoded.shape())?;
    let mut fidelity = Fidelity::default();
    let mut same_bytes = true;
    for band in bands(encoded.shape()) {
        let bytes = origin.read(band.clone())?;
        let weights = origin.plain().dtype.widen(&bytes);
        let mut decoded = vec![0.0; weights.len()];
        encoded.decode_rows(band.clone(), &mut decoded);
        fidelity += Fidelity::of(&weights, &decoded);
        same_bytes &= encoded.source() == origin.plain().dtype && encoded.bytes_of_rows(band) == *bytes;
    }
    let (name, scheme) = (module.to_owned(), encoded.scheme());
    if scheme == Scheme::Lossless && !same_bytes {
        let tensor = format!("{module}.weight_packed");
        let message = format!("expected every bit of the source, found {} weights changed", fidelity.changed.max(1));
        return Err(Error::tensor(checkpoint.path_of(&tensor), tensor, message));
    }
    Ok(Some(Module { name, scheme, fidelity }))
}
