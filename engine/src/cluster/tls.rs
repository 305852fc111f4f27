//! TLS between the members of a cluster, for networks that strangers listen in on.
//!
//! It begins after the handshake of [`super::handshake`], on the same connections: who dialled is the client. Both sides show a certificate of one
//! authority, and the client also looks for the host's name (as the hosts file writes it) in the other's. Version 1.3 only, without session
//! tickets.
//!
//! Why the connection's state is locked for moments only: timely reads from one thread and writes from another, so a read that waits for bytes must
//! not hold what a write needs. Bytes are waited for outside of the lock; records are sent in the order in which they were made, under a lock of
//! their own that no reader takes.
//!
//! What can go wrong: certificates that have run out or name other hosts; both sides then end at once, with the reason that each of them knows.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, ServerConnection};
use timely::communication::allocator::zero_copy::stream::Stream;

use super::sockets::HANDSHAKE_LIMIT;
use super::{ClusterError, Members};

/// Encrypted bytes are read in blocks of this size: that of a record.
const BLOCK_BYTES: usize = 16 << 10;

/// What both sides say first.
const WORD: [u8; 2] = *b"ok";

/// Files in PEM.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The certificate of this process, and those between it and the authority's.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The certificates of those that may have signed the others'.
    pub authority: PathBuf,
}

/// What this process shows and whom it believes.
#[derive(Clone)]
pub struct Tls {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

fn bad(what: &str, file: &Path, why: impl std::fmt::Display) -> ClusterError {
    ClusterError::BadMembers(format!("{what} {} cannot be used: {why}", file.display()))
}

fn certificates(what: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>, ClusterError> {
    let all = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match all {
        Ok(all) if all.is_empty() => Err(bad(what, file, "it holds no certificate in PEM")),
        all => all.map_err(|e| bad(what, file, e)),
    }
}

impl Tls {
    /// Reads the files.
    pub fn load(files: &TlsFiles) -> Result<Tls, ClusterError> {
        let TlsFiles { certificate, key, authority } = files;
        let own = certificates("the TLS certificate", certificate)?;
        let read_key = || PrivateKeyDer::from_pem_file(key).map_err(|e| bad("the TLS key", key, e));
        let mut roots = RootCertStore::empty();
        for root in certificates("the TLS authority", authority)? {
            roots.add(root).map_err(|e| bad("the TLS authority", authority, e))?;
        }
        let (roots, provider) = (Arc::new(roots), Arc::new(default_provider()));
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
            .build()
            .map_err(|e| bad("the TLS authority", authority, e))?;
        let unfit = |e: rustls::Error| bad("the TLS certificate", certificate, e);
        let versions = [&rustls::version::TLS13];
        let client =
            ClientConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(&versions).map_err(unfit)?;
        let client = client.with_root_certificates(roots).with_client_auth_cert(own.clone(), read_key()?).map_err(unfit)?;
        let server = ServerConfig::builder_with_provider(provider).with_protocol_versions(&versions).map_err(unfit)?;
        let mut server = server.with_client_cert_verifier(verifier).with_single_cert(own, read_key()?).map_err(unfit)?;
        server.send_tls13_tickets = 0;
        Ok(Tls { client: Arc::new(client), server: Arc::new(server) })
    }

    /// Secures a connection with process `peer`, within the time of a handshake.
    fn secure(&self, tcp: TcpStream, members: &Members, peer: usize) -> Result<TlsStream, ClusterError> {
        let address = members.addresses[peer].clone();
        let failed = |e: io::Error| match e.kind() {
            ErrorKind::InvalidData | ErrorKind::InvalidInput => {
                ClusterError::Tls { index: members.index, peer, address: address.clone(), why: e.to_string() }
            }
            _ => ClusterError::LostAtStart { peer, address: address.clone(), why: format!("while TLS began: {e}") },
        };
        self.begin(tcp, &address, peer < members.index).map_err(failed)
    }

    fn begin(&self, mut tcp: TcpStream, address: &str, dialled: bool) -> io::Result<TlsStream> {
        let invalid = |e: &dyn std::fmt::Display| io::Error::new(ErrorKind::InvalidInput, e.to_string());
        let mut connection: Connection = if dialled {
            let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
            let name = ServerName::try_from(host.to_owned()).map_err(|e| invalid(&e))?;
            ClientConnection::new(Arc::clone(&self.client), name).map_err(|e| invalid(&e))?.into()
        } else {
            ServerConnection::new(Arc::clone(&self.server)).map_err(|e| invalid(&e))?.into()
        };
        tcp.set_read_timeout(Some(HANDSHAKE_LIMIT))?;
        tcp.set_write_timeout(Some(HANDSHAKE_LIMIT))?;
        while connection.is_handshaking() {
            connection.complete_io(&mut tcp)?;
        }
        let shared = Shared { connection: Mutex::new(connection), sending: Mutex::new(()) };
        let mut stream = TlsStream { tcp, shared: Arc::new(shared), block: Vec::new(), used: 0 };
        // A client is through before its own certificate was looked at: both wait for a word that only comes when all is well.
        stream.write_all(&WORD)?;
        let mut word = [0; WORD.len()];
        stream.read_exact(&mut word)?;
        stream.tcp.set_read_timeout(None)?;
        stream.tcp.set_write_timeout(None)?;
        Ok(stream)
    }
}

/// Secures all connections of [`super::connect`], or leaves them as they are.
pub fn secure(members: &Members, sockets: Vec<Option<TcpStream>>) -> Result<Vec<Option<Wire>>, ClusterError> {
    let Some(tls) = &members.tls else { return Ok(sockets.into_iter().map(|s| s.map(Wire::Plain)).collect()) };
    // All at once: each waits for its own peer.
    std::thread::scope(|scope| {
        let begun: Vec<_> = sockets
            .into_iter()
            .enumerate()
            .map(|(peer, socket)| socket.map(|tcp| scope.spawn(move || tls.secure(tcp, members, peer))))
            .collect();
        let joined = begun.into_iter().map(|thread| -> Result<Option<Wire>, ClusterError> {
            let Some(thread) = thread else { return Ok(None) };
            let stopped = |_| ClusterError::Start("a thread that began TLS panicked".into());
            thread.join().map_err(stopped)?.map(|stream| Some(Wire::Tls(stream)))
        });
        joined.collect()
    })
}

struct Shared {
    connection: Mutex<Connection>,
    /// Held from the making of records until they are sent, by whoever writes.
    sending: Mutex<()>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One handle of a secured connection. One of the handles reads, one writes.
pub struct TlsStream {
    tcp: TcpStream,
    shared: Arc<Shared>,
    /// Encrypted bytes that were received, and how many of them the connection has taken.
    block: Vec<u8>,
    used: usize,
}

impl std::fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TLS over {:?}", self.tcp)
    }
}

impl TlsStream {
    /// Makes records and sends them, in this order among all writers.
    fn send(&mut self, make: impl FnOnce(&mut Connection) -> io::Result<usize>) -> io::Result<usize> {
        let _in_order = locked(&self.shared.sending);
        let mut records = Vec::new();
        let taken = {
            let mut connection = locked(&self.shared.connection);
            let taken = make(&mut connection)?;
            while connection.wants_write() {
                connection.write_tls(&mut records)?;
            }
            taken
        };
        self.tcp.write_all(&records)?;
        Ok(taken)
    }
}

impl Read for TlsStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            {
                let mut connection = locked(&self.shared.connection);
                match connection.reader().read(buffer) {
                    Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                    done => return done,
                }
                if self.used < self.block.len() {
                    self.used += connection.read_tls(&mut &self.block[self.used..])?;
                    connection.process_new_packets().map_err(|e| io::Error::new(ErrorKind::InvalidData, e))?;
                    continue;
                }
            }
            self.block.resize(BLOCK_BYTES, 0);
            let received = self.tcp.read(&mut self.block)?;
            self.block.truncate(received);
            self.used = 0;
            if received == 0 {
                // The end: a proper one was announced, else reading says that it was not.
                locked(&self.shared.connection).read_tls(&mut io::empty())?;
            }
        }
    }
}

impl Write for TlsStream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.send(|connection| connection.writer().write(buffer))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send(|_| Ok(0)).map(drop)
    }
}

/// A connection as timely uses it.
#[derive(Debug)]
pub enum Wire {
    /// In the clear.
    Plain(TcpStream),
    /// Secured.
    Tls(TlsStream),
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Wire::Plain(tcp) => tcp.read(buffer),
            Wire::Tls(tls) => tls.read(buffer),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Wire::Plain(tcp) => tcp.write(buffer),
            Wire::Tls(tls) => tls.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Wire::Plain(tcp) => tcp.flush(),
            Wire::Tls(tls) => tls.flush(),
        }
    }
}

impl Stream for Wire {
    fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Wire::Plain(tcp) => Wire::Plain(tcp.try_clone()?),
            Wire::Tls(tls) => {
                Wire::Tls(TlsStream { tcp: tls.tcp.try_clone()?, shared: Arc::clone(&tls.shared), block: Vec::new(), used: 0 })
            }
        })
    }

    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        match self {
            Wire::Plain(tcp) => tcp.set_nonblocking(nonblocking),
            Wire::Tls(tls) => tls.tcp.set_nonblocking(nonblocking),
        }
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Wire::Plain(tcp) => tcp.shutdown(how),
            Wire::Tls(tls) => {
                let mut handle =
                    TlsStream { tcp: tls.tcp.try_clone()?, shared: Arc::clone(&tls.shared), block: Vec::new(), used: 0 };
                handle.send(|connection| {
                    connection.send_close_notify();
                    Ok(0)
                })?;
                tls.tcp.shutdown(how)
            }
        }
    }
}
