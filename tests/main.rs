//! One integration crate, so that candle is linked once.

mod floors;
