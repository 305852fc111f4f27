//! The place of this process in a cluster of several machines, from the command line and the environment.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use curette_engine::cluster::{ClusterError, Listen, Members, Secret, Tls, TlsFiles, is_loopback, read_hosts, this_build};
use curette_engine::graph::EngineSettings;

/// Environment variable with a name of the run, the same for all machines of a cluster.
const RUN_ID_VARIABLE: &str = "CURETTE_RUN_ID";
/// Environment variable with the secret that the machines of a cluster share.
const SECRET_VARIABLE: &str = "CURETTE_CLUSTER_SECRET";

#[derive(Args)]
pub(crate) struct HostsArgs {
    /// Be one process of a cluster: a file with one host:port per line, the same on every machine. When a process or machine is lost, all start
    /// again from the last commit ([engine] max_restarts). Processes of different pipelines end at once and say so. To keep apart runs of the same
    /// pipeline (a process left over from an earlier one, say), set CURETTE_RUN_ID alike for all processes of a run, for example to the job's
    /// number.
    #[arg(long, requires = "process")]
    hosts: Option<PathBuf>,
    /// Which line of the hosts file this process is (from 0).
    #[arg(long, requires = "hosts")]
    pub(crate) process: Option<usize>,
    /// Listen here instead of on the own line of the hosts file: 0.0.0.0:2101 where that is a name that only the others can resolve.
    #[arg(long, requires = "hosts", value_name = "HOST:PORT")]
    listen: Option<String>,
    /// A file with the secret that all processes of the cluster must know (else CURETTE_CLUSTER_SECRET). It never travels.
    #[arg(long, requires = "hosts", value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// Let in whoever knows the pipeline, on a network that nobody else can reach.
    #[arg(long, requires = "hosts", conflicts_with = "secret_file")]
    no_secret: bool,
    /// Secure the connections between machines by TLS 1.3: the certificate of this process in PEM, which names its host as the hosts file does. All
    /// processes or none.
    #[arg(long, requires_all = ["hosts", "tls_key", "tls_authority"], value_name = "FILE")]
    tls_certificate: Option<PathBuf>,
    /// The key of the certificate, in PEM.
    #[arg(long, requires = "tls_certificate", value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// The authority whose certificates the others must show, in PEM.
    #[arg(long, requires = "tls_certificate", value_name = "FILE")]
    tls_authority: Option<PathBuf>,
}

impl HostsArgs {
    /// Whether this is one process of several machines.
    pub(crate) fn are_given(&self) -> bool {
        self.hosts.is_some() && self.process.is_some()
    }

    /// This process's view of the cluster, before its plan is known.
    pub(crate) fn members(&self, threads: usize, engine: &EngineSettings) -> Result<Members, ClusterError> {
        let bad = |why: String| Err(ClusterError::BadMembers(why));
        let (Some(hosts), Some(index)) = (&self.hosts, self.process) else {
            return bad("--hosts and --process belong together".into());
        };
        let addresses = read_hosts(hosts, index).map_err(|e| ClusterError::BadMembers(e.to_string()))?;
        let secret = self.secret()?;
        if secret.is_none() && !self.no_secret && !addresses.iter().all(|a| is_loopback(a)) {
            return bad(format!(
                "{} names other machines, and whoever reaches a port of theirs could take part; give all processes the same secret \
                 (--secret-file FILE or {SECRET_VARIABLE}; `openssl rand -hex 32` makes one), or say --no-secret on a network that nobody \
                 else can reach",
                hosts.display()
            ));
        }
        Ok(Members {
            index,
            addresses,
            threads,
            // Two runs of one plan look alike unless somebody names them.
            run_id: std::env::var(RUN_ID_VARIABLE).unwrap_or_default(),
            plan_hash: String::new(),
            build: this_build().to_owned(),
            silence: Duration::from_secs(engine.peer_timeout_seconds),
            secret,
            tls: self.tls()?,
            listen: self.listen.clone().map_or(Listen::OwnAddress, Listen::At),
        })
    }

    fn tls(&self) -> Result<Option<Tls>, ClusterError> {
        let (Some(certificate), Some(key), Some(authority)) = (&self.tls_certificate, &self.tls_key, &self.tls_authority) else {
            return Ok(None);
        };
        Tls::load(&TlsFiles { certificate: certificate.clone(), key: key.clone(), authority: authority.clone() }).map(Some)
    }

    fn secret(&self) -> Result<Option<Secret>, ClusterError> {
        match (&self.secret_file, std::env::var(SECRET_VARIABLE).ok().filter(|s| !s.is_empty())) {
            (Some(file), _) => Secret::from_file(file).map(Some),
            (None, Some(_)) if self.no_secret => {
                Err(ClusterError::BadMembers(format!("--no-secret was given, and {SECRET_VARIABLE} is set; drop one of the two")))
            }
            (None, Some(text)) => Secret::parse(&text, SECRET_VARIABLE).map(Some),
            (None, None) => Ok(None),
        }
    }
}
