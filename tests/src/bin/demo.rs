//! `make demo`: a routed cluster on one machine, brought up, proven and removed.

use std::process::ExitCode;

use tortie_tests::demo::{self, Options};
use tortie_tests::lab::{missing_requirements, stop_left_over, watch_signals};

fn main() -> ExitCode {
    let mut options = Options::default();
    for arg in std::env::args().skip(1) {
        match arg.as_str() {
            "--keep" => options.keep = true,
            "--stop" => return stop(),
            other => {
                eprintln!("demo: unknown argument '{other}' (want --keep or --stop)");
                return ExitCode::from(64);
            }
        }
    }
    let missing = missing_requirements();
    if !missing.is_empty() {
        eprintln!("demo: {}", missing.join("; "));
        return ExitCode::FAILURE;
    }
    let run = watch_signals().and_then(|()| demo::run(&options));
    match run {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("\ndemo: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn stop() -> ExitCode {
    match stop_left_over(demo::NAME) {
        Ok(true) => println!("the demo's cluster is removed"),
        Ok(false) => println!("no demo is up"),
        Err(e) => {
            eprintln!("demo: {e:#}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
