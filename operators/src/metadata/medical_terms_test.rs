//! The dictionary that ships in `datasets/` keeps its promises: size, form, and which titles it matches.

use std::collections::BTreeSet;

use super::fold::fold;
use super::keywords::{Keywords, entries};

const DICTIONARY: &str = include_str!("../../../datasets/medical_terms.txt");

fn hits(keywords: &Keywords, title: &str) -> Vec<String> {
    keywords.hits(title).into_iter().map(str::to_string).collect()
}

#[test]
fn it_has_at_least_1500_distinct_terms_in_canonical_form() {
    let terms: Vec<&str> = entries(DICTIONARY).map(|entry| entry.text).collect();
    let distinct: BTreeSet<&str> = terms.iter().copied().collect();
    assert!(distinct.len() >= 1500, "{}", distinct.len());
    assert_eq!(distinct.len(), terms.len(), "a term is listed twice");
    for term in &terms {
        assert_eq!(*term, fold(term), "not lower case, NFKC and single-spaced");
        assert!(term.chars().count() >= 3, "`{term}` is too short to mean one thing");
    }
    assert_eq!(Keywords::new(entries(DICTIONARY)).unwrap().patterns().len(), terms.len());
}

#[test]
fn everyday_titles_match_nothing() {
    let keywords = Keywords::new(entries(DICTIONARY)).unwrap();
    let titles = [
        "How to cut a film trailer in 10 minutes",
        "Head over heels - official music video",
        "My heart will go on (piano cover)",
        "Doctor Who: best moments",
        "Top 10 goals of the season",
        "Easy chocolate cake recipe without oven",
        "Sunday morning vlog: coffee, market and a long walk",
        "MacBook Pro Retina display review",
        "Cancer horoscope for October",
        "Backstroke and butterfly: improve your swimming stroke",
        "Minecraft survival series episode 12",
        "Kidney bean curry the way my grandmother makes it",
        "How to scan documents with your phone",
        "Learn guitar chords for beginners",
        "Tiny house tour in the mountains",
        "Engine sound of a 1967 Mustang",
        "Replace the battery of your phone, step by step",
        "Saturday Night Fever dance scene",
        "The making of a wooden chair",
        "Funny cats and dogs compilation",
        "Street food in Bangkok: pad thai and mango rice",
        "How to plant tomatoes in a small garden",
        "World news today: the election results",
        "Unboxing the new game console",
        "Drone footage of the Norwegian fjords",
        "How I learned Spanish in six months",
        "Black hole explained in five minutes",
        "Wedding dance surprise for the bride",
        "Fix a leaking tap in your kitchen",
        "Yoga for beginners: 20 minute full body stretch",
        "The history of the Roman empire",
        "Best action scenes of the year",
        "Broken arrow: fight scene",
        "Hocus Pocus 2 trailer",
        "Be patient with your puppy: training tips",
        "Cold brew or hot coffee?",
        "How to build muscle at home, no equipment",
        "Operation Overlord: a documentary",
        "Nail art tutorial: five spring designs",
        "Speed cubing world record",
        "Gerd Müller all goals",
        "Love on the brain (live)",
    ];
    let wrong: Vec<_> = titles.iter().map(|t| (t, hits(&keywords, t))).filter(|(_, h)| !h.is_empty()).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn medical_titles_match() {
    let keywords = Keywords::new(entries(DICTIONARY)).unwrap();
    let titles = [
        "Laparoscopic cholecystectomy: critical view of safety",
        "Normal echocardiogram: parasternal long axis view",
        "How to read a chest X-ray",
        "Total Knee Replacement Animation",
        "Basic suturing techniques for students",
        "MRI brain anatomy made easy",
        "Colonoscopy with removal of a large polyp",
        "Understanding type 2 diabetes",
        "CPR training for adults and children",
        "Ultrasound of the gallbladder",
        "Root canal treatment of a lower molar",
        "Cataract surgery live",
        "Nursing skills: blood pressure measurement",
        "The cranial nerves explained",
        "Heart failure pathophysiology",
        "Phlebotomy: drawing blood step by step",
        "Hip fracture rehabilitation week by week",
        "What is multiple sclerosis?",
        "Cesarean section step by step",
        "COVID-19 vaccine: how it works",
        "Human Anatomy: the femur",
        "Knee examination for OSCE",
        "Stroke symptoms: act quickly",
        "Endotracheal intubation on a manikin",
        "Pharmacology of beta blockers",
        "Lung cancer: early signs",
        "Coronary angiography and stent placement",
        "Histology of the liver lobule",
        "Skin grafting after a burn wound",
        "Pediatric asthma in the emergency department",
        "Dental implant placement",
        "Lumbar puncture procedure",
        "Dog spay surgery at the veterinary clinic",
        "Radiology case of the week: appendicitis",
        "Robotic prostatectomy",
        "Prenatal care in the third trimester",
        "ECG interpretation: atrial fibrillation",
        "Physiotherapy exercises for frozen shoulder",
        "Crohn\u{2019}s disease and ulcerative colitis",
        "Anaesthesia machine check; GENERAL ANAESTHESIA",
        "Hand hygiene and aseptic technique",
    ];
    let missed: Vec<_> = titles.iter().filter(|t| hits(&keywords, t).is_empty()).collect();
    assert!(missed.is_empty(), "{missed:#?}");
}
