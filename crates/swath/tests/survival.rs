//! stub
mod stage;
fn main() -> std::process::ExitCode {
    stage::main(&[], &[])
}
