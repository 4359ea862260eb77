//! The machine that reads pickles, by itself.
#![no_main]

use ecgflow::checkpoint::pickle::Pickle;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    ecgflow_fuzz::bounded(data.len(), || {
        let pickle = Pickle::parse(data).map(|pickle| {
            let _ = (pickle.node(pickle.root()), pickle.text(pickle.root()), pickle.global(pickle.root()));
        });
        ecgflow_fuzz::settle(pickle);
    });
});
