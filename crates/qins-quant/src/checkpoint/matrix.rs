//! Writing one encoded matrix, a band of rows at a time.

use super::{Dtype, ShardWriter, TensorSpec, layout::shape};
use crate::{
    EncodedTensor, Error,
    entropy::Coder,
    forms::{MatrixFormat, PartSpec},
};

/// Writes the tensors of a matrix, and entropy-codes its parts where requested.
pub(crate) struct MatrixWriter<'a> {
    module: &'a str,
    rows: usize,
    cols: usize,
    parts: Vec<(PartSpec, Option<Coder>)>,
    begun: bool,
}

impl<'a> MatrixWriter<'a> {
    /// For a matrix of `rows` rows; with `coded`, the parts that can be are entropy-coded.
    pub(crate) fn new(module: &'a str, format: &MatrixFormat, rows: usize, coded: bool) -> Self {
        let coder = |part: &PartSpec| Coder::new(part.element, [rows, part.width()]);
        let parts = format.parts().into_iter().map(|part| (part, (coded && part.by_rows()).then(|| coder(&part))));
        Self { module, rows, cols: format.cols(), parts: parts.collect(), begun: false }
    }

    /// The tensors of known size, and the streams with upper bounds of their sizes.
    pub(crate) fn specs(&self) -> [Vec<TensorSpec>; 2] {
        let (mut tensors, mut streams) = (vec![shape(self.module)], Vec::new());
        for (part, coder) in &self.parts {
            if coder.is_none() {
                tensors.push(part.tensor(self.module, self.rows));
                continue;
            }
            let blocks = part.blocks(self.module, self.rows);
            // Incompressible data grows by little; a block's overhead is below 4 KiB.
            let most = part.bytes(self.rows).saturating_mul(2).saturating_add(4096 * (1 + blocks.bytes()));
            streams.push(TensorSpec { name: part.tensor_name(self.module), dtype: Dtype::U8, shape: vec![most] });
            tensors.push(blocks);
        }
        [tensors, streams]
    }

    /// Writes the next rows.
    ///
    /// # Errors
    /// When entropy coding or writing fails.
    pub(crate) fn push(&mut self, band: &EncodedTensor, out: &mut ShardWriter) -> Result<(), Error> {
        for (words, (part, coder)) in band.parts().iter().zip(&mut self.parts) {
            let (name, bytes) = (part.tensor_name(self.module), part.bytes_of(words));
            match coder {
                Some(coder) => coder.push(&bytes).map_err(|e| Error::tensor(out.path(), name, e))?,
                // A part of the whole matrix is the same in every band.
                None if part.by_rows() || !self.begun => out.write(&name, &bytes)?,
                None => {}
            }
        }
        self.begun = true;
        Ok(())
    }

    /// Writes what needs all rows.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub(crate) fn finish(self, out: &mut ShardWriter) -> Result<(), Error> {
        for (part, coder) in self.parts {
            let Some(coder) = coder else { continue };
            let name = part.tensor_name(self.module);
            let coded = coder.finish().map_err(|e| Error::tensor(out.path(), &name, e))?;
            out.stream(&name, &coded.stream)?;
            let blocks: Vec<u8> = coded.blocks.iter().flat_map(|n| n.to_le_bytes()).collect();
            out.write(&part.blocks(self.module, self.rows).name, &blocks)?;
        }
        let dimensions: Vec<u8> = [self.rows, self.cols].iter().flat_map(|n| (*n as u64).to_le_bytes()).collect();
        out.write(&shape(self.module).name, &dimensions)
    }
}
