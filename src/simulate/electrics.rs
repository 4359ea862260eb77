//! The 12-lead ECG of a digital heart.

/// How the impulse reaches the ventricles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Conduction {
    /// By both bundle branches.
    #[default]
    Normal,
    /// Left bundle branch block: the left ventricle is reached from the right.
    LeftBlock,
    /// Right bundle branch block: the right ventricle is reached last.
    RightBlock,
}

/// Part of the left ventricle, by the coronary artery that feeds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Territory {
    /// Left anterior descending artery: anterior wall, septum, apex.
    Anterior,
    /// Right coronary artery: inferior wall.
    Inferior,
    /// Circumflex artery: lateral wall.
    Lateral,
}

/// A scar.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Infarct {
    /// Where.
    pub territory: Territory,
    /// Share of the wall that no longer conducts, 0 to 1.
    pub extent: f64,
}

/// What the electrocardiograph sees of one heart at rest.
#[derive(Debug, Clone, PartialEq)]
pub struct Electrics {
    /// Beats a minute.
    pub heart_rate: f64,
    /// Standard deviation of the RR interval over ten seconds, ms.
    pub rr_sd_ms: f64,
    /// Share of beats that come early from a ventricle.
    pub ectopy: f64,
    /// P to R (onset to onset), ms.
    pub pr_ms: f64,
    /// Duration of P, ms.
    pub p_ms: f64,
    /// Height of P in lead II, mV.
    pub p_mv: f64,
    /// Size of the negative end of P in V1, mV (left atrial enlargement).
    pub p_terminal_mv: f64,
    /// Duration of QRS, ms.
    pub qrs_ms: f64,
    /// Axis of QRS in the frontal plane, degrees, 0 = lead I, 90 = aVF.
    pub axis_deg: f64,
    /// Largest length of the QRS vector at the body surface, mV.
    pub qrs_mv: f64,
    /// How the ventricles are reached.
    pub conduction: Conduction,
    /// QT interval corrected by Fridericia, ms.
    pub qtc_ms: f64,
    /// Largest length of the T vector at the body surface, mV.
    pub t_mv: f64,
    /// Angle between the mean vectors of QRS and T, degrees; 180 = inverted T.
    pub qrs_t_deg: f64,
    /// Level of ST against the baseline along the QRS direction, mV; negative with strain.
    pub st_mv: f64,
    /// A scar, where there is one.
    pub infarct: Option<Infarct>,
    /// Turn of the heart about its long axis, degrees; moves the transition in the chest leads.
    pub rotation_deg: f64,
}
