//! Reading encoded modules.

use std::borrow::Cow;

use qins_codec::Alpha;

use super::{
    Checkpoint, Dtype,
    layout::{Coding, Group, packed, shape},
};
use crate::{
    EncodedTensor, Error, FloatDtype, PartSpec, Scheme,
    dtype::chunks,
    entropy,
    forms::{Form, MatrixFormat},
};

impl Checkpoint {
    /// Whether a module is encoded.
    pub fn is_encoded(&self, module: &str) -> bool {
        self.encoded.contains_key(module)
    }

    /// The group of an encoded module.
    fn group(&self, module: &str) -> Result<&Group, Error> {
        self.encoded.get(module).and_then(|name| self.quantization()?.config_groups.get(name)).ok_or_else(|| {
            let message = "expected in quantization_config, found no such target";
            Error::tensor(self.config_path(), packed(module), message)
        })
    }

    /// The scheme of an encoded module.
    pub fn scheme(&self, module: &str) -> Option<Scheme> {
        self.group(module).ok().map(|group| group.scheme)
    }

    /// The type of an encoded module's weights before encoding.
    pub fn source_dtype(&self, module: &str) -> Option<FloatDtype> {
        self.group(module).ok().map(|group| group.source_dtype)
    }

    /// The signal-to-noise ratio of a module's outputs on the calibration of its conversion, in dB; `None` if it has no error feedback.
    pub fn output_sqnr_db(&self, module: &str) -> Option<f64> {
        self.quantization()?.output_sqnr_db.get(module).copied()
    }

    /// The encoded modules, sorted.
    pub fn encoded_modules(&self) -> impl Iterator<Item = &str> {
        self.encoded.keys().map(String::as_str)
    }

    /// `[rows, cols]` of an encoded module.
    ///
    /// # Errors
    /// When the module is not encoded, or its shape is missing or damaged.
    pub fn encoded_shape(&self, module: &str) -> Result<[usize; 2], Error> {
        self.group(module)?;
        let spec = shape(module);
        let bytes = self.stored(&spec)?;
        let mut dimensions = chunks(bytes).map(|b| usize::try_from(i64::from_le_bytes(b)));
        match (dimensions.next(), dimensions.next()) {
            (Some(Ok(rows)), Some(Ok(cols))) => Ok([rows, cols]),
            _ => Err(Error::tensor(self.path_of(&spec.name), spec.name, "expected two numbers of at least 0")),
        }
    }

    /// The names of the tensors that store an encoded module.
    ///
    /// # Errors
    /// As [`encoded_shape`](Self::encoded_shape).
    pub fn tensors_of_module(&self, module: &str) -> Result<Vec<String>, Error> {
        let (group, [rows, cols]) = (self.group(module)?, self.encoded_shape(module)?);
        let mut names = vec![shape(module).name];
        for part in self.format(group, cols)?.parts() {
            names.push(part.tensor_name(module));
            if group.coding.is_some() && part.by_rows() {
                names.push(part.blocks(module, rows).name);
            }
        }
        Ok(names)
    }

    /// Bytes of all tensors that store an encoded module.
    ///
    /// # Errors
    /// As [`encoded_shape`](Self::encoded_shape).
    pub fn bytes_of_module(&self, module: &str) -> Result<usize, Error> {
        let names = self.tensors_of_module(module)?;
        Ok(names.iter().filter_map(|name| self.raw(name)).map(|(_, _, bytes)| bytes.len()).sum())
    }

    /// Reads an encoded module, and compares its tensors with their checksums.
    ///
    /// # Errors
    /// When a tensor is missing or damaged, or has a type, shape or value that the scheme does not allow.
    pub fn encoded(&self, module: &str) -> Result<EncodedTensor, Error> {
        let (group, [rows, cols]) = (self.group(module)?, self.encoded_shape(module)?);
        let format = self.format(group, cols)?;
        if group.scheme.is_storage_only() && group.coding.is_none() {
            let message = format!("quantization_config: expected a coding with scheme {}, found none", group.scheme);
            return Err(Error::file(self.config_path(), message));
        }
        let bytes = format.parts().into_iter().map(|part| match group.coding {
            Some(Coding::Pco) if part.by_rows() => self.decode(module, &part, rows),
            Some(Coding::Pco) | None => self.stored(&part.tensor(module, rows)).map(Cow::Borrowed),
        });
        let parts = format.read(bytes.collect::<Result<Vec<_>, _>>()?);
        EncodedTensor::from_parts(format, rows, parts)
            .map_err(|e| Error::tensor(self.path_of(&packed(module)), packed(module), e))
    }

    fn format(&self, group: &Group, cols: usize) -> Result<MatrixFormat, Error> {
        let alpha = Alpha::new(group.alpha.unwrap_or(1.0))
            .map_err(|e| Error::file(self.config_path(), format!("quantization_config: alpha: {e}")))?;
        Ok(MatrixFormat::new(Form::of(group.scheme, alpha), group.source_dtype, cols))
    }

    /// An entropy-coded part.
    fn decode(&self, module: &str, part: &PartSpec, rows: usize) -> Result<Cow<'_, [u8]>, Error> {
        let name = part.tensor_name(module);
        let (dtype, found, _) = self.require(&name)?;
        if (dtype, found.len()) != (Dtype::U8, 1) {
            let message = format!("expected a stream of U8, found {dtype:?} of shape {found:?}");
            return Err(Error::tensor(self.path_of(&name), name, message));
        }
        let stream = self.intact(&name)?;
        let blocks: Vec<u32> = chunks(self.stored(&part.blocks(module, rows))?).map(u32::from_le_bytes).collect();
        entropy::decode(stream, &blocks, part.element, [rows, part.width()])
            .map(Cow::Owned)
            .map_err(|message| Error::tensor(self.path_of(&name), name, message))
    }
}
