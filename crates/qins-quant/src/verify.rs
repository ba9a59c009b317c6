//! Checks a checkpoint against its checksums, and measures its error against the source.

use std::collections::BTreeSet;

use crate::{
    Error, Fidelity, Origin, Scheme,
    checkpoint::{Checkpoint, DAMAGED, NO_CHECKSUM},
    convert::bands,
    origin::{expect_source, shape_of},
};

/// What was checked, and the faults found.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Verification {
    /// The number of tensors that match their checksum.
    pub checksums: usize,
    /// Encoded modules compared with the source.
    pub modules: Vec<Module>,
    /// One sentence for each fault.
    pub faults: Vec<Error>,
}

/// An encoded module compared with its source.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Module {
    /// Its full name.
    pub name: String,
    /// Its scheme.
    pub scheme: Scheme,
    /// The error of its decoded weights.
    pub fidelity: Fidelity,
}

/// Reads a whole checkpoint: compares every tensor with its checksum, if it has one, and decodes every encoded module. Plain
/// tensors must be finite, unless everything encoded is [`Scheme::Lossless`].
/// With a plain `source`, every module is compared with its rows there, and every other tensor with the same
/// tensor there; for [`Scheme::Lossless`], a single differing bit is a fault. `progress` is called with the bytes
/// read since its last call: each tensor once, and encoded ones once more.
///
/// # Errors
/// When `source` is not plain. Defects of the checkpoint itself are faults, not errors.
pub fn verify(
    checkpoint: &Checkpoint,
    source: Option<&Checkpoint>,
    progress: &dyn Fn(u64),
) -> Result<Verification, Error> {
    source.map_or(Ok(()), expect_source)?;
    let mut found = Verification::default();
    let mut faulty = BTreeSet::new();
    let encoded = checkpoint.quantization().is_some();
    for tensor in checkpoint.tensors() {
        let fault = match checkpoint.is_intact(tensor) {
            Some(false) => Some(DAMAGED),
            None if encoded => Some(NO_CHECKSUM),
            Some(true) => {
                found.checksums += 1;
                None
            }
            None => None,
        };
        if let Some(message) = fault {
            found.faults.push(Error::tensor(checkpoint.path_of(tensor), tensor, message));
            faulty.insert(tensor);
        }
        progress(checkpoint.raw(tensor).map_or(0, |(_, _, bytes)| bytes.len()) as u64);
    }
    // An archive keeps every bit, whatever it means.
    let mut schemes = checkpoint.encoded_modules().map(|module| checkpoint.scheme(module));
    if !encoded || !schemes.all(|scheme| scheme == Some(Scheme::Lossless)) {
        for tensor in checkpoint.tensors().filter(|tensor| !is_part(checkpoint, tensor)) {
            let fault = if faulty.contains(tensor) { None } else { checkpoint.expect_finite(tensor).err() };
            if let Some(fault) = fault {
                found.faults.push(fault);
                faulty.insert(tensor);
            }
        }
    }
    for (path, tensor) in checkpoint.missing_tensors() {
        found.faults.push(Error::tensor(path, tensor, "expected as the file has its checksum, found no such tensor"));
        faulty.insert(tensor);
    }
    // Each fault is reported once.
    for module in checkpoint.encoded_modules() {
        if faulty.iter().any(|tensor| part_of(tensor) == Some(module)) {
            continue;
        }
        progress(checkpoint.bytes_of_module(module).unwrap_or(0) as u64);
        match module_fidelity(checkpoint, source, module) {
            Ok(Some(module)) => found.modules.push(module),
            Ok(None) => {}
            Err(fault) => found.faults.push(fault),
        }
    }
    if let Some(source) = source {
        found.compare_plain(checkpoint, source, &faulty);
        found.expect_all(checkpoint, source);
    }
    Ok(found)
}

/// Whether a tensor is part of an encoded module.
fn is_part(checkpoint: &Checkpoint, tensor: &str) -> bool {
    part_of(tensor).is_some_and(|module| checkpoint.is_encoded(module))
}

/// The module a tensor is part of, if it is encoded.
fn part_of(tensor: &str) -> Option<&str> {
    tensor.rsplit_once(".weight_").map(|(module, _)| module)
}

impl Verification {
    /// Compares plain tensors with the source, byte for byte.
    fn compare_plain(&mut self, checkpoint: &Checkpoint, source: &Checkpoint, faulty: &BTreeSet<&str>) {
        let no_part = Vec::new();
        let split = checkpoint.quantization().map_or(&no_part, |q| &q.ignore);
        for tensor in checkpoint.tensors() {
            let module = tensor.strip_suffix(".weight").unwrap_or(tensor);
            if faulty.contains(tensor) || is_part(checkpoint, tensor) {
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

    /// Checks that every tensor of the source is present: by name, encoded, split into its linears, or as the one it is a copy of.
    fn expect_all(&mut self, checkpoint: &Checkpoint, source: &Checkpoint) {
        let is_fused = |module: &str| checkpoint.quantization().is_some_and(|q| q.fused.contains_key(module));
        for tensor in source.tensors() {
            let module = tensor.strip_suffix(".weight").unwrap_or(tensor);
            if let Some(original) = checkpoint.quantization().and_then(|q| q.copies.get(tensor)) {
                self.faults.extend(source.expect_copy(tensor, original).err());
            } else if !checkpoint.contains(tensor) && !checkpoint.is_encoded(module) && !is_fused(module) {
                let message = format!("expected as {} has it, found no such tensor", source.path_of(tensor).display());
                self.faults.push(Error::tensor(checkpoint.path_of(tensor), tensor, message));
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

/// Decodes a module, and compares it with its source, if given.
///
/// # Errors
/// When it cannot be decoded or is not in the source, or when a `lossless` module differs from the source.
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
        let Fidelity { changed, weights, .. } = fidelity;
        let message =
            format!("expected every bit of the source, found {} of {weights} weights changed", changed.max(1));
        return Err(Error::tensor(checkpoint.path_of(&tensor), tensor, message));
    }
    Ok(Some(Module { name, scheme, fidelity }))
}
