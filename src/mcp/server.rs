//! The four tools as the protocol's library calls them: reads a call, asks the permission rules, has it carried out, and tells of
//! it meanwhile and at its end.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation, InputResponses,
    ListToolsResult, PaginatedRequestParams, ProgressNotificationParam, ServerCapabilities, ServerConfig,
    Tool,
};
use rmcp::service::{NotificationContext, RequestContext};
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde_json::Value;
use tokio::sync::{Semaphore, watch};

use super::exec;
use super::live::Live;
use super::ran::{Ran, State};
use super::result::{self, refused};
use super::roots::{self, Said};
use super::tools::{self, Bad, Call, Common};
use super::{allowed, status};
use crate::config::Config;
use crate::hook::asked;
use crate::paths::{Paths, now_ms};
use crate::pipeline::detached;
use crate::room::Rooms;

/// Calls that are carried out at once; more wait. Each may hold a few descriptors.
const AT_ONCE: usize = 64;

/// Calls that went on without their caller, of which `cluster_status` tells.
const REMEMBERED: usize = 100;

/// The first word of progress, and the pause between two.
const FIRST: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(1050);

/// The same again after so many pauses: below ten seconds.
const AGAIN: u32 = 8;

/// How the server was started.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Output schemas and structured content, for programs.
    pub structured: bool,
    /// A call is answered after this time, and its command goes on.
    pub detach_after: Option<Duration>,
}

/// The server.
#[derive(Clone)]
pub struct Server {
    inner: Arc<Inner>,
}

struct Inner {
    options: Options,
    tools: Vec<Tool>,
    paths: Arc<Paths>,
    /// Where the server was started: the project, as the client sees it.
    home: PathBuf,
    /// The roots that the client has said; not where they come with each call.
    roots: roots::Standing,
    slots: Semaphore,
    /// This machine's own, for what was to go to a node.
    rooms: Arc<Rooms>,
    stop: watch::Receiver<bool>,
    /// When a call last did not get through to a node, milliseconds since the epoch.
    doubt_ms: AtomicU64,
    /// Calls that are under way, or went on without their caller.
    runs: Mutex<Vec<Arc<Live>>>,
}

impl Server {
    /// A server whose runs end when `stop` becomes true.
    ///
    /// # Errors
    /// Without a home directory or a current one.
    pub fn new(options: Options, stop: watch::Receiver<bool>) -> anyhow::Result<Server> {
        let home = std::env::var_os("CLAUDE_PROJECT_DIR")
            .map(PathBuf::from)
            .filter(|d| d.is_dir())
            .map_or_else(std::env::current_dir, Ok)?;
        Ok(Server {
            inner: Arc::new(Inner {
                options,
                tools: tools::declared(options.structured),
                paths: Arc::new(Paths::from_env()?),
                home: home.canonicalize()?,
                roots: roots::Standing::default(),
                slots: Semaphore::new(AT_ONCE),
                rooms: Arc::default(),
                stop,
                doubt_ms: AtomicU64::new(0),
                runs: Mutex::default(),
            }),
        })
    }

    fn runs(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Live>>> {
        self.inner.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists a call for `cluster_status`, and forgets the oldest of too many that have ended.
    fn remember(&self, live: &Arc<Live>) {
        let mut runs = self.runs();
        runs.push(live.clone());
        if runs.len() > REMEMBERED
            && let Some(oldest) = runs.iter().position(|r| r.has_ended())
        {
            runs.remove(oldest);
        }
    }

    /// The roots of a call's client, which may take `limit` to say them.
    async fn roots(
        &self,
        limit: Duration,
        answers: Option<&InputResponses>,
        context: &RequestContext<RoleServer>,
    ) -> Result<Said, String> {
        if !roots::are_declared(context) {
            return Ok(Said::Roots(Vec::new()));
        }
        if roots::come_with_the_call(context) {
            return roots::with_the_call(answers);
        }
        self.inner.roots.get(context, limit).await.map(Said::Roots)
    }

    /// The directory of a call: inside the caller's roots.
    fn directory(&self, common: &Common, declared: &[PathBuf]) -> Result<PathBuf, String> {
        let roots = match declared {
            [] => std::slice::from_ref(&self.inner.home),
            declared => declared,
        };
        // A client that works elsewhere would be refused the directory of this server.
        let home = match roots.first() {
            Some(first) if !roots.iter().any(|r| self.inner.home.starts_with(r)) => first,
            _ => &self.inner.home,
        };
        let Some(given) = &common.cwd else {
            return Ok(home.clone());
        };
        let full = home
            .join(given)
            .canonicalize()
            .map_err(|e| format!("`cwd`: `{}`: {e}", crate::node::printable(given, 200)))?;
        if !full.is_dir() {
            return Err(format!("`cwd`: `{}` is no directory", full.display()));
        }
        if roots.iter().any(|r| full.starts_with(r)) {
            return Ok(full);
        }
        let list: Vec<String> = roots.iter().map(|r| format!("`{}`", r.display())).collect();
        Err(format!(
            "`cwd`: `{}` lies outside of {}",
            full.display(),
            list.join(", ")
        ))
    }

    /// Carries a call out, with its caller told of it meanwhile.
    async fn carry_out(
        &self,
        call: Call,
        answers: Option<&InputResponses>,
        approval: Option<asked::Call>,
        context: &RequestContext<RoleServer>,
    ) -> CallToolResponse {
        let common = match &call {
            Call::Bash { common, .. } | Call::Offload { common, .. } | Call::Parallel { common, .. } => {
                common.clone()
            }
            Call::Status => return self.status().await.into(),
        };
        let limit = Duration::from_secs(common.timeout);
        let declared = match self.roots(limit, answers, context).await {
            Ok(Said::Roots(declared)) => declared,
            Ok(Said::Ask(asked)) => return asked.into(),
            Err(why) => return refused(&why).into(),
        };
        let cwd = match self.directory(&common, &declared) {
            Ok(cwd) => cwd,
            Err(why) => return refused(&why).into(),
        };
        let commands = match &call {
            Call::Bash { command, .. } | Call::Offload { command, .. } => std::slice::from_ref(command),
            Call::Parallel { commands, .. } => commands,
            Call::Status => &[],
        };
        // Their rules hold wherever it runs.
        let mut also = declared;
        also.extend([self.inner.home.clone(), cwd.clone()]);
        if let Err(why) = self.permitted(commands, &cwd, &also, approval).await {
            return refused(&why).into();
        }
        let live = Live::new(
            &self.inner.paths,
            commands,
            limit,
            self.inner.options.detach_after,
        );
        let live = Arc::new(match &call {
            Call::Offload { node, .. } => live.bound_to(node),
            _ => live,
        });
        let (cancel, cancelled) = watch::channel(false);
        self.remember(&live);
        let work = tokio::spawn({
            let (server, call, live) = (self.clone(), call.clone(), live.clone());
            let stop = self.inner.stop.clone();
            async move {
                let _slot = server.inner.slots.acquire().await;
                let ended = exec::Ended { cancelled, stop };
                exec::carry_out(&call, cwd, &also, &live, ended, &server.inner.rooms).await;
            }
        });
        self.wait(work, &live, cancel, context).await;
        let (ran, took) = (live.so_far(), live.begun.elapsed());
        if ran.iter().any(Ran::is_doubtful) {
            self.inner.doubt_ms.store(now_ms(), Ordering::Relaxed);
        }
        let result = tokio::task::spawn_blocking({
            let (ran, structured) = (ran.clone(), self.inner.options.structured);
            move || result::of(&call, &ran, took, structured)
        });
        let result = result
            .await
            .unwrap_or_else(|_| refused("the result can't be shown"));
        if live.has_ended() {
            self.runs().retain(|r| !Arc::ptr_eq(r, &live));
        }
        for one in ran
            .iter()
            .filter(|r| r.capture.total() == 0 && !matches!(r.state, State::Detached | State::Waiting))
        {
            one.capture.forget_log();
        }
        result.into()
    }

    /// Waits for the work, telling of its progress, for as long as its caller is to wait.
    async fn wait(
        &self,
        mut work: tokio::task::JoinHandle<()>,
        live: &Arc<Live>,
        cancel: watch::Sender<bool>,
        context: &RequestContext<RoleServer>,
    ) {
        let mut stop = self.inner.stop.clone();
        tokio::select! {
            _ = &mut work => {}
            // Its messages wait for a peer that may not read; the command waits for nobody.
            () = progress(live, context) => {}
            () = live.left() => {}
            () = context.ct.cancelled() => {
                let _ = cancel.send(true);
                // Nobody waits for this answer, and the protocol's library drops it.
                let _ = work.await;
            }
            () = exec::raised(&mut stop) => {
                let _ = work.await;
                std::future::pending().await
            }
        }
    }

    /// Whether the user's permission rules let these commands run.
    async fn permitted(
        &self,
        commands: &[String],
        cwd: &Path,
        also: &[PathBuf],
        approval: Option<asked::Call>,
    ) -> Result<(), String> {
        let (commands, cwd, also) = (commands.to_vec(), cwd.to_owned(), also.to_vec());
        let state = self.inner.paths.state.clone();
        let judging = tokio::task::spawn_blocking(move || {
            allowed::permitted(&commands, &cwd, &also, approval.as_ref(), &state)
        });
        judging
            .await
            .unwrap_or_else(|_| Err("the permission rules could not be read".into()))
    }

    async fn status(&self) -> CallToolResult {
        let runs: Vec<Arc<Live>> = self.runs().clone();
        // Of runs that go on by themselves, whichever server left them.
        let kept = match Config::load(&self.inner.paths) {
            Ok(config) => detached::list(&self.inner.paths, &config, status::ASK).await,
            Err(_) => Vec::new(),
        };
        let home = self.inner.home.clone();
        let doubt_ms = self.inner.doubt_ms.load(Ordering::Relaxed);
        let asked = tokio::task::spawn_blocking(move || status::look(&home, &runs, &kept, doubt_ms)).await;
        match asked {
            Ok(Ok((text, fields))) => {
                let mut result = CallToolResult::success(vec![ContentBlock::text(text)]);
                result.structured_content = Some(fields);
                result
            }
            Ok(Err(e)) => refused(&format!("{e:#}")),
            Err(_) => refused("looking at the machines failed"),
        }
    }
}

/// Tells of a run's progress until the run ends, where the caller wants to know. Never returns.
async fn progress(live: &Live, context: &RequestContext<RoleServer>) {
    let Some(token) = context.meta.get_progress_token() else {
        return std::future::pending().await;
    };
    tokio::time::sleep(FIRST).await;
    let (mut last, mut unsaid) = (None, 0);
    loop {
        let now = live.progress();
        unsaid += 1;
        if last.as_ref() != Some(&now.line) || unsaid >= AGAIN {
            let param =
                ProgressNotificationParam::new(token.clone(), now.seconds).with_message(now.message());
            let _ = context.peer.notify_progress(param).await;
            (last, unsaid) = (Some(now.line), 0);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        let mut info = ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_instructions(tools::INSTRUCTIONS);
        info.server_info = Implementation::new("cx", env!("CARGO_PKG_VERSION"));
        info.server_info.title = Some("cx cluster".into());
        info
    }

    async fn on_roots_list_changed(&self, _context: NotificationContext<RoleServer>) {
        self.inner.roots.forget();
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        // All of them are on the first page.
        if request.and_then(|r| r.cursor).is_some_and(|c| !c.is_empty()) {
            return Err(ErrorData::invalid_params("there is no such page", None));
        }
        Ok(ListToolsResult::with_all_items(self.inner.tools.clone()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let answers = request.input_responses;
        let arguments = request.arguments.unwrap_or_default();
        let id = context.meta.0.get("claudecode/toolUseId").and_then(Value::as_str);
        let approval = id.map(|id| asked::Call::of(id, &request.name, &arguments));
        match Call::read(&request.name, arguments) {
            Ok(call) => Ok(self.carry_out(call, answers.as_ref(), approval, &context).await),
            Err(Bad::Argument(why)) => Ok(refused(&format!("bad arguments: {why}")).into()),
            Err(Bad::Tool) => Err(ErrorData::invalid_params(
                format!("there is no tool {:?}", crate::node::printable(&request.name, 60)),
                None,
            )),
        }
    }
}
