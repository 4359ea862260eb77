//! Weights files: the input is the header, in JSON; as many bytes as it claims follow, 64 KB at most.
#![no_main]

use candle_core::Device;
use ecgflow::checkpoint::{Kind, Weights};
use serde_json::Value;

const MOST: u64 = 64 << 10;

/// The end of the last tensor.
fn claimed(header: &[u8]) -> u64 {
    let Ok(Value::Object(header)) = serde_json::from_slice(header) else { return 0 };
    header.values().filter_map(|tensor| tensor.get("data_offsets")?.get(1)?.as_u64()).max().unwrap_or(0)
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut file = (data.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(data);
    file.resize(file.len() + claimed(data).min(MOST) as usize, 0);
    let path = ecgflow_fuzz::put("a.safetensors", &file);
    ecgflow_fuzz::bounded(file.len(), || {
        let weights = Weights::open(&path).map(|weights| {
            for kind in Kind::ALL {
                ecgflow_fuzz::settle(weights.check(kind));
            }
            for name in weights.shapes().keys() {
                ecgflow_fuzz::settle(weights.tensor(name, &Device::Cpu));
            }
        });
        ecgflow_fuzz::settle(weights);
    });
});
