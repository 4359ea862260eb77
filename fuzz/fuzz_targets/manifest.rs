//! Lists and manifests of paths. The paths lead nowhere, so that no input walks through this machine.
#![no_main]

use ecgflow::io::input::Inputs;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let harmless: Vec<u8> = data.iter().map(|byte| if matches!(byte, b'/' | b'.') { b'_' } else { *byte }).collect();
    let path = ecgflow_fuzz::put("list", &harmless);
    let folder = path.parent().expect("the temporary folder");
    std::env::set_current_dir(folder).expect("a folder that is there"); // where patterns look
    ecgflow_fuzz::bounded(data.len(), || match Inputs::begin(&[], Some(&path)) {
        Ok(inputs) => inputs.for_each(ecgflow_fuzz::settle),
        Err(error) => ecgflow_fuzz::settle::<()>(Err(error)),
    });
});
