//! Lead numbers of SCP-ECG (EN 1064, table of lead identifications), which DICOM uses too: code `5.6.3-9-N` of scheme
//! SCPECG, code `2:N` of scheme MDC.

/// The lead with this number; none for the numbers that routine ECGs do not use.
///
/// ```
/// assert_eq!(ecgflow::io::lead_code::scp_name(62), Some("aVR"));
/// assert_eq!(ecgflow::io::lead_code::scp_name(250), None);
/// ```
pub fn scp_name(number: u16) -> Option<&'static str> {
    Some(match number {
        1 => "I",
        2 => "II",
        3 => "V1",
        4 => "V2",
        5 => "V3",
        6 => "V4",
        7 => "V5",
        8 => "V6",
        9 => "V7",
        10 => "V2R",
        11 => "V3R",
        12 => "V4R",
        13 => "V5R",
        14 => "V6R",
        15 => "V7R",
        16 => "X",
        17 => "Y",
        18 => "Z",
        19 => "CC5",
        20 => "CM5",
        61 => "III",
        62 => "aVR",
        63 => "aVL",
        64 => "aVF",
        65 => "-aVR",
        66 => "V8",
        67 => "V9",
        68 => "V8R",
        69 => "V9R",
        _ => return None,
    })
}
