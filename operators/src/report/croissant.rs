//! `croissant.json`: the dataset as [Croissant 1.0](https://docs.mlcommons.org/croissant/docs/croissant-spec.html) describes it. Pure.
//!
//! Each Parquet file is named with its SHA-256; a file set of just these files is where records come from, so files of older versions that lie
//! beside them are no part of it. What can go wrong: columns that Croissant has no type for (structs, lists of lists); they are left out of the
//! records.

use serde_json::{Value, json};

use super::Report;
use super::card::CardFile;
use super::features;

/// The document.
pub fn croissant(report: &Report, files: &[CardFile], licence: &str) -> Value {
    let subject = &report.subject;
    let name = subject.name();
    let set = format!("{name}-files");
    let objects = files.iter().map(|file| {
        json!({
            "@type": "cr:FileObject", "@id": file.path, "name": file.path, "contentUrl": file.path,
            "contentSize": format!("{} B", file.bytes), "encodingFormat": "application/x-parquet", "sha256": file.sha256,
        })
    });
    let includes: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
    let file_set = json!({
        "@type": "cr:FileSet", "@id": set, "name": set, "encodingFormat": "application/x-parquet", "includes": includes,
    });
    let distribution: Vec<Value> = objects.chain([file_set]).collect();
    let field = |f: &arrow::datatypes::FieldRef| {
        let (kind, list) = features::croissant(f.data_type())?;
        let id = format!("{name}/{}", f.name());
        let mut field = json!({
            "@type": "cr:Field", "@id": id, "name": id, "dataType": kind,
            "source": {"fileSet": {"@id": set}, "extract": {"column": f.name()}},
        });
        if list {
            field["repeated"] = json!(true);
        }
        Some(field)
    };
    let fields: Vec<Value> = subject.table.schema().fields().iter().filter_map(field).collect();
    let committed = subject.history.editions.last().and_then(|e| e.committed_ms).map(super::utc);
    let mut document = json!({
        "@context": context(),
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": file_name(&report.title),
        "description": super::card::summary(report),
        "license": licence,
        "version": format!("{}.{}.0", subject.state.generation, subject.state.version),
        "distribution": distribution,
        "recordSet": [{
            "@type": "cr:RecordSet", "@id": name, "name": name, "field": fields,
            "description": format!("The rows of the table {name}, without columns of structs."),
        }],
    });
    if let Some(day) = committed.as_deref().and_then(|text| text.split(' ').next()) {
        document["datePublished"] = json!(day);
    }
    document
}

/// A name that may stand in an address: Croissant's own rule for names.
fn file_name(title: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let name: String = title.chars().map(plain).take(200).collect();
    if name.is_empty() { "dataset".into() } else { name }
}

/// The context of the specification, version 1.0.
fn context() -> Value {
    json!({
        "@language": "en", "@vocab": "https://schema.org/", "citeAs": "cr:citeAs", "column": "cr:column", "conformsTo": "dct:conformsTo",
        "cr": "http://mlcommons.org/croissant/", "rai": "http://mlcommons.org/croissant/RAI/", "data": {"@id": "cr:data", "@type": "@json"},
        "dataType": {"@id": "cr:dataType", "@type": "@vocab"}, "dct": "http://purl.org/dc/terms/",
        "examples": {"@id": "cr:examples", "@type": "@json"}, "extract": "cr:extract", "field": "cr:field", "fileProperty": "cr:fileProperty",
        "fileObject": "cr:fileObject", "fileSet": "cr:fileSet", "format": "cr:format", "includes": "cr:includes",
        "isLiveDataset": "cr:isLiveDataset", "jsonPath": "cr:jsonPath", "key": "cr:key", "md5": "cr:md5", "parentField": "cr:parentField",
        "path": "cr:path", "recordSet": "cr:recordSet", "references": "cr:references", "regex": "cr:regex", "repeated": "cr:repeated",
        "replace": "cr:replace", "sc": "https://schema.org/", "separator": "cr:separator", "source": "cr:source", "subField": "cr:subField",
        "transform": "cr:transform",
    })
}
