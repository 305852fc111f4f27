//! The store: what comes in is what its hash says, or nothing; what is missing is explained; nothing is downloaded unasked.

#![allow(clippy::unwrap_used)]

mod common;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;

use common::settings;
use curette_models::store::fetch::FetchOptions;
use curette_models::store::{Known, Store, hash_file};
use curette_models::{ErrorKind, FileRole, Manifest, ModelRef};

const CONTENT: &[u8] = b"weights, so to say";

fn manifest(sha256: Option<&str>, url: &str, commercial: &str) -> String {
    let hash = sha256.map(|h| format!("sha256 = \"{h}\", bytes = {}, urls = [\"{url}\"],", CONTENT.len())).unwrap_or_default();
    format!(
        r#"name = "m"
version = "1"
title = "t"
kind = "head"
files = [{{ role = "head", path = "m.safetensors", {hash} }}]
[origin]
licence = "LicenseRef-Test"
licence_url = "https://example.org/licence"
commercial_use = "{commercial}"
obtain = "convert it"
"#
    )
}

/// A store whose folder of manifests has the one given.
fn store(folder: &Path, manifest: &str) -> (Store, Known) {
    let settings = settings(folder, None);
    std::fs::create_dir_all(folder.join("manifests")).unwrap();
    std::fs::write(folder.join("manifests/m.toml"), manifest).unwrap();
    let store = Store::new(&settings);
    let known = store.manifest(&ModelRef::Name("m".into())).unwrap();
    (store, known)
}

fn content_hash(folder: &Path) -> String {
    std::fs::write(folder.join("content"), CONTENT).unwrap();
    hash_file(&folder.join("content")).unwrap().0
}

/// Answers requests with a body; gives the address and how often it was asked.
fn server(body: Vec<u8>, status: &'static str) -> (String, std::sync::Arc<std::sync::atomic::AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/m", listener.local_addr().unwrap());
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let mut buffer = [0; 4096];
            let _ = stream.read(&mut buffer);
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
        }
    });
    (url, asked)
}

#[test]
fn the_sha256_is_the_standard_one() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("abc"), "abc").unwrap();
    let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(hash_file(&folder.path().join("abc")).unwrap(), (known.to_owned(), 3));
}

#[test]
fn fetch_brings_a_file_in_once_and_locate_finds_it() {
    let folder = tempfile::tempdir().unwrap();
    let hash = content_hash(folder.path());
    let (url, asked) = server(CONTENT.to_vec(), "200 OK");
    let (store, known) = store(folder.path(), &manifest(Some(&hash), &url, "yes"));

    let missing = store.locate(&ModelRef::Name("m".into())).unwrap_err();
    let full = missing.full();
    for part in
        ["model `m`", &hash, "LicenseRef-Test", "cache/blobs", "`curette models fetch m --models '", "runs never download"]
    {
        assert!(full.contains(part), "{part} is not in: {full}");
    }
    assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 0, "locate must not download");

    let offline = store.fetch(&known, FetchOptions { offline: true, ..FetchOptions::default() }).unwrap_err();
    assert!(offline.message.contains("--offline"), "{offline}");
    let brought = store.fetch(&known, FetchOptions::default()).unwrap();
    assert_eq!((brought[0].bytes, &brought[0].sha256), (Some(CONTENT.len() as u64), &hash));
    assert_eq!(store.fetch(&known, FetchOptions::default()).unwrap()[0].bytes, None);
    assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 1);
    let located = store.locate(&ModelRef::Name("m".into())).unwrap();
    assert_eq!(std::fs::read(located.require(FileRole::Head).unwrap()).unwrap(), CONTENT);
    assert_eq!(located.paths().len(), 2, "manifest and file are both part of the meaning");
}

#[test]
fn another_file_behind_the_url_never_gets_in() {
    let folder = tempfile::tempdir().unwrap();
    let hash = content_hash(folder.path());
    let mut changed = CONTENT.to_vec();
    changed[0] ^= 1;
    for (body, status, kind) in [
        (changed, "200 OK", ErrorKind::WrongHash),
        (CONTENT[..5].to_vec(), "200 OK", ErrorKind::WrongHash),
        (vec![b'x'; 1 << 20], "200 OK", ErrorKind::WrongHash),
        (CONTENT.to_vec(), "404 Not Found", ErrorKind::Download),
    ] {
        let (url, _) = server(body, status);
        let (store, known) = store(folder.path(), &manifest(Some(&hash), &url, "yes"));
        let e = store.fetch(&known, FetchOptions::default()).unwrap_err();
        assert_eq!(e.kind, kind, "{e}");
        assert!(!store.blobs().has(&hash));
        let left: Vec<_> = std::fs::read_dir(folder.path().join("cache/blobs"))
            .unwrap()
            .map(|e| e.unwrap().path())
            .filter(|p| p.extension().is_none_or(|e| e != "lock"))
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn many_at_once_download_once() {
    let folder = tempfile::tempdir().unwrap();
    let hash = content_hash(folder.path());
    let (url, asked) = server(CONTENT.to_vec(), "200 OK");
    let (store, known) = store(folder.path(), &manifest(Some(&hash), &url, "yes"));
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| store.fetch(&known, FetchOptions::default()).unwrap());
        }
    });
    assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 1);
}

#[test]
fn a_converted_file_is_pinned_and_a_changed_one_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let hash = content_hash(folder.path());
    let (store, known) = store(folder.path(), &manifest(None, "", "yes"));
    let missing = store.locate(&ModelRef::Name("m".into())).unwrap_err();
    assert!(missing.full().contains("convert it; then run `curette models add m head=PATH --models '"), "{}", missing.full());

    let source = folder.path().join("content");
    store.add(&known, &[(FileRole::Head, source.clone())], false).unwrap();
    let lock = std::fs::read_to_string(store.lock_file()).unwrap();
    assert!(lock.contains(&hash), "{lock}");
    assert_eq!(store.locate(&ModelRef::Name("m".into())).unwrap().sha256(FileRole::Head).unwrap(), hash);

    // The pin holds for a file beside the manifest, too.
    std::fs::remove_dir_all(folder.path().join("cache")).unwrap();
    std::fs::write(folder.path().join("manifests/m.safetensors"), "something else").unwrap();
    let located = store.locate(&ModelRef::Name("m".into())).unwrap();
    assert_eq!(located.verify().unwrap_err().kind, ErrorKind::WrongHash);
    let wrong_role = store.add(&known, &[(FileRole::Graph, source)], false).unwrap_err();
    assert!(wrong_role.full().contains("its files are: head"), "{wrong_role}");
}

#[test]
fn a_non_commercial_model_asks_first() {
    let folder = tempfile::tempdir().unwrap();
    let hash = content_hash(folder.path());
    let url = format!("file://{}", folder.path().join("content").display());
    let (store, known) = store(folder.path(), &manifest(Some(&hash), &url, "no"));
    let e = store.fetch(&known, FetchOptions::default()).unwrap_err();
    assert_eq!(e.kind, ErrorKind::Licence);
    assert!(e.full().contains("LicenseRef-Test") && e.full().contains("--accept-licence"), "{}", e.full());
    assert_eq!(store.add(&known, &[], false).unwrap_err().kind, ErrorKind::Licence);
    let missing = store.locate(&ModelRef::Name("m".into())).unwrap_err();
    assert!(missing.full().contains("curette models fetch m --accept-licence"), "{}", missing.full());
    let accepted = FetchOptions { accept_licence: true, offline: true };
    assert_eq!(store.fetch(&known, accepted).unwrap().len(), 1, "file:// is not the network");
}

#[test]
fn a_file_beside_a_non_commercial_manifest_accepts_nothing() {
    let folder = tempfile::tempdir().unwrap();
    content_hash(folder.path());
    let (store, known) = store(folder.path(), &manifest(None, "", "no"));
    let beside = folder.path().join("manifests/m.safetensors");
    std::fs::write(&beside, CONTENT).unwrap();
    let by_path = ModelRef::Manifest(folder.path().join("manifests/m.toml"));
    for model in [&by_path, &ModelRef::Name("m".into())] {
        let e = store.locate(model).unwrap_err();
        assert_eq!(e.kind, ErrorKind::Licence);
        let at = |name: &str| folder.path().join("manifests").join(name).display().to_string();
        let command = format!("curette models add '{}' head='{}' --accept-licence", at("m.toml"), at("m.safetensors"));
        assert!(
            e.full().contains("LicenseRef-Test (https://example.org/licence)") && e.full().contains(&command),
            "{}",
            e.full()
        );
    }
    let (role, files) = (FileRole::Head, [(FileRole::Head, beside.clone())]);
    assert_eq!(store.add(&known, &files, false).unwrap_err().kind, ErrorKind::Licence);
    store.add(&known, &files, true).unwrap();
    assert!(store.locate(&by_path).unwrap().require(role).unwrap().starts_with(folder.path().join("cache")));
    // What was accepted is remembered in the lock file, also where the store was emptied.
    std::fs::remove_dir_all(folder.path().join("cache")).unwrap();
    assert_eq!(store.locate(&by_path).unwrap().require(role).unwrap(), beside);
    // Another version is another model.
    let newer = manifest(None, "", "no").replace("version = \"1\"", "version = \"2\"");
    std::fs::write(folder.path().join("manifests/m.toml"), newer).unwrap();
    assert_eq!(store.locate(&by_path).unwrap_err().kind, ErrorKind::Licence);
}

#[test]
fn a_graph_without_a_manifest_has_no_known_licence() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = store(folder.path(), &manifest(None, "", "yes"));
    std::fs::write(folder.path().join("own.onnx"), CONTENT).unwrap();
    let bare = store.locate(&ModelRef::Onnx(folder.path().join("own.onnx"))).unwrap();
    let warning = bare.licence_warning().unwrap();
    assert!(warning.contains("own.onnx has no manifest, so its licence is not known"), "{warning}");
    std::fs::write(folder.path().join("manifests/m.safetensors"), CONTENT).unwrap();
    assert_eq!(store.locate(&ModelRef::Name("m".into())).unwrap().licence_warning(), None);
}

#[test]
fn an_archive_carries_a_model_to_another_machine() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    content_hash(here.path());
    let (from, known) = store(here.path(), &manifest(None, "", "yes"));
    from.add(&known, &[(FileRole::Head, here.path().join("content"))], false).unwrap();
    let tar = here.path().join("models.tar");
    from.export(&[known], &tar).unwrap();

    std::fs::create_dir_all(there.path().join("manifests")).unwrap();
    let to = Store::new(&settings(there.path(), None));
    let imported = to.import(&tar, false).unwrap();
    assert_eq!((imported.models.as_slice(), imported.blobs), (["m".to_owned()].as_slice(), 1));
    let located = to.locate(&ModelRef::Name("m".into())).unwrap();
    assert_eq!(std::fs::read(located.require(FileRole::Head).unwrap()).unwrap(), CONTENT);
    assert_eq!(to.import(&tar, false).unwrap().already, 1);

    let bytes = std::fs::read(&tar).unwrap();
    let mut damaged = bytes.clone();
    let at = damaged.windows(CONTENT.len()).position(|w| w == CONTENT).unwrap();
    damaged[at] ^= 1;
    std::fs::write(&tar, damaged).unwrap();
    let empty = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(empty.path().join("manifests")).unwrap();
    let third = Store::new(&settings(empty.path(), None));
    assert_eq!(third.import(&tar, false).unwrap_err().kind, ErrorKind::WrongHash);
    std::fs::write(&tar, "no tar at all").unwrap();
    assert_eq!(third.import(&tar, false).unwrap_err().kind, ErrorKind::Store);
}

#[test]
fn mistakes_in_manifests_are_named_with_their_line() {
    let place = Path::new("x.toml");
    let says = |text: &str, what: &str| {
        let e = Manifest::parse(text, place).unwrap_err();
        assert_eq!(e.kind, ErrorKind::Manifest);
        assert!(e.message.starts_with("x.toml") && e.message.contains(what), "{what} is not in: {e}");
    };
    let good = manifest(None, "", "yes");
    assert!(Manifest::parse(&good, place).is_ok());
    says(&good.replace("title", "titel"), "x.toml:3: unknown field `titel`");
    says(&good.replace("commercial_use = \"yes\"", "commercial_use = \"maybe\""), "unknown variant `maybe`");
    says(&good.replace("kind = \"head\"", "kind = \"onnx\""), "`files` needs one with role = \"graph\"");
    says(&good.replace("kind = \"head\"", "kind = \"onnx\""), "`contract` is missing");
    says(&good.replace("m.safetensors", "../m.safetensors"), "`../m.safetensors` is not a plain file name");
    says(&good.replace("name = \"m\"", "name = \"M m\""), "`name` has 1 to 64 of");
    says(&manifest(Some("abc"), "ftp://x", "yes"), "must be 64 digits");
    says(&manifest(Some("abc"), "ftp://x", "yes"), "`ftp://x` is neither");
    says(&format!("{good}[tokenizer]\nmax_length = 5"), "go together");
    says("not toml", "x.toml:1:");
}

#[test]
fn an_unknown_name_lists_what_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = store(folder.path(), &manifest(None, "", "yes"));
    let e = store.locate(&ModelRef::Name("clip".into())).unwrap_err();
    assert_eq!(e.kind, ErrorKind::UnknownModel);
    assert!(e.full().contains("clip-vit-b32") && e.full().contains(" m,"), "{}", e.full());
}
