//! partnerctl: administers the XMPP domains that we may federate with.

use std::process::ExitCode;

fn main() -> ExitCode {
    partnerd::cli::main()
}
