//! Local services for commands on a node: `forward = [5432]` makes port 5432 of localhost there lead to the same port here.
//!
//! The port is opened on the standing connection (`ssh -O forward`), so it costs a round trip and no connection. All runs of this
//! user on that node share it; whoever uses it holds a shared lock, and the last one takes the port back. After a kill -9 it stays
//! until the next run or until the connection ends. A port that something else has there is a reason to go elsewhere: what
//! answers at it would be the wrong service.

use std::fs::File;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use rustix::fs::FlockOperation;

use crate::config::{Config, NodeConfig};
use crate::node::ssh::Ssh;
use crate::paths::{self, Paths};

/// A listener on this machine answers within this time.
const ANSWERS: Duration = Duration::from_millis(200);

/// Ports that are open on a node for one run.
pub struct Forwarded {
    ssh: Option<Ssh>,
    ports: Vec<(u16, File)>,
}

/// Opens those of the configured ports on `node` at which something answers here.
///
/// # Errors
/// Why one can't be had there; one clause.
pub async fn open(node: &NodeConfig, config: &Config, paths: &Paths) -> Result<Forwarded, String> {
    let mut forwarded = Forwarded {
        ssh: None,
        ports: Vec::new(),
    };
    // An embedded node is this machine: the port is there.
    if config.forward.is_empty() || node.embedded.is_some() {
        return Ok(forwarded);
    }
    let ssh = Ssh::new(&node.name, config.ssh_config.as_deref(), paths).map_err(|e| e.to_string())?;
    for port in config.forward.iter().copied().filter(|p| is_served(*p)) {
        let lock = lock(node, paths, port).await.map_err(|e| e.to_string())?;
        if let Err(why) = ssh.forward(port, true).await {
            forwarded.ssh = Some(ssh);
            forwarded.close().await;
            return Err(format!("port {port} can't be forwarded there: {why}"));
        }
        forwarded.ports.push((port, lock));
    }
    forwarded.ssh = Some(ssh);
    Ok(forwarded)
}

impl Forwarded {
    /// Takes back what no other run uses.
    pub async fn close(self) {
        for (port, lock) in &self.ports {
            let last = rustix::fs::flock(lock, FlockOperation::NonBlockingLockExclusive).is_ok();
            if let Some(ssh) = self.ssh.as_ref().filter(|_| last) {
                // What stays open closes with the connection.
                let _ = ssh.forward(*port, false).await;
            }
        }
    }
}

async fn lock(node: &NodeConfig, paths: &Paths, port: u16) -> std::io::Result<File> {
    let name = format!("{}-{port}", &blake3::hash(node.name.as_bytes()).to_hex()[..16]);
    let file = paths::lock_file(&paths.cache.join("forward").join(name))?;
    // Another run may be taking the port back just now.
    while rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared).is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(file)
}

/// Whether something answers at this port of localhost.
pub fn is_served(port: u16) -> bool {
    [
        SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
    ]
    .iter()
    .any(|a| TcpStream::connect_timeout(a, ANSWERS).is_ok())
}
