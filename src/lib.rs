//! From a 12-lead ECG to a cine cardiac MR clip and to cardiac phenotypes (ECGFlowCMR, arXiv 2601.20904).
//!
//! ```text
//! Ecg --ecg-prep--> Ecg --pamae-encode--> Features --amdf-sample--> Cine --cmr-phenotype | cmr-classify--> Table
//! Cine x Cine | Table x Table --cmr-eval--> Table
//! ```
//!
//! Four nouns ([`Ecg`], [`Features`], [`Cine`], [`Row`] of a table) and one arrow between nouns per program.
//! Modules sit on floors; a module uses only floors below its own: [`error`] and [`random`]; [`data`]; [`io`],
//! [`signal`] and [`simulate`];
//! [`model`], [`tensor`], [`checkpoint`] and [`bundled`]; [`train`], [`infer`] and [`inspect`]; [`cli`]; the programs in `bin/`.

pub mod bundled;
pub mod checkpoint;
pub mod cli;
pub mod data;
pub mod error;
pub mod infer;
pub mod inspect;
pub mod io;
pub mod kernel;
pub mod metric;
pub mod model;
pub mod random;
pub mod signal;
pub mod simulate;
pub mod tensor;
pub mod train;

pub use data::{cine::Cine, ecg::Ecg, features::Features, table::Row};
pub use error::{Error, Fault, Result};
