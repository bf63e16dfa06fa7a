//! `cargo run -p rekindle-new -- my-game`: `rekindle new` without the node, which takes minutes to
//! compile where this takes seconds.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;
use rekindle_new::{NewArgs, make};

/// Makes a crate with a small game in it that runs, has bots and passes its tests at once.
#[derive(Parser)]
#[command(name = "rekindle-new", version)]
struct Cli {
    #[command(flatten)]
    args: NewArgs,
}

fn main() -> ExitCode {
    let Cli { args } = Cli::parse();
    // Where nobody reads what is said, the crate is made all the same.
    match make(&args) {
        Ok(made) => {
            let _ = writeln!(std::io::stdout(), "{}", made.words().join("\n"));
            ExitCode::SUCCESS
        }
        Err(problem) => {
            let _ = writeln!(std::io::stderr(), "error: {problem}");
            ExitCode::from(problem.exit_code())
        }
    }
}
