//! Entry point: parse, plan, execute, exit code.

use std::process::ExitCode;

use gilscope::cli::{
    args::Args,
    execute::execute,
    exit::Exit,
    messages::{Messages, parser_words},
    plan::{Plan, Surroundings},
};

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().collect();
    match Args::from_words(&words) {
        Ok(args) => carry_out(args).into(),
        Err(words) => parser_words(&words).into(),
    }
}

fn carry_out(args: Args) -> Exit {
    let plan = Surroundings::of_this_process()
        .map_err(anyhow::Error::from)
        .and_then(|surroundings| Plan::of(args, &surroundings).map_err(anyhow::Error::from));
    let messages = plan.as_ref().map_or_else(|_| Messages::default(), |plan| Messages::with(plan.verbosity()));
    plan.and_then(|plan| execute(plan, messages)).unwrap_or_else(|error| {
        messages.error(&error);
        Exit::of_error(&error)
    })
}
