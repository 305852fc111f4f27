//! ONNX Runtime's library is missing, something else, damaged or too old: a message that names file and remedy, never a panic nor a hang.
//!
//! The wrong libraries are made here with the C compiler. A library that loads would stay for the whole process, so none of these may load.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use curette_models::{ErrorKind, ModelError, library};

fn compile(folder: &Path, name: &str, code: &str) -> PathBuf {
    let (source, out) = (folder.join(format!("{name}.c")), folder.join(format!("lib{name}.so")));
    std::fs::write(&source, code).unwrap();
    assert!(Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&out).arg(&source).status().unwrap().success());
    out
}

fn refused(path: &Path) -> ModelError {
    let e = library::load(Some(path)).unwrap_err();
    assert_eq!(e.kind, ErrorKind::Library);
    assert!(e.message.contains(&path.display().to_string()), "{e}");
    assert!(e.help.as_deref().unwrap_or_default().contains("scripts/bootstrap"), "{e:?}");
    e
}

#[test]
fn a_library_that_cannot_be_used_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let missing = refused(&at.join("none.so"));
    assert!(missing.message.contains("there is no such file"), "{missing}");

    let other = refused(&compile(at, "other", "int add(int a, int b) { return a + b; }"));
    assert!(other.message.contains("is a library, but not ONNX Runtime"), "{other}");

    let old = compile(
        at,
        "old",
        "static const void *api(unsigned v) { (void)v; return 0; }\n\
         static const char *version(void) { return \"1.20.1\"; }\n\
         struct base { const void *(*get)(unsigned); const char *(*version)(void); };\n\
         static const struct base it = { api, version };\n\
         const struct base *OrtGetApiBase(void) { return &it; }\n",
    );
    let old = refused(&old);
    assert!(old.message.contains("ONNX Runtime 1.20.1; 1.24 or newer is needed"), "{old}");

    let cut = at.join("cut.so");
    let whole = std::fs::read(at.join("libother.so")).unwrap();
    std::fs::write(&cut, &whole[..whole.len() / 8]).unwrap();
    let cut = refused(&cut);
    assert!(cut.message.contains("is not a library that loads"), "{cut}");
    let text = at.join("text.so");
    std::fs::write(&text, "hello").unwrap();
    assert!(refused(&text).message.contains("file too short"));
}

#[test]
fn after_a_failure_the_right_library_still_loads() {
    let Some(right) = common::library() else { return };
    let folder = tempfile::tempdir().unwrap();
    assert!(library::load(Some(&folder.path().join("none.so"))).is_err());
    let loaded = library::load(Some(&right)).unwrap();
    assert!(!library::version(&loaded).is_empty());
    let second = library::load(Some(&folder.path().join("other.so"))).unwrap_err();
    assert!(second.message.contains("is loaded already"), "{second}");
}
