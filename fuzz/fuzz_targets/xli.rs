//! The compression of Philips Sierra XML: samples a lead (two bytes), leads (one byte), then the chunks.
#![no_main]

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use ecgflow::io::sierra;

const NAMES: &str = "I II III aVR aVL aVF V1 V2 V3 V4 V5 V6";

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let [low, high, leads, chunks @ ..] = data else { return };
    let samples = u16::from_le_bytes([*low, *high]);
    let names = NAMES.split(' ').take(usize::from(leads % 13)).collect::<Vec<_>>().join(" ");
    let xml = format!(
        "<restingecgdata><documentinfo><documentversion>1.04</documentversion></documentinfo><dataacquisition>\
         <signalcharacteristics><samplingrate>500</samplingrate><resolution>5</resolution></signalcharacteristics>\
         </dataacquisition><waveforms><parsedwaveforms dataencoding=\"Base64\" compression=\"XLI\" leadlabels=\"{names}\" \
         durationperchannel=\"{}\">{}</parsedwaveforms></waveforms></restingecgdata>",
        u32::from(samples) * 2,
        STANDARD.encode(chunks)
    );
    ecgflow_fuzz::read(xml.as_bytes(), "a.xml", sierra::open);
});
