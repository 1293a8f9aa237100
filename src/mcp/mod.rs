//! `cx mcp`: the cluster as four tools of the Model Context Protocol, over stdin and stdout.
//!
//! No decision is made here: a call becomes a request for the pipeline, or a text that the hook's code rewrites, and the permission rules
//! are asked by the hook's code. All that may end the server (the end of input, a signal, a client that is gone) takes one way: runs are
//! told to end, no answer is given any more, and after a moment the process ends; what is then still to be ended on a node, the node's
//! supervisor ends.

mod allowed;
mod batch;
mod capture;
mod exec;
mod keeper;
mod live;
mod open;
mod ran;
mod refusal;
mod result;
mod roots;
mod server;
mod shell;
mod status;
mod text;
mod tools;
mod wire;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use rmcp::ServiceExt;
use rmcp::transport::io::stdio_pipes;
use tokio::sync::watch;

pub use self::keeper::main as keep;
pub use self::server::Options;
use self::server::Server;
use crate::hook::{asked, note};
use crate::paths::Paths;
use crate::pipeline;

/// What is left for answers that are on their way and for telling runs to end, once the server is to end.
const LAST: Duration = Duration::from_millis(250);

/// Serves until the client is gone.
///
/// # Errors
/// When there is no home directory, or the system gives no more descriptors.
pub fn run(options: Options) -> anyhow::Result<ExitCode> {
    let runtime = pipeline::runtime()?;
    let served = runtime.block_on(serve(options));
    // Threads that read a stream that does not end must not hold the exit.
    runtime.shutdown_background();
    served.map(|()| ExitCode::SUCCESS)
}

/// `cx mcp` with its arguments, if they are plain ones; anything else is for the argument parser.
pub fn options(args: impl Iterator<Item = OsString>) -> Option<Options> {
    let mut options = Options::default();
    for arg in args {
        match arg.to_str()? {
            "--structured" => options.structured = true,
            _ => return None,
        }
    }
    Some(options)
}

async fn serve(options: Options) -> anyhow::Result<()> {
    let (stop, stopped) = watch::channel(false);
    signals(&stop)?;
    let server = Server::new(options, stopped.clone())?;
    let (read, write) = stdio_pipes();
    let wire = wire::Wire::new(read, write, wire::stdin_hung_up, stop.clone());
    // Nobody waits for this, and the first answer must not.
    let clearing = tokio::spawn(async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let _ = tokio::task::spawn_blocking(clear_old).await;
    });
    let session = async {
        // A session that could not be begun ends like any other.
        if let Ok(running) = server.serve(wire).await {
            let _ = running.waiting().await;
        }
    };
    let mut session = std::pin::pin!(session);
    let mut stopped = stopped;
    tokio::select! {
        () = &mut session => {}
        () = exec::raised(&mut stopped) => {
            let _ = tokio::time::timeout(LAST, session).await;
        }
    }
    stop.send_replace(true);
    clearing.abort();
    Ok(())
}

fn signals(stop: &watch::Sender<bool>) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    for kind in [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
    ] {
        let mut signal = signal(kind)?;
        let stop = stop.clone();
        tokio::spawn(async move {
            signal.recv().await;
            stop.send_replace(true);
        });
    }
    Ok(())
}

fn clear_old() {
    if let Ok(paths) = Paths::from_env() {
        capture::clear_old(&live::logs(&paths));
        asked::clear_old(&paths.state);
        note::clear_old(&paths.state);
    }
}
