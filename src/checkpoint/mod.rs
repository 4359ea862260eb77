//! Housekeeping of weights.
