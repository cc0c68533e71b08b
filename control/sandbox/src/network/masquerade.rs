//! Decides how sandboxes reach other networks: forwarding, and one nftables table per node that rewrites their address.

use super::{NetworkError, Subnet, names};
use std::io;
use std::process::{Output, Stdio};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";
/// Daemons are often started without the `sbin` folders in their path.
const NFT: [&str; 3] = ["nft", "/usr/sbin/nft", "/sbin/nft"];

/// Switches IPv4 forwarding on, if it is off.
pub(super) fn allow_forwarding() -> Result<(), NetworkError> {
    let read = std::fs::read_to_string(FORWARDING).map_err(NetworkError::io(format!("reading {FORWARDING}")))?;
    if read.trim() == "0" {
        std::fs::write(FORWARDING, "1").map_err(NetworkError::io(format!("writing {FORWARDING}")))?;
        tracing::info!("switched net.ipv4.ip_forward on: sandboxes need it to reach other networks");
    }
    Ok(())
}

/// Makes the node's table, or makes it anew.
pub(super) async fn install(node: &str, subnet: &Subnet) -> Result<(), NetworkError> {
    run(&rules(node, subnet)).await
}

/// Removes the node's table, if it is there.
pub(super) async fn remove(node: &str) -> Result<(), NetworkError> {
    let table = names::table(node);
    run(&format!("add table ip {table}\ndelete table ip {table}\n")).await
}

/// One transaction: there is no moment without the rules. Adding first makes the deletion work when there is none.
fn rules(node: &str, subnet: &Subnet) -> String {
    let table = names::table(node);
    format!(
        "add table ip {table}\n\
         delete table ip {table}\n\
         table ip {table} {{\n\
         \tchain postrouting {{\n\
         \t\ttype nat hook postrouting priority srcnat; policy accept;\n\
         \t\tip saddr {subnet} ip daddr != {subnet} masquerade\n\
         \t}}\n\
         }}\n"
    )
}

async fn run(script: &str) -> Result<(), NetworkError> {
    for program in NFT {
        match run_program(program, script).await {
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) => {
                return Err(NetworkError::Nft(
                    String::from_utf8_lossy(&output.stderr).trim().to_owned(),
                ));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(NetworkError::io(format!("running {program}"))(error)),
        }
    }
    Err(NetworkError::NoNft)
}

async fn run_program(program: &str, script: &str) -> io::Result<Output> {
    let mut child = Command::new(program)
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(script.as_bytes()).await?;
    }
    child.wait_with_output().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_leaves_the_subnet_is_masqueraded() {
        let subnet: Subnet = "10.200.8.0/24".parse().expect("a subnet");
        let rules = rules("my-node", &subnet);
        assert!(rules.starts_with("add table ip miren_my_node\ndelete table ip miren_my_node\n"));
        assert!(rules.contains("ip saddr 10.200.8.0/24 ip daddr != 10.200.8.0/24 masquerade"));
    }
}
