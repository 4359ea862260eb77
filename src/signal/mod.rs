//! Mathematics on signals, without learned weights.
