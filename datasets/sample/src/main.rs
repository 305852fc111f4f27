//! `curette-sample`: makes the sample corpus in a folder.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use curette_sample::write::{Outcome, write_corpus};

/// Makes the sample corpus: short drawn videos with known truth. Does nothing when it is there already.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Folder to write to.
    #[arg(long, default_value = "out/sample")]
    out: PathBuf,
    /// Make everything anew.
    #[arg(long)]
    force: bool,
    /// Another seed draws other pictures with the same truth.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let out = arguments.out.display();
    let (line, code) = match write_corpus(&arguments.out, arguments.seed, arguments.force) {
        Ok(Outcome::UpToDate { files }) => (format!("{out}: up to date ({files} files)"), ExitCode::SUCCESS),
        Ok(Outcome::Written { files, bytes }) => {
            (format!("{out}: {files} files written, {:.1} MB", bytes as f64 / 1e6), ExitCode::SUCCESS)
        }
        Err(error) => {
            // Nothing is left to do when stderr is closed.
            let _ = writeln!(std::io::stderr(), "error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let _ = writeln!(std::io::stdout(), "{line}");
    code
}
