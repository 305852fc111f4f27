//! What the pictures show. A look is prepared once per shot (textures, positions) and then drawn for each time: every change inside a shot is slow
//! and smooth, so that frames one second apart stay alike; different looks differ in colour and texture.
//!
//! The pictures only resemble the real thing. They serve to test that the machinery finds what is known to be there, not to train a model.

mod everyday;
mod microscope;
mod scan;
mod scope;

use serde::{Deserialize, Serialize};

use crate::canvas::Canvas;
use crate::rng::Rng;

/// A kind of picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Look {
    /// Grey fan of moving speckle with a beating cavity.
    Ultrasound,
    /// Grey head slice, slowly passing through.
    Mri,
    /// Bluish chest picture, breathing.
    Xray,
    /// Round view of pink folds with moving highlights.
    Endoscopy,
    /// Full view of red tissue and fat with a steel instrument.
    Surgery,
    /// Pink and purple stained tissue, panning.
    Histology,
    /// Orange retina with vessels.
    Fundus,
    /// Sky, sun, clouds, green hills.
    Landscape,
    /// Sunset over waves.
    Ocean,
    /// Night skyline with lit windows.
    City,
    /// White page with title and lines of text.
    Slides,
    /// Coloured discs and squares on a plain ground.
    Shapes,
    /// Speaker in a blue studio with a caption band.
    News,
    /// Plate of vegetables on a wooden table.
    Food,
}

impl Look {
    /// True for pictures that belong into a medical data set.
    pub fn is_medical(self) -> bool {
        use Look::*;
        match self {
            Ultrasound | Mri | Xray | Endoscopy | Surgery | Histology | Fundus => true,
            Landscape | Ocean | City | Slides | Shapes | News | Food => false,
        }
    }

    /// The words that the look itself puts on screen.
    pub fn words(self) -> u32 {
        let lines: &[&str] = match self {
            Look::Slides => &everyday::SLIDE_LINES,
            Look::News => &everyday::NEWS_LINES,
            _ => &[],
        };
        lines.iter().map(|l| l.split_whitespace().count() as u32).sum()
    }

    /// Fixes everything that stays the same during a shot.
    pub fn prepare(self, rng: &mut Rng, width: usize, height: usize) -> Box<dyn Scene> {
        match self {
            Look::Ultrasound => Box::new(scan::Ultrasound::new(rng, width, height)),
            Look::Mri => Box::new(scan::Mri::new(rng, width, height)),
            Look::Xray => Box::new(scan::Xray::new(rng, width, height)),
            Look::Endoscopy => Box::new(scope::Endoscopy::new(rng, width, height)),
            Look::Surgery => Box::new(scope::Surgery::new(rng, width, height)),
            Look::Histology => Box::new(microscope::Histology::new(rng, width, height)),
            Look::Fundus => Box::new(microscope::Fundus::new(rng, width, height)),
            Look::Landscape => Box::new(everyday::Landscape::new(rng, width, height)),
            Look::Ocean => Box::new(everyday::Ocean::new(rng, width, height)),
            Look::City => Box::new(everyday::City::new(rng, width, height)),
            Look::Slides => Box::new(everyday::Slides::new(rng, width, height)),
            Look::Shapes => Box::new(everyday::Shapes::new(rng, width, height)),
            Look::News => Box::new(everyday::News::new(rng, width, height)),
            Look::Food => Box::new(everyday::Food::new(rng, width, height)),
        }
    }
}

/// A prepared look.
pub trait Scene: Send {
    /// Draws the whole picture as it is `seconds` after the start of the shot.
    fn draw(&self, canvas: &mut Canvas, seconds: f32);
}

/// The dark of instrument screens: visibly not black, so that only added bars count as borders.
const SCREEN: crate::canvas::Rgb = [34, 36, 42];

/// A swing between -1 and 1 with a period in seconds.
fn swing(seconds: f32, period: f32) -> f32 {
    (seconds * std::f32::consts::TAU / period).sin()
}
