//! Keys and values of the tokens a model has read, at rest in fewer bits, and attention that decodes them in between.
//!
//! All of this is in memory, of one head and one sequence: nothing here is a file format. A vector is encoded when it is
//! appended, by curves fixed in advance, since its numbers are known only as they come.

mod attention;
mod scheme;
mod vectors;

pub use attention::{Heads, Visible};
pub use scheme::KvScheme;
pub use vectors::{BLOCK, Form, GROUP, SCALES, Vectors};
