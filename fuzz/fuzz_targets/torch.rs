//! PyTorch checkpoints, every tensor of them: an archive as it stands where the input is one, else one made of the parts of
//! the input: the pickle, then storages.
#![no_main]

use ecgflow::checkpoint::torch::{self, Value};

/// How many tensors are loaded, and how deep they are looked for.
const MOST: usize = 64;
const DEPTH: usize = 4;

fn load(value: Value<'_>, depth: usize, left: &mut usize) {
    let _ = value.what();
    if let (Some(tensor), true) = (value.tensor(), *left > 0) {
        *left -= 1;
        ecgflow_fuzz::settle(tensor.load());
    } else if let (Some(entries), true) = (value.entries(), depth < DEPTH) {
        entries.into_iter().for_each(|(_, inner)| load(inner, depth + 1, left));
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let made;
    let archive = if data.starts_with(b"PK") {
        data
    } else {
        let parts = ecgflow_fuzz::parts(data);
        let names = ["a/data.pkl", "a/data/0", "a/data/1", "a/data/2"];
        made = ecgflow_fuzz::zip(names.iter().map(|name| (*name).to_owned()).zip(parts));
        &made
    };
    let path = ecgflow_fuzz::put("a.pth", archive);
    ecgflow_fuzz::bounded(archive.len(), || {
        let checkpoint = torch::read(&path).map(|checkpoint| load(checkpoint.root(), 0, &mut { MOST }));
        ecgflow_fuzz::settle(checkpoint);
    });
});
