//! The file of `--hosts`: one `host:port` per line, in the order of the processes; `#` starts a comment.
//!
//! Every mistake is reported at once with its line. What can go wrong later: a name that resolves to an address that the machine itself cannot
//! listen on; then that process binds another one.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

/// Most processes of a cluster. Every process holds a connection and two threads for every other.
pub const MAX_PROCESSES: usize = 256;

/// All mistakes of a hosts file.
#[derive(Debug, PartialEq, Eq)]
pub struct HostsError {
    file: String,
    /// Line (1-based, 0 for the whole file) and what is wrong there.
    mistakes: Vec<(usize, String)>,
}

impl fmt::Display for HostsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (line, text)) in self.mistakes.iter().enumerate() {
            let end = if i == 0 { "" } else { "\n" };
            match line {
                0 => write!(f, "{end}{}: {text}", self.file)?,
                _ => write!(f, "{end}{}:{line}: {text}", self.file)?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for HostsError {}

/// Reads a hosts file for process number `process`.
pub fn read_hosts(file: &Path, process: usize) -> Result<Vec<String>, HostsError> {
    let name = file.display().to_string();
    let whole = |text| HostsError { file: name.clone(), mistakes: vec![(0, text)] };
    let text = std::fs::read_to_string(file).map_err(|e| whole(format!("cannot read the hosts file: {e}")))?;
    let hosts = parse_hosts(&name, &text)?;
    if process >= hosts.len() {
        let last = hosts.len() - 1;
        return Err(whole(format!(
            "--process {process} is not in the file, which lists processes 0 to {last}; the first line is process 0"
        )));
    }
    Ok(hosts)
}

/// Parses the text of a hosts file; `file` is its name in messages.
pub fn parse_hosts(file: &str, text: &str) -> Result<Vec<String>, HostsError> {
    let mut hosts: Vec<String> = Vec::new();
    let mut first_seen: HashMap<String, usize> = HashMap::new();
    let mut mistakes = Vec::new();
    for (line, content) in (1..).zip(text.lines()) {
        let entry = content.split('#').next().unwrap_or_default().trim();
        if entry.is_empty() {
            continue;
        }
        if let Err(why) = check(entry) {
            mistakes.push((line, format!("`{entry}` is not host:port: {why}")));
        } else if let Some(first) = first_seen.insert(entry.to_ascii_lowercase(), line) {
            mistakes.push((line, format!("`{entry}` is listed already in line {first}; every process needs its own address")));
        } else if hosts.len() == MAX_PROCESSES {
            mistakes
                .push((line, format!("more than {MAX_PROCESSES} processes; use more worker threads (-w) per process instead")));
            break;
        } else {
            hosts.push(entry.to_string());
        }
    }
    if hosts.is_empty() && mistakes.is_empty() {
        mistakes.push((0, "no address in the file; write one host:port per line, the first is process 0".to_string()));
    }
    if mistakes.is_empty() { Ok(hosts) } else { Err(HostsError { file: file.to_string(), mistakes }) }
}

/// Whether an address of a hosts file can be reached from this machine alone.
pub fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn check(entry: &str) -> Result<(), &'static str> {
    let (host, port) = entry.rsplit_once(':').ok_or("the port is missing")?;
    if entry.contains(char::is_whitespace) {
        return Err("one address per line, without spaces");
    }
    match host.strip_prefix('[') {
        Some(rest) => {
            let inner = rest.strip_suffix(']').ok_or("the closing bracket is missing")?;
            inner.parse::<std::net::Ipv6Addr>().map_err(|_| "the brackets do not hold an IPv6 address")?;
        }
        None if entry.contains('/') => return Err("write the bare host name and port, without a scheme or path"),
        None if host.is_empty() => return Err("the host is missing"),
        None if host.contains(':') => return Err("write an IPv6 address in brackets, as in [fd00::1]:2101"),
        None => {}
    }
    match port.parse::<u16>() {
        Ok(0) | Err(_) => Err("the port must be a number from 1 to 65535"),
        Ok(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_blank_lines_do_not_count() {
        let hosts = parse_hosts("h", "# two machines\nnode-a:2101\n\n  node-b:2101  # the GPU one\n[fd00::3]:2101\n").unwrap();
        assert_eq!(hosts, ["node-a:2101", "node-b:2101", "[fd00::3]:2101"]);
    }

    #[test]
    fn all_mistakes_are_reported_with_their_lines() {
        let text = "node-a\nnode-b:0\nok:1\nfd00::1:22\n[fd00::1:22\nOK:1\nhttp://x:80\n:9\na b:1\nc:99999";
        insta::assert_snapshot!(parse_hosts("hosts.txt", text).unwrap_err(), @r"
        hosts.txt:1: `node-a` is not host:port: the port is missing
        hosts.txt:2: `node-b:0` is not host:port: the port must be a number from 1 to 65535
        hosts.txt:4: `fd00::1:22` is not host:port: write an IPv6 address in brackets, as in [fd00::1]:2101
        hosts.txt:5: `[fd00::1:22` is not host:port: the closing bracket is missing
        hosts.txt:6: `OK:1` is listed already in line 3; every process needs its own address
        hosts.txt:7: `http://x:80` is not host:port: write the bare host name and port, without a scheme or path
        hosts.txt:8: `:9` is not host:port: the host is missing
        hosts.txt:9: `a b:1` is not host:port: one address per line, without spaces
        hosts.txt:10: `c:99999` is not host:port: the port must be a number from 1 to 65535
        ");
    }

    #[test]
    fn what_only_this_machine_reaches_is_known() {
        for (address, alone) in
            [("127.0.0.1:1", true), ("[::1]:1", true), ("localhost:1", true), ("10.0.0.1:1", false), ("node-a:1", false)]
        {
            assert_eq!(is_loopback(address), alone, "{address}");
        }
    }

    #[test]
    fn an_empty_file_and_too_many_lines() {
        insta::assert_snapshot!(parse_hosts("h", "# nothing\n").unwrap_err(), @"h: no address in the file; write one host:port per line, the first is process 0");
        let text: String = (0..=MAX_PROCESSES).map(|i| format!("n{i}:1\n")).collect();
        insta::assert_snapshot!(parse_hosts("h", &text).unwrap_err(), @"h:257: more than 256 processes; use more worker threads (-w) per process instead");
        let fits: String = (0..MAX_PROCESSES).map(|i| format!("n{i}:1\n")).collect();
        assert_eq!(parse_hosts("h", &fits).unwrap().len(), MAX_PROCESSES);
    }

    #[test]
    fn the_process_must_be_listed_and_the_file_readable() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("hosts");
        assert!(read_hosts(&file, 0).unwrap_err().to_string().contains("cannot read the hosts file"));
        std::fs::write(&file, "a:1\nb:1\n").unwrap();
        assert_eq!(read_hosts(&file, 1).unwrap().len(), 2);
        let e = read_hosts(&file, 2).unwrap_err().to_string();
        assert!(e.contains("--process 2 is not in the file, which lists processes 0 to 1"), "{e}");
    }
}
