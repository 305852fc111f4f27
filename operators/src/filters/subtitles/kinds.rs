//! Which family a model of `subtitles` belongs to, by the preset of its manifest, and why it cannot do what a key asks of it.
//!
//! Pure: `check` holds the manifest's contract against it, opening a model the graph's own. What a contract leaves open is seen at the first output.
//! What can go wrong: a bare `.onnx` file says no family and is taken for PP-OCR's; where its shapes tell that it is EasyOCR's, the message says what
//! to do.

use curette_engine::diag::Code;
use curette_engine::operator::StepCheck;
use curette_models::Located;
use curette_models::manifest::{Contract, Dim, Manifest, Port, Preset};
use curette_ocr::craft::CraftSettings;
use curette_ocr::lines::LineSettings;
use curette_ocr::{DetectSize, Detector, Dictionary, OcrError, Recogniser};

/// What a model is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Finds text.
    Detector,
    /// Reads it.
    Recogniser,
}

/// Whose model it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// PaddleOCR's, exported to ONNX.
    PpOcr,
    /// EasyOCR's: CRAFT, and recognisers of the second generation.
    EasyOcr,
}

/// What is wrong and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
}

impl Role {
    fn key(self) -> &'static str {
        match self {
            Role::Detector => "detector",
            Role::Recogniser => "recogniser",
        }
    }
}

impl Family {
    /// Of a model, by its manifest.
    pub fn of(manifest: &Manifest) -> Family {
        match preset(manifest) {
            Some(Preset::Craft | Preset::EasyOcrRec) => Family::EasyOcr,
            _ => Family::PpOcr,
        }
    }

    /// How its detector's map becomes boxes.
    pub fn detector(self) -> Detector {
        match self {
            Family::PpOcr => Detector::PpOcr(curette_ocr::boxes::BoxSettings::default()),
            Family::EasyOcr => Detector::Craft(CraftSettings::default(), LineSettings::default()),
        }
    }

    /// How large its detector sees pictures unless a step says it. EasyOCR looks at them as they are.
    pub fn detect_size(self, longest_side_px: Option<u32>) -> DetectSize {
        let default = match self {
            Family::PpOcr => 640,
            Family::EasyOcr => super::READ_SIDE_PX,
        };
        DetectSize::LongestAtMost(longest_side_px.unwrap_or(default))
    }

    /// Its recogniser.
    pub fn recogniser(self) -> Recogniser {
        match self {
            Family::PpOcr => Recogniser::PpOcr,
            Family::EasyOcr => Recogniser::EasyOcr,
        }
    }

    /// The score below which lines do not count unless a step says it. EasyOCR returns every line.
    pub fn min_line_score(self) -> f32 {
        match self {
            Family::PpOcr => 0.5,
            Family::EasyOcr => 0.0,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Family::PpOcr => "PP-OCR",
            Family::EasyOcr => "EasyOCR",
        }
    }
}

fn preset(manifest: &Manifest) -> Option<Preset> {
    manifest.preprocessing.as_ref().and_then(|p| p.preset)
}

/// Why a model cannot take a role; `None` if it can, as far as its contract says.
pub fn mistake(role: Role, manifest: &Manifest, contract: Option<&Contract>) -> Option<Mistake> {
    let (name, key) = (&manifest.name, role.key());
    let (other, preset_name) = match (role, preset(manifest)) {
        (Role::Detector, None | Some(Preset::Craft)) | (Role::Recogniser, None | Some(Preset::EasyOcrRec)) => {
            return contract.and_then(|contract| misfit(role, manifest, contract));
        }
        (_, Some(Preset::Craft)) => (Some(Role::Detector), "craft"),
        (_, Some(Preset::EasyOcrRec)) => (Some(Role::Recogniser), "easyocr-rec"),
        (_, Some(Preset::Clip224)) => (None, "clip-224"),
        (_, Some(Preset::Imagenet224)) => (None, "imagenet-224"),
    };
    let help = match other {
        Some(other) => format!("name it in the key `{}`", other.key()),
        None => "`curette models list` shows the models for text".to_owned(),
    };
    Some(Mistake { message: format!("model `{name}` is no text {key}: its manifest says `preset = \"{preset_name}\"`"), help })
}

/// Shapes that do not fit, as far as they are fixed.
fn misfit(role: Role, manifest: &Manifest, contract: &Contract) -> Option<Mistake> {
    let family = Family::of(manifest);
    let (takes, gives): (&[Option<u64>], &[Option<u64>]) = match (role, family) {
        (Role::Detector, Family::PpOcr) => (&[None, Some(3), None, None], &[None, Some(1), None, None]),
        (Role::Detector, Family::EasyOcr) => (&[None, Some(3), None, None], &[None, None, None, Some(2)]),
        (Role::Recogniser, Family::PpOcr) => (&[None, Some(3), Some(48), None], &[None, None, None]),
        (Role::Recogniser, Family::EasyOcr) => (&[None, Some(1), Some(64), None], &[None, None, None]),
    };
    let input = match contract.inputs.as_slice() {
        [input] => Some(input),
        _ => None,
    };
    let output = contract.outputs.first();
    // The shape of an output may be unknown until the graph runs.
    let gives_it = output.is_some_and(|o| o.shape.is_empty() || fits(o, gives));
    if input.is_some_and(|i| fits(i, takes)) && gives_it {
        return None;
    }
    let (name, key) = (&manifest.name, role.key());
    let has =
        |port: Option<&Port>| port.map_or_else(|| "several inputs".to_owned(), |p| bracketed(p.shape.iter().map(Dim::to_string)));
    let wanted = |dims: &[Option<u64>]| bracketed(dims.iter().map(|d| d.map_or_else(|| "any".to_owned(), |n| n.to_string())));
    let message = format!(
        "model `{name}` is no text {key} of {}: it takes {} and gives {} where {} and {} are needed",
        family.name(),
        has(input),
        has(output),
        wanted(takes),
        wanted(gives)
    );
    let help = match easyocr_preset(contract).filter(|_| family == Family::PpOcr) {
        Some(preset) => format!(
            "a model of EasyOCR needs a manifest with `[preprocessing] preset = \"{preset}\"`, as datasets/models/easyocr-*.toml have it"
        ),
        None => "name a detector and a recogniser of PP-OCR or of EasyOCR".to_owned(),
    };
    Some(Mistake { message, help })
}

fn fits(port: &Port, dims: &[Option<u64>]) -> bool {
    let one = |(have, want): (&Dim, &Option<u64>)| match (have, want) {
        (Dim::Fixed(have), Some(want)) => have == want,
        _ => true,
    };
    port.shape.len() == dims.len() && port.shape.iter().zip(dims).all(one)
}

/// The preset that a graph of EasyOCR needs, told by its shapes.
fn easyocr_preset(contract: &Contract) -> Option<&'static str> {
    let (input, output) = (contract.inputs.first()?, contract.outputs.first()?);
    match (input.shape.get(1), output.shape.as_slice()) {
        (Some(Dim::Fixed(3)), [_, _, _, Dim::Fixed(2)]) => Some("craft"),
        (Some(Dim::Fixed(1)), [_, _, _]) => Some("easyocr-rec"),
        _ => None,
    }
}

fn bracketed(dims: impl Iterator<Item = String>) -> String {
    format!("[{}]", dims.collect::<Vec<_>>().join(", "))
}

/// Why a dictionary is not that of a recogniser, as far as its contract says the number of classes.
pub fn foreign(dictionary: &Dictionary, contract: &Contract) -> Option<Mistake> {
    let Some(Dim::Fixed(classes)) = contract.outputs.first().and_then(|o| o.shape.last()) else { return None };
    let classes = usize::try_from(*classes).unwrap_or(usize::MAX);
    (classes != dictionary.classes()).then(|| Mistake {
        message: OcrError::Dictionary { classes, characters: dictionary.len() }.to_string(),
        help: "leave `dictionary` out to use the recogniser's own".to_owned(),
    })
}

/// For `check`: reports what the manifest of a model that was found says against its role.
pub fn report(role: Role, located: Option<&Located>, check: &mut dyn StepCheck) {
    let manifest = located.map(|l| &l.manifest);
    if let Some(m) = manifest.and_then(|m| mistake(role, m, m.contract.as_ref())) {
        check.error(Some(role.key()), Code::BadModel, m.message, Some(m.help));
    }
}
