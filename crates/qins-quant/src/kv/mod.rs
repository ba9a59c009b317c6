//! The KV cache: keys and values of a model's tokens, encoded in fewer bits, and attention that decodes them as it reads.
//!
//! All of this is in memory, for one sequence; nothing here is a file format. A vector is encoded when it is appended, under
//! curvatures that are fixed in advance, as vectors become known one at a time.

mod attention;
mod scheme;
mod vectors;

pub use attention::{AttentionSpan, Heads};
pub use scheme::KvScheme;
pub use vectors::{BLOCK, Form, GROUP, SCALES, Vectors};
