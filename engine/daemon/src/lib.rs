//! The program `sniffer`.
pub mod control;
pub mod diagnostic;
pub mod status;
pub mod config { pub mod raw; pub mod settings; 
pub fn system_words(error: &std::io::Error) -> String {
    error.to_string()
}
}
/// x
pub fn main() -> std::process::ExitCode { std::process::ExitCode::from(0) }
pub mod capture_file;
pub mod upload;
