//! Where a model's files are: a content-addressed store, a lock file, and the built-in and the user's manifests.
//!
//! A file is at `<cache>/blobs/<sha256>`; nothing there ever changes. A manifest, or the lock file where the manifest has no hash, says which blob it is. Without
//! any hash a file beside the manifest is taken as it is and hashed when the model is opened.
//!
//! What can go wrong: a run never downloads, so a missing file is an error that names the command which brings it in.

mod blobs;
pub mod fetch;
mod lock;
pub mod pack;
mod resume;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use blobs::{Blobs, hash_file};
pub use lock::{Lock, Pin};

pub use crate::manifest::FileRole;
use crate::manifest::{CommercialUse, Manifest, ModelFile, ModelKind};
use crate::{ErrorKind, ModelError, ModelRef, Result, Settings};

/// Most manifests of one folder.
const MAX_MANIFESTS: usize = 1000;
/// Largest manifest in bytes.
const MAX_MANIFEST_BYTES: u64 = 1 << 20;

/// The manifests that come with curette.
const BUILT_IN: &[(&str, &str)] = &include!("store/built_in.rs");

/// A manifest that comes with curette.
pub fn built_in(name: &str) -> Result<Manifest> {
    let file = format!("{name}.toml");
    let found = BUILT_IN.iter().find(|(known, _)| *known == file);
    let (file, text) = found.ok_or_else(|| ModelError::new(ErrorKind::Manifest, format!("no manifest `{name}` is built in")))?;
    Manifest::parse(text, Path::new(file))
}

/// A file of a model on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocatedFile {
    /// What it is for.
    pub role: FileRole,
    /// Where it is.
    pub path: PathBuf,
    /// The hash that it must have, if one is known.
    pub sha256: Option<String>,
    /// True if it is a blob of the store, whose hash was checked when it was brought in.
    pub stored: bool,
    /// The size that it must have, if one is known.
    pub bytes: Option<u64>,
}

/// A manifest and its files, all of which exist.
#[derive(Debug, Clone)]
pub struct Located {
    /// The manifest.
    pub manifest: Manifest,
    /// The files.
    pub files: Vec<LocatedFile>,
    /// Where the manifest is; `None` for built-in ones and bare ONNX files.
    pub manifest_path: Option<PathBuf>,
}

impl Located {
    /// Path of the file with this role.
    pub fn require(&self, role: FileRole) -> Result<&Path> {
        self.files.iter().find(|f| f.role == role).map(|f| f.path.as_path()).ok_or_else(|| {
            let message = format!("model `{}` has no {} file", self.manifest.name, role.name());
            ModelError::new(ErrorKind::Manifest, message).help(format!("add one with role = \"{}\" to its manifest", role.name()))
        })
    }

    /// Everything that is part of the model's meaning: for the plan's hash.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.manifest_path.iter().cloned().chain(self.files.iter().map(|f| f.path.clone())).collect()
    }

    /// What to tell the user of a graph that comes without a manifest: nobody can say under which licence it is.
    pub fn licence_warning(&self) -> Option<String> {
        let graph = self.files.iter().find(|f| f.role == FileRole::Graph).filter(|_| self.manifest.is_bare())?;
        Some(format!(
            "{} has no manifest, so its licence is not known and nobody was asked to accept it; a manifest (.toml) beside it can name one",
            graph.path.display()
        ))
    }

    /// The hash of a file: the known one, else computed.
    pub fn sha256(&self, role: FileRole) -> Result<String> {
        let path = self.require(role)?;
        match self.files.iter().find(|f| f.role == role).and_then(|f| f.sha256.clone()) {
            Some(known) => Ok(known),
            None => Ok(hash_file(path)?.0),
        }
    }

    /// Compares files outside the store with their hashes; blobs were compared when they came in, so only their size is looked at
    /// (`curette models verify` reads them again).
    pub fn verify(&self) -> Result<()> {
        for file in &self.files {
            let size = std::fs::metadata(&file.path).map_err(|e| blobs::io(&file.path, &e))?.len();
            let wrong_size = file.bytes.is_some_and(|bytes| bytes != size);
            if wrong_size || (!file.stored && file.sha256.is_some()) {
                self.verify_file(file)?;
            }
        }
        Ok(())
    }

    /// Reads a file and compares its hash.
    pub fn verify_file(&self, file: &LocatedFile) -> Result<()> {
        let (have, bytes) = hash_file(&file.path)?;
        match &file.sha256 {
            Some(want) if *want != have => Err(blobs::wrong_hash(&self.manifest.name, &file.path, want, &have, bytes)),
            _ => Ok(()),
        }
    }
}

/// A manifest and where it came from.
#[derive(Debug, Clone)]
pub struct Known {
    /// The manifest.
    pub manifest: Manifest,
    /// Its file; `None` if built in.
    pub path: Option<PathBuf>,
}

/// The store and the manifests.
pub struct Store {
    manifests: Option<PathBuf>,
    lock_file: PathBuf,
    blobs: Blobs,
    /// What the commands that bring models in must be told, if this process looks elsewhere than they would.
    flags: String,
}

impl Store {
    /// Touches nothing yet.
    pub fn new(settings: &Settings) -> Self {
        let flags = flags(settings, &Settings::from_environment());
        let (lock_file, blobs) = (settings.lock_file(), Blobs::new(&settings.cache));
        Store { manifests: settings.manifests.clone(), lock_file, blobs, flags }
    }

    /// The blobs.
    pub fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    /// The lock file's path.
    pub fn lock_file(&self) -> &Path {
        &self.lock_file
    }

    /// All manifests by name; those of the user's folder hide built-in ones.
    pub fn known(&self) -> Result<BTreeMap<String, Known>> {
        let mut out = BTreeMap::new();
        for (file, text) in BUILT_IN {
            let manifest = Manifest::parse(text, Path::new(file))?;
            out.insert(manifest.name.clone(), Known { manifest, path: None });
        }
        let Some(folder) = &self.manifests else { return Ok(out) };
        let unreadable = |e: std::io::Error| {
            ModelError::new(ErrorKind::Manifest, format!("cannot read the folder of manifests {}: {e}", folder.display()))
                .help("it is named by [runtime] models or CURETTE_MODELS")
        };
        let mut own: BTreeMap<String, PathBuf> = BTreeMap::new();
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(unreadable)?.take(MAX_MANIFESTS) {
            paths.push(entry.map_err(unreadable)?.path());
        }
        paths.sort();
        for path in paths.into_iter().filter(|p| p.extension().is_some_and(|e| e == "toml")) {
            let manifest = read_manifest(&path)?;
            if let Some(first) = own.insert(manifest.name.clone(), path.clone()) {
                let message = format!("{} and {} both describe `{}`", first.display(), path.display(), manifest.name);
                return Err(ModelError::new(ErrorKind::Manifest, message).help("give one of them another name"));
            }
            out.insert(manifest.name.clone(), Known { manifest, path: Some(path) });
        }
        Ok(out)
    }

    /// The manifest that a reference names.
    pub fn manifest(&self, model: &ModelRef) -> Result<Known> {
        match model {
            ModelRef::Manifest(path) => Ok(Known { manifest: read_manifest(path)?, path: Some(path.clone()) }),
            ModelRef::Onnx(path) => Ok(Known { manifest: Manifest::bare(path), path: Some(path.clone()) }),
            ModelRef::Name(name) => {
                let mut known = self.known()?;
                known.remove(name).ok_or_else(|| {
                    let names: Vec<_> = known.keys().map(String::as_str).collect();
                    let looked = match &self.manifests {
                        Some(folder) => format!("{} and the built-in ones", folder.display()),
                        None => "the built-in ones".to_owned(),
                    };
                    ModelError::new(ErrorKind::UnknownModel, format!("no manifest is named `{name}` (looked at {looked})"))
                        .help(format!("there are: {}; a path must end in .toml or .onnx", names.join(", ")))
                })
            }
        }
    }

    /// Finds every file. Downloads nothing.
    pub fn locate(&self, model: &ModelRef) -> Result<Located> {
        let known = self.manifest(model)?;
        let lock = Lock::read(&self.lock_file)?;
        let mut files = Vec::new();
        for file in &known.manifest.files {
            files.push(self.locate_file(&known, file, &lock)?);
        }
        let manifest_path = known.path.filter(|_| !matches!(model, ModelRef::Onnx(_)));
        Ok(Located { manifest: known.manifest, files, manifest_path })
    }

    /// Finds one file: by hash in the store, else beside the manifest.
    pub fn locate_file(&self, known: &Known, file: &ModelFile, lock: &Lock) -> Result<LocatedFile> {
        let sha256 = known_hash(&known.manifest, file, lock);
        let pinned = lock.pin(&known.manifest.name, &known.manifest.version, file.role).map(|p| p.bytes);
        let bytes = if file.sha256.is_some() { file.bytes } else { pinned };
        let found = |path: PathBuf, stored| LocatedFile { role: file.role, path, sha256: sha256.clone(), stored, bytes };
        let mut looked = Vec::new();
        if let Some(hash) = &sha256 {
            let blob = self.blobs.path(hash);
            if blob.is_file() {
                return Ok(found(blob, true));
            }
            looked.push(blob);
        }
        if let Some(beside) = known.path.as_ref().map(|p| p.with_file_name(&file.path)) {
            if beside.is_file() {
                // A pin comes from `add` or `import`, which asked.
                if pinned.is_none() {
                    self.gate_beside(known, file, &beside)?;
                }
                return Ok(found(beside, false));
            }
            looked.push(beside);
        }
        Err(self.missing(&known.manifest, file, sha256.as_deref(), &looked))
    }

    /// Nobody was asked about a file that just lies beside its manifest.
    fn gate_beside(&self, known: &Known, file: &ModelFile, beside: &Path) -> Result<()> {
        if known.manifest.origin.commercial_use != CommercialUse::No {
            return Ok(());
        }
        let named = known.path.as_ref().map_or_else(|| known.manifest.name.clone(), |path| quoted(path));
        let add = format!("curette models add {named} {}={} --accept-licence{}", file.role.name(), quoted(beside), self.flags);
        let message =
            format!("{}; {} lies beside its manifest, which accepts nothing", forbids(&known.manifest), beside.display());
        Err(ModelError::new(ErrorKind::Licence, message).help(format!("read it, and run `{add}` if you may use the model")))
    }

    fn missing(&self, manifest: &Manifest, file: &ModelFile, sha256: Option<&str>, looked: &[PathBuf]) -> ModelError {
        let name = &manifest.name;
        let hash = sha256.map_or_else(|| "no hash is pinned yet".to_owned(), |h| format!("sha256 {h}"));
        let places: Vec<_> = looked.iter().map(|p| p.display().to_string()).collect();
        let places = if places.is_empty() { String::new() } else { format!("; looked at {}", places.join(", ")) };
        let licence = &manifest.origin.licence;
        let message = format!(
            "the {} `{}` of model `{name}` is not on this machine ({hash}; licence {licence}{places})",
            file.role.name(),
            file.path
        );
        let accept = if manifest.origin.commercial_use == CommercialUse::No { " --accept-licence" } else { "" };
        let help = if sha256.is_some() && !file.urls.is_empty() {
            format!("run `curette models fetch {name}{accept}{}`; runs never download", self.flags)
        } else {
            let how = manifest.origin.obtain.as_ref().map(|o| format!("{}; then ", o.trim_end_matches('.'))).unwrap_or_default();
            format!("{how}run `curette models add {name} {}=PATH{accept}{}`", file.role.name(), self.flags)
        };
        ModelError::new(ErrorKind::MissingFile, message).help(help)
    }
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', "'\\''"))
}

/// ` --models X --cache Y`, as far as they differ from what a command finds by itself: a pipeline's `[runtime]` table may name other places.
fn flags(ours: &Settings, theirs: &Settings) -> String {
    let models = ours.manifests.as_ref().filter(|m| theirs.manifests.as_ref() != Some(*m));
    let models = models.map(|m| format!(" --models {}", quoted(m))).unwrap_or_default();
    let cache = if ours.cache == theirs.cache { String::new() } else { format!(" --cache {}", quoted(&ours.cache)) };
    models + &cache
}

/// The hash of a file: the manifest's, else the lock file's.
pub fn known_hash(manifest: &Manifest, file: &ModelFile, lock: &Lock) -> Option<String> {
    file.sha256.clone().or_else(|| lock.pin(&manifest.name, &manifest.version, file.role).map(|p| p.sha256.clone()))
}

/// Refuses a model whose licence forbids commercial use, unless the user accepted it.
pub fn licence_gate(manifest: &Manifest, accepted: bool) -> Result<()> {
    if manifest.origin.commercial_use != CommercialUse::No || accepted {
        return Ok(());
    }
    Err(ModelError::new(ErrorKind::Licence, forbids(manifest)).help("read it, and add --accept-licence if you may use the model"))
}

fn forbids(manifest: &Manifest) -> String {
    let origin = &manifest.origin;
    let text = origin.licence_url.as_ref().map(|u| format!(" ({u})")).unwrap_or_default();
    format!("model `{}` is under {}{text}, which forbids commercial use", manifest.name, origin.licence)
}

fn read_manifest(path: &Path) -> Result<Manifest> {
    let unreadable = |why: &dyn std::fmt::Display| {
        ModelError::new(ErrorKind::Manifest, format!("cannot read the manifest {}: {why}", path.display()))
    };
    let size = std::fs::metadata(path).map_err(|e| unreadable(&e))?.len();
    if size > MAX_MANIFEST_BYTES {
        return Err(unreadable(&format!("it has {size} bytes, more than {MAX_MANIFEST_BYTES}")));
    }
    Manifest::parse(&std::fs::read_to_string(path).map_err(|e| unreadable(&e))?, path)
}

/// Whether the graph (or head) of a kind is what `add` takes when no role is given.
pub fn main_role(manifest: &Manifest) -> FileRole {
    match manifest.kind {
        ModelKind::Onnx => FileRole::Graph,
        ModelKind::Head => FileRole::Head,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remedy_names_the_places_that_the_pipeline_names() {
        let at = |manifests: Option<&str>, cache: &str| Settings {
            manifests: manifests.map(PathBuf::from),
            cache: cache.into(),
            ..Settings::from_environment()
        };
        assert_eq!(flags(&at(None, "/c"), &at(None, "/c")), "");
        assert_eq!(flags(&at(Some("/m"), "/c"), &at(None, "/c")), " --models '/m'");
        assert_eq!(flags(&at(Some("/m"), "/it's"), &at(Some("/m"), "/c")), " --cache '/it'\\''s'");
    }

    #[test]
    fn the_built_in_manifests_are_well_formed_and_named_like_their_files() {
        for (file, text) in BUILT_IN {
            let manifest = Manifest::parse(text, Path::new(file)).unwrap();
            assert_eq!(format!("{}.toml", manifest.name), *file);
            assert!(
                manifest.origin.obtain.is_some() || manifest.files.iter().all(|f| !f.urls.is_empty()),
                "{file} cannot be obtained"
            );
        }
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/models");
        let files =
            std::fs::read_dir(folder).unwrap().filter(|e| e.as_ref().unwrap().path().extension().is_some_and(|e| e == "toml"));
        assert_eq!(files.count(), BUILT_IN.len(), "store/built_in.rs lists every manifest of datasets/models");
    }
}
