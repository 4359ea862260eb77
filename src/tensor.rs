//! Nouns to tensors.
