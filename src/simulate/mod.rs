//! Digital hearts: participants drawn from one physiological model, with ECG, cine clip and known truth.

pub mod electrics;
