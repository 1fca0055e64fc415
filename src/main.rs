//! The binary: a thin wrapper around the library.

fn main() -> std::process::ExitCode {
    model_proxy::cli::main()
}
