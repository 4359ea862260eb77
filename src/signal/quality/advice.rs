//! What a person can do about a defect, by its code.

/// The advice for a code; nothing for codes that speak for themselves.
pub fn advice(code: &str) -> Option<&'static str> {
    Some(match code {
        "missing-lead" => "name the columns with --leads, or leave the record out: chest leads cannot be derived",
        "short" => "--pad fills up to ten seconds with zeros",
        "missing-samples" => "--window SECONDS chooses ten seconds without the gap",
        "rate" | "rate-suspicion" => "compare with the device's manual; --rate HZ for files that do not state it",
        "gain" => "compare with the calibration pulse; --units uV, mV or V for files that do not state it",
        "flat-lead" => "an electrode was off: leave the record out, or the lead where it may be derived",
        "clipping" => "the amplifier was overdriven, and what was cut off is lost",
        "mains" => "the low-pass of preset clean weakens it; --mains removes it",
        "wander" => "preset clean removes it",
        "muscle-noise" => "preset clean removes what lies above 40 Hz; the rest stays among the waves",
        "noise" => "the beats hardly stand out: look at the picture (--plot) before using the record",
        "limb-identities" => "a limb lead was exchanged, inverted or scaled after the recording",
        "inverted-lead" => "turn the lead over in the source, then read it again",
        "duplicate-lead" => "a column was copied over another: export the record again",
        "arm-reversal" => "look at P and T in lead I; if the electrodes were exchanged: I becomes -I, II and III, aVR and aVL change places",
        "chest-order" => "look at the chest leads in the picture (--plot); names may have been exchanged in the export",
        "few-beats" | "heart-rate" => "look at lead II in the picture (--plot): detection may have failed",
        "ectopy" => "features of one cycle may come from an unusual beat: pamae-encode --cycle median",
        _ => return None,
    })
}
