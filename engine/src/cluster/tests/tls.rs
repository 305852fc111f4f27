//! Members that meet over TLS. The certificates are made by `openssl`; without it the test is skipped and says so.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::connecting::{LONG, cluster};
use crate::cluster::tls::{Tls, TlsFiles, Wire, secure};
use crate::cluster::{ClusterError, Members, Mismatch, connect};
use crate::exit::Exit;

/// An authority and a certificate of it for the loopback.
fn certificates(folder: &Path, name: &str) -> Option<TlsFiles> {
    let file = |end: &str| -> PathBuf { folder.join(format!("{name}-{end}.pem")) };
    let (key, own, ca_key, ca) = (file("key"), file("own"), file("ca-key"), file("ca"));
    let kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-batch"];
    let mut authority = Command::new("openssl");
    authority.args(["req", "-x509"]).args(kind).args(["-subj", "/CN=authority", "-addext", "basicConstraints=critical,CA:TRUE"]);
    let mut member = Command::new("openssl");
    member.args(["req", "-x509"]).args(kind).args(["-subj", "/CN=member", "-addext", "subjectAltName=IP:127.0.0.1"]);
    member.args(["-addext", "basicConstraints=critical,CA:FALSE"]).arg("-CA").arg(&ca).arg("-CAkey").arg(&ca_key);
    for (command, key, certificate) in [(&mut authority, &ca_key, &ca), (&mut member, &key, &own)] {
        match command.arg("-keyout").arg(key).arg("-out").arg(certificate).output() {
            Ok(made) => assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr)),
            Err(e) => {
                eprintln!("skipped: no certificates without openssl ({e})");
                return None;
            }
        }
    }
    Some(TlsFiles { certificate: own, key, authority: ca })
}

fn meet(members: Vec<Members>) -> Vec<Result<Vec<Option<Wire>>, ClusterError>> {
    let one = |m: Members| std::thread::spawn(move || secure(&m, connect(&m, LONG)?));
    members.into_iter().map(one).collect::<Vec<_>>().into_iter().map(|t| t.join().unwrap()).collect()
}

#[test]
fn members_meet_over_tls_and_whole_dataflows_run_on_it() {
    let dir = tempfile::tempdir().unwrap();
    let Some(files) = certificates(dir.path(), "a") else { return };
    let mut members = cluster(2);
    members.iter_mut().for_each(|m| m.tls = Some(Tls::load(&files).unwrap()));
    let mut all: Vec<_> = meet(members).into_iter().map(Result::unwrap).collect();
    // More than fits any buffer, in both directions at once.
    let sent: Vec<u8> = (0..8_000_000u32).map(|i| (i % 251) as u8).collect();
    let mut ends = all.iter_mut().map(|sockets| sockets.iter_mut().find_map(Option::take).unwrap());
    let (one, two) = (ends.next().unwrap(), ends.next().unwrap());
    std::thread::scope(|scope| {
        for mut end in [one, two] {
            use timely::communication::allocator::zero_copy::stream::Stream;
            let mut reader = end.try_clone().unwrap();
            let (sent, expected) = (&sent, sent.len());
            scope.spawn(move || {
                end.write_all(sent).unwrap();
                end.flush().unwrap();
                end.shutdown(std::net::Shutdown::Write).unwrap();
            });
            scope.spawn(move || {
                let mut got = Vec::with_capacity(expected);
                reader.read_to_end(&mut got).unwrap();
                assert!(got == *sent, "{} of {expected} bytes", got.len());
            });
        }
    });
}

#[test]
fn who_is_of_another_authority_or_speaks_in_the_clear_is_told_by_both_sides() {
    let dir = tempfile::tempdir().unwrap();
    let (Some(ours), Some(theirs)) = (certificates(dir.path(), "a"), certificates(dir.path(), "b")) else { return };
    let mut members = cluster(2);
    members[0].tls = Some(Tls::load(&ours).unwrap());
    members[1].tls = Some(Tls::load(&theirs).unwrap());
    for end in meet(members) {
        let e = end.unwrap_err();
        assert!(matches!(e, ClusterError::Tls { .. }) && e.exit() == Exit::Mistake, "{e}");
    }
    let mut members = cluster(2);
    members[0].tls = Some(Tls::load(&ours).unwrap());
    for end in meet(members) {
        let e = end.unwrap_err();
        assert!(matches!(e, ClusterError::Differs { mismatch: Mismatch::Tls { .. }, .. }), "{e}");
    }
    let missing = TlsFiles { key: dir.path().join("none"), ..ours.clone() };
    assert!(Tls::load(&missing).unwrap_err().to_string().contains("the TLS key"));
    let no_certificate = TlsFiles { certificate: ours.key.clone(), ..ours };
    assert!(Tls::load(&no_certificate).unwrap_err().to_string().contains("holds no certificate"));
}
