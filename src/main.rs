//! `robust`, the command.

mod cli;

// A library leaves the choice to its user; the command makes it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cli::main()
}
