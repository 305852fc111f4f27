//! The list of videos: `videos()` is what the pipeline runs over, `training()` is what the classifier head learns from.

use crate::looks::Look::{self, *};
use crate::spec::{Damage, Format, Transcript, Video, video};

const ECHO: &[&str] = &[
    "welcome to this lesson on the",
    "apical four chamber view of the heart",
    "here you can see the left ventricle",
    "contracting with every single beat",
    "notice the bright septum in the middle",
    "and the valve leaflets opening and closing",
];
const POLYP: &[&str] = &[
    "today we look at a colonoscopy",
    "the mucosa is smooth and pink here",
    "we pass the folds slowly with the scope",
    "and look for any raised lesion",
    "the biopsy is seen under the microscope next",
];
const BRAIN: &[&str] = &[
    "This is an axial slice of the brain.",
    "The ventricles are the dark spaces in the middle.",
    "Cortex and white matter are easy to tell apart.",
];
const WALK: &[&str] = &["a walk by the lake is good for you", "breathe in and look at the hills", "see you again next week"];

/// The videos that the pipeline runs over.
pub fn videos() -> Vec<Video> {
    let mut list = whole();
    list.extend(not_kept());
    list.extend(broken());
    list
}

/// Videos that give clips.
fn whole() -> Vec<Video> {
    vec![
        video("ultrasound-cardiac.mp4", "one medical shot with sound and a rolling transcript", 12, 16.0, &[(0.0, Ultrasound)])
            .audio()
            .titled("uS4cHr2d_w1", 0, "Echocardiography: the apical four chamber view")
            .described("Cardiac ultrasound step by step for students.", &["echocardiography", "ultrasound"])
            .transcript(Transcript::Automatic(ECHO))
            .ends("clips", 2),
        video(
            "endoscopy-polyp.mp4",
            "title page, then two medical shots: cuts at 2.5 s and 12 s",
            12,
            21.0,
            &[(0.0, Slides), (2.5, Endoscopy), (12.0, Histology)],
        )
        .size(854, 480)
        .audio()
        .titled("eN7-pLyp0Ab", 1, "Colonoscopy with polyp biopsy and histology")
        .described("From the endoscope to the microscope.", &["colonoscopy", "pathology"])
        .transcript(Transcript::Automatic(POLYP))
        .ends("clips", 2),
        video("mri-brain.mkv", "Matroska, manual transcript", 10, 10.0, &[(0.0, Mri)])
            .format(Format::Mkv)
            .titled("mRi9Brain_3", 0, "Brain MRI: axial anatomy")
            .described("Radiology for beginners.", &["MRI", "neuroradiology"])
            .transcript(Transcript::Manual(BRAIN)),
        video(
            "Laparoscopic cholecystectomy, step by step [lAp4Ch0leX1].mp4",
            "720p with sound, named as yt-dlp names files",
            12,
            10.0,
            &[(0.0, Surgery)],
        )
        .size(1280, 720)
        .audio()
        .titled("lAp4Ch0leX1", 2, "Laparoscopic cholecystectomy, step by step")
        .described("Dissection of the gallbladder.", &["surgery", "laparoscopy"]),
        video("surgery-long.mp4", "one shot of 24 s: longer than a clip may be", 10, 24.0, &[(0.0, Surgery)])
            .size(854, 480)
            .titled("sUrgLong_24", 2, "Open appendectomy: full procedure")
            .described("Uncut view of the operating field.", &["surgery"])
            .ends("clips", 3),
        video(
            "xray-news.mp4",
            "24 fps; everyday, medical, everyday: cuts at 4 s and 12.5 s",
            24,
            17.0,
            &[(0.0, News), (4.0, Xray), (12.5, Landscape)],
        )
        .size(854, 480)
        .titled("xR4yNews__7", 3, "Chest X-ray reading in the emergency department")
        .described("A radiologist explains.", &["x-ray"]),
        video(
            "histology-lecture.mp4",
            "15 fps; page, tissue, page: cuts at 5 s and 14 s",
            15,
            18.0,
            &[(0.0, Slides), (5.0, Histology), (14.0, Slides)],
        )
        .size(854, 480)
        .titled("h1stoLect15", 1, "Histology of the skin, lecture 4")
        .described("Epidermis and dermis under the microscope.", &["histology"]),
        video("fundus-portrait.mp4", "portrait", 12, 9.0, &[(0.0, Fundus)])
            .size(480, 854)
            .titled("fUndPort_9x", 0, "Fundus photography: a healthy eye")
            .sparse(),
        video("endoscopy-rotated.mp4", "stored lying, marked to be turned: displayed portrait", 12, 9.0, &[(0.0, Endoscopy)])
            .size(480, 854)
            .rotated()
            .titled("eNdoRot_90d", 1, "Gastroscopy filmed with a phone")
            .described("Upper endoscopy.", &["gastroscopy"]),
        video(
            "surgery-variable-rate.mp4",
            "frames missing irregularly; cut at 8 s",
            24,
            16.0,
            &[(0.0, Surgery), (8.0, Ultrasound)],
        )
        .size(854, 480)
        .variable()
        .titled("vFrSurg_x24", 2, "Thyroid surgery and ultrasound")
        .described("Filmed with a phone that skips frames.", &["thyroid"])
        .ends("clips", 2),
        video("histology-vp9.webm", "VP9 in WebM", 10, 8.0, &[(0.0, Histology)])
            .format(Format::WebmVp9)
            .titled("vP9h1sto_wb", 1, "Liver biopsy: what the pathologist sees")
            .described("Hepatocytes and portal triads.", &["pathology", "liver"]),
        video("mri-subtitles.mp4", "words burnt into a medical shot", 12, 10.0, &[(0.0, Mri)])
            .size(854, 480)
            .subtitles(&[
                (0.5, 3.5, "THE BRAIN IS SEEN FROM BELOW"),
                (4.0, 6.5, "DARK SPACES HOLD FLUID"),
                (7.0, 9.5, "BRIGHT RINGS ARE THE SKULL AND THE SKIN"),
            ])
            .titled("mRiSubt1t12", 0, "MRI of the brain with subtitles")
            .described("Neuroanatomy in ten seconds.", &["MRI"]),
    ]
}

/// Videos that are in order but that a rule drops.
fn not_kept() -> Vec<Video> {
    vec![
        video("fundus-360p.mp4", "too small", 12, 9.0, &[(0.0, Fundus)])
            .size(640, 360)
            .titled("fUnd360p_sm", 0, "Diabetic retinopathy screening")
            .described("Ophthalmology clinic.", &["retina"])
            .ends("resolution_filter", 0),
        video("histology-letterbox.mp4", "black bars of 60 px above and below", 12, 9.0, &[(0.0, Histology)])
            .size(854, 480)
            .bars(0, 0, 60, 60)
            .titled("h1stLetBx60", 1, "Kidney histology: glomeruli and tubules")
            .described("Nephrology basics.", &["histology"])
            .ends("black_border", 0),
        video("surgery-pillarbox.mp4", "black bars of 108 px left and right", 12, 9.0, &[(0.0, Surgery)])
            .size(854, 480)
            .bars(108, 108, 0, 0)
            .titled("sUrgP1llar2", 2, "Hernia repair surgery")
            .described("Recorded from an old monitor.", &["surgery"])
            .ends("black_border", 0),
        video("xray-still.mp4", "a frozen picture", 10, 9.0, &[(0.0, Xray)])
            .still()
            .titled("xRaySt1ll_0", 3, "Pneumonia on chest radiography")
            .described("One film, explained.", &["radiology"])
            .ends("freeze", 0),
        video("endoscopy-blurred.mp4", "out of focus", 12, 9.0, &[(0.0, Endoscopy)])
            .size(854, 480)
            .blurred(6)
            .titled("eNd0Blur_09", 1, "Gastroscopy through a fogged lens")
            .described("Why the lens must be cleaned.", &["gastroscopy"])
            .ends("sharpness", 0),
        video("ultrasound-short.mp4", "shorter than a clip must be", 12, 4.0, &[(0.0, Ultrasound)])
            .titled("uSsh0rt__4s", 0, "Fetal ultrasound in four seconds")
            .described("Obstetrics.", &["ultrasound"])
            .ends("temporal_split", 0),
        video(
            "short-shots.mp4",
            "medical, but every shot is shorter than a clip must be",
            12,
            16.0,
            &[(0.0, Endoscopy), (4.0, Xray), (8.0, Histology), (12.0, Ultrasound)],
        )
        .size(854, 480)
        .titled("sh0rtSh0ts4", 1, "Medical imaging in sixteen seconds")
        .described("Endoscopy, X-ray, histology, ultrasound.", &["imaging"])
        .ends("temporal_split", 0),
        video("lake-walk.mp4", "medical title, everyday pictures", 12, 12.0, &[(0.0, Landscape), (7.0, Food)])
            .size(854, 480)
            .audio()
            .titled("wAlkLake_m3", 3, "Recovery after cardiac surgery: a walk and a meal")
            .described("Rehabilitation after heart surgery.", &["rehabilitation"])
            .transcript(Transcript::Automatic(WALK))
            .ends("temporal_split", 0),
        video("ocean-holiday.mp4", "everyday title, everyday pictures", 10, 12.0, &[(0.0, Ocean), (6.5, City)])
            .titled("0ceanHol_dy", 4, "Sunset and city lights, our summer holiday")
            .described("Filmed by the sea.", &["travel", "sunset"])
            .ends("keyword_filter", 0),
        video("shapes-geometry.webm", "VP8 in WebM, everyday", 10, 8.0, &[(0.0, Shapes)])
            .format(Format::WebmVp8)
            .titled("sHapesGe0m_", 4, "Bouncing circles and squares")
            .sparse()
            .ends("keyword_filter", 0),
        video("tissue-colours.mp4", "medical pictures behind an everyday title", 12, 8.0, &[(0.0, Histology)])
            .titled("tIssueC0l_r", 4, "My favourite colours: pink and purple")
            .described("Which one do you like best?", &["colours"])
            .ends("keyword_filter", 0),
    ]
}

/// Files that cannot be read, each for another reason.
fn broken() -> Vec<Video> {
    let base = |file, about| video(file, about, 12, 8.0, &[(0.0, Ultrasound)]).size(640, 480);
    vec![
        base("broken-no-index.mp4", "cut at 60 % of its bytes, the index at the end is gone")
            .damage(Damage::Truncated(60))
            .titled("bR0kN01ndex", 3, "Kidney ultrasound")
            .ends("probe", 0),
        base("broken-truncated.mp4", "cut at 40 % of its bytes, the index at the start promises more")
            .format(Format::Mp4IndexFirst)
            .damage(Damage::Truncated(40))
            .titled("bR0kTrunc40", 3, "Lung ultrasound")
            .ends("probe", 0),
        base("broken-empty.mp4", "no bytes at all")
            .damage(Damage::Empty)
            .titled("bR0kEmpty_0", 3, "Thyroid ultrasound")
            .ends("probe", 0),
        base("broken-text.mp4", "a text file")
            .damage(Damage::Text)
            .titled("bR0kText_mp", 3, "Surgery lecture notes")
            .ends("probe", 0),
        base("audio-only.mp4", "sound without pictures")
            .damage(Damage::AudioOnly)
            .titled("bR0kAud10_o", 3, "Heart murmurs: auscultation sounds")
            .ends("probe", 0),
    ]
}

/// The videos that the classifier head learns from: each look four times, in other variants than in [`videos`].
pub fn training() -> Vec<Video> {
    const FILES: [(&str, [Look; 4]); 14] = [
        ("train-01.mp4", [Ultrasound, Landscape, Histology, Slides]),
        ("train-02.mp4", [Mri, Food, Endoscopy, News]),
        ("train-03.mp4", [Xray, Shapes, Fundus, City]),
        ("train-04.mp4", [Surgery, Ocean, Ultrasound, Slides]),
        ("train-05.mp4", [Histology, News, Mri, Landscape]),
        ("train-06.mp4", [Endoscopy, City, Xray, Food]),
        ("train-07.mp4", [Fundus, Shapes, Surgery, Ocean]),
        ("train-08.mp4", [Ultrasound, Food, Surgery, Landscape]),
        ("train-09.mp4", [Mri, Slides, Histology, City]),
        ("train-10.mp4", [Xray, Ocean, Endoscopy, Shapes]),
        ("train-11.mp4", [Fundus, News, Ultrasound, City]),
        ("train-12.mp4", [Surgery, Slides, Mri, Ocean]),
        ("train-13.mp4", [Endoscopy, Landscape, Fundus, Food]),
        ("train-14.mp4", [Histology, Shapes, Xray, News]),
    ];
    FILES
        .iter()
        .enumerate()
        .map(|(i, (file, looks))| {
            let shots: Vec<(f64, Look)> = looks.iter().enumerate().map(|(n, look)| (n as f64 * 3.0, *look)).collect();
            // Round views fill a portrait picture differently: some of every shape must be seen.
            let (width, height) = match i {
                2 | 7 | 12 | 13 => (360, 640),
                _ if i % 2 == 0 => (640, 480),
                _ => (640, 360),
            };
            video(file, "labelled frames", 6, 12.0, &shots).size(width, height).ends("", 0)
        })
        .collect()
}
