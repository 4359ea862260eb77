//! Digital hearts: participants drawn from one physiological model, with ECG, cine clip and known truth.
//!
//! ```text
//! (seed, index) -> population -> Person, Heart -> ventricle, motion, scene -> image -> Cine, DICOM series
//!                                      |                              `---> phenotype
//!                                      `-> coupling -> Electrics -> electrics -> 12-lead ECG
//! ```

pub mod coupling;
pub mod electrics;
pub mod image;
pub mod motion;
pub mod participant;
pub mod phenotype;
pub mod population;
pub mod scene;
pub mod ventricle;

pub use participant::{participant, Participant, Series};
pub use population::Group;
