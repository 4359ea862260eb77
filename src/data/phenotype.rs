//! The 82 cardiac phenotypes of UK Biobank fields 24100 to 24181 (instance 2), in field order.

/// Which part of the heart a phenotype describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Group {
    LeftVentricle,
    RightVentricle,
    LeftAtrium,
    RightAtrium,
    AscendingAorta,
    DescendingAorta,
    WallThickness,
    CircumferentialStrain,
    RadialStrain,
    LongitudinalStrain,
}

impl Group {
    /// All groups, in field order.
    pub const ALL: [Group; 10] = [
        Group::LeftVentricle,
        Group::RightVentricle,
        Group::LeftAtrium,
        Group::RightAtrium,
        Group::AscendingAorta,
        Group::DescendingAorta,
        Group::WallThickness,
        Group::CircumferentialStrain,
        Group::RadialStrain,
        Group::LongitudinalStrain,
    ];

    /// The word in tables and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Group::LeftVentricle => "left_ventricle",
            Group::RightVentricle => "right_ventricle",
            Group::LeftAtrium => "left_atrium",
            Group::RightAtrium => "right_atrium",
            Group::AscendingAorta => "ascending_aorta",
            Group::DescendingAorta => "descending_aorta",
            Group::WallThickness => "wall_thickness",
            Group::CircumferentialStrain => "circumferential_strain",
            Group::RadialStrain => "radial_strain",
            Group::LongitudinalStrain => "longitudinal_strain",
        }
    }

    /// Whether a four-chamber clip shows what the group measures.
    pub fn is_seen(self) -> bool {
        use Group::{AscendingAorta, CircumferentialStrain, DescendingAorta, RadialStrain};
        !matches!(self, AscendingAorta | DescendingAorta | CircumferentialStrain | RadialStrain)
    }
}

/// The phenotype of a field number.
pub fn of_field(field: u32) -> Option<&'static Phenotype> {
    PHENOTYPES.iter().find(|phenotype| phenotype.field == field)
}

/// The phenotype that a column of a table holds: by our name, by its field number, or as UK Biobank calls it, instance 2.
///
/// ```
/// use ecgflow::data::phenotype::of_column;
/// for name in ["lv_edv_ml", "24100", "24100-2.0", "f.24100.2.0", "p24100_i2"] {
///     assert_eq!(of_column(name).map(|phenotype| phenotype.field), Some(24100), "{name}");
/// }
/// assert!(of_column("24100-3.0").is_none() && of_column("31-0.0").is_none());
/// ```
pub fn of_column(name: &str) -> Option<&'static Phenotype> {
    let name = name.trim();
    if let Some(known) = PHENOTYPES.iter().find(|phenotype| phenotype.name == name) {
        return Some(known);
    }
    let plain = |text: &str| text.parse().ok().and_then(of_field);
    let biobank = name.strip_suffix("-2.0").or_else(|| name.strip_prefix("f.")?.strip_suffix(".2.0"));
    plain(biobank.or_else(|| name.strip_prefix('p')?.strip_suffix("_i2")).unwrap_or(name))
}

/// The fields of a word: one phenotype by name or number, a group by name, or `all`.
///
/// ```
/// use ecgflow::data::phenotype::fields_of;
/// assert_eq!(fields_of("left_atrium"), Some(vec![24110, 24111, 24112, 24113]));
/// assert_eq!(fields_of("lv_ef_percent"), Some(vec![24103]));
/// assert!(fields_of("all").unwrap().len() == 82 && fields_of("spleen").is_none());
/// ```
pub fn fields_of(word: &str) -> Option<Vec<u32>> {
    let of = |keep: &dyn Fn(&Phenotype) -> bool| PHENOTYPES.iter().filter(|p| keep(p)).map(|p| p.field).collect();
    match Group::ALL.into_iter().find(|group| group.name() == word) {
        Some(group) => Some(of(&|phenotype| phenotype.group == group)),
        None if word == "all" => Some(of(&|_| true)),
        None => of_column(word).map(|phenotype| vec![phenotype.field]),
    }
}

/// One phenotype.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Phenotype {
    /// UK Biobank field number.
    pub field: u32,
    /// Column name in our tables; ends in the unit.
    pub name: &'static str,
    /// What it is, in words.
    pub label: &'static str,
    /// Unit.
    pub unit: &'static str,
    /// Part of the heart.
    pub group: Group,
}

const fn row(field: u32, name: &'static str, label: &'static str, unit: &'static str, group: Group) -> Phenotype {
    Phenotype { field, name, label, unit, group }
}

/// All phenotypes in field order; the order of the regression head.
#[rustfmt::skip]
pub const PHENOTYPES: [Phenotype; 82] = [
    row(24100, "lv_edv_ml", "LV end-diastolic volume", "mL", Group::LeftVentricle),
    row(24101, "lv_esv_ml", "LV end-systolic volume", "mL", Group::LeftVentricle),
    row(24102, "lv_sv_ml", "LV stroke volume", "mL", Group::LeftVentricle),
    row(24103, "lv_ef_percent", "LV ejection fraction", "%", Group::LeftVentricle),
    row(24104, "lv_co_l_min", "LV cardiac output", "L/min", Group::LeftVentricle),
    row(24105, "lv_mass_g", "LV myocardial mass", "g", Group::LeftVentricle),
    row(24106, "rv_edv_ml", "RV end-diastolic volume", "mL", Group::RightVentricle),
    row(24107, "rv_esv_ml", "RV end-systolic volume", "mL", Group::RightVentricle),
    row(24108, "rv_sv_ml", "RV stroke volume", "mL", Group::RightVentricle),
    row(24109, "rv_ef_percent", "RV ejection fraction", "%", Group::RightVentricle),
    row(24110, "la_max_volume_ml", "LA maximum volume", "mL", Group::LeftAtrium),
    row(24111, "la_min_volume_ml", "LA minimum volume", "mL", Group::LeftAtrium),
    row(24112, "la_sv_ml", "LA stroke volume", "mL", Group::LeftAtrium),
    row(24113, "la_ef_percent", "LA ejection fraction", "%", Group::LeftAtrium),
    row(24114, "ra_max_volume_ml", "RA maximum volume", "mL", Group::RightAtrium),
    row(24115, "ra_min_volume_ml", "RA minimum volume", "mL", Group::RightAtrium),
    row(24116, "ra_sv_ml", "RA stroke volume", "mL", Group::RightAtrium),
    row(24117, "ra_ef_percent", "RA ejection fraction", "%", Group::RightAtrium),
    row(24118, "ascending_aorta_max_area_mm2", "Ascending aorta maximum area", "mm2", Group::AscendingAorta),
    row(24119, "ascending_aorta_min_area_mm2", "Ascending aorta minimum area", "mm2", Group::AscendingAorta),
    row(24120, "ascending_aorta_distensibility_per_1000_mmhg", "Ascending aorta distensibility", "1e-3/mmHg", Group::AscendingAorta),
    row(24121, "descending_aorta_max_area_mm2", "Descending aorta maximum area", "mm2", Group::DescendingAorta),
    row(24122, "descending_aorta_min_area_mm2", "Descending aorta minimum area", "mm2", Group::DescendingAorta),
    row(24123, "descending_aorta_distensibility_per_1000_mmhg", "Descending aorta distensibility", "1e-3/mmHg", Group::DescendingAorta),
    row(24124, "wall_thickness_aha_1_mm", "LV wall thickness AHA segment 1", "mm", Group::WallThickness),
    row(24125, "wall_thickness_aha_2_mm", "LV wall thickness AHA segment 2", "mm", Group::WallThickness),
    row(24126, "wall_thickness_aha_3_mm", "LV wall thickness AHA segment 3", "mm", Group::WallThickness),
    row(24127, "wall_thickness_aha_4_mm", "LV wall thickness AHA segment 4", "mm", Group::WallThickness),
    row(24128, "wall_thickness_aha_5_mm", "LV wall thickness AHA segment 5", "mm", Group::WallThickness),
    row(24129, "wall_thickness_aha_6_mm", "LV wall thickness AHA segment 6", "mm", Group::WallThickness),
    row(24130, "wall_thickness_aha_7_mm", "LV wall thickness AHA segment 7", "mm", Group::WallThickness),
    row(24131, "wall_thickness_aha_8_mm", "LV wall thickness AHA segment 8", "mm", Group::WallThickness),
    row(24132, "wall_thickness_aha_9_mm", "LV wall thickness AHA segment 9", "mm", Group::WallThickness),
    row(24133, "wall_thickness_aha_10_mm", "LV wall thickness AHA segment 10", "mm", Group::WallThickness),
    row(24134, "wall_thickness_aha_11_mm", "LV wall thickness AHA segment 11", "mm", Group::WallThickness),
    row(24135, "wall_thickness_aha_12_mm", "LV wall thickness AHA segment 12", "mm", Group::WallThickness),
    row(24136, "wall_thickness_aha_13_mm", "LV wall thickness AHA segment 13", "mm", Group::WallThickness),
    row(24137, "wall_thickness_aha_14_mm", "LV wall thickness AHA segment 14", "mm", Group::WallThickness),
    row(24138, "wall_thickness_aha_15_mm", "LV wall thickness AHA segment 15", "mm", Group::WallThickness),
    row(24139, "wall_thickness_aha_16_mm", "LV wall thickness AHA segment 16", "mm", Group::WallThickness),
    row(24140, "wall_thickness_global_mm", "LV wall thickness global", "mm", Group::WallThickness),
    row(24141, "circumferential_strain_aha_1_percent", "LV circumferential strain AHA segment 1", "%", Group::CircumferentialStrain),
    row(24142, "circumferential_strain_aha_2_percent", "LV circumferential strain AHA segment 2", "%", Group::CircumferentialStrain),
    row(24143, "circumferential_strain_aha_3_percent", "LV circumferential strain AHA segment 3", "%", Group::CircumferentialStrain),
    row(24144, "circumferential_strain_aha_4_percent", "LV circumferential strain AHA segment 4", "%", Group::CircumferentialStrain),
    row(24145, "circumferential_strain_aha_5_percent", "LV circumferential strain AHA segment 5", "%", Group::CircumferentialStrain),
    row(24146, "circumferential_strain_aha_6_percent", "LV circumferential strain AHA segment 6", "%", Group::CircumferentialStrain),
    row(24147, "circumferential_strain_aha_7_percent", "LV circumferential strain AHA segment 7", "%", Group::CircumferentialStrain),
    row(24148, "circumferential_strain_aha_8_percent", "LV circumferential strain AHA segment 8", "%", Group::CircumferentialStrain),
    row(24149, "circumferential_strain_aha_9_percent", "LV circumferential strain AHA segment 9", "%", Group::CircumferentialStrain),
    row(24150, "circumferential_strain_aha_10_percent", "LV circumferential strain AHA segment 10", "%", Group::CircumferentialStrain),
    row(24151, "circumferential_strain_aha_11_percent", "LV circumferential strain AHA segment 11", "%", Group::CircumferentialStrain),
    row(24152, "circumferential_strain_aha_12_percent", "LV circumferential strain AHA segment 12", "%", Group::CircumferentialStrain),
    row(24153, "circumferential_strain_aha_13_percent", "LV circumferential strain AHA segment 13", "%", Group::CircumferentialStrain),
    row(24154, "circumferential_strain_aha_14_percent", "LV circumferential strain AHA segment 14", "%", Group::CircumferentialStrain),
    row(24155, "circumferential_strain_aha_15_percent", "LV circumferential strain AHA segment 15", "%", Group::CircumferentialStrain),
    row(24156, "circumferential_strain_aha_16_percent", "LV circumferential strain AHA segment 16", "%", Group::CircumferentialStrain),
    row(24157, "circumferential_strain_global_percent", "LV circumferential strain global", "%", Group::CircumferentialStrain),
    row(24158, "radial_strain_aha_1_percent", "LV radial strain AHA segment 1", "%", Group::RadialStrain),
    row(24159, "radial_strain_aha_2_percent", "LV radial strain AHA segment 2", "%", Group::RadialStrain),
    row(24160, "radial_strain_aha_3_percent", "LV radial strain AHA segment 3", "%", Group::RadialStrain),
    row(24161, "radial_strain_aha_4_percent", "LV radial strain AHA segment 4", "%", Group::RadialStrain),
    row(24162, "radial_strain_aha_5_percent", "LV radial strain AHA segment 5", "%", Group::RadialStrain),
    row(24163, "radial_strain_aha_6_percent", "LV radial strain AHA segment 6", "%", Group::RadialStrain),
    row(24164, "radial_strain_aha_7_percent", "LV radial strain AHA segment 7", "%", Group::RadialStrain),
    row(24165, "radial_strain_aha_8_percent", "LV radial strain AHA segment 8", "%", Group::RadialStrain),
    row(24166, "radial_strain_aha_9_percent", "LV radial strain AHA segment 9", "%", Group::RadialStrain),
    row(24167, "radial_strain_aha_10_percent", "LV radial strain AHA segment 10", "%", Group::RadialStrain),
    row(24168, "radial_strain_aha_11_percent", "LV radial strain AHA segment 11", "%", Group::RadialStrain),
    row(24169, "radial_strain_aha_12_percent", "LV radial strain AHA segment 12", "%", Group::RadialStrain),
    row(24170, "radial_strain_aha_13_percent", "LV radial strain AHA segment 13", "%", Group::RadialStrain),
    row(24171, "radial_strain_aha_14_percent", "LV radial strain AHA segment 14", "%", Group::RadialStrain),
    row(24172, "radial_strain_aha_15_percent", "LV radial strain AHA segment 15", "%", Group::RadialStrain),
    row(24173, "radial_strain_aha_16_percent", "LV radial strain AHA segment 16", "%", Group::RadialStrain),
    row(24174, "radial_strain_global_percent", "LV radial strain global", "%", Group::RadialStrain),
    row(24175, "longitudinal_strain_1_percent", "LV longitudinal strain segment 1", "%", Group::LongitudinalStrain),
    row(24176, "longitudinal_strain_2_percent", "LV longitudinal strain segment 2", "%", Group::LongitudinalStrain),
    row(24177, "longitudinal_strain_3_percent", "LV longitudinal strain segment 3", "%", Group::LongitudinalStrain),
    row(24178, "longitudinal_strain_4_percent", "LV longitudinal strain segment 4", "%", Group::LongitudinalStrain),
    row(24179, "longitudinal_strain_5_percent", "LV longitudinal strain segment 5", "%", Group::LongitudinalStrain),
    row(24180, "longitudinal_strain_6_percent", "LV longitudinal strain segment 6", "%", Group::LongitudinalStrain),
    row(24181, "longitudinal_strain_global_percent", "LV longitudinal strain global", "%", Group::LongitudinalStrain),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_rise_by_one_from_24100() {
        for (i, phenotype) in PHENOTYPES.iter().enumerate() {
            assert_eq!(phenotype.field as usize, 24100 + i, "{}", phenotype.name);
        }
    }

    #[test]
    fn known_fields_stand_at_their_numbers() {
        let name = |field: usize| PHENOTYPES[field - 24100].name;
        assert_eq!(name(24103), "lv_ef_percent");
        assert_eq!(name(24106), "rv_edv_ml");
        assert_eq!(name(24114), "ra_max_volume_ml");
        assert_eq!(name(24140), "wall_thickness_global_mm");
        assert_eq!(name(24157), "circumferential_strain_global_percent");
        assert_eq!(name(24181), "longitudinal_strain_global_percent");
    }
}
